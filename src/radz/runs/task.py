"""From an experiment to its parts: data, backbone, encoder, anchor bank, module."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.ct import CTDataModule, MixedDataModule
from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.findings import Finding
from radz.config.schema import Experiment
from radz.methods import dkam, registry
from radz.metrics.ranking import undefined_reason
from radz.models.labels import finding_text

log = logging.getLogger(__name__)
NO_PATHOLOGY = ("no_finding",)
NO_LABEL = undefined_reason([])
UNREACHABLE = "no label of these data maps to it"


def data_module(experiment: Experiment, sample: int | None = None) -> StudyDataModule:
    """The DataModule of the modalities that the experiment's corpora have; `sample` is for an audit."""
    wanted = {corpus.modality for corpus in experiment.data.corpora}
    kinds = {frozenset({"chest_xray"}): ChestXrayDataModule, frozenset({"chest_ct"}): CTDataModule}
    kind = kinds.get(frozenset(wanted), MixedDataModule)
    module = kind(experiment.data, Path(experiment.cache_dir), experiment.seed, sample, experiment.scoring.unit)
    module.overfit_batches = experiment.trainer.overfit_batches
    module.even_ranks = experiment.trainer.strategy == "fsdp"
    return module


def seen_findings(data: StudyDataModule, training_texts: Iterable[str]) -> dict[str, list[str]]:
    """What training knows: findings with a positive training label (`label`), and findings named in a text (`text`).

    Under `text` stand all findings of the ontology, labelled or not, so that a later test on other data can be told
    what this run had read. A finding is named by its name, its text or an exact alias, as whole words in any case.
    """
    everything = "\n".join(dict.fromkeys(training_texts)).lower()
    named = [finding.name for finding in data.ontology if _is_named(finding, everything)]
    return {"label": data.trained_findings(), "text": named}


def seen_groups(findings: Iterable[str], seen: Mapping[str, Collection[str]]) -> dict[str, str]:
    """`label`, `text` or `none` for each finding, from `seen_findings` of the training data."""
    return {name: next((group for group in ("label", "text") if name in seen[group]), "none") for name in findings}


def _is_named(finding: Finding, lower_text: str) -> bool:
    exact = [label for labels in finding.aliases.values() for label, how in labels.items() if how == "exact"]
    terms = {" ".join(term.lower().replace("_", " ").split()) for term in (finding.name, finding.text, *exact)}
    # The plain search is a hundred times faster than the pattern and settles most terms.
    return any(term in lower_text and re.search(rf"(?<!\w){re.escape(term)}(?!\w)", lower_text) for term in terms)


def training_texts(experiment: Experiment, data: StudyDataModule) -> list[str]:
    """All sentences that training reads: reports, or the names in its label sentences."""
    if experiment.dfat.text_source != "labels":
        return [data.texts[row] for row in data.table.rows("train")]
    return [finding_text(data.ontology, name) for name in data.trained_findings()]


def scored_findings(experiment: Experiment, data: StudyDataModule) -> list[str]:
    """Findings scored at test: as configured, else all with a known test label, without no_finding.

    Of the latter the headline scorer must have a description, if it needs one (`dkam.undescribed`).
    A configured finding that no label maps to is said here, and listed as excluded in the results.

    Raises:
        InputError: none is both present and absent in the test split.
    """
    labels = data.metric_labels(data.table.rows("test"))
    reasons = {name: undefined_reason(labels[:, column]) for column, name in enumerate(data.findings)}
    chosen = list(experiment.scoring.findings)
    reasons |= {name: UNREACHABLE for name in chosen if name not in data.findings}
    if lost := [name for name in chosen if name not in data.findings]:
        log.warning("scoring.findings: %s: %s; not scored", ", ".join(lost), UNREACHABLE)
        if len(lost) < len(chosen):
            chosen = [name for name in chosen if name not in lost]
    chosen = chosen or [name for name in data.findings if name not in NO_PATHOLOGY and reasons[name] != NO_LABEL]
    if not experiment.scoring.findings and registry.has_anchors(experiment.method):
        chosen = _scorable(experiment, data, chosen)
    if all(reasons[name] for name in chosen):
        why = "; ".join(f"{name}: {reasons[name]}" for name in chosen[:5]) or "no finding has a known label"
        raise InputError(f"scoring.findings: nothing can be scored in the test split ({why}); add labelled studies")
    return chosen


def _scorable(experiment: Experiment, data: StudyDataModule, findings: Sequence[str]) -> list[str]:
    """Those that the headline scorer can score, of findings that nobody asked for by name; what is left out is said."""
    if experiment.scoring.headline not in dkam.DESCRIBED:
        return list(findings)
    lost = dkam.undescribed(experiment.dkam, data)
    if left := [name for name in findings if name in lost]:
        log.warning(
            "scoring.headline=%s: not scored, since not described: %s", experiment.scoring.headline, ", ".join(left)
        )
    return [name for name in findings if name not in lost]
