"""Few shots on a trained run: scores against plain counterparts, what is left out, and the item end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from csv_rows import rows_of
from PIL import Image
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from data_modules.errors import InputError
from radz.cli.command_line import main
from radz.evidence import few_shot, few_shot_item, prototypes
from radz.evidence.config import read_settings
from radz.evidence.few_shot import Studies
from radz.evidence.few_shot_item import KINDS, READINGS, Arm
from radz.evidence.open_run import Opened, open_run
from radz.models.losses import normalise

FAST = ["studies=16", "train_studies=24", "draws=2", "probe_strength=0.1", "replicates=100"]


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Opened:
    settings, _ = read_settings(FAST)
    return open_run(run_folder, settings, [])


def studies(n: int, seed: int) -> Studies:
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(n, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    anchor = draw.random((n, 3)).astype(np.float32)
    anchor[:, 2] = np.nan
    return Studies(features, anchor)


def test_scores_are_those_of_plain_counterparts() -> None:
    near, far = studies(30, 0), studies(12, 1)
    chosen = {0: (np.array([1, 4, 7]), np.array([2, 3, 9])), 2: (np.array([5, 4]), np.array([0, 1]))}
    found = few_shot.scored(near, far, chosen, 0.1)
    assert list(found) == list(READINGS) and all(np.isnan(values[:, 1]).all() for values in found.values())
    alone, beside, regression = found.values()
    rows = sorted({row for pair in chosen.values() for part in pair for row in part})
    scaler = StandardScaler().fit(near.features[rows])
    for k, (positives, absent) in chosen.items():
        direction = near.features[positives].mean(0) - near.features[absent].mean(0)
        own, other = (x.features @ direction / np.linalg.norm(direction) for x in (near, far))
        np.testing.assert_allclose(alone[:, k], (1 + other) / 2, atol=1e-5)
        standard = [
            (other - own.mean()) / own.std(),
            (far.anchor - near.anchor.mean(0))[:, k] / near.anchor[:, k].std(),
        ]
        np.testing.assert_allclose(beside[:, k], expit(np.mean(standard, axis=0)), atol=1e-5)
        labels = [1] * len(positives) + [0] * len(absent)
        plain = LogisticRegression(C=0.1).fit(scaler.transform(near.features[[*positives, *absent]]), labels)
        wanted = plain.predict_proba(scaler.transform(far.features))[:, 1]
        np.testing.assert_allclose(regression[:, k], wanted, atol=2e-3)
    assert np.isnan(beside[:, 2]).all()  # without a description there is no anchor to take the mean with


def test_features_and_anchors_are_those_of_the_model(run: Opened) -> None:
    rows = run.rows("test", 5)
    found = few_shot.encoded(run, rows)
    for number, batch in enumerate(run.batches(rows, 1)):
        with torch.no_grad():
            image = run.encoder.encode_images(batch.pixels, batch.image_counts, run.modalities(batch))
            scores = run.classifier.score(batch.pixels, batch.image_counts, run.modalities(batch))
        np.testing.assert_allclose(found.features[number], normalise(image.overall)[0], atol=1e-5)
        np.testing.assert_allclose(found.anchor[number], scores["anchor"][0], atol=1e-5)


def test_draws_differ_and_repeat(run: Opened) -> None:
    train = run.rows("train", 24)
    one, again, other = (few_shot.drawn(run, train, draw) for draw in (0, 0, 1))
    for kind in KINDS:
        for name in run.findings:
            np.testing.assert_array_equal(one[kind][name].positives, again[kind][name].positives)
    assert any(
        one["plain"][name].positives.tolist() != other["plain"][name].positives.tolist() for name in run.findings
    )
    labels = run.data.loss_labels(train)
    for name in run.findings:
        column = labels[:, run.data.findings.index(name)]
        assert (column[one["curated"][name].positives] == 1).all() and (column[one["plain"][name].absent] == 0).all()


def test_what_is_left_out_is_named_with_its_reason(run: Opened) -> None:
    seen = [name for name in run.primary if name != "no_finding"]
    reach = {name: 0 for name in run.findings} | dict.fromkeys(seen, 9) | {seen[0]: 3, seen[1]: 40}
    left_out, numbers = few_shot.usable(run, reach)
    assert numbers == [1, 2, 4, 8, None]
    assert left_out["mass"] == "no positive training study"  # which the phantom has in the test split alone
    assert left_out[seen[0]].startswith("fewer than 8 patients with it") and seen[1] not in left_out
    assert few_shot.usable(run, dict.fromkeys(run.findings, 1))[1] == [1, None]
    untrained = replace(run, primary=seen[1:])
    assert few_shot.usable(untrained, reach)[0][seen[0]] == "the run was not trained on its labels"


def test_likeness_is_the_cosine_with_the_most_frequent_companion(run: Opened) -> None:
    train = run.rows("train", 24)
    near, draws = few_shot.encoded(run, train), [few_shot.drawn(run, train, 0)]
    labels = run.data.loss_labels(train)
    by_name = {name: labels[:, run.data.findings.index(name)] == 1 for name in run.findings}
    names = [name for name in run.findings if by_name[name].sum() > 1]
    found = few_shot.likeness(run, near, train, draws, names)
    for kind in KINDS:
        cosines = []
        for name in names:
            company = dict(
                zip(run.data.findings, prototypes.company_of(name, run.data.findings, run.data.ontology), strict=True)
            )
            beside = {other: (by_name[name] & by_name[other]).sum() * company[other] for other in names}
            most = max(beside, key=lambda other: beside[other])
            if beside[most]:
                a, b = (prototypes.prototype(near.features, *draws[0][kind][one].first(None)) for one in (name, most))
                cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert found[kind] == pytest.approx(np.mean(cosines), abs=1e-5)


def test_it_says_where_nothing_is_gained_and_where_something_is() -> None:
    def entry(value: float, half: float | None) -> dict[str, float | None]:
        return {"value": value, "low": None if half is None else value - half, "high": half and value + half}

    gains = {Arm(kind, reading, n): entry(0.0, 0.1) for kind in KINDS for reading in READINGS for n in (1, 2, None)}
    gains |= {Arm("curated", READINGS[0], 1): entry(-0.1, 0.05), Arm("curated", READINGS[0], None): entry(0.0, 0.05)}
    gains |= {Arm("curated", READINGS[1], n): entry(0.1, 0.05) for n in (1, 2, None)}
    gains |= {Arm("curated", READINGS[2], 1): entry(0.1, None), Arm("plain", READINGS[2], None): entry(0.2, 0.1)}
    alone, beside, regression = few_shot_item._gain(gains)
    nothing = "nothing is gained at any number of positives"
    assert f"Curated: {nothing}, worse with 1; with all +0.000 [-0.050, +0.050]. Plain: {nothing}; with" in alone
    assert "Curated: better with 1, 2 and all; with all +0.100" in beside and f"Plain: {nothing}" in beside
    assert f"Curated: {nothing}; with all" in regression and "Plain: better with all; with all +0.200" in regression


@pytest.mark.figures
def test_the_item_end_to_end(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", str(run_folder), "only=fewshot", *FAST]) == 0
    folder = run_folder / "evidence"
    item = json.loads((folder / "fewshot.json").read_text())
    numbers = item["numbers"]
    assert {"mass", "tuberculosis", "hiatal_hernia"} <= set(numbers["left_out"]) and numbers["findings"]
    assert not set(numbers["left_out"]) & set(numbers["findings"])
    assert any("no positive training study" in text and "hiatal hernia" in text for text in item["says"])
    assert any("minus anchor, paired. Curated: " in text for text in item["says"])
    counts = list(numbers["shots"])
    assert counts[0] == "1" and counts[-1] == "all" and len(counts) > 1
    assert len(item["table"]["rows"]) == 1 + len(READINGS) * len(counts)
    assert all(len(row) == len(item["table"]["header"]) for row in item["table"]["rows"])
    lines = rows_of(folder / "fewshot.csv")
    assert len(lines) == (1 + len(counts) * len(READINGS) * len(KINDS)) * (1 + len(numbers["findings"]))
    # A mean over draws of means over findings: that of the findings' own means.
    for line in (line for line in lines if line["finding"] == "macro" and line["scores"] != "anchor"):
        key = {name: line[name] for name in ("positives", "studies", "scores")}
        own = [float(one["auroc"]) for one in lines if key.items() <= one.items() and one["finding"] != "macro"]
        assert float(line["auroc"]) == pytest.approx(np.mean(own))
        value = numbers["shots"][line["positives"]][line["scores"]][line["studies"]]["value"]
        assert float(line["auroc"]) == pytest.approx(value)
        of = numbers["shots"][line["positives"]][line["scores"]]
        difference = of["curated"]["value"] - of["plain"]["value"]
        assert of["curated minus plain"]["value"] == pytest.approx(difference)
        for kind in KINDS:
            gain = of[kind]["value"] - numbers["anchor"]["value"]
            assert of[f"{kind} minus anchor"]["value"] == pytest.approx(gain)
    assert Image.open(folder / "fewshot.png").width > 800
    assert item["title"] in (run_folder / "report.html").read_text(encoding="utf-8")
    before = numbers
    assert main(["evidence", str(run_folder), "only=fewshot", *FAST]) == 0
    assert json.loads((folder / "fewshot.json").read_text())["numbers"] == before
    capsys.readouterr()


def test_faults_are_one_line(run: Opened, run_folder: Path, fails: Callable[..., str]) -> None:
    assert "draws=0: must be at least 1" in fails("evidence", str(run_folder), "only=fewshot", "draws=0")
    with pytest.raises(InputError, match="fewshot: these data have no training split to draw from"):
        few_shot.compute(_without_training(run))


def _without_training(run: Opened) -> Opened:
    class Empty(Opened):
        def rows(self, split: str, most: int) -> np.ndarray:
            return Opened.rows(self, split, most)[: 0 if split == "train" else None]

    return Empty(**vars(run))


def test_without_any_finding_to_draw_it_says_so(run: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = run.data.loss_labels
    monkeypatch.setattr(run.data, "loss_labels", lambda rows=None: labels(rows) * 0)
    with pytest.raises(InputError, match="fewshot: no finding stands in training studies and lacks in others"):
        few_shot.compute(run)
