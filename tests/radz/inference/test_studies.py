"""Which files are one study: by folder, by table, and every fault of a table in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from changed_dicom import changed
from csv_rows import rows_of
from PIL import Image
from pydicom.uid import generate_uid

from data_modules.errors import InputError
from radz.inference.predict import predict_folder
from radz.inference.studies import Study, batches, studies_of

FILES = ("a.png", "p1/pa.png", "p1/lateral.png", "p1/deep/prior.dcm", "p2/ct.nii.gz", "p2/only.png")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Pictures, a volume and the folder of a CT series."""
    for name in (*FILES, "p2/notes.txt", "series/1.dcm"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return sorted(tmp_path / "in" / name for name in (*FILES, "series"))


def named(studies: list[Study], folder: Path) -> dict[str, list[str]]:
    return {study.name: [str(path.relative_to(folder)) for path in study.files] for study in studies}


def test_each_file_is_its_own_study(images: list[Path], tmp_path: Path) -> None:
    found = named(studies_of(images, tmp_path / "in", None), tmp_path / "in")
    assert found == {name: [name] for name in (*FILES, "series")} and list(found) == sorted(found)


def test_the_pictures_of_a_folder_are_one_study(images: list[Path], tmp_path: Path) -> None:
    assert named(studies_of(images, tmp_path / "in", "folder"), tmp_path / "in") == {
        ".": ["a.png"], "p1": ["p1/lateral.png", "p1/pa.png"], "p1/deep": ["p1/deep/prior.dcm"], "p2": ["p2/only.png"],
        "p2/ct.nii.gz": ["p2/ct.nii.gz"], "series": ["series"],
    }  # fmt: skip
    (tmp_path / "in/series/scout.png").write_bytes(b"")
    with pytest.raises(InputError, match="studies: series is the name of two studies") as fault:
        studies_of([*images, tmp_path / "in/series/scout.png"], tmp_path / "in", "folder")
    assert "\n" not in str(fault.value)


def test_a_table_says_which_files_and_in_which_order(images: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "studies.csv"
    table.write_text(
        "study,file,age\nS1,p1/pa.png,60\nS2,a.png,\nS1,./p1/deep/../lateral.png,60\nS1,p1/deep/prior.dcm,60"
    )
    assert named(studies_of(images, tmp_path / "in", str(table)), tmp_path / "in") == {
        "S1": ["p1/pa.png", "p1/lateral.png", "p1/deep/prior.dcm"], "S2": ["a.png"],
        "p2/ct.nii.gz": ["p2/ct.nii.gz"], "p2/only.png": ["p2/only.png"], "series": ["series"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,study\na.png,S\nb.png,S", "row 3: b.png does not exist"),
        ("file,study\np2/notes.txt,S", "row 2: p2/notes.txt is no image that is read alone"),
        ("file,study\nseries/1.dcm,S", "row 2: series/1.dcm is no image that is read alone"),
        ("file,study\na.png,S\n./a.png,T", "row 3: ./a.png stands in row 2 too"),
        ("file,study\na.png,", "row 2: column study is empty"),
        ("file,study\n,S", "row 2: column file is empty"),
        ("file,study\n../in/a.png,S", "row 2: ../in/a.png is not below the folder of input"),
        ("file,study\np1/../../in/a.png,S", "is not below the folder of input"),
        ("file,study\n/etc/passwd,S", "row 2: /etc/passwd is not below the folder of input"),
        ("file,study\na.png,S\np2/ct.nii.gz,S", "row 3: p2/ct.nii.gz is a CT volume and a study of its own, but S"),
        ("file,studies\na.png,S", "has no column 'study'; nearest is 'studies'"),
        ("file,study\na.png,p2/only.png", "p2/only.png is the name of two studies"),
        ("", "is empty"),
    ],
)
def test_a_bad_table_is_one_line(images: list[Path], tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "studies.csv"
    table.write_text(text)
    with pytest.raises(InputError) as fault:
        studies_of(images, tmp_path / "in", str(table))
    assert words in str(fault.value) and "\n" not in str(fault.value)


def test_a_table_that_is_not_there_is_one_line(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"studies: there is no file .*none\.csv; give a table, or studies=folder"):
        studies_of(images, tmp_path / "in", str(tmp_path / "none.csv"))


def test_batches_hold_so_many_files_and_every_study_once() -> None:
    sizes = [1, 1, 3, 1, 5, 1, 1]
    studies = [Study(str(number), (Path("x"),) * size) for number, size in enumerate(sizes)]
    found = [[len(study.files) for study in part] for part in batches(studies, 4)]
    assert found == [[1, 1], [3, 1], [5], [1, 1]] and [s for part in batches(studies, 4) for s in part] == studies


def test_a_study_of_two_patients_has_an_error(trained_run: Path, files: list[Path], tmp_path: Path) -> None:
    """By whatever the headers say of the patient; what only one of them says tells nothing."""
    for name, other in (("one", "111"), ("silent", ""), ("spelt", "111"), ("two", "222")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for file, patient in (("a.dcm", "111"), ("b.dcm", other)):
            called = f"DOE^JOHN{'^^MR' * (file == 'b.dcm')}" if name == "spelt" else ""
            of = {"PatientID": patient, "PatientName": called, "StudyInstanceUID": generate_uid()}
            changed(files[0], tmp_path / "in" / name / file, **of)
        Image.fromarray(np.arange(6400, dtype=np.uint8).reshape(80, 80)).save(tmp_path / "in" / name / "c.png")
    found = rows_of(predict_folder(
        str(trained_run), str(tmp_path / "in"), str(tmp_path / "s.csv"), ["edema"], studies="folder"
    ))  # fmt: skip
    assert [row["error"] for row in found] == [
        "",
        "",
        "",
        "two: its files differ in PatientID; put those of one patient together",
    ]
    assert [bool(row["edema"]) for row in found] == [True, True, True, False]
