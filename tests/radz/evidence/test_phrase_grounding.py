"""Phrases on a trained run: maps against plain counterparts, matching of images, refusals, and the whole verb."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import InputError
from data_modules.phantom.layouts.mimic_cxr import PHRASE_HEADER
from data_modules.placing import to_original
from radz.cli.command_line import main
from radz.config.schema import DfatConfig
from radz.evidence import localisation, phrase_grounding
from radz.evidence.config import read_settings
from radz.evidence.open_run import Opened, open_run
from radz.models.centre import Shared
from radz.models.encoder import Encoder
from radz.models.losses import Features

FAST = ["replicates=100", "batch_size=3"]
TEXTS = ("Left effusion with a meniscus.", "A nodule in the right apex.", "Enlarged heart.")
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Opened:
    return open_run(run_folder, read_settings(FAST)[0], [])


@pytest.fixture
def write(run: Opened, tmp_path: Path) -> Write:
    """Writer of an MS-CXR table: of the studies at some places of a split, two phrases each."""
    table = run.data.table

    def write(split: str = "test", places: Sequence[int] = range(8), side: int = 64, more: str = "") -> Path:
        lines = [",".join(PHRASE_HEADER)]
        for place in places:
            name = Path(table.image_ids[table.image_offsets[table.rows(split)[place]]]).stem
            for n, category in enumerate(("Pleural Effusion", "Lung Lesion")):
                x, y = 8 * n + place, 20 + place
                lines.append(f"{name},{category},{TEXTS[(place + n) % 3]},-,{x},{y},16,12,{side},{side},train")
        path = tmp_path / "MS_CXR.csv"
        path.write_text("\n".join([*lines, more]) + "\n", encoding="utf-8")
        return path

    return write


def opened(run: Opened, path: Path, **changes: int | str) -> Opened:
    return replace(run, settings=replace(run.settings, phrases=str(path), **changes))


def test_a_map_is_the_cosine_of_the_phrase_with_each_patch(
    run: Opened, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One study at a time, by hand: the head of images on the states of the feature layer."""
    run = opened(run, write(places=[1, 4]))
    phrases, _ = phrase_grounding.listed(run.settings)
    chosen = phrase_grounding._placed(run, {one.image: [two for two in phrases if two.image == one.image]
                                            for one in phrases}, "test")  # fmt: skip
    rows = np.array([one.row for one in chosen])
    found = list(phrase_grounding._located(run, rows, chosen))
    assert [one.row for one in found] == [rows[0]] * 2 + [rows[1]] * 2
    kept = [value for one in found for value in vars(one).values() if isinstance(value, np.ndarray)]
    assert {value.shape for value in kept} == {(4, 4)} and all(value.base is None for value in kept)  # no whole map
    texts = [TEXTS[1], TEXTS[2], TEXTS[0]]  # of studies 1 and 4, in their order
    with torch.no_grad():
        features = run.encoder.encode_texts(texts, raw=True)
        side = features.local if run.module.dfat.loss == "global_local" else features.overall
        for number, batch in enumerate(run.batches(rows, 1)):
            given = run.sequences(batch)
            states = run.encoder.backbone.decode(given.embeddings, given.mask, given.content)[0][given.content[0]]
            patches = run.encoder.patch_features(states)
            for own in (0, 1):
                text = side[texts.index(TEXTS[((1, 4)[number] + own) % 3])]
                grid = torch.cosine_similarity(patches, text[None], dim=-1).view(4, 4).numpy()
                heat = found[2 * number + own].maps[phrase_grounding.KIND]
                np.testing.assert_allclose(heat, to_original(grid, (64, 64), 64, "pad"), atol=1e-4)
    monkeypatch.setattr(type(run.encoder.backbone), "covered", lambda self, side: side - 8)
    last = list(phrase_grounding._located(run, rows, chosen))[-1].maps[phrase_grounding.KIND]
    np.testing.assert_allclose(last, to_original(grid, (64, 64), 64, "pad", covered=56), atol=1e-4)
    x, y = 8 + 4, 20 + 4
    assert found[3].mask.sum() == 16 * 12 and found[3].mask[y : y + 12, x : x + 16].all()


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"loss": "global"}, "overall"),
        ({"loss": "global_local"}, "local"),
        ({"loss": "global_local", "sentences_weight": 1.0}, "local"),
        ({"loss": "global_local", "sentences_weight": 1.0, "sentences_by": "tokens"}, "overall"),
    ],
)
def test_phrases_are_what_the_loss_set_against_tokens_less_what_they_share(changes: dict[str, Any], side: str) -> None:
    """70 phrases, more than are encoded together; features that differ in both sides and share a mean."""
    generator = torch.Generator().manual_seed(0)
    features = {f"phrase {n}": torch.randn(2, 6, generator=generator) + 5 for n in range(70)}

    def encode(texts: list[str], raw: bool) -> Features:
        assert raw
        overall, local = torch.stack([features[text] for text in texts], dim=1)
        return Features(overall, local, torch.zeros(2))

    reports = {"text_overall": Shared(torch.full((6,), 2.0)), "text_local": Shared(torch.full((6,), 3.0))}
    encoder: Any = SimpleNamespace(encode_texts=encode, centre=SimpleNamespace(whiten=False, shared=reports.get))
    encoder.of_bank, encoder.of_texts = (partial(of, encoder) for of in (Encoder.of_bank, Encoder.of_texts))
    fake: Any = SimpleNamespace(module=SimpleNamespace(dfat=DfatConfig(**changes)), encoder=encoder)
    fake.spoken = partial(Opened.spoken, fake)
    found = phrase_grounding._spoken(fake, list(features))
    expected = torch.stack([both[side == "local"] for both in map(tuple, features.values())])
    torch.testing.assert_close(found, expected - expected.mean(0))
    # Of so few nothing would be left but their difference: they lose what reports share, as prompts do.
    found = phrase_grounding._spoken(fake, ["phrase 0", "phrase 1"])
    torch.testing.assert_close(found, expected[:2] - {"overall": 2, "local": 3}[side])


def test_contrast_to_noise_by_hand() -> None:
    heat = np.array([[1.0, 3, 9], [0, 2, np.nan]])
    mask = np.array([[1, 1, 1], [0, 0, 0]], dtype=bool)
    inside, outside = [1.0, 3, 9], [0.0, 2]
    expected = abs(np.mean(inside) - np.mean(outside)) / np.sqrt(np.var(inside) + np.var(outside))
    assert localisation.contrast_to_noise(heat, mask) == pytest.approx(expected)
    assert localisation.contrast_to_noise(-heat, mask) == pytest.approx(expected)
    assert localisation.contrast_to_noise(0 * heat, mask) == 0
    assert np.isnan(localisation.contrast_to_noise(heat, np.isfinite(heat)))
    assert np.isnan(localisation.contrast_to_noise(mask.astype(float), mask))  # no noise


@pytest.mark.figures
def test_the_verb_measures_phrases_and_writes_none(run: Opened, run_folder: Path, write: Write) -> None:
    path = write(more="0000-none-here,Edema,Mild edema.,-,1,1,4,4,64,64,test")
    assert main(["evidence", str(run_folder), "only=phrases", f"phrases={path}", *FAST]) == 0
    folder = run_folder / "evidence"
    item = json.loads((folder / "phrases.json").read_text())
    numbers = item["numbers"]
    assert (numbers["phrases"], numbers["left_out"], numbers["without_boxes"]) == (16, 0, 0)
    findings = numbers["maps"]["findings"]
    assert {name: cell["images"] for name, cell in findings.items()} == {"Pleural Effusion": 8, "Lung Lesion": 8}
    for measure in ("pointing", "iou", "dice", "cnr", "pixel_auroc"):
        means = [cell[measure]["value"] for cell in findings.values()]
        assert numbers["maps"]["macro"][measure]["value"] == pytest.approx(np.mean(means), abs=1e-4)
        assert f"{measure} minus permuted" in numbers["maps"]["macro"]
    assert numbers["maps"]["macro"]["random/pointing"]["value"] == pytest.approx(16 * 12 / 64**2, abs=1e-4)
    assert "Of the 9 images of the list 8 are in test; measured are 16 phrases of 8 of 8 studies" in item["says"][1]
    with open(folder / "phrases_images.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    of_it = [float(line["cnr"]) for line in lines if line["finding"] == "Lung Lesion"]
    assert findings["Lung Lesion"]["cnr"]["value"] == pytest.approx(np.mean(of_it), abs=1e-4)
    assert {line["patient"] for line in lines} <= set(run.patients(run.data.table.rows("test")))
    names = {Path(one).stem for one in run.data.table.image_ids}
    for file in folder.glob("phrases*"):
        content = file.read_bytes()
        assert not any(text.encode() in content for text in (*TEXTS, *names)), file
    assert Image.open(folder / "phrases.png").width > 800
    assert item["title"] in (run_folder / "report.html").read_text(encoding="utf-8")


def test_studies_are_bounded_and_train_says_what_it_is(run: Opened, write: Write) -> None:
    item = phrase_grounding.compute(opened(run, write("train"), split="train", heatmap_studies=4))
    assert item.numbers["phrases"] == 8 and "8 phrases of 4 of 8 studies" in item.says[1]
    assert "These are training studies" in item.says[2]


def test_images_of_another_size_are_left_out_and_counted(
    run: Opened, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    name = Path(run.data.table.image_ids[run.data.table.image_offsets[run.data.table.rows("test")[9]]]).stem
    item = phrase_grounding.compute(opened(run, write(more=f"{name},Edema,Mild edema.,-,1,1,4,4,65,64,test")))
    assert item.numbers["phrases"] == 16 and item.numbers["left_out"] == 1
    assert "could not be set against their image, by the log: 1" in item.says[2]
    assert "is 64 x 64 pixels here and 65 x 64 in the list" in caplog.text
    with pytest.raises(InputError, match="no phrase could be set against its image; the warnings above say why"):
        phrase_grounding.compute(opened(run, write(side=80)))


def test_what_cannot_be_measured_is_one_line(
    run: Opened, run_folder: Path, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*keys: str) -> str:
        assert main(["evidence", str(run_folder), *FAST, *keys]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "only=phrases needs phrases=FILE, your copy of the list" in fails("only=phrases")
    # Before anything is computed, though all items are wanted.
    assert "none.csv: no such file; give your copy of the list" in fails(f"phrases={tmp_path / 'none.csv'}")
    train = write("train", range(5))
    said = fails("only=phrases", f"phrases={train}")
    assert "none of its 5 images is in split test of phantom (5 in train); give split=train" in said
    train.write_text(train.read_text().replace("train-", "elsewhere-"))
    assert "(nor in another); give the list of this run's corpus" in fails("only=phrases", f"phrases={train}")


def test_all_items_are_those_without_a_file_to_give() -> None:
    assert "phrases" not in read_settings([])[0].items
    assert read_settings(["phrases=a.csv"])[0].items[1] == "phrases"
    assert read_settings(["phrases=a.csv", "only=words"])[0].items == ["words"]
