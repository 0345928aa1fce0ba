"""What the validation of a trained run says of scores that were made alike, of data without a validation split."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_modules.datamodule import StudyDataModule
from radz.config.scoring import ScoringConfig
from radz.methods.export_folder import exported_experiment, is_export
from radz.methods.validation import validations
from radz.metrics.score_table import ScoreTable
from radz.metrics.validation_rules import Rules
from radz.runs.score import PIXEL_BASELINE
from radz.training.run_folder import load_run

log = logging.getLogger(__name__)
SENTENCES = ("prompts", "negative_prompts", "class_prompts")
SCALE = {
    "prompt": (*SENTENCES, "prompt_features"), "description": ("prompt_features",), "fused": (*SENTENCES, "fused"),
    "clip": SENTENCES, "vqa_native": SENTENCES,
}  # fmt: skip
"""Scorer -> keys of `scoring` that move its scores, beside those of every scorer, `unit` and `aggregate`."""


@dataclass(frozen=True)
class Given:
    """Rules for one score table, and why some that the run has are not for it."""

    source: str | None = None
    """the validation split that they are of; None where there is none"""
    rules: Rules | None = None
    lost: dict[tuple[str, str], str] | None = None
    """(scorer, finding) -> why its rules are not used"""

    def note_in(self, results: dict[str, Any]) -> None:
        """Put source and reasons into the results of the table, these in place of "no threshold from validation"."""
        results["thresholds_from"] = self.source
        for (scorer, finding), why in (self.lost or {}).items():
            for of in results["scorers"][scorer]["unavailable"].values():
                of.update({finding: why} if finding in of else {})


def rules_for(
    table: ScoreTable, data: StudyDataModule, own: dict[str, Rules], scoring: ScoringConfig, trained: Path | None
) -> Given:
    """Those of this corpus' validation split, else of that of the trained run or its export (its corpus of the same
    name, or its only one) for scores that are made as there, else none."""
    corpus, modality = table.corpus, str(data.table.modality[table.rows[0]])
    if corpus in own:
        return Given(own[corpus].split, own[corpus])
    kept = validations(trained) if trained is not None else {}
    for rules in [kept[corpus]] if corpus in kept else list(kept.values())[: len(kept) == 1]:
        assert trained is not None
        then = (exported_experiment(trained)[0] if is_export(trained) else load_run(trained)).scoring
        lost = {
            (scorer, finding): f"the run's validation was scored with other {what}; give these data a val split, or "
            "score as the run did"
            for scorer in table.scores
            for finding in table.findings
            if (
                what := _differing(scorer, finding, then, scoring)
                or _other_inputs(scorer, table, modality, rules, scoring)
            )
        }
        log.info("%s has no validation split: thresholds are those of %s in %s", corpus, rules.split, trained)
        if lost:
            log.warning(
                "%s: no thresholds, fits and conformal sets of %s: %s", corpus,
                ", ".join(sorted({scorer for scorer, _ in lost})), "; ".join(dict.fromkeys(lost.values())),
            )  # fmt: skip
        what = "exported" if is_export(trained) else "trained"
        return Given(f"{rules.split} of the {what} run", _without(rules, table, lost), lost)
    log.info("%s has no validation split: its thresholds and calibration are unavailable", corpus)
    return Given()


def _differing(scorer: str, finding: str, then: ScoringConfig, now: ScoringConfig) -> str:
    """The keys of `scoring` by which the scores of a finding are made otherwise now."""
    pairs = {key: (getattr(then, key), getattr(now, key)) for key in ("unit", "aggregate", *SCALE.get(scorer, ()))}
    if "class_prompts" in pairs:
        owns = tuple(prompts.get(finding) for prompts in pairs["class_prompts"])
        pairs["class_prompts"] = owns
        if all(owns):  # the templates say nothing of this finding
            pairs |= dict.fromkeys(("prompts", "negative_prompts"), ("", ""))
    return ", ".join(f"scoring.{key}" for key, (before, after) in pairs.items() if before != after)


def _other_inputs(scorer: str, table: ScoreTable, modality: str, rules: Rules, scoring: ScoringConfig) -> str:
    """What else than its keys makes a scorer another one on these data."""
    if rules.modality not in ("", modality):
        return f"images ({rules.modality})"
    if scorer == PIXEL_BASELINE:
        return "pixels to fit it on"
    shared = scorer.startswith("vqa_choice") or (scorer == "fused" and scoring.fused == "authors")  # a sum over all
    return "scoring.findings" if shared and rules.support and set(rules.support) != set(table.findings) else ""


def _without(rules: Rules, table: ScoreTable, lost: Collection[tuple[str, str]]) -> Rules:
    """What the rules say of the scores of a table, but for what is lost."""

    def kept(of: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            scorer: {name: value for name, value in of[scorer].items()
                     if name in table.findings and (scorer, name) not in lost}
            for scorer in table.scores if scorer in of
        }  # fmt: skip

    thresholds, fits, sets = kept(rules.thresholds), kept(rules.calibrations), kept(rules.sets)
    return replace(rules, thresholds=thresholds, calibrations=fits, sets=sets)
