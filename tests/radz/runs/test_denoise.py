"""`radz data denoise`: the table of a run, and accepted cells in its labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from csv_rows import rows_of

from data_modules import privacy
from data_modules.errors import InputError
from data_modules.labelling.reviewed import apply_reviewed
from radz.config.files import digest, load_experiment
from radz.runs import task
from radz.runs.denoise import denoise, ranked
from radz.training.run_folder import load_run


def test_every_sure_cell_of_training_and_validation_once(trained_run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trained_run.rglob("*.csv")}
    lines = denoise(trained_run, tmp_path / "suspects.csv", "cpu")
    found = rows_of(tmp_path / "suspects.csv")
    table = task.data_module(load_run(trained_run))
    table.prepare_data()
    studies = len(table.table.rows("train")) + len(table.table.rows("val"))
    assert len(found) == len({(row["study"], row["finding"]) for row in found}) == studies * len(table.findings)
    assert f"{studies} studies looked at" in lines[0]
    assert {row["split"] for row in found} == {"train", "val"} and not {row["accepted"] for row in found} - {""}
    assert not any(row["report"] not in ("", "uncertain", row["label"]) for row in found)  # the phantom's are right
    assert {path: path.read_bytes() for path in trained_run.rglob("*.csv")} == before


def test_a_label_that_its_report_contradicts_comes_first(trained_run: Path) -> None:
    data = task.data_module(load_run(trained_run))
    data.prepare_data()
    chosen = data.table.rows("train")
    k = data.findings.index("pleural_effusion")
    told = [row for row in chosen if "leural effusion" in data.table.reports[row]]
    data.table.states[told[0], k] = 1 - data.table.states[told[0], k]
    first, *rest = ranked(data, chosen, np.zeros((len(chosen), 3), np.float32))
    assert first.finding == "pleural_effusion" and first.row == data.table.source_rows[told[0]]
    assert first.reason == f"the report says {first.suggested}" and first.suggested == first.report != first.label
    assert not any("report" in one.reason for one in rest)


def test_accepted_cells_replace_labels_and_others_do_not(trained_run: Path, tmp_path: Path) -> None:
    experiment = load_run(trained_run)
    data = task.data_module(experiment)
    data.prepare_data()
    salt, table = privacy.salt(data.cache_dir), data.table
    name, finding = table.corpora[0], table.findings[1]
    hashes = [privacy.pseudonym(name, str(study), salt) for study in table.study_id]
    path = tmp_path / "reviewed.csv"

    def write(*cells: tuple[object, ...]) -> Path:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("corpus", "study", "finding", "accepted"), *cells])
        return path

    before = table.states.copy()
    change = "0" if before[3, 1] == 1 else "1"
    assert apply_reviewed(table, write((name, hashes[3], finding, change), (name, hashes[4], finding, "")), salt) == 1
    assert table.states[3, 1] == int(change) and np.sum(table.states != before) == 1
    assert apply_reviewed(table, write((name, hashes[3], finding, "-1")), salt) == 1 and table.states[3, 1] == 2
    for cells, message in (
        ([(name, hashes[0], finding, "yes")], "row 2: accepted is 'yes'; write 1, 0, -1"),
        ([(name, hashes[0], "edma", "1")], "row 2: no label is called 'edma' here; nearest is 'edema'"),
        ([(name, "0" * 12, finding, "1")], f"row 2: there is no study 000000000000 in {name}"),
        ([(name, hashes[0], finding, "1"), (name, hashes[0], finding, "0")], "row 3: contradicts an earlier row"),
    ):
        with pytest.raises(InputError, match=message):
            apply_reviewed(table, write(*cells), salt)
    plain = load_experiment("demo")
    first = digest(load_experiment("demo", [f"data.labels_reviewed={write((name, hashes[3], finding, '1'))}"]))
    second = digest(load_experiment("demo", [f"data.labels_reviewed={write((name, hashes[3], finding, '0'))}"]))
    assert len({digest(plain), first, second}) == 3
