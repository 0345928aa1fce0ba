"""`Radz`: the scores of a run, for files anywhere on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
import yaml
from PIL import Image

import radz
from data_modules.errors import InputError
from radz import Radz
from radz.config.files import find_resource
from radz.config.trainer import TrainerConfig
from radz.methods.base import run_rows
from radz.methods.trained import computed_in
from radz.models import factory
from radz.models.descriptions import FIELDS, load_descriptions, save_descriptions
from radz.models.zero_shot import SCORERS
from radz.runs.prepare import prepare
from radz.training.run_folder import load_run
from radz.training.trainer import make_trainer


@pytest.fixture(scope="module")
def table(trained_run: Path) -> pd.DataFrame:
    return pd.read_csv(trained_run / "predictions/phantom_test.csv")


@pytest.fixture(scope="module")
def files(phantom_folder: Path, table: pd.DataFrame) -> list[Path]:
    """The DICOM file of every row of the prediction table."""
    found = [phantom_folder / f"images/{study}.dcm" for study in table.study_id]
    assert all(path.is_file() for path in found)
    return found


@pytest.mark.parametrize("scorer", [None, *SCORERS])
def test_scores_equal_the_predictions_of_the_run(
    engine: Radz, files: list[Path], table: pd.DataFrame, scorer: str | None
) -> None:
    names = [name.removeprefix("label/") for name in table.columns if name.startswith("label/")]
    found = engine.score(files, names, scorer)
    assert list(found.columns) == names and list(found.index) == [str(path) for path in files]
    expected = table[[f"{scorer or 'fused'}/{name}" for name in names]].to_numpy()
    assert np.abs(found.to_numpy() - expected).max() < 1e-5
    assert expected.std(axis=0).min() > 0


def test_scores_are_made_in_the_precision_of_the_run(trained_run: Path, files: list[Path], tmp_path: Path) -> None:
    """As a Trainer makes them in bf16-mixed: images in bfloat16, but the texts of findings, before its steps, not."""
    parts = prepare(load_run(trained_run), trained_run, trained=True)
    trainer = make_trainer(TrainerConfig(precision="bf16-mixed", progress_bar=False), tmp_path, [])
    try:
        _, wanted = run_rows(trainer, parts.module, parts.data, parts.data.table.rows("test"))
    finally:
        torch.backends.cuda.enable_flash_sdp(True)
    folder = shutil.copytree(trained_run, tmp_path / "run")
    noted = json.loads((folder / "environment.json").read_text())
    assert (noted["precision"], noted["backbone_dtype"]) == computed_in(folder) == ("32-true", "float32")
    (folder / "environment.json").write_text(json.dumps({**noted, "precision": "bf16-mixed"}))
    engine = Radz.from_pretrained(folder)
    for scorer in SCORERS:
        assert np.abs(engine.score(files, parts.findings, scorer).to_numpy() - wanted[scorer]).max() < 1e-6
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize(
    ("noted", "trainer", "found"),
    [
        ({"precision": "32-true", "backbone_dtype": "float32", "gpus": ["H200"]}, {}, ("32-true", "float32")),
        ({"gpus": ["H200"]}, {}, ("bf16-mixed", "bfloat16")),
        ({"gpus": ["H200"]}, {"accelerator": "cpu"}, ("32-true", "float32")),
        ({"gpus": []}, {}, ("32-true", "float32")),
        ({}, {"precision": "64-true"}, ("64-true", "float32")),
    ],
)
def test_the_precision_of_earlier_runs_follows_from_their_machine(
    trained_run: Path, tmp_path: Path, noted: dict[str, Any], trainer: dict[str, str], found: tuple[str, str]
) -> None:
    config = yaml.safe_load((trained_run / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "trainer": {**config["trainer"], **trainer}}))
    (tmp_path / "environment.json").write_text(json.dumps(noted))
    assert computed_in(tmp_path) == found


def test_a_precision_that_is_not_to_be_had_is_told(engine: Radz, caplog: pytest.LogCaptureFixture) -> None:
    Radz(engine.experiment, engine._model, "cpu", "64-true")
    assert "the run computed in 64-true, and cpu computes in float32" in caplog.text


def test_scores_do_not_depend_on_the_other_files_or_findings(engine: Radz, files: list[Path]) -> None:
    together = engine.score(files, ["edema", "mass"])
    alone = engine.score(files[3:4], ["mass"])
    assert np.abs(together.iloc[3]["mass"] - alone.iloc[0]["mass"]) < 1e-5


def test_features_are_unit_vectors_of_float32(engine: Radz, files: list[Path]) -> None:
    images, texts = engine.embed_images(files), engine.embed_texts(["edema", "A nodule.", "edema"])
    assert images.dtype == texts.dtype == np.float32 and images.shape == (16, 32) and texts.shape == (3, 32)
    for part in (images, texts):
        assert np.allclose(np.linalg.norm(part, axis=1), 1, atol=1e-5)
    assert np.array_equal(texts[0], texts[2]) and not np.allclose(texts[0], texts[1], atol=1e-3)
    assert engine.embed_images([]).shape == engine.embed_texts([]).shape == (0, 32)
    assert engine.score([], ["edema"]).shape == (0, 1)


def test_texts_that_are_cut_are_told(engine: Radz, files: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    limit, long = engine.experiment.dfat.max_text_tokens, "A small effusion of the left side. " * 60
    length = len(engine.encoder.backbone.tokenizer(long, add_special_tokens=False).input_ids)
    engine.embed_texts(["edema", long])
    engine.score(files[:1], ["edema", long])
    end = f"longer than dfat.max_text_tokens={limit} tokens (the longest has "
    told = [record.getMessage() for record in caplog.records if "token" in record.getMessage()]
    assert told[0].startswith(f"embed_texts: texts: 1 of 2 are {end}{length}); they lose their middle")
    assert told[1].startswith("sentences of the findings: ") and end in told[1] and len(told) == 2


def test_a_png_and_a_string_path_serve_as_well(engine: Radz, tmp_path: Path) -> None:
    shade = np.random.default_rng(0).integers(0, 255, (90, 60), dtype=np.uint8)
    Image.fromarray(shade).save(tmp_path / "tall.png")
    one, other = engine.embed_images([str(tmp_path / "tall.png")]), engine.embed_images([tmp_path / "tall.png"])
    assert np.array_equal(one, other)


def test_one_file_one_sentence_and_one_finding_are_one_item(engine: Radz, files: list[Path]) -> None:
    file = files[0]
    assert np.array_equal(engine.embed_texts("A small effusion."), engine.embed_texts(["A small effusion."]))
    assert engine.embed_texts("A small effusion.").shape == (1, 32)
    for one in (file, str(file)):
        assert np.array_equal(engine.embed_images(one), engine.embed_images([file]))
        assert np.array_equal(engine.study(one), engine.study([file]))
        for call in (engine.score, engine.probabilities):
            pd.testing.assert_frame_equal(call(one, "edema"), call([file], ["edema"]))
        pd.testing.assert_frame_equal(engine.in_scope(one), engine.in_scope([file]))
    assert engine.readings("edema").keys() == engine.readings(["edema"]).keys()
    assert np.array_equal(engine.heatmaps(file, "edema"), engine.heatmaps(file, ["edema"]))


def test_a_folder_of_radiographs_is_called_what_it_is(engine: Radz, files: list[Path]) -> None:
    with pytest.raises(InputError, match="is a folder and no CT series, and the run was trained on chest X-rays: give"):
        engine.score([files[0].parent], ["edema"])


def test_a_finding_without_description_needs_the_prompt(engine: Radz, files: list[Path]) -> None:
    assert np.isfinite(engine.score(files[:2], ["swallowed coin"], "prompt")).to_numpy().all()
    assert np.isfinite(engine.score(files[:2], ["swallowed coin"])).to_numpy().all()  # fused needs no description
    for scorer in ("anchor", "description"):
        with pytest.raises(InputError, match="swallowed coin has no description"):
            engine.score(files[:2], ["edema", "swallowed coin"], scorer)


def test_findings_may_be_called_by_short_names_and_words(engine: Radz, files: list[Path]) -> None:
    expected = engine.score(files[:3], ["pleural_effusion", "edema"], "anchor")
    for typed in (["effusion", "edema"], ["Pleural Effusion", "pulmonary edema"]):
        pd.testing.assert_frame_equal(engine.score(files[:3], typed, "anchor"), expected)
    assert list(engine.score(files[:1], "effusion").columns) == ["pleural_effusion"]
    with pytest.raises(InputError, match="'edema' and 'Edema' are the same finding, edema") as fault:
        engine.score(files[:1], ["edema", "Edema"])
    assert "\n" not in str(fault.value)


def test_words_outside_the_ontology_are_told(engine: Radz, caplog: pytest.LogCaptureFixture) -> None:
    assert engine.names(["edma", "mass"]) == ["edma", "mass"]
    assert [record.getMessage() for record in caplog.records] == [
        "findings: 'edma' is not in the ontology; nearest is 'edema'; it is scored as words"
    ]


def test_class_texts_are_encoded_once_per_set_of_findings(
    engine: Radz, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.score(files[:2], ["edema", "tuberculosis"])
    monkeypatch.setattr(factory, "class_texts", lambda *_: pytest.fail("the texts were read again"))
    monkeypatch.setattr(factory, "encoder", lambda *_: pytest.fail("the base was loaded again"))
    real, texts = engine.encoder.encode_texts, []
    monkeypatch.setattr(engine.encoder, "encode_texts", lambda words: texts.append(words) or real(words))
    pd.testing.assert_frame_equal(engine.score(files[:2], ["edema", "tuberculosis"]), first)
    assert texts == []


def test_the_texts_stored_in_the_run_come_first(trained_run: Path, files: list[Path], tmp_path: Path) -> None:
    """As `dkam.write` leaves them, or a copy of the file that was configured."""
    folder = shutil.copytree(trained_run, tmp_path / "run")
    own = load_descriptions(find_resource("descriptions/chest_xray.yaml", "x"))
    own["mass"] = replace(own["mass"], **{field: f"Another {field} text." for field in FIELDS})
    save_descriptions(folder / "descriptions.yaml", own)
    runs = [Radz.from_pretrained(path) for path in (trained_run, folder)]
    before, after = (run.score(files[:2], ["mass", "edema"], "anchor") for run in runs)
    assert np.abs(before["mass"] - after["mass"]).max() > 1e-4 and np.array_equal(before["edema"], after["edema"])


def test_wrong_requests_are_one_line(engine: Radz, files: list[Path], trained_run: Path, tmp_path: Path) -> None:
    for call, words in (
        (lambda: engine.score(files[:1], ["edema"], "cosine"), "'cosine' is unknown; use one of prompt"),
        (lambda: engine.score(files[:1], []), "none given"),
        (lambda: engine.score([], ["edema"], "cosine"), "'cosine' is unknown"),
        (lambda: engine.embed_images([tmp_path / "absent.png"]), "absent.png"),
        (lambda: Radz.from_pretrained(tmp_path), "not a run folder"),
    ):
        with pytest.raises(InputError, match=words) as fault:
            call()
        assert "\n" not in str(fault.value)


def test_what_is_no_path_and_no_name_is_one_line(engine: Radz, files: list[Path]) -> None:
    path, pixels = files[0], np.zeros((8, 8), np.uint8)
    for ask, told in (
        (lambda: engine.score(5, ["mass"]), "paths: takes paths of files, .*, or one of them, not int"),
        (lambda: engine.score(None, ["mass"]), "paths: takes .* not NoneType"),
        (lambda: engine.score([pixels], ["mass"]), "paths: takes .* not ndarray"),
        (lambda: engine.score(pixels, ["mass"]), "paths: takes .* not ndarray"),
        (lambda: engine.score([b"/x"], ["mass"]), "paths: takes .* not bytes"),
        (lambda: engine.score(path, None), "findings: takes names of findings, or one of them, not NoneType"),
        (lambda: engine.score(path, [["mass"]]), "findings: takes .* not list"),
        (lambda: engine.probabilities(5, ["mass"]), "paths: takes .* not int"),
        (lambda: engine.in_scope(np.array(5)), "paths: takes .* not ndarray"),
        (lambda: engine.embed_images([None]), "paths: takes .* not NoneType"),
        (lambda: engine.embed_texts(5), "sentences: takes sentences, or one of them, not int"),
        (lambda: engine.study([3]), "paths: takes .* not int"),
        (lambda: engine.images(None), "path: takes the path of one file"),
        (lambda: engine.heatmap([path], "mass"), "path: takes the path of one file, .* not list"),
        (lambda: engine.heatmap(path, ["mass"]), "finding: takes the name of one finding, not list"),
        (lambda: engine.heatmaps(path, 5), "findings: takes .* not int"),
        (lambda: Radz.from_pretrained(None), "folder: takes the path of a run or an export, not NoneType"),
    ):
        with pytest.raises(InputError, match=f"^{told}"):
            ask()


def test_what_holds_paths_and_names_serves(engine: Radz, files: list[Path]) -> None:
    expected = engine.score(files[:2], ["edema", "mass"])
    texts, names = np.array([str(path) for path in files[:2]]), np.array(["edema", "mass"])
    for paths, findings in (
        (texts, names), (pd.Series(texts), pd.Series(names)), ((p for p in files[:2]), (n for n in names)),
    ):  # fmt: skip
        pd.testing.assert_frame_equal(engine.score(paths, findings), expected)


def test_one_slice_of_a_ct_is_no_picture(engine: Radz, files: list[Path], tmp_path: Path) -> None:
    dataset = pydicom.dcmread(files[0])
    dataset.Modality, dataset.SOPClassUID = "CT", pydicom.uid.CTImageStorage
    dataset.save_as(tmp_path / "slice.dcm")
    ct = object.__new__(Radz)
    vars(ct).update(vars(engine) | {"modalities": ("chest_ct",)})
    for ask in (ct.score, ct.heatmap, ct.heatmaps):
        with pytest.raises(InputError, match=r"slice\.dcm: is one slice of a CT, .*; give the folder of its series$"):
            ask(tmp_path / "slice.dcm", "mass")
    verdict = ct.in_scope(tmp_path / "slice.dcm")
    assert verdict["in_scope"].tolist() == ["no"] and "is one slice of a CT" in verdict["reason"].iloc[0]


def test_a_run_without_a_part_is_refused(trained_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "run")
    (folder / "checkpoints/best.ckpt").unlink()
    with pytest.raises(InputError, match=r"best\.ckpt"):
        Radz.from_pretrained(folder)
    shutil.rmtree(folder / "anchors")
    with pytest.raises(InputError, match="radz anchors"):
        Radz.from_pretrained(folder)


def test_the_class_is_imported_lazily() -> None:
    assert radz.Radz is Radz
    with pytest.raises(AttributeError, match="Rads"):
        _ = radz.Rads
