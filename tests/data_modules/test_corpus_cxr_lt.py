"""CXR-LT 2023, 2024 and 2026: lists of each edition and task, typed by hand, and the findings of their protocols."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from official import KEY, SALT, edit, phantom, picture, read, refused, states, write_table

from data_modules.errors import InputError, MissingCorpus
from data_modules.phantom.layouts import cxr_lt, cxr_lt_2026
from data_modules.study import StudyTable

HEADER = ("dicom_id", "subject_id", "study_id", "fpath", "ViewPosition", "ViewCodeSequence_CodeMeaning")
PROTOCOLS = Path(__file__).parents[2] / "experiments/protocols"
FOLDER = "cxr-lt-2024"
IMAGES = ("aa", "bb", "cc")
TASK1 = {"task": ["", "1"]}


def row(name: str, *labels: object) -> list[object]:
    subject = 10_000_000 + IMAGES.index(name)
    return [name, subject, 50_000_000, f"files/p10/p{subject}/s50000000/{name}.jpg", "PA", "postero-anterior", *labels]


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """A training image and two test images, one of them in the lists of all tasks."""
    three = ("Edema", "Normal", "Rib Fracture")
    write_table(tmp_path / FOLDER / "train_labeled.csv", [*HEADER, *three], [row("aa", 1, 0, 0)])
    tests = [row("bb", 0, 1, 0), row("cc", 1, 0, 1)]
    write_table(tmp_path / FOLDER / "test_labeled_task1.csv", [*HEADER, *three], tests)
    write_table(tmp_path / FOLDER / "test_labeled_task2.csv", [*HEADER, "Edema", "Normal"], [row("cc", "0.0", "1.0")])
    write_table(tmp_path / FOLDER / "test_labeled_task3.csv", [*HEADER, "Bulla"], [row("bb", 0), row("cc", 1)])
    for name in IMAGES:
        picture(tmp_path / str(row(name)[3]))
    return tmp_path


def test_lists_of_tasks_are_chosen_by_keep(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    findings = {"rib_fracture": {"label": "Rib Fracture", "parent": "fracture"}, "bulla": {"label": "Bulla"}}
    with caplog.at_level(logging.WARNING):
        first = read("cxr_lt", by_hand, keep=TASK1, findings=findings)
    assert "cxr_lt/test_labeled_task1.csv: 2 images here, 78946 published" in caplog.text
    assert first.study_id.tolist() == list(IMAGES) and first.split.tolist() == ["train", "test", "test"]
    assert first.patient.tolist() == ["10000000", "10000001", "10000002"]
    of = states(first, "cc")
    assert (of["edema"], of["no_finding"], of["rib_fracture"], of["bulla"]) == (
        "present", "absent", "present", "unmentioned"
    )  # fmt: skip
    assert first.attributes["view"].tolist() == ["PA"] * 3
    second = read("cxr_lt", by_hand, keep={"task": ["", "2"]})
    assert second.study_id.tolist() == ["aa", "cc/task2"]
    assert states(second, "cc/task2")["no_finding"] == "present"
    third = read("cxr_lt", by_hand, keep={"task": ["3"]}, findings={"bulla": {"label": "Bulla"}})
    assert [states(third, f"{name}/task3")["bulla"] for name in ("bb", "cc")] == ["absent", "present"]
    assert set(states(third, "cc/task3").values()) == {"present", "unmentioned"}


def test_lists_of_2023_have_other_names(by_hand: Path) -> None:
    new = read("cxr_lt", by_hand, keep=TASK1)
    (by_hand / FOLDER).rename(by_hand / "cxr-lt-2023")
    for old, name in (("train_labeled", "train"), ("test_labeled_task1", "test")):
        text = (by_hand / f"cxr-lt-2023/{old}.csv").read_text()
        (by_hand / f"cxr-lt-2023/{name}.csv").write_text(text.replace("Normal", "No Finding").replace("fpath", "path"))
        (by_hand / f"cxr-lt-2023/{old}.csv").unlink()
    found = read("cxr_lt", by_hand)
    assert found.study_id.tolist() == new.study_id.tolist() and (found.states == new.states).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Edema", "edema", "column 'edema' must be written 'Edema'"),
        ("Edema", "Edma", "column 'Edma' must be written 'Edema'"),
        ("Normal", "NORMAL", "column 'NORMAL' must be written 'Normal'"),
    ],
)
def test_a_list_that_writes_a_finding_otherwise_is_refused(by_hand: Path, old: str, new: str, message: str) -> None:
    path = by_hand / FOLDER / "test_labeled_task1.csv"
    head, rest = path.read_text().split("\n", 1)
    assert old in head.split(",")
    path.write_text(",".join(new if name == old else name for name in head.split(",")) + "\n" + rest)
    with pytest.raises(InputError, match=f"test_labeled_task1.csv: .*{message}"):
        read("cxr_lt", by_hand)


def test_a_list_without_a_finding_of_its_peers_is_told(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = by_hand / FOLDER / "test_labeled_task1.csv"
    frame = pd.read_csv(path, dtype=str)
    frame.drop(columns="Edema").to_csv(path, index=False)
    read("cxr_lt", by_hand)
    assert "cxr_lt: test_labeled_task1.csv has no column of Edema: unmentioned in its rows" in caplog.messages
    frame[["dicom_id", "subject_id", "study_id", "fpath"]].to_csv(path, index=False)
    read("cxr_lt", by_hand)
    assert "cxr_lt: test_labeled_task1.csv has no column of a finding that is known: no labels" in caplog.messages


def test_lists_may_lie_in_root(by_hand: Path) -> None:
    for path in sorted((by_hand / FOLDER).iterdir()):
        shutil.move(path, by_hand)
    assert read("cxr_lt", by_hand, keep=TASK1).study_id.tolist() == list(IMAGES)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("cxr_lt_2024_task1", cxr_lt.KNOWN),
        ("cxr_lt_2024_task2", [label for label in cxr_lt.KNOWN if label not in cxr_lt.RARE]),
        ("cxr_lt_2023", [label for label in cxr_lt.KNOWN if label not in cxr_lt.RARE]),
        ("cxr_lt_2024_task3", cxr_lt.UNSEEN),
        ("cxr_lt_2026_task1", cxr_lt_2026.KNOWN),
        ("cxr_lt_2026_task2", cxr_lt_2026.UNSEEN),
    ],
)
def test_a_protocol_scores_each_label_of_its_list_as_one_finding(name: str, labels: Any, tmp_path: Path) -> None:
    protocol = yaml.safe_load((PROTOCOLS / f"{name}.yaml").read_text(encoding="utf-8"))
    corpus, scored = protocol["data"]["corpora"][0], protocol["scoring"]["findings"]
    ones = [[int(a == b) for b in labels] for a in labels]
    if corpus["reader"] == "cxr_lt":
        rows = [[f"i{n}", 10_000_001 + n, 50_000_000, "files/x.jpg", "PA", "", *one] for n, one in enumerate(ones)]
        task = next(task for task in corpus["keep"]["task"] if task)
        write_table(tmp_path / FOLDER / "train_labeled.csv", [*HEADER, *labels], [[*row("aa"), *ones[0]]])
        write_table(tmp_path / FOLDER / f"test_labeled_task{task}.csv", [*HEADER, *labels], rows)
        for image in ("files/x.jpg", str(row("aa")[3])):
            picture(tmp_path / image)
        studies = [f"i{n}" + ("" if task == "1" else f"/task{task}") for n in range(len(labels))]
    else:
        rows = [[f"i{n}.png", *one] for n, one in enumerate(ones)]
        task = next(task for task in corpus["keep"]["task"] if task)
        write_table(tmp_path / "CXRLT_2026_training.csv", ["ImageID", "PatientID", *labels], [["a.png", 1, *ones[0]]])
        write_table(tmp_path / f"CXRLT_2026_TEST_ALL_TASK{task}.csv", ["ImageID", *labels], rows)
        for image in ("a", *(f"i{n}" for n in range(len(labels)))):
            picture(tmp_path / f"{image}.png")
        studies = [f"i{n}.png" + ("" if task == "1" else "/task2") for n in range(len(labels))]
    found = read(corpus["reader"], tmp_path, keep=corpus["keep"], findings=corpus["findings"])
    proven = [
        [finding for finding, state in states(found, study).items() if state == "present" and finding in scored]
        for study in studies
    ]
    assert all(len(names) == 1 for names in proven)
    assert sorted(names[0] for names in proven) == sorted(scored) and len(scored) == len(labels)


@pytest.fixture
def of_2026(tmp_path: Path) -> Path:
    """Two training images in PadChest's folders, a test image in one of NIH's."""
    write_table(
        tmp_path / "CXRLT_2026_training.csv", ["ImageID", "StudyDate_DICOM", "PatientID", "Normal", "alveolar pattern"],
        [["p1.png", 20100101, 77, 1, 0], ["p2.png", 20100102, 77, 0, 1]],
    )  # fmt: skip
    write_table(
        tmp_path / "CXRLT_2026_TEST_ALL_TASK1.csv", ["ImageID", "Normal", "alveolar pattern"],
        [["00000001_000.png", 0, 1]],
    )  # fmt: skip
    for place in ("0/p1", "images/13/p2", "images_001/images/00000001_000"):
        picture(tmp_path / f"{place}.png")
    return tmp_path


def test_images_of_2026_lie_in_the_folders_of_two_corpora(of_2026: Path) -> None:
    found = read("cxr_lt_2026", of_2026, findings={"alveolar_pattern": {"label": "alveolar pattern"}})
    assert found.image_ids == ["0/p1.png", "images/13/p2.png", "images_001/images/00000001_000.png"]
    assert found.patient.tolist() == ["77", "77", "00000001_000.png"] and found.split[2] == "test"
    assert len(set(found.split[:2])) == 1
    assert states(found, "p2.png")["alveolar_pattern"] == "present"
    assert states(found, "00000001_000.png") == {"no_finding": "absent", "alveolar_pattern": "present"}


def test_patients_of_2026_are_those_of_padchest(of_2026: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    padchest = read("padchest", phantom("padchest", tmp_path_factory.mktemp("padchest") / "padchest"))
    tested = padchest.patient[padchest.rows("test")[0]]
    edit(of_2026 / "CXRLT_2026_training.csv", ",77,", f",{tested},", 2)
    with pytest.raises(InputError, match=r"corpus padchest and cxr_lt_2026: 1 patient\(s\) in more than one split"):
        StudyTable.concat([padchest, read("cxr_lt_2026", of_2026)]).check_splits(SALT)
    StudyTable.concat([padchest, read("cxr_lt_2026", of_2026, patients="own")]).check_splits(SALT)


def test_a_test_image_of_2026_is_no_patient_of_its_name(of_2026: Path) -> None:
    picture(of_2026 / "77.png")
    (of_2026 / "77.png").rename(of_2026 / "77")
    edit(of_2026 / "CXRLT_2026_TEST_ALL_TASK1.csv", "00000001_000.png", "77")
    found = read("cxr_lt_2026", of_2026)
    assert found.patient.tolist() == ["77", "77", "image 77"]
    found.check_splits(SALT)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.mark.parametrize("corpus", ["cxr_lt", "cxr_lt_2026"])
def test_phantom_in_its_layout(corpus: str, layouts: Path) -> None:
    root = phantom(corpus, layouts / corpus)
    found = read(corpus, root, keep=TASK1)
    totals = found.totals()
    assert len(found) == 34 and len(found.rows("test")) == 9
    assert totals.loc["pleural_effusion", "present"] > 0 and totals.loc["pleural_effusion", "unmentioned"] == 0
    last = read(corpus, root, keep={"task": ["3" if corpus == "cxr_lt" else "2"]}, findings={"b": {"label": "Bulla"}})
    assert len(last.rows("test")) == 9 and last.totals().loc["b", "unmentioned"] == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / FOLDER / "train_labeled.csv").unlink(), r"holds no cxr-lt-2024/train_labeled\.csv or"),
        (lambda r: [p.unlink() for p in (r / FOLDER).glob("test*")], r"cxr-lt-2024 holds no test_labeled_task1\.csv"),
        (lambda r: edit(r / FOLDER / "train_labeled.csv", "fpath", "file"), "has no column 'fpath'"),
        (lambda r: edit(r / FOLDER / "test_labeled_task1.csv", "subject_id", "subject"), "has no column 'subject_id'"),
        (lambda r: edit(r / FOLDER / "test_labeled_task1.csv", ",0,1,0", ",0,2,0"), "row 2 .*'Normal'"),
        (lambda r: (r / str(row("cc")[3])).unlink(), "row 3.*no image file"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil: Any, said: str) -> None:
    spoil(by_hand)
    refused(said, "cxr_lt", by_hand, "p1000000", keep=TASK1)


def test_a_label_that_no_list_has_is_refused(by_hand: Path) -> None:
    with pytest.raises(InputError, match=r"has no column 'Rib Fractures'.*'Rib Fracture'"):
        read("cxr_lt", by_hand, keep=TASK1, findings={"rib_fracture": {"label": "Rib Fractures"}})


def test_faults_of_2026_are_one_line(of_2026: Path) -> None:
    (of_2026 / "images_001/images/00000001_000.png").unlink()
    with pytest.raises(InputError, match=r"TASK1\.csv row 2.*no image file"):
        read("cxr_lt_2026", of_2026)
    (of_2026 / "CXRLT_2026_TEST_ALL_TASK1.csv").unlink()
    with pytest.raises(MissingCorpus, match=r"holds no CXRLT_2026_TEST_ALL_TASK1\.csv or") as fault:
        read("cxr_lt_2026", of_2026)
    assert "6 unseen findings" in fault.value.help
    for root in (of_2026 / "none", ""):
        with pytest.raises(MissingCorpus, match=f"{KEY}.root"):
            read("cxr_lt_2026", root)
