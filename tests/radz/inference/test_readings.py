"""What a score means: sigmoid by hand, Bayes' rule by brute force, and every reason for an empty cell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data_modules.errors import InputError
from data_modules.findings import ontology
from radz.inference.readings import FALLS, Reading, in_words, prevalences, reading, rules_for
from radz.inference.structured_report import _finding
from radz.metrics.calibration import Platt
from radz.metrics.conformal import Sets
from radz.metrics.validation_rules import Rules

FIT = Platt(4.0, -3.0)
SETS = Sets(0.4, 0.55)
RULES = Rules(
    "ours/val", "chest_xray", {"prompt": {"edema": 0.5}}, {"prompt": {"edema": FIT}},
    {"edema": (10, 30), "mass": (0, 40)}, {"prompt": {"mass": "no positive among 40 known labels"}},
    {"prompt": {"edema": SETS}},
)  # fmt: skip


def test_a_probability_is_the_sigmoid_and_a_call_begins_at_the_threshold() -> None:
    one = reading(RULES, "prompt", "edema")
    assert one.probability([0.25, 0.75]) == pytest.approx([1 / (1 + math.exp(2)), 0.5])
    assert one.cells(0.75) == ["0.75", "0.5", "1", "present"] and one.cells(0.5)[2] == "1" and one.cells(0.49)[2] == "0"
    assert (one.positives, one.negatives, one.fitted_at, one.prevalence, one.why) == (10, 30, 0.25, 0.25, None)
    assert [one.cells(score)[3] for score in (0.39, 0.4, 0.55, 0.56)] == ["absent", "unsure", "unsure", "present"]
    assert one.plain()["answer"] == {"level": 0.1, "present_from": 0.4, "absent_up_to": 0.55}


@pytest.mark.parametrize("wanted", [0.001, 0.02, 0.25, 0.6, 0.999])
def test_another_prevalence_follows_bayes_rule(wanted: float) -> None:
    """Likelihoods of each score from the fit itself, then put together with the other prevalence."""
    scores = np.linspace(0, 1, 21)
    one = reading(RULES, "prompt", "edema", wanted)
    p = FIT(scores)
    ratio = (p / 0.25) / ((1 - p) / 0.75)  # of P(score | present) and P(score | absent)
    assert one.probability(scores) == pytest.approx(ratio * wanted / (ratio * wanted + 1 - wanted), rel=1e-12)
    assert (one.fitted_at, one.prevalence) == (0.25, wanted)
    assert [one.cells(score)[2] for score in scores] == [reading(RULES, "prompt", "edema").cells(s)[2] for s in scores]


def test_a_prevalence_counted_out_in_patients_is_met() -> None:
    """Of 3 scores with known shares among present and absent, patients of another mix have the moved probability."""
    present, absent = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.3, 0.2])
    logit = np.log(0.25 * present / (0.75 * absent))  # exact posterior at 25 %; linear in the score: 0, 1, 2
    fit = Platt(float(logit[1] - logit[0]), float(logit[0]))
    assert fit([0, 1, 2]) == pytest.approx(0.25 * present / (0.25 * present + 0.75 * absent))
    cases, others = 20 * present, 980 * absent
    assert fit.moved(0.25, 0.02)([0, 1, 2]) == pytest.approx(cases / (cases + others))


def test_what_has_no_fit_stays_empty_and_says_why() -> None:
    none = reading(RULES, "prompt", "mass", 0.1)
    assert (
        none.cells(0.9) == ["0.9", "", "", ""]
        and none.plain()["answer"] is None
        and np.isnan(none.probability([0.1, 0.9])).all()
    )
    assert (none.positives, none.negatives, none.fitted_at, none.prevalence) == (0, 40, None, None)
    assert none.why == "no positive among 40 known labels in ours/val" and none.plain()["why_none"] == none.why
    assert reading(None, "prompt", "edema").why == "no validation split is at hand for these studies"
    old = Rules("ours/val", "", {"prompt": {"edema": 0.5}}, {}, {}, {})
    assert reading(old, "prompt", "edema").cells(0.6) == ["0.6", "", "1", ""]
    assert "earlier radz" in str(reading(old, "prompt", "edema").why)


def test_what_is_told_is_short_and_names_the_findings() -> None:
    own = [reading(RULES, "prompt", name) for name in ("edema", "mass")]
    assert in_words(own) == ["no probability for 1 of 2 findings (mass: no positive among 40 known labels in ours/val)"]
    assert in_words(own[:1]) == []
    falling = Reading("nodule", "ours/val", 0.5, Platt(-1.0, 0.0), 3, 4, 3 / 7, 3 / 7)
    assert falling.falls and in_words([own[0], falling])[0].startswith("nodule: the probability falls as the score")
    reported = _finding("nodule", {}, falling, 0.5)  # a structured report, beside which scores.json does not lie
    assert (reported["probability"], reported["call"], reported["read_by"]["why_none"]) == (None, 1, FALLS)
    risen = _finding("edema", {}, own[0], 0.75)
    assert (risen["probability"], risen["read_by"]["why_none"]) == (0.5, None)


def test_each_modality_is_read_by_its_own_corpus() -> None:
    ct = Rules("theirs/val", "chest_ct", {}, {}, {}, {})
    both = {"ours": RULES, "theirs": ct}
    assert rules_for(both, ["chest_xray", "chest_ct"]) == {"chest_xray": RULES, "chest_ct": ct}
    assert rules_for(both, ["chest_xray", "chest_ct"], "theirs") == {"chest_xray": None, "chest_ct": ct}
    assert rules_for({}, ["chest_xray"]) == {"chest_xray": None}
    two = {"ours": RULES, "more": Rules("more/val", "chest_xray", {}, {}, {}, {})}
    assert rules_for(two, ["chest_xray"], "more")["chest_xray"] is two["more"]
    for known, corpus, words in (
        (two, None, "corpus: the run was validated on ours, more; choose one of them by corpus=NAME"),
        (two, "our", "corpus: 'our' has no validation split in this run; nearest is 'ours'"),
        ({}, "ours", "corpus: 'ours' has no validation split in this run; the run had no validation split"),
    ):
        with pytest.raises(InputError) as fault:
            rules_for(known, ["chest_xray"], corpus)
        assert str(fault.value) == words


def test_prevalences_are_shares_of_findings_that_are_scored() -> None:
    names = ["pleural_effusion", "mass"]
    assert prevalences(None, names, ontology()) == {}
    assert prevalences(0.02, names, ontology()) == {"pleural_effusion": 0.02, "mass": 0.02}
    assert prevalences({"effusion": 0.1}, names, ontology()) == {"pleural_effusion": 0.1}
    for given, words in (
        ({"edema": 0.1}, "prevalence: 'edema' is not among the findings that are scored; "),
        ({"effusion": 0.1, "pleural_effusion": 0.2}, "prevalence: pleural_effusion stands there twice"),
        ({"mass": 1.0}, "prevalence: 1.0 of mass must be a share above 0 and below 1"),
        (0.0, "prevalence: 0.0 of pleural_effusion must be a share"),
        (math.nan, "prevalence: nan of pleural_effusion must be a share"),
    ):
        with pytest.raises(InputError) as fault:
            prevalences(given, names, ontology())
        assert str(fault.value).startswith(words) and "\n" not in str(fault.value)
