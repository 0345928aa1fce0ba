"""Items of evidence on a trained run: planted signals, plain counterparts, and the whole verb."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from small_run import SMALL as SMALL_RUN

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from data_modules.placing import to_original
from radz import Radz
from radz.cli.command_line import main
from radz.evidence import compute, heatmap_cases, layer_probes, words_by_layer
from radz.evidence.config import ITEMS, EvidenceConfig, read_settings
from radz.evidence.items import Item
from radz.evidence.open_run import Opened, open_run
from radz.evidence.perturbations import FAULTS, perturbed
from radz.models.prompts import read_paraphrases
from radz.report.run_report import write_report

BOUNDS = ["studies=16", "train_studies=24", "heatmap_studies=5", "attention_studies=5", "robustness_studies=8"]
FAST = [*BOUNDS, "overlays=1", "draws=2", "replicates=100", "batch_size=4"]


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Opened:
    settings, _ = read_settings(FAST)
    return open_run(run_folder, settings, [])


# Probes.


def test_a_probe_is_scikit_learns_and_leaves_unknown_labels_out() -> None:
    draw = np.random.default_rng(0)
    train, test = (draw.normal(3, 5, (n, 6)).astype(np.float32) for n in (90, 20))
    train[:, 5], test[:, 5] = 700.3, 701  # constant in training
    labels = np.stack([train[:, 0] > 3, draw.random(90) < 0.5, np.ones(90)], axis=1).astype(np.float32)
    labels[::3, 0] = np.nan
    found = layer_probes.probe(train, labels, test, 0.1)
    known = ~np.isnan(labels[:, 0])
    scaler = StandardScaler().fit(train)
    plain = LogisticRegression(C=0.1).fit(scaler.transform(train[known]), labels[known, 0])
    np.testing.assert_allclose(found[:, 0], plain.predict_proba(scaler.transform(test))[:, 1], atol=2e-3)
    assert np.isnan(found[:, 2]).all() and np.isfinite(found[:, 1]).all()


def test_places_hold_what_the_model_computes(run: Opened, tmp_path: Path) -> None:
    """Every place anew, one study at a time, without hooks or files."""
    rows = run.rows("test", 5)
    found = layer_probes.collect(run, rows, tmp_path)
    count = run.encoder.backbone.layer
    assert list(found) == [("tower", "image tokens"), ("projector", "image tokens")] + [
        (f"layer {n}", pooling) for n in range(1, count + 1) for pooling in layer_probes.POOLINGS
    ]
    assert sorted(tmp_path.glob("*.npy")) and found["layer 1", "last token"].filename
    for number, batch in enumerate(run.batches(rows, 1)):
        with torch.no_grad():
            backbone, given = run.encoder.backbone, run.sequences(batch)
            images = backbone.image_embeddings(backbone.prepare(batch.pixels))
            states = backbone.decode_all(given.embeddings, given.mask, given.content, attention=False).states
            modality = run.encoder.encode_images(batch.pixels, batch.image_counts, run.modalities(batch))
        np.testing.assert_allclose(found["projector", "image tokens"][number], images.mean((0, 1)), atol=1e-4)
        for n in (1, count):
            state = states[n][0]
            for pooling, at in zip(layer_probes.POOLINGS, (given.content[0], given.tokens[0], [-1]), strict=True):
                np.testing.assert_allclose(found[f"layer {n}", pooling][number], state[at].mean(0), atol=1e-4)
        raw = torch.from_numpy(found[f"layer {count}", "modality tokens"][number].copy())
        torch.testing.assert_close(run.encoder.heads["image"](raw), modality.overall[0], atol=1e-4, rtol=1e-3)
    tower = found["tower", "image tokens"]
    assert tower.shape == (5, 32) and np.ptp(tower, axis=0).max() > 1e-3


# Words.


def test_a_sentence_finds_its_paraphrase_once_what_all_share_is_gone() -> None:
    """Planted: ten findings along axes of their own, far off in one direction; descriptions of the neighbour."""
    own = torch.eye(10, 12)
    shared = 50 * torch.ones(12)
    kinds = {"one": own + shared, "two": 2 * own + 1.7 * shared, "description": own.roll(1, 0) - shared}
    raw, centred = (words_by_layer._matched(kinds, whiten) for whiten in (None, False))
    assert raw["mean_cosine"] > 0.99 and raw["effective_rank"] < 1.1
    assert centred["paraphrase"] == 1 and centred["paraphrase_rank"] == 1 and centred["effective_rank"] > 8.9
    assert centred["description"] == 0 and centred["description_rank"] > 1.5


def test_words_are_those_of_the_anchors_at_the_last_layer(run: Opened) -> None:
    described = [text for text in run.classifier.of_bank.descriptions if text]
    depths = run.encoder.encode_depths(described)
    assert depths.shape[:2] == (run.encoder.backbone.layer, len(described))
    torch.testing.assert_close(depths[-1], run.encoder.encode_descriptions(described, "decoder"), atol=1e-5, rtol=1e-4)
    assert (depths[0] - depths[-1]).abs().max() > 1e-2
    item = words_by_layer.compute(run)
    assert item.numbers["findings"] == len(described) and len(item.numbers["layers"]) == len(depths) == len(item.rows)
    assert all(1 <= of[kind]["paraphrase_rank"] <= len(described) for of in item.numbers["layers"] for kind in of)


# Maps.


def test_maps_are_of_each_study_alone(run: Opened) -> None:
    """A study's maps do not depend on what it is batched with; the mean similarity is that of the mean by hand."""
    rows = run.rows("test", 4)
    together = parts(run, next(run.batches(rows, 4)))
    every, gradient = run.mapper.similarity(*together), run.mapper.attention(*together, [0, 2])
    assert every.shape == (4, len(run.findings), 4, 4) and gradient.shape == (4, 2, 4, 4)
    assert (gradient >= 0).all() and gradient.amax() > 0
    assert run.encoder.backbone.decoder.config._attn_implementation == "sdpa"
    for number, batch in enumerate(run.batches(rows, 1)):
        alone = parts(run, batch)
        torch.testing.assert_close(run.mapper.similarity(*alone)[0], every[number], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(run.mapper.attention(*alone, [0, 2])[0], gradient[number], atol=1e-5, rtol=1e-3)


def parts(run: Opened, batch: StudyBatch) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    return batch.pixels, batch.image_counts, run.modalities(batch)


def test_the_engine_gives_the_same_map(run: Opened, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = int(run.rows("test", 1)[0])
    path, name = run.data.table.image_paths[run.data.table.image_offsets[row]], run.findings[1]
    present = next(one for one in run.rows("test", 99)[:, None] if run.labels(one)[0, 1] == 1)
    model = Radz.from_pretrained(run_folder)
    one = parts(run, next(run.batches(np.array([row]), 1)))
    for kind, grid in (
        ("similarity", run.mapper.similarity(*one)[0, 1]),
        ("attention", run.mapper.attention(*one, [1])[0, 0]),
    ):
        found = model.heatmap(path, name, kind)
        assert found.shape == (64, 64) and found.dtype == np.float32
        np.testing.assert_allclose(found, to_original(grid.numpy(), (64, 64), 64, "pad"), atol=1e-4)
    monkeypatch.setattr(type(model.encoder.backbone), "covered", lambda self, side: side - 8)
    less = to_original(grid.numpy(), (64, 64), 64, "pad", covered=56)
    np.testing.assert_allclose(model.heatmap(path, name), less, atol=1e-4)
    (case,) = (case for case in heatmap_cases.cases(run, [None], present) if case.finding == name)
    grid = run.mapper.similarity(*parts(run, next(run.batches(present, 1))))[0, 1]
    less = to_original(grid.numpy(), (64, 64), 64, "pad", covered=56)
    np.testing.assert_allclose(case.heat["similarity"], less, atol=1e-4)
    with pytest.raises(InputError, match="kind: 'saliency'"):
        model.heatmap(path, name, "saliency")
    with pytest.raises(InputError, match=r"volume\.nii: is a CT volume, and the run was trained on chest X-rays"):
        model.heatmap("volume.nii", name)
    model.experiment.scoring.headline = "anchor"
    with pytest.raises(InputError, match="finding: purple spots has no description"):
        model.heatmap(path, "purple spots")


def test_predict_draws_each_radiograph_and_finding(run: Opened, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(run.data.table.image_paths[0], tmp_path / "in" / "deep" / "a.dcm")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    keys = [f"input={tmp_path / 'in'}", f"out={tmp_path / 'scores.csv'}", f"heatmaps={tmp_path / 'maps'}"]
    assert main(["predict", str(run_folder), *keys, "findings=mass,edema"]) == 0
    drawn = sorted(path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png"))
    assert drawn == ["deep/a.dcm_edema.png", "deep/a.dcm_mass.png"]
    assert Image.open(tmp_path / "maps" / drawn[0]).size == (64, 64)


def test_the_score_that_gradients_are_taken_of_is_the_one_that_is_reported(run: Opened) -> None:
    batch = next(run.batches(run.rows("test", 2), 2))
    given = run.sequences(batch)
    with torch.no_grad(), run.encoder.backbone.eager():
        states = run.encoder.backbone.decode_all(given.embeddings, given.mask, given.content, attention=True).states
        found = run.classifier.of_modality(run.encoder.image_features(states[-1], given), "chest_xray")
    usual = run.classifier.score(batch.pixels, batch.image_counts, ["chest_xray"] * 2)
    for scorer, values in usual.items():
        torch.testing.assert_close(found[scorer], values, atol=1e-5, rtol=1e-4, equal_nan=True)


# Faults of images and words.


@pytest.mark.parametrize("name", list(FAULTS))
def test_faults_repeat_grow_and_keep_the_shape(name: str) -> None:
    rows, columns = np.mgrid[0:96, 0:96] / 96
    grain = np.random.default_rng(5).normal(0, 5, rows.shape)
    image = (120 + 90 * np.sin(9 * rows) * np.cos(7 * columns) + grain).astype(np.uint8)[None, None]
    fault = FAULTS[name]
    found = [perturbed(image, name, level, 0, 7) for level in fault.levels]
    away = [float(np.abs(one.astype(float) - image).mean()) for one in found]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in found)
    assert away == sorted(away) and away[0] > 0 and len(fault.levels) == 4
    np.testing.assert_array_equal(found[2], perturbed(image, name, fault.levels[2], 0, 7))
    both = perturbed(np.repeat(image, 3, axis=1), name, fault.levels[2], 0, 7)
    assert all(np.array_equal(both[0, channel], found[2][0, 0]) for channel in range(3))
    if name in ("noise", "rotation", "crop", "mark"):
        assert any(not np.array_equal(found[2], perturbed(image, name, fault.levels[2], 0, key)) for key in range(8))


def test_paraphrases_are_read_and_refused_by_name(tmp_path: Path) -> None:
    shipped = read_paraphrases(EvidenceConfig().paraphrases)
    assert len(shipped) == 12 and shipped["we_see"].negative == ("We see no {finding} here.",)
    file = tmp_path / "words.yaml"
    for text, cause in {
        "paraphrases: {a: {positive: no placeholder}}": "a: the positive sentence must contain",
        "paraphrases: {}": "holds no sentence",
        "paraphrases: {a: {positive: '{finding}', negative: 'no {finding} of {side}'}}": "no placeholder but {finding}",
        "other: 1": "must hold `paraphrases:",
        "paraphrases: {a: text}": "must hold `paraphrases:",
    }.items():
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=cause):
            read_paraphrases(str(file))


# The verb.


def test_the_verb_writes_everything_and_the_report_shows_it(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "report.html").read_text(encoding="utf-8")
    assert main(["evidence", str(run_folder), *FAST]) == 0
    folder = run_folder / "evidence"
    assert capsys.readouterr().out.strip() == str(folder)
    items = {name: json.loads((folder / f"{name}.json").read_text()) for name in (
        "heatmaps", "layers", "words", "sentences", "robustness", "features", "attention", "fewshot")}  # fmt: skip
    for item in items.values():
        assert item["says"] and item["pictures"] and item["table"]["rows"] and item["settings"]["seed"] == 0
        for picture in item["pictures"]:
            with open(folder / f"{picture['name']}.csv", newline="") as stream:
                lines = list(csv.reader(stream))
            assert len(lines) > 1 and {len(line) for line in lines} == {len(lines[0])}
    assert not list(folder.glob(".features.*"))
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    assert all(item["title"] in page for item in items.values())
    # The cases of the page stay, which `radz report` could not draw again.
    assert page.count('class="case"') == before.count('class="case"') > 0
    assert len(shown(page)) == sum(len(item["pictures"]) for item in items.values())
    assert "data:image/jpeg" in write_report(run_folder).read_text(encoding="utf-8")


def shown(page: str) -> list[Image.Image]:
    """Pictures of evidence on a page."""
    found = page.split("data:image/jpeg;base64,")[1:]
    return [Image.open(io.BytesIO(base64.b64decode(one.split('"')[0]))) for one in found]


@pytest.mark.figures
@pytest.mark.parametrize("only", ["words", pytest.param("[]", marks=pytest.mark.slow)])
def test_pictures_are_drawn_for_print_and_stand_on_the_page(trained_run: Path, tmp_path: Path, only: str) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "run")
    assert main(["evidence", str(folder), f"only={only}", *FAST]) == 0
    items = [json.loads(file.read_text()) for file in (folder / "evidence").glob("*.json")]
    names = [picture["name"] for item in items for picture in item["pictures"]]
    pictures = [Image.open(folder / f"evidence/{name}.png") for name in names]
    pictures += shown((folder / "report.html").read_text(encoding="utf-8"))
    assert len(pictures) == 2 * len(names) > 0 and all(one.width > 800 for one in pictures)


@pytest.fixture(scope="module")
def written(run_folder: Path) -> Path:
    """The run folder once the verb has been there; another process may have run the test of the verb."""
    if not (run_folder / "evidence" / "fewshot.json").exists():
        assert main(["evidence", str(run_folder), *FAST]) == 0
    return run_folder


def test_evidence_names_no_study_of_the_corpus(written: Path, run: Opened) -> None:
    """After the verb: neither files nor their names hold an identifier; the DICOM files name hashes."""
    folder = written / "evidence"
    table = run.data.table
    ids = {str(one) for one in (*table.study_id, *table.patient, *table.image_ids)}
    for path in folder.rglob("*"):
        assert not any(one in path.name for one in ids)
        if path.suffix in (".json", ".csv", ".dcm"):
            content = path.read_bytes()
            assert not any(one.encode() in content for one in ids), path
    captures = sorted(folder.glob("heatmaps/*.dcm"))
    assert captures and len(captures) == len(list(folder.glob("heatmaps/*.png")))
    hashes = set(run.patients(table.rows("test")))
    for path in captures[:4]:
        data = pydicom.dcmread(path)
        assert data.PatientID in hashes and data.pixel_array.shape == (64, 64, 3)
        assert np.array_equal(data.pixel_array, np.asarray(Image.open(path.with_suffix(".png"))))


def test_the_same_seed_gives_the_same_numbers(written: Path) -> None:
    names = ("layers", "attention")
    files = [written / "evidence" / f"{name}.json" for name in names]
    before = [json.loads(file.read_text())["numbers"] for file in files]
    assert main(["evidence", str(written), "only=layers,attention", *FAST]) == 0
    assert before == [json.loads(file.read_text())["numbers"] for file in files]


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        (["only=heatmap"], "only: 'heatmap'"),
        (["studies=few"], "few"),
        (["studies=2"], "studies=2"),
        (["split=all"], "split: 'all'"),
        (["split=train", "only=layers,words,fewshot"], "split: layers and fewshot would be scored on the training"),
        (["target=text"], "target: 'text'"),
        (["size=3"], "size=3: unknown here"),
        (["probe_strength=0"], "probe_strength: 0"),
        (["probe_strength=inf"], "probe_strength: inf must be a finite number"),
        (["only=robustness", "paraphrases=none.yaml"], "none.yaml: no such file"),
    ],
)
def test_faults_of_keys_are_one_line(
    run_folder: Path, capsys: pytest.CaptureFixture[str], keys: list[str], cause: str
) -> None:
    assert main(["evidence", str(run_folder), *FAST, *keys]) == 2
    assert cause in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_is_fitted_on_training_studies_is_left_out_of_them_and_told(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(*given: object) -> None:
        raise InputError("enough")

    monkeypatch.setattr(compute, "open_run", stop)
    settings, _ = read_settings(["split=train"])
    assert settings.items == [item for item in ITEMS if item not in ("phrases", "layers", "fewshot")]
    for split, told in (("train", 1), ("val", 0)):
        with pytest.raises(InputError, match="enough"):
            compute.evidence(run_folder, [f"split={split}"])
        assert caplog.text.count("layers and fewshot are left out: they are fitted on the training") == told
        caplog.clear()


def test_an_item_that_cannot_be_made_leaves_the_others_be(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(run: Opened) -> Item:
        raise InputError("no mark fits its image")

    written: list[str] = []
    monkeypatch.setattr(compute, "COMPUTE", dict.fromkeys(ITEMS, stop))
    monkeypatch.setattr(compute, "write_item", lambda item, *given: written.append(item.name))
    monkeypatch.setattr(compute.evidence_section, "renew", lambda folder: None)
    for keys in (["only=heatmaps"], []):  # asked for by name, or nothing is left
        with pytest.raises(InputError, match="no mark fits"):
            compute.evidence(run_folder, keys)
    monkeypatch.setitem(compute.COMPUTE, "words", lambda run: Item("words", "Words", [], {}))
    caplog.clear()
    compute.evidence(run_folder, [])
    assert written == ["words"] and caplog.text.count("no mark fits its image; the other items go on") == len(ITEMS) - 2


def test_faults_of_folders_are_one_line(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    shutil.copy(run_folder / "config.yaml", tmp_path)
    assert main(["evidence", str(tmp_path)]) == 2
    assert "the run is not finished" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "extra", "only"),
    [
        ("demo", ["backbone.tiny.family=llava_next"], "[]"),
        ("demo", ["backbone.tiny.family=qwen2_5_vl"], "[]"),
        ("demo", ["backbone.tiny.family=gemma3", "scoring.headline=fused"], "[]"),
        ("demo_ct", [], "heatmaps,layers,robustness,features,attention,fewshot"),
    ],
)
def test_every_family_and_ct(tmp_path: Path, cache_dir: Path, experiment: str, extra: list[str], only: str) -> None:
    folder = tmp_path / "run"
    assert main(["train", experiment, *SMALL_RUN, *extra, f"run_dir={folder}", f"cache_dir={cache_dir}"]) == 0
    assert main(["evidence", str(folder), *FAST, f"only={only}"]) == 0
    written = {path.stem for path in (folder / "evidence").glob("*.json")}
    assert written == (set(ITEMS) - {"phrases"} if only == "[]" else set(only.split(",")))
