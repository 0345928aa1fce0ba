"""The phantom's CT corpus: files, table, reader, and reports in the words of CT."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from csv_rows import rows_of
from test_phantom_report import FORBIDDEN, NAMED

from data_modules.corpora import phantom
from data_modules.corpus_config import CorpusConfig, PhantomConfig, SplitCounts
from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.phantom.findings import NAMES
from data_modules.phantom.report import training_reports, write_report
from data_modules.phantom.study import patients, sample_study
from data_modules.phantom.write import write_phantom

CT = "chest_ct"
FILM = re.compile(
    r"\bfilm|radiograph|x-ray|\bview\b|\b(PA|AP)\b|silhouette|shadow|project|costophrenic|frontal|knob", re.IGNORECASE
)
COUNTS = {"train": 6, "val": 2, "test": 8}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("phantom") / "ct"
    return folder, write_phantom(folder, studies=COUNTS, voxels=32, seed=4, modality=CT, workers=1, progress=False)


def test_files_are_nifti(written: tuple[Path, str]) -> None:
    for row in rows_of(written[0] / "studies.csv"):
        path = written[0] / row["image"]
        image = nibabel.load(path)
        assert isinstance(image, nibabel.Nifti1Image) and image.shape == (32, 32, 32)
        assert image.get_data_dtype() == np.int16 and nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        sizes = np.asarray(image.header.get_zooms(), float)
        assert np.ptp(sizes) == 0 and 280 < 32 * sizes[0] < 560 and image.header.get_xyzt_units()[0] == "mm"
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-3)
        assert not bytes(image.header["descrip"]).strip(b"\0") and row["view"] == ""
        assert gzip.decompress(path.read_bytes())[344:348] == b"n+1\0"


def test_studies_are_those_of_the_radiographs(written: tuple[Path, str], tmp_path: Path) -> None:
    write_phantom(tmp_path / "film", studies=COUNTS, image_px=64, seed=4, workers=1, progress=False)
    same = ("study", "patient", "split", "sex", "age", *NAMES)
    film, ct = rows_of(tmp_path / "film" / "studies.csv"), rows_of(written[0] / "studies.csv")
    assert [[row[name] for name in same] for row in film] == [[row[name] for name in same] for row in ct]
    assert all(a["report"] != b["report"] for a, b in zip(film, ct, strict=True))
    for index in range(20):
        one, two = (sample_study("test", index, index, 4, modality=m) for m in ("chest_xray", CT))
        assert replace(two.body, supine=False) == one.body and one.findings == two.findings


def test_same_bytes_for_any_number_of_workers(written: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = written
    assert digest == write_phantom(
        tmp_path / "p", studies=COUNTS, voxels=32, seed=4, modality=CT, workers=2, progress=False
    )
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 18
    contents = [(folder / path).read_bytes() for path in files]
    assert contents == [(tmp_path / "p" / path).read_bytes() for path in files]
    assert len(set(contents)) == len(contents), "no two studies are alike"
    other = write_phantom(tmp_path / "q", studies={"test": 1}, voxels=40, seed=4, modality=CT, progress=False)
    assert other != write_phantom(tmp_path / "r", studies={"test": 1}, voxels=32, seed=4, modality=CT, progress=False)


def test_reader_gives_the_ct_corpus_of_the_radiographs(tmp_path: Path) -> None:
    config = PhantomConfig(SplitCounts(4, 2, 6), image_px=64, voxels=32, seed=2)
    tables = [
        phantom.read(CorpusConfig("phantom", phantom=config, modality=m), ontology(), b"salt", tmp_path)
        for m in ("chest_xray", CT)
    ]
    film, ct = tables
    assert (film.corpora, ct.corpora) == (("phantom",), ("phantom_ct",))
    assert set(ct.modality) == {CT} and all(path.endswith(".nii.gz") for path in ct.image_paths)
    assert film.findings == ct.findings and (film.states == ct.states).all() and all(ct.reports)
    assert (film.split == ct.split).all() and not set(film.reports) & set(ct.reports)
    assert set(ct.attributes["view"]) == {""}
    # only what a modality uses is part of its recipe
    folders = {m: phantom.written(config, tmp_path, m) for m in ("chest_xray", CT)}
    assert folders["chest_xray"] != folders[CT]
    assert phantom.written(replace(config, voxels=48), tmp_path) == folders["chest_xray"]
    assert phantom.written(replace(config, image_px=96), tmp_path, CT) == folders[CT]
    assert phantom.written(replace(config, voxels=48), tmp_path, CT) != folders[CT]


@pytest.mark.parametrize("voxels", [31, 513])
def test_size_is_checked(voxels: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"data\.corpora\.0\.phantom\.voxels={voxels}"):
        CorpusConfig("phantom", phantom=PhantomConfig(voxels=voxels), modality=CT).check("data.corpora.0")
    with pytest.raises(InputError, match="voxels"):
        write_phantom(tmp_path / "p", studies={"test": 1}, voxels=voxels, modality=CT, progress=False)
    with pytest.raises(InputError, match="'mri' is not one of chest_xray, chest_ct"):
        write_phantom(tmp_path / "p", studies={"test": 1}, modality="mri", progress=False)


def test_training_text_of_ct_is_of_ct_and_never_names_the_unseen() -> None:
    texts = training_reports(1500, seed=0, modality=CT)
    assert [text for text in texts if FORBIDDEN.search(text) or FILM.search(text)] == []
    assert len(set(texts)) > 1400 and 24 <= np.median([len(text.split()) for text in texts]) <= 50
    openings = [text.split("Findings:")[0] for text in texts]
    assert len(set(openings)) == 6 and np.mean(["CT" in words for words in openings]) > 0.55
    assert texts[:20] == training_reports(20, seed=0, modality=CT) != training_reports(20, seed=1, modality=CT)


@pytest.mark.parametrize("split", ["train", "test"])
def test_ct_reports_tell_what_the_labels_tell(split: str) -> None:
    for index, patient in enumerate(patients(split, 400, 3)):
        study = sample_study(split, index, patient, 3, scene=False, modality=CT)
        text, present = write_report(study), {finding.name for finding in study.findings}
        assert not re.search(r"[{}]|  ", text) and not FILM.search(text), text
        body, ending = (part.lower() for part in text.split("Impression:"))
        for name, words in NAMED.items():
            assert bool(re.search(rf"\b({words})\b", ending)) == (name in present), (name, text)
            assert not (name in present and re.search(rf"\bno (focal |pulmonary )?({words})", body)), (name, text)
