"""INSPECT: dated tables, repeated rows, missing CTs, the words of its label columns."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import KEY, SALT, edit, missing, refused, states, write_table
from official_ct import hounsfield, laid_out_ct, read_by, volume

from data_modules.corpora import inspect_ctpa
from data_modules.corpora.inspect_ctpa import STUDY, _labels
from data_modules.corpora.labels import OUTSIDE, states_of
from data_modules.corpus_config import BadRows
from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNMENTIONED, ontology
from data_modules.phantom.layouts import inspect_ctpa as writer
from data_modules.volumes import read_volume

SKIP = BadRows(on_missing_image="skip")
DATE = "20250611"


root = laid_out_ct(writer.write)


def table(root: Path, stem: str) -> Path:
    return root / f"{stem}_{DATE}.tsv"


def write(root: Path, stem: str, header: list[str], rows: list[list[object]]) -> None:
    write_table(table(root, stem), header, rows, separator="\t")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Three studies of two patients; one repeated row of the split table."""
    write(tmp_path, "study_mapping", ["person_id", STUDY, "image_id"],
          [["9", "101", "PEaa.nii.gz"], ["9", "102", "PEbb"], ["8", "103", "PEcc"]])  # fmt: skip
    write(tmp_path, "splits", [STUDY, "split", "person_id"],
          [["103", "test", "8"], ["101", "train", "9"], ["102", "train", "9"], ["101", "train", "9"]])  # fmt: skip
    labels = [["101", "True", "1", "0.0", "3.5"], ["102", "False", "", "0", ""], ["103", "TRUE", "Censored", "1", ""]]
    write(tmp_path, "labels", [STUDY, "pe_positive_nlp", "pe_acute", "pe_subsegmentalonly", "tte_PH"], labels)
    write(tmp_path, "impressions", ["impressions", STUDY],
          [['"1. Acute embolism.\n2. No ""effusion""."', "101"], ["", "102"], ["Small embolus.", "103"]])  # fmt: skip
    for name in ("PEaa", "PEbb", "PEcc"):
        volume(tmp_path / "CTPA" / f"{name}.nii.gz")
    return tmp_path


def test_rows_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_by(inspect_ctpa, by_hand)
    assert found.study_id.tolist() == ["101", "102", "103"] and found.patient.tolist() == ["9", "9", "8"]
    assert found.split.tolist() == ["train", "train", "test"] and found.source_rows.tolist() == [2, 3, 4]
    assert found.image_ids == ["CTPA/PEaa.nii.gz", "CTPA/PEbb.nii.gz", "CTPA/PEcc.nii.gz"]
    assert [list(states(found, study).values()) for study in found.study_id] == [
        ["present", "present", "absent"], ["absent", "unmentioned", "absent"], ["present", "unmentioned", "present"]
    ]  # fmt: skip
    assert found.reports == ['1. Acute embolism. 2. No "effusion".', "", "Small embolus."]
    assert found.coverage.to_dict()["counted"] == {"empty report": 1}
    assert found.coverage.filtered == {
        "inspect: repeated rows of splits": 1, "inspect: rows of splits without their study": 0,
        "inspect: studies without a split": 0,
    }  # fmt: skip
    assert "3 studies here, 23248 in the published release" in caplog.text
    assert read_by(inspect_ctpa, by_hand, report_sections=["findings"]).reports == [""] * 3


def test_the_label_columns_are_the_ontologys() -> None:
    for finding, names in inspect_ctpa.LABELS.items():
        assert all(ontology().find("inspect", name) == {finding: "exact"} for name in names)
    assert ontology().ancestors("acute_pulmonary_embolism") == {"pulmonary_embolism"}


def test_the_older_label_table_has_one_column_under_another_name(
    by_hand: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(by_hand, "labels", [STUDY, "pe_positive"], [["101", "1"], ["103", "0"]])
    found = read_by(inspect_ctpa, by_hand)
    assert found.findings == ("pulmonary_embolism",)
    assert [states(found, study)["pulmonary_embolism"] for study in found.study_id] == [
        "present", "unmentioned", "absent"
    ]  # fmt: skip
    assert "no column pe_acute" in caplog.text and "no column pe_subsegmentalonly" in caplog.text


def test_a_missing_ct_follows_the_policy(by_hand: Path) -> None:
    (by_hand / "CTPA/PEbb.nii.gz").unlink()
    with pytest.raises(InputError, match=r"study_mapping_20250611.tsv row 3 .*no image file.*on_missing_image=skip"):
        read_by(inspect_ctpa, by_hand)
    assert read_by(inspect_ctpa, by_hand, bad=SKIP).study_id.tolist() == ["101", "103"]


def test_orphans_follow_their_policy(by_hand: Path) -> None:
    skip = BadRows(on_split_orphan="skip")
    table(by_hand, "splits").write_text(table(by_hand, "splits").read_text().replace("103\ttest", "104\ttest"))
    with pytest.raises(
        InputError, match=r"splits_20250611.tsv row 2: study_mapping_.* has no row of its impression_id"
    ):
        read_by(inspect_ctpa, by_hand)
    found = read_by(inspect_ctpa, by_hand, bad=skip)
    assert found.study_id.tolist() == ["101", "102"]
    assert found.coverage.filtered["inspect: rows of splits without their study"] == 1
    assert found.coverage.filtered["inspect: studies without a split"] == 1


def _edit(stem: str, old: str, new: str):
    return lambda root: edit(table(root, stem), old, new)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: table(r, "labels").rename(r / "labels_20240101.tsv").touch() or table(r, "labels").touch(),
         "holds 2 tables labels_DATE.tsv .labels_20240101.tsv, labels_20250611.tsv.; keep one"),
        (_edit("splits", "101\ttrain\t9\n1", "101\ttest\t9\n1"), "splits_.* row 5: differs from an earlier row"),
        (_edit("splits", "\ttest", "\tother"), "splits_.* row 2: column 'split' holds another word"),
        (_edit("labels", "pe_positive_nlp", "pe_nlp"), "no column 'pe_positive_nlp'"),
        (_edit("labels", "True", "yes"), "row 2 .*outside the coding of .*pulmonary_embolism: 'yes'"),
        (_edit("labels", "102\tFalse", "101\tFalse"), "labels_.* row 3: differs from an earlier row"),
        (_edit("impressions", "\t102", "\t101"), "impressions_.* row 3: differs from an earlier row"),
        (_edit("study_mapping", "person_id", "person"), "no column 'person_id'.*nearest is 'person'"),
        (_edit("study_mapping", "PEaa", "../PEaa"), "row 2 .*must be relative"),
        (_edit("study_mapping", "PEbb", ""), "row 3 .*no image file"),
    ],
)  # fmt: skip
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "inspect", by_hand, "PEaa")


def test_a_root_without_a_part_shows_the_tree(by_hand: Path) -> None:
    table(by_hand, "impressions").unlink()
    missing("inspect", "the date may be another", by_hand)


def test_phantom_in_its_layout(root: Path) -> None:
    found = read_by(inspect_ctpa, root, bad=SKIP)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [19, 5, 9]
    found.check_splits(SALT)
    assert found.coverage.filtered["inspect: repeated rows of splits"] == 2
    assert found.coverage.to_dict()["skipped"] == {"there is no image file": 1}
    totals = found.totals()
    assert (totals.loc[list(inspect_ctpa.LABELS), "present"] > 0).all()
    assert totals.loc["acute_pulmonary_embolism", "unmentioned"] > 0
    assert all(report.startswith("1. Two nodules. 2. No other") for report in found.reports)
    assert (read_volume(Path(found.image_paths[0])).hu == hounsfield(0)).all()


@given(st.sampled_from(["1", "0", "1.0", "0.0", "True", "FALSE", "false", "", "Censored", "nan", "2", "yes", "-1"]))
def test_every_word_of_a_label_is_a_state_or_a_fault(cell: str) -> None:
    rows = pd.DataFrame({STUDY: ["1"], "pe_positive_nlp": [cell]}, index=[2], dtype=object)
    labels, rules = _labels(rows, Path("t.tsv"), KEY)
    rule = rules["pulmonary_embolism"]
    found = states_of(rule, labels[rule.column].to_numpy(dtype=object))[0]
    word = cell.casefold()
    expected = {"1": PRESENT, "1.0": PRESENT, "true": PRESENT, "0": ABSENT, "0.0": ABSENT, "false": ABSENT}
    assert found == expected.get(word, UNMENTIONED if word in ("", "censored", "nan") else OUTSIDE)
