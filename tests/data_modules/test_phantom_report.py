"""Phantom reports: what training text may never say, and that text and labels tell the same."""

from __future__ import annotations

import re

import numpy as np
import pytest

from data_modules.phantom.findings import SEEN, UNSEEN
from data_modules.phantom.report import training_reports, write_report
from data_modules.phantom.study import patients, sample_study

FORBIDDEN = re.compile(r"\bmass(es)?\b|tubercul|\btb\b|hernia|hiatal|hiatus|neoplasm|tumou?r|cancer", re.IGNORECASE)
NAMED = {
    "cardiomegaly": "cardiomegaly",
    "pleural_effusion": "pleural effusion",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "edema": "edema",
    "nodule": "nodule",
    "atelectasis": "atelectasis",
    "emphysema": "emphysema|emphysematous",
    "support_devices": "support devices",
    "aortic_enlargement": "aortic enlargement|enlarged thoracic aorta",
    "pleural_thickening": "pleural thickening",
    "mass": "mass",
    "tuberculosis": "tuberculosis",
    "hiatal_hernia": "hiatal hernia",
}


def reports(split: str, count: int, seed: int = 3) -> list[tuple[set[str], str]]:
    studies = [sample_study(split, i, p, seed, scene=False) for i, p in enumerate(patients(split, count, seed))]
    return [({f.name for f in s.findings}, write_report(s)) for s in studies]


def test_training_text_never_names_the_unseen() -> None:
    texts = training_reports(1700, seed=0) + [text for _, text in reports("val", 300)]
    assert len(texts) == 2000
    assert [text for text in texts if FORBIDDEN.search(text)] == []


def test_training_text_uses_the_words_of_the_unseen_descriptions() -> None:
    text = " ".join(training_reports(600, seed=0)).lower()
    for word in (
        "rounded",
        "lobulated",
        "cavity",
        "patchy",
        "ill defined",
        "well defined",
        "upper zone",
        "apex",
        "behind",
        "air",
        "fluid",
        "hemidiaphragm",
        "thick",
    ):
        assert word in text, word


@pytest.mark.parametrize("split", ["train", "test"])
def test_impression_names_what_is_there_and_nothing_else(split: str) -> None:
    for present, text in reports(split, 400):
        assert not re.search(r"[{}]|  ", text)
        ending = text.split("Impression:")[1].lower()
        for name, words in NAMED.items():
            assert bool(re.search(rf"\b({words})\b", ending)) == (name in present), (name, text)


def test_negations_never_deny_a_finding() -> None:
    for present, text in reports("test", 400):
        body = text.split("Impression:")[0].lower()
        for name in present:
            assert not re.search(rf"\bno (focal |pulmonary )?({NAMED[name]})", body), (name, text)


def test_length_and_variety() -> None:
    texts = training_reports(500, seed=1)
    words = [len(text.split()) for text in texts]
    assert 28 <= np.median(words) <= 50
    assert np.percentile(words, 99) < 95
    assert len(set(texts)) > 480
    assert texts[:20] == training_reports(20, seed=1)
    assert texts[:20] != training_reports(20, seed=2)


def test_shares_of_findings() -> None:
    drawn = reports("test", 1500)
    assert np.mean([not present for present, _ in drawn]) == pytest.approx(0.30, abs=0.04)
    for name in SEEN:
        assert 0.11 < np.mean([name in present for present, _ in drawn]) < 0.21, name
    for name in UNSEEN:
        assert np.mean([name in present for present, _ in drawn]) > 0.10, name
    assert not any(present & set(UNSEEN) for split in ("train", "val") for present, _ in reports(split, 500))
