"""radz score: tables of any order and form give the same numbers; which rows and findings count."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from given_tables import EXACT, FINDINGS, Given, make, score, scored
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from radz.metrics.score_table import ScoreTable


@pytest.fixture
def tables(tmp_path: Path) -> Given:
    return make(tmp_path)


@settings(max_examples=5)
@drawn(data=st.data())
def test_order_of_rows_and_columns_of_scores_is_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tables = make(tmp_path_factory.mktemp("given"), 24)
    before = scored(tables, "scorer=model", out="before")
    header, *rows = tables.score_rows()
    columns = data.draw(st.permutations(range(len(header))))
    shuffled = [header, *data.draw(st.permutations(rows))]
    tables.write("scores.csv", [[row[column] for column in columns] for row in shuffled])
    assert scored(tables, "scorer=model", out="after") == before


def test_order_of_labels_changes_no_value(tables: Given) -> None:
    before = scored(tables, out="before")["scorers"]["scores"]
    header, *rows = tables.label_rows()
    tables.write("labels.csv", [header[::-1], *(row[::-1] for row in rows[::-1])])
    after = scored(tables, out="after")["scorers"]["scores"]
    for name in FINDINGS:
        for metric in ("auroc", "auprc", "f1_oracle", "f1_half", "sensitivity_90"):
            one, other = (of["findings"][name][metric]["value"] for of in (before, after))
            assert one == pytest.approx(other, abs=EXACT)
        low, high = (pytest.approx(before["findings"][name]["auroc"][end], abs=1e-9) for end in ("low", "high"))
        assert (after["findings"][name]["auroc"]["low"], after["findings"][name]["auroc"]["high"]) == (low, high)


def test_long_tables_are_wide_ones(tables: Given) -> None:
    before = scored(tables, "scorer=model", out="before")
    long = [
        [study, finding, value]
        for column, finding in enumerate(("Edema", "Pleural Effusion", "Mass"))
        for study, value in zip(tables.study, tables.scores[:, column].tolist(), strict=True)
    ]
    tables.write("scores.csv", [["StudyID", "Pathology", "Logit"], *long])
    header, *rows = tables.label_rows()
    truth = [[*row[:3], name, row[3 + at]] for row in rows for at, name in enumerate(FINDINGS)]
    tables.write("labels.csv", [[*header[:3], "finding", "label"], *truth])
    assert scored(tables, "scorer=model", out="after") == before


def test_several_models_in_one_long_table(tables: Given) -> None:
    (_, *findings), *wide = tables.score_rows()
    models = {"good": 1, "bad": -1}.items()
    long = [[study, model, finding, sign * value] for model, sign in models
            for study, *own in wide for finding, value in zip(findings, own, strict=True)]  # fmt: skip
    tables.write("scores.csv", [["study", "model", "finding", "score"], *long])
    result = scored(tables, "scorer=bad")
    good, bad = (result["scorers"][name]["macro"]["auroc"]["value"] for name in ("good", "bad"))
    assert good + bad == pytest.approx(1, abs=EXACT) and good > 0.6
    assert result["differences"]["good"]["auroc"]["value"] == pytest.approx(bad - good, abs=EXACT)


def test_images_take_the_labels_of_their_study(tables: Given) -> None:
    header, *rows = tables.score_rows()
    twice = [[f"{row[0]}_{n}.png", *row] for row in rows for n in "ab"]
    tables.write("scores.csv", [["image", *header], *twice])
    result = scored(tables, "protocol=chexpert5", "corpus=ours")
    assert result["inference"]["rows"] == 160 and result["coverage"]["studies"] == 80
    area = roc_auc_score(tables.labels[:, 0], tables.scores[:, 0])
    assert result["scorers"]["scores"]["findings"]["edema"]["auroc"]["value"] == pytest.approx(area, abs=EXACT)
    told = "Protocol chexpert5 scores each study, and a row here is one image"
    assert told in (tables.folder / "out/report.html").read_text()
    table = ScoreTable.read_csv(tables.folder / "out/predictions/ours_test.csv")
    assert all(len(one) == 12 and "png" not in one for one in table.image_id)


def test_labels_of_images_are_those_of_their_study_where_they_agree(tables: Given) -> None:
    header, *rows = tables.label_rows()
    tables.write("labels.csv", [["image", *header], *([f"{row[0]}_{n}", *row] for row in rows for n in "ab")])
    assert scored(tables)["inference"]["rows"] == 80


def test_chexpert_as_published_under_its_protocol(tmp_path: Path) -> None:
    """Its paths name patient and study; other columns are left out by the protocol, and what it lacks is listed."""
    rng = np.random.default_rng(1)
    columns = ["No Finding", "Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion", "Fracture"]
    labels = (rng.random((60, len(columns))) < 0.5).astype(int)
    labels[:, 0] = 0
    names = [f"CheXpert-v1.0/test/patient{64741 + n // 2}/study{1 + n % 2}" for n in range(60)]
    frame = pd.DataFrame(labels, columns=columns)
    frame.insert(0, "Study", names)
    frame.to_csv(tmp_path / "groundtruth.csv", index=False)
    scores = pd.DataFrame(rng.random((60, 4)), columns=["Cardiomegaly", "Edema", "Atelectasis", "Fracture"])
    scores.insert(0, "Path", [f"{name}/view1_frontal.jpg" for name in names])
    scores.to_csv(tmp_path / "densenet.csv", index=False)
    keys = [f"labels={tmp_path / 'groundtruth.csv'}", "protocol=chexpert5"]
    metrics = score(tmp_path / "out", tmp_path / "densenet.csv", *keys)
    result = metrics["results"]["chexpert/test"]
    assert result["primary"] == ["atelectasis", "cardiomegaly", "edema"]
    assert result["scorers"]["densenet"]["excluded"] == {
        name: "no column of the scores is it" for name in ("consolidation", "pleural_effusion")
    }
    assert result["coverage"]["patients"] == 30 and metrics["protocol"]["protocol"] == "chexpert5"
    table = ScoreTable.read_csv(tmp_path / "out/predictions/chexpert_test.csv")
    assert table.study_id[:2] == ["patient64741/study1", "patient64741/study2"], "as the reader of CheXpert names them"
    lines = csv.DictReader((tmp_path / "out/label_mapping.csv").open())
    by_column = {(line["file"], line["column"]): line for line in lines}
    assert by_column["densenet.csv", "Edema"]["finding"] == "edema"
    assert by_column["groundtruth.csv", "Pleural Effusion"]["finding"] == "pleural_effusion"
    assert set(table.image_id) == {""} and metrics["protocol"]["scoring"]["unit"] == "study", "one image each"
    page = (tmp_path / "out/report.html").read_text()
    assert "read from a table" in page and "Training</h2>" not in page and "no threshold was fixed before" in page


@pytest.mark.parametrize(("protocol", "known"), [(None, 3), ("protocols/mimic_test", 4)])
def test_labels_follow_the_policy(tables: Given, protocol: str | None, known: int) -> None:
    """Uncertain is unknown; nothing said is unknown, under MIMIC's protocol absent; findings imply their parents."""
    header = ["study_id", "patient", "edema", "lung_opacity", "No Finding"]
    rows = [["s1", "p1", 1, "", ""], ["s2", "p2", 0, 0, 0], ["s3", "p3", -1, "", 0], ["s4", "p4", "", "", 1],
            ["s5", "p5", "", "", ""], ["s6", "p6", "absent", "present", "False"]]  # fmt: skip
    tables.write("labels.csv", [header, *rows])
    ids = [row[0] for row in rows]
    tables.write("scores.csv", [["study", "edema", "opacity"], *([one, n / 10, n / 9] for n, one in enumerate(ids))])
    keys = [f"protocol={protocol}"] if protocol else []
    result = scored(tables, *keys, "corpus=ours")
    table = ScoreTable.read_csv(tables.folder / "out/predictions/ours_test.csv")
    edema, opacity = (table.column("scores", name)[0].tolist() for name in ("edema", "lung_opacity"))
    silent = 0.0 if protocol else None
    assert [None if np.isnan(one) else one for one in edema] == [1, 0, None, 0, silent, 0]
    assert [None if np.isnan(one) else one for one in opacity] == [1, 0, silent, 0, silent, 1]
    assert result["scorers"]["scores"]["findings"]["edema"]["rows"] == known + 1


@pytest.mark.parametrize(
    ("keys", "primary"), [([], ["edema", "mass"]), (["protocol=own.yaml"], ["no_finding", "mass"])]
)
def test_no_finding_is_in_the_macro_where_a_protocol_says_so(
    tables: Given, monkeypatch: pytest.MonkeyPatch, keys: list[str], primary: list[str]
) -> None:
    monkeypatch.chdir(tables.folder)
    Path("own.yaml").write_text("base: demo\nscoring: {findings: [no_finding, mass, nodule], primary: seen}\n")
    for rows, name in ((tables.label_rows(), "labels.csv"), (tables.score_rows(), "scores.csv")):
        rows[0] = ["No Finding" if header == "pleural_effusion" else header for header in rows[0]]
        tables.write(name, rows)
    result = scored(tables, *keys)
    own = result["scorers"]["scores"]
    assert result["primary"] == primary
    assert set(own["findings"]) == {"no_finding", *primary}
    mean = np.mean([own["findings"][name]["auroc"]["value"] for name in primary])
    assert own["macro"]["auroc"]["value"] == pytest.approx(mean, abs=EXACT)
    assert own["excluded"] == ({"nodule": "no column of the scores is it"} if keys else {})
    page = (tables.folder / "out/report.html").read_text()
    assert ("averages over the findings that training knew; since that is not known, over all" in page) == bool(keys)


def test_subgroups_by_a_column_that_is_named(tables: Given) -> None:
    header, *rows = tables.label_rows()
    tables.write("labels.csv", [[*header, "site"], *([*row, "north" if n < 40 else ""] for n, row in enumerate(rows))])
    result = scored(tables, "subgroups=site", "patient=none", "primary=edema")
    assert {name: one["rows"] for name, one in result["subgroups"]["site"].items()} == {"north": 40, "unknown": 40}
    area = roc_auc_score(tables.labels[:40, 0], tables.scores[:40, 0])
    assert result["subgroups"]["site"]["north"]["macro"]["auroc"]["value"] == pytest.approx(area, abs=EXACT)
    assert result["coverage"]["patients"] == 80 and result["primary"] == ["edema"]
