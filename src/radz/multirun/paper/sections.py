"""Runs the sections of a plan in one process: trainings share imports, data and pixel cache."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_modules.corpus_config import PhantomConfig, SplitCounts
from data_modules.counting import counted
from data_modules.disk import CannotWrite
from data_modules.errors import InputError
from data_modules.phantom.layouts import write_layout
from radz.config.files import digest, find_experiment, load_experiment
from radz.evidence.compute import evidence
from radz.metrics.estimates import Entry, mean_of_seeds
from radz.metrics.results_file import averaged, headline_in, read_results
from radz.multirun.ablation.arms import Arm, group_arms, read_arm, train_arms
from radz.multirun.paper.plan import Plan, Section
from radz.runs.evaluate import evaluate_run

log = logging.getLogger(__name__)


@dataclass
class SetScores:
    """The runs of the base, one a seed, on one test split of one set, by one protocol."""

    corpus: str
    protocol: str
    measured_on: str
    key: str
    scorers: list[str]
    """the headline of each seed, which may have chosen another than the first"""
    results: list[dict[str, Any]]
    """the entry of metrics.json of each seed"""

    @property
    def scorer(self) -> str:
        """Those of the seeds, as words."""
        return ", ".join(dict.fromkeys(self.scorers))

    def findings(self, metric: str) -> str:
        """Over how many findings a metric is a mean, `12 to 13` where seeds differ."""
        every = zip(self.scorers, self.results, strict=True)
        counts = sorted({len(averaged(of, name, metric)) for name, of in every})
        return " to ".join(dict.fromkeys(str(count) for count in (counts[0], counts[-1])))

    @property
    def macro(self) -> dict[str, Entry]:
        """{metric: {value, low, high}} over the primary findings, mean over seeds."""
        every = [of["scorers"][name]["macro"] for name, of in zip(self.scorers, self.results, strict=True)]
        return {
            metric: mean_of_seeds([macro[metric] for macro in every], (-1.0 if metric.startswith("mcc") else 0.0, 1.0))
            for metric in every[0]
        }


@dataclass
class Part:
    """A section that was run; what it holds follows its kind."""

    section: Section
    arms: list[Arm] = field(default_factory=list)
    sets: list[SetScores] = field(default_factory=list)


@dataclass
class Results:
    """All that a page shows."""

    base: Arm
    measured_on: str
    """what the base was trained and tested on"""
    keys: list[str]
    """of every training, without places"""
    parts: list[Part] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    minutes: float = 0.0


def run(plan: Plan, out: Path, roots: Mapping[str, str], overrides: Sequence[str]) -> Results:
    """Train the base, then run section by section. What is finished already is not run again.

    Args:
        roots: corpus -> folder of the published release; the others are the phantom in their layout.
        overrides: further keys of every training and evaluation.

    Raises:
        InputError: the base cannot be run. A fault of a section is noted in `failed`, and the others go on.
    """
    started = time.monotonic()
    keys, measured_on = _keys(plan, roots)
    keys = [*keys, *overrides]
    base = Arm(plan.base, "the base of all arms", {}, "")
    train_arms([base], plan.seeds, None, keys)
    told = [key for key in keys if not _of_place(key)]
    results = Results(base, measured_on, told)
    for number, section in enumerate(plan.sections):
        log.info("section %d of %d: %s", number + 1, len(plan.sections), section.title)
        part = Part(section)
        try:
            if section.sets:
                part.sets = _sets(section, plan, base.runs, out, roots, [k for k in keys if not _of_data(k)], results)
            elif section.evidence:
                evidence(base.runs[0], [f"only=[{','.join(section.evidence)}]", *(k for k in keys if _of_place(k))])
            else:
                part.arms = _arms(section)
                everything = [replace(base, runs=[]), *part.arms]
                chosen = None if plan.base == "demo" else plan.base
                results.failed |= train_arms(everything, plan.seeds, chosen, keys)
                part.arms = [arm for arm in everything if arm.runs]
        except CannotWrite:
            raise
        except InputError as error:
            results.failed[section.title] = str(error)
            log.warning("%s: %s", section.title, error)
        results.parts.append(part)
    results.minutes = (time.monotonic() - started) / 60
    return results


def planned(plan: Plan, roots: Mapping[str, str], overrides: Sequence[str]) -> list[str]:
    """What `run` would do, one line each; no corpus and no backbone is opened, and what is to be named stands there.

    Raises:
        InputError: an experiment of the plan does not resolve.
    """
    keys = [*plan.keys, *overrides]
    base = load_experiment(plan.base, keys)
    epochs, most = base.trainer.max_epochs, base.trainer.max_steps or 0
    steps = counted(epochs, "epoch") if epochs else counted(most, "step")
    model = "the tiny backbone" if base.backbone.path is None else base.backbone.path or "backbone.path=FOLDER"
    data = [one.reader if one.reader == "phantom" else _place(one.reader, roots, "") for one in base.data.corpora]
    lines = [f"base: {plan.base}, {model}, {steps}, seeds {', '.join(map(str, plan.seeds))}, on {' and '.join(data)}"]
    for number, section in enumerate(plan.sections):
        lines.append(f"{number + 1}. {section.title}")
        for corpus, protocols in section.sets.items():
            for protocol in protocols:
                found = load_experiment(f"protocols/{protocol}", [key for key in keys if not _of_data(key)])
                lines.append(
                    f"   {_place(corpus, roots, ', else the phantom')}: {protocol}, by {found.scoring.headline}"
                )
        lines += [f"   {arm.name}" for arm in (_arms(section) if section.group or section.arms else [])]
        lines += [f"   {item} of the base" for item in section.evidence]
    return lines


def _place(corpus: str, roots: Mapping[str, str], otherwise: str) -> str:
    return f"{corpus} in {roots[corpus]}" if corpus in roots else f"{corpus} (root.{corpus}=FOLDER{otherwise})"


def _keys(plan: Plan, roots: Mapping[str, str]) -> tuple[list[str], str]:
    """The overrides of every training, and what it is measured on."""
    corpora = load_experiment(plan.base).data.corpora
    if all(corpus.reader == "phantom" for corpus in corpora):
        return list(plan.keys), "phantom"
    given = []
    for number, corpus in enumerate(corpora):
        if corpus.reader not in roots:
            raise InputError(
                f"root.{corpus.reader}: missing; {plan.base} is trained on it, name its folder; --dry-run tells all"
            )
        given.append(f"data.corpora.{number}.root={roots[corpus.reader]}")
    return [*(key for key in plan.keys if not _of_data(key)), *given], ", ".join(corpus.reader for corpus in corpora)


def _of_data(key: str) -> bool:
    return key.startswith("data.corpora.")


def _of_place(key: str) -> bool:
    return key.startswith("cache_dir=") or _of_data(key)


def _arms(section: Section) -> list[Arm]:
    if section.group:
        return group_arms(section.group)
    return [read_arm(find_experiment(name), name) for name in section.arms]


def _sets(
    section: Section, plan: Plan, trained: Sequence[Path], out: Path, roots: Mapping[str, str], keys: Sequence[str],
    results: Results,
) -> list[SetScores]:  # fmt: skip
    """The trained runs on each set, by each of its protocols."""
    found: list[SetScores] = []
    for corpus, protocols in section.sets.items():
        size = "-".join(map(str, plan.layout.values()))
        root = Path(roots[corpus]).expanduser() if corpus in roots else out / "phantom" / f"{corpus}-{size}"
        of_root = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:6]  # the digest knows no places
        measured_on = corpus if corpus in roots else f"phantom in the layout of {corpus}"
        try:
            for protocol in protocols:
                place = [*keys, f"data.corpora.0.root={root}"]
                experiment = load_experiment(f"protocols/{protocol}", place)
                if corpus not in roots and not root.is_dir():
                    config = PhantomConfig(SplitCounts(**plan.layout))
                    write_layout(corpus, root, config, Path(experiment.cache_dir).expanduser())
                of_protocol: dict[str, SetScores] = {}
                for run in trained:
                    folder = run / "eval" / f"{experiment.name}-{digest(experiment)}-{of_root}"
                    if not (folder / "metrics.json").is_file():
                        evaluate_run(replace(experiment, run=str(run), run_dir=str(folder)))
                    metrics = read_results(folder)
                    for key, result in metrics["results"].items():
                        empty = SetScores(corpus, protocol, measured_on, key, [], [])
                        one = of_protocol.setdefault(key, empty)
                        one.scorers.append(headline_in(metrics, folder))
                        one.results.append(result)
                found += of_protocol.values()
        except CannotWrite:
            raise
        except InputError as error:
            results.failed[corpus] = str(error)
            log.warning("%s: %s", corpus, error)
    return found
