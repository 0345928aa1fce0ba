"""`Radz` and `radz predict`: the scores of a run, for files anywhere on disk."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import radz
from data_modules.errors import InputError
from radz import Radz
from radz.predict import predict_folder
from radz.scoring.zero_shot import SCORERS


@pytest.fixture(scope="module")
def engine(trained_run: Path) -> Radz:
    return Radz.from_pretrained(trained_run)


@pytest.fixture(scope="module")
def table(trained_run: Path) -> pd.DataFrame:
    return pd.read_csv(trained_run / "predictions/phantom_test.csv")


@pytest.fixture(scope="module")
def files(cache_dir: Path, table: pd.DataFrame) -> list[Path]:
    """The DICOM file of every row of the prediction table."""
    folder = next(
        f.parent for f in cache_dir.glob("phantom/*/studies.csv") if len(f.read_text().splitlines()) == 24 + 12 + 16 + 1
    )
    found = [folder / f"images/{study}.dcm" for study in table.study_id]
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


def test_a_png_and_a_string_path_serve_as_well(engine: Radz, tmp_path: Path) -> None:
    shade = np.random.default_rng(0).integers(0, 255, (90, 60), dtype=np.uint8)
    Image.fromarray(shade).save(tmp_path / "tall.png")
    one, other = engine.embed_images([str(tmp_path / "tall.png")]), engine.embed_images([tmp_path / "tall.png"])
    assert np.array_equal(one, other)


def test_a_finding_without_description_needs_the_prompt(engine: Radz, files: list[Path]) -> None:
    assert np.isfinite(engine.score(files[:2], ["swallowed coin"], "prompt")).to_numpy().all()
    assert np.isfinite(engine.score(files[:2], ["swallowed coin"])).to_numpy().all()  # fused needs no description
    for scorer in ("anchor", "description"):
        with pytest.raises(InputError, match="swallowed coin has no description"):
            engine.score(files[:2], ["edema", "swallowed coin"], scorer)


def test_wrong_requests_are_one_line(engine: Radz, files: list[Path], trained_run: Path, tmp_path: Path) -> None:
    for call, words in (
        (lambda: engine.score(files[:1], ["edema"], "cosine"), "'cosine' is unknown; use one of prompt"),
        (lambda: engine.score(files[:1], []), "none given"),
        (lambda: engine.embed_images([tmp_path / "absent.png"]), "absent.png"),
        (lambda: Radz.from_pretrained(tmp_path), "not a run folder"),
    ):
        with pytest.raises(InputError, match=words) as fault:
            call()
        assert "\n" not in str(fault.value)


def test_a_run_without_a_part_is_refused(trained_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
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


# ---- radz predict --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, files: list[Path]) -> Path:
    """DICOM, PNG, a file without suffix in a folder of its own, a broken DICOM, and a text that is no image."""
    target = tmp_path / "in"
    (target / "deeper").mkdir(parents=True)
    shutil.copy(files[0], target / "a.dcm")
    shutil.copy(files[1], target / "deeper/b")
    Image.fromarray(np.arange(80 * 80, dtype=np.uint8).reshape(80, 80)).save(target / "c.PNG")
    (target / "d.dcm").write_bytes(files[2].read_bytes()[:700])
    (target / "notes.txt").write_text("not an image")
    return target


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_scores_what_can_be_read_and_lists_the_rest(
    trained_run: Path, engine: Radz, folder: Path, files: list[Path], tmp_path: Path
) -> None:
    out = predict_folder(str(trained_run), str(folder), str(tmp_path / "out/scores.csv"), ["edema", "mass"])
    found = {row["file"]: row for row in rows(out)}
    assert list(found) == ["a.dcm", "c.PNG", "d.dcm", "deeper/b"]
    assert list(found["a.dcm"]) == ["file", "error", "edema", "mass"]
    assert found["d.dcm"]["error"] and "d.dcm" in found["d.dcm"]["error"] and "\n" not in found["d.dcm"]["error"]
    assert found["d.dcm"]["edema"] == found["d.dcm"]["mass"] == ""
    assert [found[name]["error"] for name in ("a.dcm", "c.PNG", "deeper/b")] == ["", "", ""]
    expected = engine.score(files[:2], ["edema", "mass"]).to_numpy()
    scored = [[float(found[name][finding]) for finding in ("edema", "mass")] for name in ("a.dcm", "deeper/b")]
    assert np.abs(np.array(scored) - expected).max() < 1e-5
    assert [path.name for path in out.parent.iterdir()] == ["scores.csv"]


def test_predict_takes_the_findings_of_the_bank(trained_run: Path, engine: Radz, folder: Path, tmp_path: Path) -> None:
    (folder / "d.dcm").unlink()
    (found, *_) = rows(predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), []))
    assert [*found][2:] == [name for name in engine.bank.names if name != "no_finding"]


def test_predict_without_one_readable_file_stops(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=r"none of 1 files.*x\.png") as fault:
        predict_folder(str(trained_run), str(tmp_path / "in"), str(tmp_path / "s.csv"), ["edema"])
    assert "\n" not in str(fault.value) and not (tmp_path / "s.csv").exists()
