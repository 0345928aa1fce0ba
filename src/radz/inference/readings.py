"""What the score of a finding means: a probability at a prevalence, and a call, both by the run's validation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_modules.counting import counted
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology
from data_modules.keys import share
from radz.metrics.calibration import Platt
from radz.metrics.conformal import ANSWERS, LEVEL, Sets
from radz.metrics.validation_rules import Rules
from radz.models.descriptions import finding_name

FALLS = "the probability falls as the score rises, since on validation the score did not rise with the finding"
RULE = "validation"
"""the rule of the calls: the threshold of best F1 on validation"""


@dataclass(frozen=True)
class Reading:
    """How scores of one finding are read; without fit or threshold, `why` says so."""

    finding: str
    split: str | None = None
    """of validation, by which they are read; None where there is none"""
    threshold: float | None = None
    """a score from here on is called present"""
    fit: Platt | None = None
    """at `prevalence`"""
    positives: int | None = None
    """on validation, as `negatives`; None where it has no label column"""
    negatives: int | None = None
    fitted_at: float | None = None
    """share of positives on validation"""
    prevalence: float | None = None
    """that the probability is for: `fitted_at`, unless another was asked for"""
    why: str | None = None
    """why there is no probability"""
    sets: Sets | None = None
    """by which the answer is given"""

    @property
    def falls(self) -> bool:
        """Whether the probability falls as the score rises, which on validation did not rise with the finding."""
        return self.fit is not None and self.fit.slope <= 0

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the shape of the scores; NaN without a fit."""
        values = np.asarray(scores, dtype=np.float64)
        return np.full(values.shape, np.nan) if self.fit is None else self.fit(values)

    def cells(self, score: float) -> list[str]:
        """Score, probability, call and answer as the table has them; empty where there is none."""
        probability = "" if self.fit is None else f"{float(self.probability(score)):.6g}"
        call = "" if self.threshold is None else str(int(score >= self.threshold))
        return [str(score), probability, call, "" if self.sets is None else ANSWERS[int(self.sets.answer(score))]]

    def _limits(self) -> dict[str, float | None]:
        """Scores between which the answer changes; None where validation has too few cases to leave one out."""
        assert self.sets is not None, "asked with sets alone"
        least, most = self.sets.plain()
        return {"present_from": least, "absent_up_to": most}

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "validation": self.split,
            "threshold": self.threshold,
            "rule": None if self.threshold is None else RULE,
            "fit": None if self.fit is None else "platt",
            "slope": None if self.fit is None else self.fit.slope,
            "intercept": None if self.fit is None else self.fit.intercept,
            "positives": self.positives,
            "negatives": self.negatives,
            "fitted_at": self.fitted_at,
            "prevalence": self.prevalence,
            "why_none": self.why,
            "answer": None if self.sets is None else {"level": LEVEL, **self._limits()},
            "falls": self.falls,
        }


def reading(rules: Rules | None, scorer: str, finding: str, prevalence: float | None = None) -> Reading:
    """How scores of one finding are read.

    Args:
        rules: of the validation split; None where the run had none.
        prevalence: to move the probability to; None leaves it at that of validation.
    """
    if rules is None:
        return Reading(finding, why="no validation split is at hand for these studies")
    positives, negatives = rules.support.get(finding, (None, None))
    threshold = rules.thresholds.get(scorer, {}).get(finding)
    fit, sets = rules.calibrations.get(scorer, {}).get(finding), rules.sets.get(scorer, {}).get(finding)
    if fit is None or positives is None or negatives is None:
        why = rules.why_not(scorer, finding)
        return Reading(finding, rules.split, threshold, None, positives, negatives, why=why, sets=sets)
    fitted_at = positives / (positives + negatives)
    moved = fit if prevalence is None else fit.moved(fitted_at, prevalence)
    shares = fitted_at, prevalence or fitted_at
    return Reading(finding, rules.split, threshold, moved, positives, negatives, *shares, sets=sets)


def rules_for(
    known: Mapping[str, Rules], modalities: Sequence[str], corpus: str | None = None
) -> dict[str, Rules | None]:
    """Modality -> the rules by which its studies are read, None where there are none.

    Args:
        known: corpus -> rules of its validation.
        corpus: the one to read by; None needs no choice where a modality has one corpus at most.

    Raises:
        InputError: `corpus` had no validation, or several corpora of a modality had one and none is named.
    """
    if corpus is not None and corpus not in known:
        hint = nearest(corpus, known) if known else "; the run had no validation split"
        raise InputError(f"corpus: '{corpus}' has no validation split in this run{hint}")
    found: dict[str, Rules | None] = {}
    for modality in modalities:
        own = [name for name, rules in known.items() if rules.modality in (modality, "") and corpus in (None, name)]
        if len(own) > 1:
            raise InputError(f"corpus: the run was validated on {', '.join(own)}; choose one of them by corpus=NAME")
        found[modality] = known[own[0]] if own else None
    return found


def prevalences(
    given: float | Mapping[str, float] | None, findings: Collection[str], known: Ontology
) -> dict[str, float]:
    """Finding -> prevalence, of those that one was given for.

    Args:
        given: one for all, or by finding, called by any of its names.
        findings: as the ontology `known` calls them.

    Raises:
        InputError: a finding that is not among these, one that stands twice, or no share above 0 and below 1.
    """
    if given is None:
        return {}
    asked = list(given.items()) if isinstance(given, Mapping) else [(name, given) for name in findings]
    found: dict[str, float] = {}
    for typed, value in asked:
        name = finding_name(typed, known)
        if name not in findings:
            raise InputError(
                f"prevalence: '{typed}' is not among the findings that are scored{nearest(typed, findings)}"
            )
        if name in found:
            raise InputError(f"prevalence: {name} stands there twice; keep one")
        try:
            found[name] = share(value)
        except ValueError as error:
            raise InputError(f"prevalence: {value} of {typed} {error}") from None
    return found


def in_words(readings: Collection[Reading]) -> list[str]:
    """Lines that say which findings have no probability and why, and which ones have one that falls."""
    reasons: dict[str, list[str]] = {}
    for one in readings:
        if one.why is not None:
            reasons.setdefault(one.why, []).append(one.finding)
    lines = []
    if reasons:
        listed = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
        lines.append(
            f"no probability for {sum(map(len, reasons.values()))} of {counted(len(readings), 'finding')} ({listed})"
        )
    if falling := [one.finding for one in readings if one.falls]:
        lines.append(f"{', '.join(falling)}: {FALLS}; do not rely on it")
    return lines
