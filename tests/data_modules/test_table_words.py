"""Ids and words that spreadsheets and programs have changed: told by row, or read for what they were."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_corpus import Corpus, read

from data_modules.cells import number, spelling
from data_modules.corpus_config import BadRows, Columns, LabelRule, SplitFile
from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNMENTIONED

EASY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused(corpus: Corpus, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(corpus, **changes)
    message = str(caught.value)
    assert "\n" not in message and "metadata.csv row" in message
    return message


def patients(corpus: Corpus, *ids: str) -> None:
    """All other rows are patients of their own."""
    for i, row in enumerate(corpus.rows):
        row["patientid"] = ids[i] if i < len(ids) else f"q{i}x"


@pytest.mark.parametrize("word", ["nan", "NaN", "N/A", "NULL", "None", "-", "?", "#N/A", "unknown", "\u00a0", "\u200b"])
def test_a_word_for_nothing_is_no_patient(corpus: Corpus, word: str) -> None:
    patients(corpus, "P1", word, word)
    assert "row 3" in (message := refused(corpus)) and "patient column is empty" in message and "2 such" in message


@pytest.mark.parametrize(
    "ids",
    [
        (one, "P2") for one in (
            "1.23457E+14", "1,23457E+14", "1e+05", "3-Mar", "MAR-01", "01. Mrz", "Mrz 01", "1. Okt", "01-ene", "ene-01",
            "01-janv", "janv.-01", "01-f\u00e9vr", "01-d\u00e9c.", "01-gen", "ott-01", "01/fev", "01/set",
        )
    ],
)  # fmt: skip
def test_a_spreadsheet_s_number_or_date_is_no_patient(corpus: Corpus, ids: tuple[str, ...]) -> None:
    patients(corpus, *ids)
    assert "row 2" in (message := refused(corpus)) and "spreadsheet" in message and ids[0] not in message
    assert "'patientid'" in message


@pytest.mark.parametrize(
    "ids",
    [("7", "07"), ("7", "7.0"), ("007", "7,0"), ("P7", "p07"), ("P-7", "P\u20117"), ("p 7", "P7"), ("\uff11", "1"),
     ("ab\u200b7", "AB7"), ("cafe\u0301", "caf\u00e9")],
)  # fmt: skip
def test_one_patient_in_two_spellings(corpus: Corpus, ids: tuple[str, str]) -> None:
    patients(corpus, "x1", *ids)
    message = refused(corpus)
    assert "1 patient(s) in several spellings" in message and "rows 3, 4" in message
    assert "data.corpora.0.bad.on_alike_ids=keep" in message
    found = read(corpus, bad=BadRows(on_alike_ids="keep"))
    assert found.patient[1] != found.patient[2]
    if "\u200b" not in ids[0]:
        assert found.patient[1:3].tolist() == list(ids)


def test_ids_that_differ_are_left_alone(corpus: Corpus) -> None:
    patients(corpus, "0123", "1e3", "10", "100", "1.10", "1.1", "P1", "P10", "a-1", "b-1", "1-02-3", "A.0")
    assert read(corpus).patient[:3].tolist() == ["0123", "1e3", "10"]
    patients(corpus, "SET-01", "OUT-12", "set-02", "GEN-01", "MRZ-01", "ENE 12", "mars 12", "mai-2019", "1.okt")
    assert read(corpus).patient[0] == "SET-01"


def test_ids_of_rows_that_the_filter_removes_are_not_judged(corpus: Corpus) -> None:
    patients(corpus, "1.2E+14")
    assert len(read(corpus, keep={"view": ["PA"]})) == 11


def test_studies_are_judged_alike(corpus: Corpus) -> None:
    for i, row in enumerate(corpus.rows):
        row["study"] = f"{i + 1}" if i != 4 else "01"
        row["patientid"] = f"q{i}x"
    columns = Columns(image="filename", patient="patientid", study="study")
    message = refused(corpus, columns=columns)
    assert "1 study(s) in several spellings" in message and "rows 2, 6" in message


def test_long_numbers_and_a_word_for_many_are_told(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    patients(corpus, *[f"12345678901234{i}000" for i in range(12) if i < 10], "x", "y")
    read(corpus)
    assert "are zeros after 15 digits" in caplog.text
    caplog.clear()
    corpus.rows = [dict(corpus.rows[i % 12], filename=f"img{i}.png", patientid=f"q{i}x") for i in range(60)]
    for row in corpus.rows[3:30]:
        row["patientid"] = "ANON"
    corpus.splits = [{"filename": row["filename"], "split": "train"} for row in corpus.rows]
    read(corpus)
    assert "27 of 60 rows are of one patient (row 5 is the first)" in caplog.text and "ANON" not in caplog.text


@pytest.mark.parametrize("word", ["nan", "NA", "None", "null", "-", ".", "Unknown"])
def test_a_label_of_nothing_is_blank_and_told(corpus: Corpus, word: str, caplog: pytest.LogCaptureFixture) -> None:
    corpus.rows[0]["finding"] = corpus.rows[2]["finding"] = word
    with caplog.at_level(logging.WARNING):
        found = read(corpus)
    assert found.states[:3].tolist() == [[UNMENTIONED] * 2, [ABSENT, PRESENT], [UNMENTIONED] * 2]
    assert f"data.corpora.0.labels.covid19: 2 cell(s), '{word}', count as empty (data.corpora.0.missing)" in caplog.text
    # Where the word means something, the list or the rule says so.
    assert read(corpus, missing=[]).states[0].tolist() == [ABSENT, ABSENT]
    assert read(corpus, labels={"no_finding": LabelRule("finding", equals=word)}).states[0].tolist() == [PRESENT]


def test_numeric_labels_may_name_nan(corpus: Corpus) -> None:
    coding = {1: "present", 0: "absent"}
    corpus.rows[0]["edema"] = "NaN"
    assert "value outside the coding" in refused(corpus, labels={"edema": LabelRule("edema", numeric=dict(coding))})
    for word in ("nan", "blank"):
        rule = LabelRule("edema", numeric=coding | {word: "unmentioned"})
        assert read(corpus, labels={"edema": rule}).states[:3, 0].tolist() == [UNMENTIONED, PRESENT, ABSENT]


def test_case_of_a_label_does_not_make_it_absent(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    for row in corpus.rows:
        row["finding"] = row["finding"].lower().replace(" ", "\u00a0 ")
    found = read(corpus)
    assert found.states.tolist() == [[1, 0] if i % 3 == 0 else [0, 1] for i in range(12)]
    assert "8 cell(s), such as" in caplog.text and "are written otherwise and count as 'No Finding'" in caplog.text


def test_a_negated_text_stops(corpus: Corpus) -> None:
    corpus.rows[3]["finding"] = "No COVID-19"
    message = refused(corpus)
    assert "row 5" in message and "labels.covid19" in message and "'No COVID-19'" in message


def test_a_rule_without_a_match_is_told(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    labels = {"edema": LabelRule("finding", equals="Edema"), "mass": LabelRule("tokens", token="Mass")}
    read(corpus, labels=labels)
    assert "data.corpora.0.labels.edema.equals: no cell of column 'finding' has 'Edema' (it holds 'No F" in caplog.text
    for row in corpus.rows:
        row["finding"] = "Edematous"
    with pytest.raises(
        InputError, match=r"labels\.effusion\.token: no cell of column 'tokens' is 'Effusions'; nearest"
    ):
        read(corpus, labels={"effusion": LabelRule("tokens", token="Effusions")})


def test_scale_and_age_take_a_decimal_comma(corpus: Corpus) -> None:
    for row in corpus.rows:
        row.update(slope="1,5", icept="-1024")
    columns = Columns(image="filename", patient="patientid", slope="slope", intercept="icept")
    assert read(corpus, columns=columns).rescale.tolist() == [[1.5, -1024.0]] * 12
    corpus.rows[4]["slope"] = "1,024"
    assert "row 6" in (message := refused(corpus, columns=columns)) and "is no number" in message


def test_the_split_file_names_its_column_otherwise(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    before = read(corpus)
    for split in corpus.splits:
        split["Image Index"] = split.pop("filename")
    with caplog.at_level(logging.INFO):
        found = read(corpus, split_csv=SplitFile("split.csv", "Image Index"))
    assert found.split.tolist() == before.split.tolist()
    assert "column 'Image Index' of split.csv is matched with 'filename'" in caplog.text
    corpus.splits = [{"subject": f"0{i}", "split": "train" if i < 3 else "test"} for i in range(6)]
    assert read(corpus, split_csv=SplitFile("split.csv", "subject")).split.tolist() == ["train"] * 6 + ["test"] * 6
    given = SplitFile("split.csv", "subject", table_key="patientid")
    assert read(corpus, split_csv=given).split.tolist() == ["train"] * 6 + ["test"] * 6
    with pytest.raises(InputError, match=r"no column 'patient'.*split_csv\.table_key.*nearest is 'patientid'"):
        read(corpus, split_csv=SplitFile("split.csv", "subject", table_key="patient"))
    corpus.splits = [{"subject": f"S{i}", "split": "train"} for i in range(6)]
    with pytest.raises(InputError, match=r"no column 'subject' and none of .*split_csv\.table_key"):
        read(corpus, split_csv=SplitFile("split.csv", "subject"))


@EASY
@given(st.integers(0, 10**18), st.integers(0, 6), st.sampled_from(["", ".0", ",00"]))
def test_spellings_of_a_number_are_one(value: int, zeros: int, end: str) -> None:
    assert spelling(f"{'0' * zeros}{value}{end}") == str(value)


@EASY
@given(st.lists(st.from_regex(r"[A-Z]{1,3}[1-9][0-9]{0,6}", fullmatch=True), unique=True, max_size=10))
def test_ids_without_leading_zeros_stay_apart(ids: list[str]) -> None:
    assert len({spelling(one) for one in ids}) == len(ids)


@EASY
@given(st.floats(-1e6, 1e6).map(lambda value: round(value, 2)))
def test_a_number_is_read_with_point_and_comma(value: float) -> None:
    assert number(f"{value:.2f}") == value == number(f"{value:.2f}".replace(".", ","))
    assert number("1,234") is None and number("nan") is None and number("inf") is None and number("1_0") is None
    assert np.isclose(number("1e-3") or 0, 0.001)


def test_the_filter_takes_no_offence_at_case_or_form(corpus: Corpus) -> None:
    corpus.rows[1]["view"], corpus.rows[2]["view"] = "pa", "PA\u200b\u00a0"
    assert len(read(corpus, keep={"view": ["PA"]})) == 11
    assert len(read(corpus, keep={"edema": ["1.0"]})) == 6


def test_a_split_row_whose_study_is_written_otherwise(corpus: Corpus) -> None:
    for i, split in enumerate(corpus.splits):
        split["filename"] = f"images\\IMG{i}.png"
    with pytest.raises(InputError, match=r"split\.csv row 2 .*has no such row, but one that is written otherwise"):
        read(corpus)
    corpus.splits = [{"patientid": f"{i}", "split": "train"} for i in range(6)]
    with pytest.raises(InputError, match=r"split\.csv row 2 .*but one that is written otherwise"):
        read(corpus, split_csv=SplitFile("split.csv", "patientid"))
    corpus.splits = [{"patientid": f"x{i}", "split": "train"} for i in range(6)]
    with pytest.raises(InputError, match="has no such row; correct"):
        read(corpus, split_csv=SplitFile("split.csv", "patientid"))


def test_one_file_under_two_studies(corpus: Corpus) -> None:
    read(corpus)
    corpus.rows[9].update(filename="./img1.png")
    corpus.splits[9].update(filename="./img1.png")
    message = refused(corpus)
    assert "row 11" in message and "the image of row 3 too, under another study and in another split" in message
    corpus.splits[9]["split"] = "train"
    found = read(corpus)
    assert found.coverage.to_dict()["rows"] == [["ours", 11, "image of two studies"]]
