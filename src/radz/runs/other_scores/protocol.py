"""What a protocol says of scores that are brought: findings, label policy, macro, resampling. No image is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_modules.corpus_config import LabelPolicy
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology, ontology
from radz.config.checks import known_findings
from radz.config.files import experiment_roots, find_experiment, load_experiment
from radz.config.scoring import ScoringConfig


@dataclass(frozen=True)
class Protocol:
    """One corpus of a protocol; without a name, the defaults."""

    name: str | None = None
    corpus: str | None = None
    findings: tuple[str, ...] = ()
    """empty: those that scores and labels share"""
    policy: LabelPolicy = field(default_factory=LabelPolicy)
    ontology: Ontology = field(default_factory=ontology)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)


def read_protocol(name: str | None, corpus: str | None) -> Protocol:
    """The protocol `experiments/protocols/NAME.yaml`, or any other experiment, by its name or path.

    Args:
        corpus: which one, where it names several.

    Raises:
        InputError: there is none, or it names several corpora and none of them is `corpus`.
    """
    if name is None:
        return Protocol()
    shipped = {path.stem for root in experiment_roots() for path in (root / "protocols").glob("*.yaml")}
    found = f"protocols/{name}" if name in shipped and not Path(name).is_file() else name
    try:
        find_experiment(found)
    except InputError:
        raise InputError(f"protocol={name}: no such protocol or experiment{nearest(name, shipped)}") from None
    experiment = load_experiment(found)
    corpora = {config.name or config.reader: config for config in experiment.data.corpora}
    if len(corpora) > 1 and corpus not in corpora:
        raise InputError(f"protocol={name}: names corpora {', '.join(corpora)}; say which one by corpus=NAME")
    chosen = corpus if corpus in corpora else next(iter(corpora))
    return Protocol(
        name, chosen, tuple(experiment.scoring.findings), corpora[chosen].policy, known_findings(experiment.data),
        experiment.scoring,
    )  # fmt: skip
