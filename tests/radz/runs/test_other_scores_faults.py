"""radz score on bad input: one line with file, row and column, code 2, nothing left; or a reason that is listed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from given_tables import FINDINGS, Given, make

from radz.cli.command_line import main

Rows = list[list[Any]]
Change = Callable[[Rows], Any]


@pytest.fixture
def tables(tmp_path: Path) -> Given:
    return make(tmp_path, 24)


def command(tables: Given, *keys: str) -> list[str]:
    folder = tables.folder
    own = {key.partition("=")[0] for key in keys}
    given = {"labels": folder / "labels.csv", "out": folder / "out", "cache_dir": folder / "cache", "replicates": 100}
    return ["score", str(folder / "scores.csv"), *(f"{k}={v}" for k, v in given.items() if k not in own), *keys]


def refused(fails: Callable[..., str], tables: Given, *keys: str) -> str:
    """The line of a refusal, which leaves no folder."""
    line = fails(*command(tables, *keys))
    left = {path.name for path in tables.folder.iterdir()}
    assert left <= {"labels.csv", "scores.csv", "val.csv", "cache"}, left
    assert not any(one in line for one in (*tables.study, *tables.patient)), "identifiers are not shown"
    return line


def cell(row: int, column: int, value: Any) -> Change:
    return lambda rows: rows[row - 1].__setitem__(column, value)


def drop(row: int) -> Change:
    return lambda rows: rows.pop(row - 1)


def again(row: int) -> Change:
    return lambda rows: rows.append(rows[row - 1])


def without(column: int) -> Change:
    return lambda rows: [row.pop(column) for row in rows]


def also(header: str, value: Any) -> Change:
    return lambda rows: [row.append(value if at else header) for at, row in enumerate(rows)]


OF_SCORES: list[tuple[Change, str]] = [
    (cell(4, 0, "stranger"), "scores.csv row 4: this study has no labels in"),
    (drop(6), "labels.csv row 6: this study has no scores in"),
    (again(5), "scores.csv rows 5 and 26 are the same study; keep one"),
    (cell(7, 2, "high"), "scores.csv row 7, column 'pleural_effusion': 'high' is not a finite number"),
    (cell(8, 1, "inf"), "scores.csv row 8, column 'edema': 'inf' is not a finite number"),
    (cell(8, 1, "1,000"), "scores.csv row 8, column 'edema': '1,000' is not a finite number"),
    (cell(9, 0, ""), "scores.csv row 9, column 'study_id': no study (1 such row(s))"),
    (cell(9, 0, "1.2E+14"), "a rounded number (1.23E+14), as a spreadsheet makes of ids"),
    (cell(1, 2, "pleural_efusion"), "column 'pleural_efusion' is no finding; nearest is 'pleural_effusion'"),
    (cell(1, 2, "Oedema"), "column 'Oedema' is no finding; nearest is 'edema'"),
    (cell(1, 2, "Edema"), "columns 'edema' and 'Edema' are both edema; leave one out by ignore=Edema"),
    (also("note", "x"), "column 'note' is no finding"),
    (cell(1, 0, "who"), "no column of studies or images; name it by study=COLUMN or image=COLUMN"),
    (cell(1, 0, "image"), "rows are images, those of"),
    (lambda rows: rows.pop(0), "its first row looks like values; add a row of column names"),
    (lambda rows: rows.__delitem__(slice(1, None)), "scores.csv: has a header but no rows"),
    (lambda rows: [row.__delitem__(slice(1, None)) for row in rows], "no column of scores; call its columns after"),
    (lambda rows: [row.__setitem__(0, "x" + row[0]) for row in rows[1:]], "have no study in common"),
    (lambda rows: [row.__setitem__(0, row[0].replace("Y0", "Y00")) for row in rows[1:]], "written otherwise"),
    (lambda rows: [row.__setitem__(slice(1, 4), [1, 1, 1]) for row in rows[1:]],
     "no finding of scores can be measured (edema: all 24 scores are equal; pleural_effusion: all 24"),
]  # fmt: skip
OF_LABELS: list[tuple[Change, str]] = [
    (again(5), "labels.csv rows 5 and 26 are the same study; keep one"),
    (cell(3, 3, "2"), "labels.csv row 3, column 'edema': '2' is no label; write 1 (present), 0 (absent), -1"),
    (cell(3, 1, ""), "labels.csv row 3, column 'patient_id': no patient (1 such row(s))"),
    (without(1), "no column of patients, by whom intervals are made; name it by patient=COLUMN, or say patient=none"),
    (cell(1, 4, "pleural_efusion"), "no column of labels is pleural_effusion, which is scored; nearest is"),
    (lambda rows: [row.__delitem__(slice(3, 6)) for row in rows], "labels.csv: no column of labels"),
]


@pytest.mark.parametrize(("change", "words"), OF_SCORES)
def test_bad_scores(tables: Given, fails: Callable[..., str], change: Change, words: str) -> None:
    rows = tables.score_rows()
    change(rows)
    tables.write("scores.csv", rows)
    assert words in refused(fails, tables)


def test_patients_that_contradict_each_other(tables: Given, fails: Callable[..., str]) -> None:
    """Two studies of a patient each, by the labels; names alone may differ."""
    rows = tables.score_rows()
    for change, told in (
        (lambda at: at // 2, ""),
        (
            lambda at: 2 if at == 6 else at // 2,
            "labels.csv rows 6 and 8: these studies are of two patients, and of one",
        ),
        (lambda at: at, "labels.csv rows 2 and 3: these studies are of one patient, and of two in"),
    ):
        other = [[*row, "patient_id" if at == 0 else f"other{change(at - 1)}"] for at, row in enumerate(rows)]
        tables.write("scores.csv", other)
        if told:
            assert told in refused(fails, tables)
        else:
            assert main(command(tables)) == 0
            shutil.rmtree(tables.folder / "out")


@pytest.mark.parametrize(("change", "words"), OF_LABELS)
def test_bad_labels(tables: Given, fails: Callable[..., str], change: Change, words: str) -> None:
    rows = tables.label_rows()
    change(rows)
    tables.write("labels.csv", rows)
    assert words in refused(fails, tables)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["labels=nowhere.csv"], "labels: there is no file nowhere.csv"),
        (["out=."], "out: . is there and not empty"),
        (["patient=patientid"], "patient=patientid: no such column in scores.csv, labels.csv; nearest is 'patient_id'"),
        (["subgroups=sez"], "subgroups=sez: no such column in scores.csv, labels.csv; nearest is 'sex'"),
        (["subgroups=study_id"], "subgroups=study_id: the column has 60 values, more than 50"),
        (["scorer=a/b"], "scorer=a/b: a model cannot be called so"),
        (["scorer=label"], "scorer=label: a model cannot be called so"),
        (["corpus=a/b"], "corpus=a/b: must be a name without '/'"),
        (["protocol=chexpert6"], "protocol=chexpert6: no such protocol or experiment; nearest is 'chexpert"),
        (["protocol=demo_mixed"], "protocol=demo_mixed: names corpora"),
        (["protocol=siim"], "have no finding in common with protocol=siim"),
        (["primary=edemma"], "primary: unknown finding 'edemma'; nearest is 'edema'"),
        (["primary=fracture"], "primary: fracture is not scored"),
        (["unmatched=drop"], "unmatched: 'drop' is not one of error, skip"),
        (["replicates=9"], "replicates=9: must be a whole number from 100"),
        (["val_labels=labels.csv"], "val_labels: is read only with val=FILE"),
        (["labls=labels.csv"], "labls=labels.csv: unknown here; known: cache_dir, corpus"),
    ],
)
def test_bad_keys(tmp_path: Path, fails: Callable[..., str], keys: list[str], words: str) -> None:
    assert words in refused(fails, make(tmp_path, 60), *keys)


def test_labels_are_asked_for(tables: Given, fails: Callable[..., str]) -> None:
    folder = tables.folder
    assert "labels: missing; give labels=FILE" in fails("score", str(folder / "scores.csv"), f"out={folder / 'out'}")
    assert "scores: there is no file x.csv" in fails("score", "x.csv", f"out={folder / 'out'}")
    assert "out: missing" in fails("score", str(folder / "scores.csv"))


def test_validation_is_of_other_studies(tables: Given, fails: Callable[..., str]) -> None:
    tables.write("val.csv", tables.score_rows()[:7])
    assert "val: 6 rows of" in refused(fails, tables, f"val={tables.folder / 'val.csv'}")
    header, *rows = tables.label_rows()
    tables.write("labels.csv", [header, *rows, *([f"v{n}", f"w{n}", "F", n % 2, 0, 0] for n in range(9))])
    tables.write("val.csv", [["study", "densenet/edema"], *([f"v{n}", 0.1 * n] for n in range(9))])
    line = refused(fails, tables, f"val={tables.folder / 'val.csv'}", "scorer=denset")
    assert "val.csv has no scores of denset; nearest is 'densenet'" in line
    tables.write("val.csv", [["study", "edema"], *([f"v{n}", 0.1 * n] for n in range(8))])
    line = refused(fails, tables, f"val={tables.folder / 'val.csv'}")
    assert "labels.csv row 34: this study has no scores in" in line


def test_a_long_table_names_row_and_column(tables: Given, fails: Callable[..., str]) -> None:
    rows: Rows = [["study", "finding", "score"], *([study, "edema", 0.5] for study in tables.study)]
    tables.write("scores.csv", [*rows, [tables.study[3], "Edema", 0.1]])
    assert "scores.csv rows 5 and 26 are of the same study and edema; keep one" in refused(fails, tables)
    tables.write("scores.csv", [*rows, [tables.study[3], "Masss", 0.1]])
    assert "scores.csv row 26, column 'finding': 'Masss' is no finding; nearest is 'mass'" in refused(fails, tables)
    tables.write("scores.csv", [["study", "finding", "quality"], *rows[1:]])
    assert "a long table without a column of scores; call it one of: score, probability" in refused(fails, tables)
    both = [["study", "patient", "finding", "label"], *([s, "p1", "edema", n % 2] for n, s in enumerate(tables.study))]
    tables.write("labels.csv", [*both, [tables.study[2], "p2", "mass", 1]])
    tables.write("scores.csv", rows)
    assert "labels.csv rows 4 and 26, column 'patient': one study, two patients" in refused(fails, tables)


def test_labels_of_images_must_agree_for_scores_of_studies(tables: Given, fails: Callable[..., str]) -> None:
    header, *rows = tables.label_rows()
    other = [rows[4][0], *rows[4][1:3], 1 - rows[4][3], *rows[4][4:]]
    images = [["image", *header], *(["a" + row[0], *row] for row in rows), ["b" + other[0], *other]]
    tables.write("labels.csv", images)
    line = refused(fails, tables)
    assert "labels.csv rows 6 and 26, column 'edema': images of one study have other labels" in line


def test_what_cannot_be_measured_is_listed(tables: Given) -> None:
    """Missing scores and equal ones exclude their finding, with the reason, as in a run."""
    rows = tables.score_rows()
    rows[3][1], rows[5][1] = "", "nan"
    for row in rows[1:]:
        row[3] = 0.25
    tables.write("scores.csv", [[*row, 0.5 if at else "Fracture"] for at, row in enumerate(rows)])
    assert main(command(tables)) == 0
    metrics = json.loads((tables.folder / "out/metrics.json").read_text())
    own = metrics["results"]["labels/test"]["scorers"]["scores"]
    assert own["excluded"] == {
        "edema": "2 of 24 scores are NaN, first in row 4",
        "mass": "all 24 scores are equal",
        "fracture": "no column of the labels is it",
    }
    assert list(own["findings"]) == ["pleural_effusion"]
    page = (tables.folder / "out/report.html").read_text()
    assert "2 of 24 scores are NaN" in page and "no column of the labels is it" in page


def test_columns_that_are_ignored(tables: Given) -> None:
    header, *rows = tables.score_rows()
    tables.write("scores.csv", [["", *header, "note"], *([n, *row, "x"] for n, row in enumerate(rows))])
    assert main(command(tables, "ignore=note,mass")) == 0
    metrics = json.loads((tables.folder / "out/metrics.json").read_text())
    assert list(metrics["results"]["labels/test"]["scorers"]["scores"]["findings"]) == list(FINDINGS[:2])


def test_unmatched_rows_are_left_out_when_that_is_said(tables: Given) -> None:
    rows = tables.score_rows()
    rows[3][0] = "stranger"
    tables.write("scores.csv", rows)
    assert main(command(tables, "unmatched=skip")) == 0
    out = tables.folder / "out"
    coverage = json.loads((out / "metrics.json").read_text())["results"]["labels/test"]["coverage"]
    assert coverage["skipped"] == 2 and coverage["studies"] == 23
    assert coverage["reasons"] == {"scores without labels": 1, "labels without scores": 1}
    assert (out / "left_out.csv").read_text().split() == [
        "file,row,reason", "scores.csv,4,scores", "without", "labels", "labels.csv,4,labels", "without", "scores",
    ]  # fmt: skip
