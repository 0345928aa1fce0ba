"""VinDr-CXR: the majority of three readers, the consensus of the test set, the Kaggle edition."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from official import COUNTS, KEY, edit, laid_out, phantoms, picture, read, refused, states, write_table

from data_modules.corpora.phantom import written
from data_modules.corpora.terms import MALFORMED
from data_modules.corpora.vindr_cxr import _agreed
from data_modules.corpus_config import BadRows, PhantomConfig
from data_modules.errors import InputError
from data_modules.phantom import layouts

COLUMNS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
)  # fmt: skip
TRAIN, TEST = "annotations/image_labels_train.csv", "annotations/image_labels_test.csv"


def cells(*present: str) -> list[str]:
    """The 28 columns of one reader."""
    return ["1" if name in present else "0" for name in COLUMNS]


def dicom(path: Path) -> None:
    """A file with the name of a DICOM file; the table looks only whether it is there."""
    picture(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


root = laid_out("vindr_cxr")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Two training images of three readers, rows in turn as the release has them, and two test images."""
    rows = [
        ["aa11", "R9", *cells("Nodule/Mass", "Cardiomegaly")],
        ["bb22", "R8", *cells("No finding")],
        ["aa11", "R10", *cells("Nodule/Mass", "Pneumonia")],
        ["bb22", "R9", *cells("No finding")],
        ["aa11", "R8", *cells("Cardiomegaly", "Edema", "Lung tumor")],
        ["bb22", "R10", *cells("Other diseases")],
    ]
    write_table(tmp_path / TRAIN, ["image_id", "rad_id", *COLUMNS], rows)
    header = [name.replace("Other diseases", "Other disease") for name in COLUMNS]
    tests = [["cc33", *cells("Tuberculosis", "Lung Opacity")], ["dd44", *cells("No finding")]]
    write_table(tmp_path / TEST, ["image_id", *header], tests)
    for name in ("train/aa11", "train/bb22", "test/cc33", "test/dd44"):
        dicom(tmp_path / f"{name}.dicom")
    return tmp_path


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Two images of three readers, one row per box; coordinates as typed there."""
    rows = [
        ["aa11", "Nodule/Mass", 8, "R9", 1, 2, 30, 40],
        ["aa11", "Nodule/Mass", 8, "R9", 5, 6, 70, 80],
        ["aa11", "Cardiomegaly", 3, "R9", 1, 2, 3, 4],
        ["bb22", "No finding", 14, "R8", "", "", "", ""],
        ["aa11", "ILD", 5, "R10", 1, 2, 3, 4],
        ["bb22", "No finding", 14, "R9", "", "", "", ""],
        ["aa11", "Cardiomegaly", 3, "R8", 1, 2, 3, 4],
        ["bb22", "No finding", 14, "R10", "", "", "", ""],
    ]
    header = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    write_table(tmp_path / "train.csv", header, rows)
    for name in ("aa11", "bb22"):
        dicom(tmp_path / f"train/{name}.dicom")
    return tmp_path


def test_two_of_three_readers_make_a_finding(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = read("vindr_cxr", by_hand)
    assert "no patient is named" in caplog.text and "held out" in caplog.text
    assert found.study_id.tolist() == ["train/aa11.dicom", "train/bb22.dicom", "test/cc33.dicom", "test/dd44.dicom"]
    assert found.patient.tolist() == ["aa11", "bb22", "cc33", "dd44"] and set(found.attributes["view"]) == {"PA"}
    first = states(found, "train/aa11.dicom")
    assert {name for name, state in first.items() if state == "present"} == {"lung_lesion", "cardiomegaly"}
    assert set(first.values()) == {"present", "absent"}
    for study, present in {"train/bb22": "no_finding", "test/dd44": "no_finding"}.items():
        assert [n for n, state in states(found, f"{study}.dicom").items() if state == "present"] == [present]
    test = states(found, "test/cc33.dicom")
    assert test["tuberculosis"] == test["lung_opacity"] == "present" and test["pneumonia"] == "absent"
    assert found.source_rows.tolist() == [2, 3, 2, 3]


def test_a_majority_only_with_looser_labels_leaves_a_finding_open(by_hand: Path) -> None:
    """Of aa11 one reader marks an opacity and one ILD, which may be one: neither present nor absent."""
    rows = pd.read_csv(by_hand / TRAIN, dtype=str)
    rows.loc[0, "Lung Opacity"] = rows.loc[2, "ILD"] = "1"
    rows.to_csv(by_hand / TRAIN, index=False)
    assert states(read("vindr_cxr", by_hand), "train/aa11.dicom")["lung_opacity"] == "unmentioned"


def test_boxes_of_kaggle_are_read_per_reader(kaggle: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read("vindr_cxr", kaggle)
    assert "Kaggle has no test labels" in caplog.text
    first = states(found, "train/aa11.dicom")
    assert first["cardiomegaly"] == "present"
    assert first["lung_lesion"] == "absent", "two boxes of one reader are one vote"
    assert first["no_finding"] == "absent" and "pneumonia" not in first
    assert states(found, "train/bb22.dicom")["no_finding"] == "present"


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("vindr_cxr", root)
    sizes = {split: len(found.rows(split)) for split in ("train", "val", "test")}
    assert sizes["test"] == 9 and sizes["train"] + sizes["val"] == 25 and 2 <= sizes["val"] <= 3
    assert found.totals()[["uncertain", "unmentioned"]].to_numpy().sum() == 0
    assert found.totals().loc["no_finding", "present"] > 0 and found.totals()["present"].sum() > 9
    assert all(Path(path).suffix == ".dicom" for path in found.image_paths)
    # Each reader is blind in turn, so that the majority is what the phantom has.
    cases = layouts.cases(written(PhantomConfig(COUNTS, image_px=64, seed=1), phantoms(root)))
    wanted = [bool(case.findings & {"nodule", "mass"}) for case in cases if case.split != "test"]
    seen = [states(found, study)["lung_lesion"] == "present" for study in found.study_id[found.split != "test"]]
    assert seen == wanted and any(wanted)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / TEST).unlink(), "image_labels_test.csv"),
        (lambda r: (r / "train/aa11.dicom").unlink(), "image_labels_train.csv row 2 .*no image file"),
        (lambda r: edit(r / TRAIN, "Edema", "Oedema"), "'Edema'.*nearest is 'Oedema'"),
        (lambda r: edit(r / TRAIN, "aa11,R10,0", "aa11,R10,7"), "row 4 .*value outside the coding.*'7'"),
        (lambda r: edit(r / TRAIN, "bb22,R9,0", "bb22,R9,"), "row 5 .*value outside the coding"),
        (lambda r: edit(r / TRAIN, "aa11,R10", "aa11,R9"), "row 4: its image has 3 row.* of 3 reader"),
        (lambda r: edit(r / TRAIN, "aa11,R10", "ee55,R10"), "row 2: its image has 2 row.* of 3 reader"),
        (lambda r: edit(r / TEST, "dd44", "cc33"), "image_labels_test.csv row 2: its image has 2 row.* of 1 reader"),
        (lambda r: edit(r / TRAIN, "rad_id", "reader"), "no column 'rad_id'"),
        (lambda r: (r / TEST).write_text((r / TEST).read_text().splitlines()[0]), "a header but no rows"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "vindr_cxr", by_hand, "aa11", "bb22")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ILD", "Edema", "train.csv row 6: class_name is not one of"),
        ("aa11,ILD", "aa11,No finding,14,R9,,,,\naa11,ILD", "row 2: its reader marks both"),
        ("14,R10", "14,R9", "row 5: its image has 2 row.* of 3 reader"),
        ("class_name", "label", "no column 'class_name'"),
    ],
)
def test_faults_of_kaggle_are_one_line(kaggle: Path, old: str, new: str, said: str) -> None:
    edit(kaggle / "train.csv", old, new)
    refused(said, "vindr_cxr", kaggle, "aa11")


def test_bad_labels_can_be_skipped(by_hand: Path) -> None:
    edit(by_hand / TRAIN, "aa11,R10,0", "aa11,R10,7")
    found = read("vindr_cxr", by_hand, bad=BadRows(on_bad_label="skip"))
    assert found.patient.tolist() == ["bb22", "cc33", "dd44"] and found.coverage.skipped() == 1


def test_all_28_columns_are_findings_of_protocol_vindr28(by_hand: Path) -> None:
    """Each label of the two tables reaches one finding of the protocol, and that finding alone."""
    text = (Path(__file__).parents[2] / "experiments/protocols/vindr28.yaml").read_text(encoding="utf-8")
    protocol = yaml.safe_load(text)
    corpus, scored = protocol["data"]["corpora"][0], protocol["scoring"]["findings"]
    assert len(set(scored)) == 28
    header = [name.replace("Other diseases", "Other disease") for name in COLUMNS]
    write_table(by_hand / TEST, ["image_id", *header], [[f"t{n:02d}", *cells(name)] for n, name in enumerate(COLUMNS)])
    for n in range(len(COLUMNS)):
        dicom(by_hand / f"test/t{n:02d}.dicom")
    found = read("vindr_cxr", by_hand, findings=corpus["findings"])
    proven = []
    for n in range(len(COLUMNS)):
        proven.append([name for name, state in states(found, f"test/t{n:02d}.dicom").items() if state == "present"])
    own = [[name for name in names if name in scored] for names in proven]
    assert all(len(names) == 1 for names in own) and sorted(name for names in own for name in names) == sorted(scored)
    at = dict(zip(COLUMNS, own, strict=True))
    assert at["Nodule/Mass"] == ["nodule_mass"] and at["Lung tumor"] == ["lung_tumor"] and at["COPD"] == ["copd"]
    assert "lung_lesion" in proven[COLUMNS.index("Lung tumor")]  # joined with Nodule/Mass there, as in protocols/vindr


def test_a_label_that_no_table_has_is_refused(by_hand: Path) -> None:
    with pytest.raises(InputError, match=r"has no column 'Lung tumour'.*'Lung tumor'"):
        read("vindr_cxr", by_hand, findings={"tumour": {"label": "Lung tumour"}})


@given(st.lists(st.tuples(*[st.sampled_from(["0", "1", "1.0", "2", "", "x"])] * 3), min_size=1, max_size=5))
def test_any_three_cells_make_a_majority_or_stay_at_fault(images: list[tuple[str, str, str]]) -> None:
    rows = [[str(i), f"R{k}", cell] for i, votes in enumerate(images) for k, cell in enumerate(votes)]
    frame = pd.DataFrame(rows, columns=["image_id", "rad_id", "Edema"], index=range(2, 2 + len(rows)), dtype=object)
    agreed = _agreed(frame, {"edema": ("Edema",)}, {"edema": set()}, Path("table.csv"), "train", 3, KEY)
    for found, votes in zip(agreed["Edema"], images, strict=True):
        wrong = [cell for cell in votes if cell not in ("0", "1", "1.0")]
        assert found == ((wrong[0] or MALFORMED) if wrong else str(int(sum(cell != "0" for cell in votes) >= 2)))
