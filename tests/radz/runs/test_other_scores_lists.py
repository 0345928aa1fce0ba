"""radz score: labels that list the findings of a row in one cell, as NIH's table does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from given_tables import FINDINGS, Given, make, scored

from data_modules.findings import ontology

NIH = ("Edema", "Effusion", "Mass")


@pytest.fixture
def tables(tmp_path: Path) -> Given:
    return make(tmp_path)


def cell(own: Any, nothing: str = "No Finding") -> str:
    return "|".join(word for word, present in zip(NIH, own, strict=True) if present) or nothing


def listing(tables: Given, *, header: str = "Finding Labels", nothing: str = "No Finding") -> list[list[Any]]:
    rows = zip(tables.study, tables.patient, tables.labels, strict=True)
    return [["study_id", "Patient ID", header], *([study, who, cell(own, nothing)] for study, who, own in rows)]


@pytest.mark.parametrize("header", ["Finding Labels", "findings", "labels"])
def test_a_list_is_the_wide_table(tables: Given, capsys: pytest.CaptureFixture[str], header: str) -> None:
    own = {name: tables.labels[:, number] for number, name in enumerate(FINDINGS)}
    own["no_finding"] = 1 - tables.labels.max(axis=1)
    names = [name for name in ontology().names if name in own]
    wide = [["study_id", "Patient ID", *names]]
    values = zip(*(own[name].astype(int).tolist() for name in names), strict=True)
    wide += [[study, who, *of] for study, who, of in zip(tables.study, tables.patient, values, strict=True)]
    tables.write("wide.csv", wide)
    tables.write("list.csv", listing(tables, header=header))
    plain = scored(tables, labels="wide.csv", out="plain")
    capsys.readouterr()
    listed = scored(tables, labels="list.csv", out="listed")
    assert listed["scorers"] == plain["scorers"] and listed["coverage"] == plain["coverage"]
    told = capsys.readouterr().err
    assert "list.csv: 4 findings, 80 studies; " in told and "'Effusion' is pleural_effusion" in told


def test_an_empty_cell_says_nothing(tables: Given) -> None:
    tables.write("list.csv", listing(tables, nothing=""))
    found = scored(tables, labels="list.csv", out="out")
    none = int((tables.labels.sum(axis=1) == 0).sum())
    own = found["scorers"]["scores"]["findings"]["edema"]
    assert own["studies"] == 80 - none and own["positives"] == int(tables.labels[:, 0].sum())


def test_faults_are_one_line(tables: Given, fails: Callable[..., str]) -> None:
    folder = tables.folder
    header, first, *rest = listing(tables)
    tables.write("list.csv", [header, [*first[:2], "Edema| Efusion"], *rest])
    keys = [str(folder / "scores.csv"), f"labels={folder / 'list.csv'}", f"out={folder / 'out'}"]
    said = fails("score", *keys)
    assert "list.csv row 2, column 'Finding Labels': 'Efusion' is no finding; nearest is 'pleural_effusion'" in said
    tables.write("list.csv", [header, first, *rest, first])
    assert "rows 2 and 82 are the same study; keep one" in fails("score", *keys)
