"""Labels of an experiment that come from its reports, and labels that are set against them."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score
from small_corpus import SALT, Corpus, read, ready

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import DataConfig
from data_modules.corpus_config import Columns, LabelRule
from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNCERTAIN, UNMENTIONED
from data_modules.label_map import label_map
from data_modules.labelling.agreement import compare, lines, measured, write_conflicts
from data_modules.study import StudyTable

ALL = {"from_report": LabelRule(from_report="rules")}
REPORTS = (
    "FINDINGS: Small left effusion. No pneumothorax.", "No effusion.", "Possible effusion.", "Cardiomegaly.",
    "Large nodule. No edema.", "",
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path / "corpus")
    for i, row in enumerate(made.rows):
        row["notes"] = REPORTS[i % len(REPORTS)]
    return made


def column(found: StudyTable, finding: str) -> list[int]:
    return found.states[:6, found.findings.index(finding)].tolist()


def test_all_findings_that_some_report_calls_present(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = read(corpus, labels=ALL)
    assert found.findings == ("cardiomegaly", "pleural_effusion", "lung_lesion", "nodule")
    nothing = [UNMENTIONED] * 6
    assert column(found, "pleural_effusion") == [PRESENT, ABSENT, UNCERTAIN, *nothing[3:]]
    assert column(found, "cardiomegaly") == [*nothing[:3], PRESENT, *nothing[4:]]
    assert (
        "labels of 4 finding(s) are read from the reports by rules: 8 times present, 2 absent, 2 in doubt"
        in caplog.text
    )
    assert "2 of 12 report(s) say nothing of any" in caplog.text


def test_reports_without_findings_are_told(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    corpus.rows[0]["notes"] = "COMPARISON: None.\nINDICATION: Rule out pneumonia. Known effusion."
    found = read(corpus, labels=ALL)
    assert "pneumonia" not in found.findings and column(found, "pleural_effusion")[0] == UNMENTIONED
    assert "1 report(s) hold no findings, only headings, an indication" in caplog.text


def test_the_mapping_says_what_was_read(corpus: Corpus, tmp_path: Path) -> None:
    own = {"covid19": LabelRule("finding", contains="COVID-19")}
    corpus.write()
    config = DataConfig([corpus.config(labels={**ALL, **own})], image_size=16, batch_size=2)
    found = label_map(ready(ChestXrayDataModule(config, tmp_path / "cache", 0)), {}).set_index("finding")["relation"]
    assert found.to_dict() == {"covid19": "own rule", **dict.fromkeys(
        ("cardiomegaly", "pleural_effusion", "lung_lesion", "nodule"), "from report")}  # fmt: skip


def test_a_column_wins_and_is_said(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    own = LabelRule("edema", numeric={1: "present", 0: "absent"})
    with caplog.at_level(logging.INFO):
        found = read(corpus, labels={**ALL, "pleural_effusion": own})
    assert column(found, "pleural_effusion") == [ABSENT, PRESENT] * 3
    assert caplog.text.count("labels of pleural_effusion come from their columns, not from the reports") == 1


def test_single_findings_and_terms_of_a_user(corpus: Corpus) -> None:
    rule = LabelRule(from_report="rules")
    found = read(corpus, labels={"edema": rule, "mass": rule}, terms={"mass": {"terms": ["large nodule"]}})
    assert found.findings == ("edema", "mass")
    assert column(found, "mass")[4] == PRESENT and column(found, "edema")[4] == ABSENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": Columns(image="filename", patient="patientid")}, "labels.from_report: needs .*columns.report"),
        (
            {"labels": {"edemma": LabelRule(from_report="rules")}},
            r"labels\.edemma: unknown finding; nearest is 'edema'",
        ),
        ({"labels": {"edema": LabelRule("edema", from_report="rules")}}, "leave the column out"),
        ({"labels": {"edema": LabelRule(from_report="magic")}}, "'magic' is not one of rules"),
        ({"terms": {"mas": {"terms": ["x"]}}}, r"terms\.mas: unknown finding; nearest is 'mass'"),
        ({"terms": {"mass": {"terms": ["(x"]}}}, r"terms\.mass: the brackets of '\(x' do not close"),
    ],
)
def test_faults(corpus: Corpus, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(corpus, **{"labels": ALL, **changes})


def test_reports_that_speak_of_nothing(corpus: Corpus) -> None:
    for row in corpus.rows:
        row["notes"] = "Geen afwijkingen."
    with pytest.raises(InputError, match="no report speaks of a finding as present"):
        read(corpus, labels=ALL)


def test_labels_that_their_report_contradicts(corpus: Corpus, tmp_path: Path) -> None:
    own = LabelRule("edema", numeric={1: "present", 0: "absent"})
    config = DataConfig([corpus.config(labels={"pleural_effusion": own})])
    found, conflicts = compare(read(corpus, labels={"pleural_effusion": own}), config, SALT)
    # Labels are absent, present, absent, .. where the reports are present, absent, uncertain, silent.
    assert [(one["finding"], one["both"], one["kappa"]) for one in found] == [("pleural_effusion", 4, -1.0)]
    assert found[0]["states"][PRESENT][ABSENT] == 2 and found[0]["f1"] == 0
    assert [(one.row, one.label, one.report) for one in conflicts][:2] == [
        (2, "absent", "present"),
        (3, "present", "absent"),
    ]
    write_conflicts(conflicts, tmp_path, tmp_path / "private")
    public, private = (pd.read_csv(path / "label_conflicts.csv") for path in (tmp_path, tmp_path / "private"))
    assert len(public) == len(private) == 4
    assert "effusion" not in " ".join(map(str, public.drop(columns="finding").to_numpy().ravel()))
    assert private["sentence"][0] == "Small left effusion." and private["words"][0] == "effusion"
    assert stat.S_IMODE((tmp_path / "private/label_conflicts.csv").stat().st_mode) == 0o600
    assert not set(public["study"]) & {row["filename"] for row in corpus.rows}
    assert "none" not in lines(found, conflicts)[-1]


def test_a_corpus_that_disagrees_is_said() -> None:
    entry = {
        "corpus": "ours",
        "finding": "edema",
        **measured(np.array([1, 0] * 20, np.int8), np.array([0, 1] * 20, np.int8)),
    }
    assert any("ours: labels and reports disagree on edema" in line for line in lines([entry], []))
    agreeing = {**entry, **measured(np.array([1, 0] * 20, np.int8), np.array([1, 0] * 20, np.int8))}
    assert not any("disagree" in line for line in lines([agreeing], []))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_kappa_and_f1_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    given_, read_ = np.array(pairs, dtype=np.int8).T
    found = measured(given_, read_)
    sure = (given_ < 2) & (read_ < 2)
    assert found["both"] == sure.sum() and np.sum(found["states"]) == len(pairs)
    if found["kappa"] is not None:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(given_[sure], read_[sure]))
    labelled = given_ < 2
    if found["f1"] is not None:
        assert found["f1"] == pytest.approx(f1_score(given_[labelled] == 1, read_[labelled] == 1))
