"""CT-RATE: both releases, one volume per scan, labels, reports, and the labels of 800 real reports."""

from __future__ import annotations

import csv
import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from csv_rows import rows_of
from hypothesis import given
from hypothesis import strategies as st
from official import KEY, SALT, edit, missing, refused, states
from official_ct import cases, hounsfield, laid_out_ct, read_by, volume

from data_modules.corpora import ct_rate
from data_modules.corpora.ct_rate import LABELS, MARKS, NAME, section
from data_modules.corpus_config import BadRows, SplitFractions
from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.phantom.layouts import ct_rate as writer
from data_modules.volumes import read_volume

SAMPLES = Path(os.environ.get("RADZ_SAMPLES", Path(__file__).parents[3] / "shared/data")) / "labels"
NO_VAL = SplitFractions(train=1, val=0, test=0)
SKIP = BadRows(on_missing_image="skip")
TABLES = {
    "labels": "multi_abnormality_labels/{}_predicted_labels.csv",
    "reports": "radiology_text_reports/{}_reports.csv",
    "metadata": "metadata/{}_metadata.csv",
}


root = laid_out_ct(writer.write)


def write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Two scans of one patient, the first of two reconstructions, and a test scan of the first release."""
    home = tmp_path / "dataset"
    one = [int(name in ("Lung nodule", "Medical material")) for name in LABELS.values()]
    rows = {"train": [["train_21_a_2", one], ["train_21_a_1", one], ["train_21_b_1", [0] * 18]],
            "valid": [["valid_7_a_1", [1] * 18]]}  # fmt: skip
    words = {"train": "train", "valid": "validation"}
    for split, found in rows.items():
        labels = [[f"{name}.nii.gz", *cells] for name, cells in found]
        write(home / TABLES["labels"].format(split), ["VolumeName", *LABELS.values()], labels)
        reports = [[f"{name}.nii.gz", "Cough", 'A "nodule" (5 mm)', "Not given."] for name, _ in found]
        header = ["VolumeName", "ClinicalInformation_EN", "Findings_EN", "Impressions_EN"]
        write(home / TABLES["reports"].format(words[split]), header, reports)
        header = ["VolumeName", "PatientSex", "PatientAge", "RescaleIntercept", "RescaleSlope", "XYSpacing"]
        metadata = [[f"{name}.nii.gz", "F", "055Y", "-8192", "1", "[0.75, 0.75]"] for name, _ in found]
        write(home / TABLES["metadata"].format(words[split]), header, metadata)
        folder = "train_fixed" if split == "train" else "valid"
        for name, _ in found:
            scan, patient = name.rpartition("_")[0], "_".join(name.split("_")[:2])
            volume(home / folder / patient / scan / f"{name}.nii.gz")
    return tmp_path


def test_rows_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = read_by(ct_rate, by_hand, split_fractions=NO_VAL)
    assert found.study_id.tolist() == ["train_21_a", "train_21_b", "valid_7_a"]
    assert found.patient.tolist() == ["train_21", "train_21", "valid_7"]
    assert found.split.tolist() == ["train", "train", "test"] and found.source_rows.tolist() == [3, 4, 2]
    assert [path.rpartition("dataset/")[2] for path in found.image_paths] == [
        "train_fixed/train_21/train_21_a/train_21_a_1.nii.gz", "train_fixed/train_21/train_21_b/train_21_b_1.nii.gz",
        "valid/valid_7/valid_7_a/valid_7_a_1.nii.gz",
    ]  # fmt: skip
    first = states(found, "train_21_a")
    assert {name for name, state in first.items() if state == "present"} == {"support_devices", "nodule"}
    assert set(first.values()) == {"present", "absent"} and set(states(found, "train_21_b").values()) == {"absent"}
    assert found.reports == ["A nodule 5 mm"] * 3
    # HU are rescaled in the first release only, and never by guessing.
    assert np.isnan(found.rescale[:2]).all() and found.rescale[2].tolist() == [1, -8192]
    assert found.attributes["sex"].tolist() == ["F"] * 3 and found.attributes["age"].tolist() == ["55"] * 3
    assert found.coverage.filtered == {
        "ct_rate: volumes that show no chest": 0, "ct_rate: volumes known to be damaged": 0,
        "ct_rate: further reconstructions of a scan": 1,
    }  # fmt: skip
    assert "1 further reconstructions of a scan are left out" in caplog.text
    assert "dataset/valid is of the first release" in caplog.text and "47149 in the published" in caplog.text


def test_it_is_ct_whatever_the_settings_say(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert set(read_by(ct_rate, by_hand, modality="chest_xray").modality) == {"chest_ct"}
    assert "data.corpora.0.modality=chest_xray: CT-RATE is CT; give data.corpora.0.modality=chest_ct" in caplog.text


def test_the_label_space_is_the_ontologys() -> None:
    assert {name: ontology().find("ct_rate", label) for name, label in LABELS.items()} == {
        name: {name: "exact"} for name in LABELS
    }


def test_the_wanted_sections_only(by_hand: Path) -> None:
    assert read_by(ct_rate, by_hand, report_sections=["impression"]).reports == [""] * 3
    both = read_by(ct_rate, by_hand, report_sections=["indication", "findings"]).reports
    assert both == ["Cough. A nodule 5 mm"] * 3
    cell = 'Clear. CONCLUSION: clear.",Stable'
    _edit(TABLES["reports"].format("train"), 'A ""nodule"" (5 mm)",Not given.', cell, -1)(by_hand)
    assert read_by(ct_rate, by_hand).reports[0] == "Clear. Conclusion \u2013 clear. Stable"
    with pytest.raises(InputError, match=r"empty report.*on_empty_report=skip"):
        read_by(ct_rate, by_hand, report_sections=["impression"], bad=BadRows(on_empty_report="error"))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("Not given.", ""), ('"Not given."', ""), ("not given", ""), ("", ""), ("nan", ""), ("''", ""),
        ('" Free air. " Clinical evaluation is recommended."', "Free air. Clinical evaluation is recommended."),
        ("Nodules (IMA: 42, IMA: 47)\nare  observed.", "Nodules IMA: 42, IMA: 47 are observed."),
        ("['The patient's lungs', 'normal']", "The patients lungs, normal"),
        ("Calibration was not given. Heart normal.", "Calibration was not given. Heart normal."),
        ("Lungs clear. CONCLUSION: Normal (IMA: 4)", "Lungs clear. Conclusion \u2013 Normal Ima: 4"),
    ],
)  # fmt: skip
def test_report_cells_typed_by_hand(cell: str, text: str) -> None:
    assert section(cell) == text


@given(st.text(max_size=60))
def test_a_report_cell_never_keeps_a_mark_and_a_second_pass_changes_nothing(cell: str) -> None:
    text = section(cell)
    assert not set(text) & {chr(code) for code in MARKS} and "\n" not in text and section(text) == text


def test_both_releases_and_a_part_of_the_download(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    home = by_hand / "dataset"
    volume(home / "valid_fixed/valid_7/valid_7_a/valid_7_a_1.nii.gz")
    found = read_by(ct_rate, by_hand)
    assert "valid_fixed" in found.image_paths[-1] and np.isnan(found.rescale).all()
    assert "valid_fixed, which is in HU, is read" in caplog.text
    # Volumes of the first release never stand in for a fixed one that is not there.
    (home / "valid_fixed/valid_7/valid_7_a/valid_7_a_1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"row 2 .*no image file.*on_missing_image=skip"):
        read_by(ct_rate, by_hand)
    assert read_by(ct_rate, by_hand, bad=SKIP).split.tolist().count("test") == 0
    (home / "train_fixed").rename(home / "elsewhere")
    with pytest.raises(InputError, match=r"no image file \(3 such row"):
        read_by(ct_rate, by_hand)
    # Below root lies the content of dataset/ itself.
    (home / "elsewhere").rename(home / "train_fixed")
    assert len(read_by(ct_rate, home, bad=SKIP)) == 2


def test_volumes_without_a_chest_and_damaged_ones_never_stand_for_a_scan(by_hand: Path) -> None:
    home = by_hand / "dataset"
    listed = "dataset/train/train_21/train_21_a/train_21_a_1.nii.gz\n\ntrain_21_b_1.nii.gz\n"
    (home / "metadata/no_chest_train.txt").write_text(listed)
    found = read_by(ct_rate, by_hand, split_fractions=NO_VAL)
    assert [path.rpartition("/")[2] for path in found.image_paths] == ["train_21_a_2.nii.gz", "valid_7_a_1.nii.gz"]
    assert found.coverage.filtered["ct_rate: volumes that show no chest"] == 2
    for path in home.rglob("train_*.csv"):
        path.write_text(path.read_text().replace("train_21_b_1", "train_1267_a_4"))
    found = read_by(ct_rate, by_hand, split_fractions=NO_VAL)
    assert len(found) == 2 and found.coverage.filtered["ct_rate: volumes known to be damaged"] == 1


def test_the_label_table_of_the_test_split_has_two_names(by_hand: Path) -> None:
    home = by_hand / "dataset/multi_abnormality_labels"
    (home / "valid_predicted_labels.csv").rename(home / "validation_predicted_labels.csv")
    assert len(read_by(ct_rate, by_hand)) == 3


def _edit(name: str, old: str, new: str, count: int = 1):
    return lambda root: edit(root / "dataset" / name, old, new, count)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_edit("metadata/train_metadata.csv", "train_21_a_2", "train_21_a"), "train_metadata.csv row 2: VolumeName"),
        (_edit("metadata/train_metadata.csv", "train_21_a_2", "valid_1_a_2"), "row 2: VolumeName is not of the form"),
        (_edit("metadata/train_metadata.csv", "train_21_a_2", "train_21_a_1"), "row 3: has the VolumeName of an"),
        (_edit(TABLES["labels"].format("train"), ",Lung nodule,", ",Nodule,"), "'Lung nodule'.*nearest is 'Nodule'"),
        (_edit(TABLES["labels"].format("train"), "train_21_a_2.nii.gz,0", "train_21_a_2.nii.gz,1"),
         "row 3: has other labels than an earlier volume of its scan"),
        (_edit(TABLES["labels"].format("valid"), ".nii.gz,1", ".nii.gz,0.5"), "row 2 .*outside the coding.*'0.5'"),
        (_edit(TABLES["labels"].format("valid"), ".nii.gz,1", ".nii.gz,"), "row 2 .*outside the coding"),
        (_edit(TABLES["reports"].format("train"), "Findings_EN", "Findings"), "'Findings_EN'.*nearest"),
        (_edit(TABLES["metadata"].format("validation"), "RescaleSlope", "Slope"), "'RescaleSlope'"),
        (_edit(TABLES["metadata"].format("validation"), "-8192", ""), "gives no RescaleIntercept for the volume of"),
        (_edit(TABLES["metadata"].format("validation"), "valid_7", "valid_8"), "gives no RescaleSlope for the volume"),
        (_edit(TABLES["metadata"].format("validation"), "-8192", "[1]"), "row 2 .*column 'intercept' is no number"),
    ],
)  # fmt: skip
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "ct_rate", by_hand, "train_21", "valid_7")


def test_a_root_without_a_part_shows_the_tree(by_hand: Path) -> None:
    (by_hand / "dataset" / TABLES["reports"].format("train")).unlink()
    missing("ct_rate", "train_fixed/train_1", by_hand)


def test_phantom_in_its_layout(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = read_by(ct_rate, root)
    assert sorted(set(found.split)) == ["test", "train", "val"] and len(found.rows("test")) == 9
    assert len(found) == len(found.image_ids) == 34
    found.check_splits(SALT)
    assert found.coverage.filtered["ct_rate: volumes that show no chest"] == 1
    assert found.coverage.filtered["ct_rate: volumes known to be damaged"] == 1
    second = sum(number % 3 > 0 for number in range(34))
    assert found.coverage.filtered["ct_rate: further reconstructions of a scan"] == second - 1
    assert [found.reports[row] == "" for row in range(34)].count(True) == 1
    assert not any(mark in text for text in found.reports for mark in "\"'()[]")
    assert "train and dataset/train_fixed are both there" in caplog.text
    totals = found.totals().loc["nodule"]
    assert totals["present"] == sum("nodule" in case.findings for case in cases(root.parent / "volumes"))
    scaled = ~np.isnan(found.rescale[:, 0])
    assert scaled.tolist() == (found.split == "test").tolist()


def test_volumes_of_both_releases_are_the_same_hounsfield_units(root: Path) -> None:
    found = read_by(ct_rate, root)
    fixed = read_volume(Path(found.image_paths[0]))
    assert (fixed.hu == hounsfield(0)).all() and fixed.spacing == (2, 2, 3)
    for row in found.rows("test")[:2]:
        slope, intercept = found.rescale[row].tolist()
        first = read_volume(Path(found.image_paths[row]), rescale=(slope, intercept))
        expected = hounsfield(int(row))
        # Nothing in the file tells its orientation, so only the values can be compared; padding becomes air.
        assert sorted(first.hu[first.hu > -1000].tolist()) == sorted(expected[expected > -1000].tolist())
        assert first.hu.shape == expected.shape and first.spacing == (1, 1, 1)


@given(st.from_regex(NAME, fullmatch=True), st.text(max_size=12))
def test_names_of_volumes_are_taken_apart_and_others_refused(name: str, other: str) -> None:
    part = NAME.fullmatch(name)
    assert part is not None
    assert part["volume"] == name.removesuffix(".nii.gz") == f"{part['study']}_{part['number']}"
    assert part["study"].startswith(f"{part['patient']}_") and part["patient"].startswith(part["split"])
    if NAME.fullmatch(other) is None:
        frame = pd.DataFrame({"VolumeName": [other.strip()]}, index=[2])
        fake = SimpleNamespace(load=lambda *_: (frame, Path("t.csv")))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match=r"t\.csv row 2"):
            patch.setattr(ct_rate, "LAYOUT", fake)
            ct_rate._load(Path(), KEY, "train", "t.csv")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data are not here")
def test_real_reports_and_labels_keep_their_totals(tmp_path: Path) -> None:
    """800 training reports under the official names, 650 train_* and 150 valid_*, each as a scan of its own."""
    rows = rows_of(SAMPLES / "ct_rate_reports_train.csv")
    parts = {("train", "train"): rows[:650], ("valid", "validation"): rows[650:]}
    for (split, word), chosen in parts.items():
        names = [f"{split}_{i + 1}_a_1.nii.gz" for i in range(len(chosen))]
        home = tmp_path / "dataset"
        labels = [[name, *(row[label] for label in LABELS.values())] for name, row in zip(names, chosen, strict=True)]
        write(home / TABLES["labels"].format(split), ["VolumeName", *LABELS.values()], labels)
        texts = [[name, row["report_text"], "Not given."] for name, row in zip(names, chosen, strict=True)]
        write(home / TABLES["reports"].format(word), ["VolumeName", "Findings_EN", "Impressions_EN"], texts)
        header = ["VolumeName", "RescaleIntercept", "RescaleSlope"]
        write(home / TABLES["metadata"].format(word), header, [[name, "-1024", "1"] for name in names])
        for name in names:
            patient = name.removesuffix("_a_1.nii.gz")
            volume(home / f"{split}_fixed" / patient / f"{patient}_a" / name)
    found = read_by(ct_rate, tmp_path)
    totals = found.totals()
    assert {label: int(totals.loc[name, "present"]) for name, label in LABELS.items()} == {
        label: sum(row[label] == "1" for row in rows) for label in LABELS.values()
    }
    assert totals["absent"].sum() + totals["present"].sum() == 800 * 18
    assert len(found) == 800 and len(found.rows("test")) == 150 and len(found.rows("val")) == 65
    assert all(found.reports)
    # No word is lost on the way from the cell to the report; headings inside lose their colon to a dash.
    assert sum("CONCLUSION:" in row["report_text"] for row in rows) > 0
    for report, row in zip(found.reports, rows, strict=True):
        ours, theirs = (re.sub(r"[\s:\u2013]", "", text) for text in (report, row["report_text"].translate(MARKS)))
        assert ours.casefold() == theirs.casefold()


def test_ages_keep_their_unit() -> None:
    ages = pd.Series(["055Y", "018M", "011M", "100W", "012D", "63", "63.0", "", "unknown", "0Y"])
    assert ct_rate.years(ages).tolist() == ["55", "1", "0", "1", "0", "63", "63", "", "", "0"]
