"""What a validation split says of scores: thresholds, probabilities, how many cases stand behind them, what is missing.

Names of sizes: N rows of the validation table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from radz.metrics.calibration import Platt
from radz.metrics.conformal import Sets
from radz.metrics.estimates import Calibrations, Thresholds, excluded
from radz.metrics.score_table import ScoreTable
from radz.metrics.split_results import calibrations_from, sets_from, thresholds_from


@dataclass(frozen=True)
class Rules:
    """Of one corpus; thresholds and fits by scorer and finding, with gaps where validation could not make them."""

    split: str
    """`<corpus>/val`"""
    modality: str
    """of its studies; empty where that is not known"""
    thresholds: Thresholds
    """of best F1"""
    calibrations: Calibrations
    """Platt's fits"""
    support: Mapping[str, tuple[int, int]]
    """Finding -> positives and negatives among the N rows."""
    missing: Mapping[str, Mapping[str, str]]
    """Scorer -> finding -> why it has neither threshold nor fit."""
    sets: Mapping[str, Mapping[str, Sets]] = field(default_factory=dict)
    """Scorer -> finding -> conformal sets."""

    @staticmethod
    def of(table: ScoreTable, modality: str) -> Rules:
        """The rules that a validation table gives."""
        columns = dict(zip(table.findings, table.labels.T, strict=True))
        missing = {
            scorer: {
                name: why
                for number, name in enumerate(table.findings)
                if (why := excluded(table, scorer, number)) is not None
            }
            for scorer in table.scores
        }
        support = {name: (int((labels == 1).sum()), int((labels == 0).sum())) for name, labels in columns.items()}
        fits = thresholds_from(table), calibrations_from(table)
        return Rules(table.key, modality, *fits, support, missing, sets_from(table))

    def plain(self) -> dict[str, Any]:
        """For JSON; `read` takes it back."""
        return {
            "split": self.split,
            "modality": self.modality,
            "thresholds": {
                scorer: {name: float(value) for name, value in of.items()} for scorer, of in self.thresholds.items()
            },
            "calibrations": {
                scorer: {name: [fit.slope, fit.intercept] for name, fit in of.items()}
                for scorer, of in self.calibrations.items()
            },
            "support": {name: list(counts) for name, counts in self.support.items()},
            "missing": {scorer: dict(of) for scorer, of in self.missing.items()},
            "sets": {scorer: {name: own.plain() for name, own in of.items()} for scorer, of in self.sets.items()},
        }

    @staticmethod
    def read(plain: Mapping[str, Any]) -> Rules:
        """Of what `plain` gave.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is something else.
        """
        fits = {
            scorer: {name: Platt(*map(float, pair)) for name, pair in of.items()}
            for scorer, of in plain["calibrations"].items()
        }
        thresholds = {
            scorer: {name: float(value) for name, value in of.items()} for scorer, of in plain["thresholds"].items()
        }
        support = {name: (int(ones), int(zeros)) for name, (ones, zeros) in plain["support"].items()}
        missing = {scorer: dict(of) for scorer, of in plain["missing"].items()}
        sets = {
            scorer: {name: Sets.read(own) for name, own in of.items()} for scorer, of in plain.get("sets", {}).items()
        }
        return Rules(str(plain["split"]), str(plain["modality"]), thresholds, fits, support, missing, sets)

    def why_not(self, scorer: str, finding: str) -> str:
        """Why a scorer has no probability of a finding, where it has none."""
        if not self.support:
            return "exported by an earlier radz, without fits; export the run again"
        if scorer not in self.missing:
            return f"{self.split} was not scored by {scorer}"
        return f"{self.missing[scorer].get(finding, 'no label column')} in {self.split}"
