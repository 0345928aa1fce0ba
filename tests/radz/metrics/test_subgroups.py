"""Subgroups against the same table cut by hand, small cells with their reason, age bands."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radz.metrics.score_table import ScoreTable
from radz.metrics.subgroups import age_bands, subgroups

FINDINGS = ("edema", "mass")


def score_table() -> ScoreTable:
    rng = np.random.default_rng(0)
    labels = np.stack([rng.random(120) < 0.5, rng.random(120) < 0.06], axis=1).astype(np.float32)
    labels[::11, 0] = np.nan
    scores = rng.random((120, 2)).astype(np.float32)
    ids, patients = [str(i) for i in range(120)], [f"{i // 2:012x}" for i in range(120)]
    return ScoreTable("ours", "test", np.arange(120), ids, [""] * 120, patients, FINDINGS, labels, {"fused": scores})


def test_numbers_are_those_of_the_rows_and_small_cells_are_listed() -> None:
    table = score_table()
    sex = ["M" if i % 3 else "F" for i in range(120)]
    found = subgroups(table, "fused", {"sex": sex, "view": ["PA"] * 120}, FINDINGS, 10, 100, 0)
    assert list(found) == ["sex"] and list(found["sex"]) == ["M", "F"]
    for value, one in found["sex"].items():
        inside = np.array(sex) == value
        known = inside & np.isfinite(table.labels[:, 0])
        expected = roc_auc_score(table.labels[known, 0], table.scores["fused"][known, 0])
        assert one["findings"]["edema"]["auroc"]["value"] == pytest.approx(expected, abs=1e-10)
        assert one["findings"]["edema"]["rows"] == known.sum() and one["rows"] == inside.sum()
        assert one["macro"]["auroc"] == one["findings"]["edema"]["auroc"]
        positives = int((table.labels[inside, 1] == 1).sum())
        assert one["small"] == {"mass": f"{positives} positive, fewer than 10"} and "mass" not in one["findings"]
    assert found["sex"]["F"]["patients"] == len({table.patient[i] for i in range(120) if not i % 3})


def test_age_bands() -> None:
    ages = ["17", "18.0", "063Y", "080Y", "", "unknown", "011M", "030M", "99", "411Y", "121", "500D"]
    assert age_bands(ages, [18, 60]) == [
        "below 18", "18 to 59", "60 and above", "60 and above", "unknown", "unknown", "below 18", "below 18",
        "60 and above", "unknown", "unknown", "below 18",
    ]  # fmt: skip
