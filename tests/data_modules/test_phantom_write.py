"""The phantom on disk: table, DICOM, digest, and what a repeated, a changed or an interrupted run does."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from csv_rows import rows_of

from data_modules.errors import InputError
from data_modules.phantom import write as writing
from data_modules.phantom.findings import NAMES
from data_modules.phantom.write import COLUMNS, write_phantom

STUDIES = {"train": 14, "val": 3, "test": 5}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("phantom") / "chest"
    return folder, write_phantom(folder, studies=STUDIES, image_px=96, seed=4, workers=1, progress=False)


def test_table(phantom: tuple[Path, str]) -> None:
    folder, digest = phantom
    table = rows_of(folder / "studies.csv")
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 22 and len({row["study"] for row in table}) == 22
    assert {row["split"] for row in table} == set(STUDIES)
    splits = {}
    for row in table:
        assert splits.setdefault(row["patient"], row["split"]) == row["split"]
        assert all(row[name] in "01" for name in NAMES)
        assert row["report"] and row["view"] in ("PA", "AP") and row["sex"] in "MF" and 18 <= int(row["age"]) <= 90
    assert json.loads((folder / "phantom.json").read_text())["digest"] == digest
    assert not list(folder.parent.glob(".chest.*"))


def test_dicom(phantom: tuple[Path, str]) -> None:
    folder, _ = phantom
    kinds = set()
    for row in rows_of(folder / "studies.csv"):
        data = pydicom.dcmread(folder / row["image"])
        assert data.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert (data.BitsStored, data.HighBit, data.BitsAllocated) == (12, 11, 16)
        assert data.ViewPosition == row["view"] and data.PatientID == row["patient"]
        assert 0.5 < float(data.PixelSpacing[0]) * 96 / 256 < 2
        stored = data.pixel_array
        assert stored.shape == (96, 96) and stored.max() <= 4095 and stored.std() > 200
        kinds.add(data.PhotometricInterpretation)
        shown = 4095 - stored.astype(int) if data.PhotometricInterpretation == "MONOCHROME1" else stored.astype(int)
        middle, lung = shown[60:80, 44:52].mean(), np.percentile(shown[30:60, 20:76], 10)
        assert middle > lung + 500, "spine must be brighter than lung once MONOCHROME1 is undone"
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def test_same_config_is_left_alone_and_another_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_phantom(tmp_path / "p", studies={"train": 3}, image_px=64, seed=0, progress=False)
    stamp = (tmp_path / "p" / "studies.csv").stat().st_mtime_ns
    assert write_phantom(tmp_path / "p", studies={"train": 3}, image_px=64, seed=0, progress=False) == first
    assert (tmp_path / "p" / "studies.csv").stat().st_mtime_ns == stamp
    other = write_phantom(tmp_path / "p", studies={"train": 3}, image_px=64, seed=1, progress=False)
    assert other != first and len(rows_of(tmp_path / "p" / "studies.csv")) == 3
    # an interrupted run leaves neither the folder nor its draft
    monkeypatch.setattr(writing, "write_report", lambda study: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_phantom(tmp_path / "q", studies={"train": 2}, image_px=64, seed=0, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"p"}


def test_digest_ignores_the_number_of_workers(tmp_path: Path) -> None:
    one = write_phantom(tmp_path / "a", studies={"train": 9, "val": 2}, image_px=64, seed=9, workers=1, progress=False)
    two = write_phantom(tmp_path / "b", studies={"train": 9, "val": 2}, image_px=64, seed=9, workers=2, progress=False)
    assert one == two
    assert (tmp_path / "a" / "studies.csv").read_bytes() == (tmp_path / "b" / "studies.csv").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"studies": {"tests": 3}}, "tests"),
        ({"studies": {"train": -1}}, "negative"),
        ({"image_px": 16}, "image_px"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_configs_are_one_line(tmp_path: Path, wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        write_phantom(tmp_path / "p", **{"studies": {"train": 1}, "progress": False, **wrong})
    assert "\n" not in str(caught.value)


def test_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="no phantom"):
        write_phantom(tmp_path / "mine", studies={"train": 1}, image_px=64, progress=False)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


STORED, STORED_CT = "f8617329ef0e", "e238f3c847fc"
"""Digests of the studies below: stored pixels, reports and labels. They change only with the generator itself."""
_SMALL = """
import sys
from pathlib import Path
from data_modules.phantom.write import write_phantom
out = Path(sys.argv[1])
for place, size in (("cxr", {"image_px": 256}), ("ct", {"modality": "chest_ct", "voxels": 40})):
    print(write_phantom(out / place, studies={"train": 6, "test": 2}, seed=0, workers=1, progress=False, **size)[:12])
"""
PROCESSORS = {
    "as it is": {},
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR"},
    "without AVX2 and FMA": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other kernels are those of x86-64")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_stored_values_are_the_same_on_every_processor(tmp_path: Path, processor: str) -> None:
    surroundings = {**os.environ, **PROCESSORS[processor], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", _SMALL, str(tmp_path)], env=surroundings, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [STORED, STORED_CT]
