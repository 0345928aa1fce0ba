"""`radz data label`: the tables it writes, their rights, and input that is at fault."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import numpy as np
import pytest
from csv_rows import rows_of
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import InputError
from data_modules.labelling import many
from data_modules.labelling.labeller import Labeller
from data_modules.labelling.many import label_many
from data_modules.labelling.table import label_table, read_reports
from data_modules.reports import MOST

REPORTS = (
    "FINDINGS: Small left effusion. No pneumothorax.",
    "Possible nodule in the right apex.",
    "",
    "肺野清晰,未见胸腔积液。",
    "FINDINGS:",
    "NA",
    "Pleuraerg\u00c3\u00bcsse beidseits.",
    "INDICATION: Rule out pneumonia. Known effusion.",
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reports.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["patient", "text"], *((f"p{i}", report) for i, report in enumerate(REPORTS))])
    return path


def test_a_column_per_finding_in_the_coding_of_chexpert(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    findings = ["pneumothorax", "effusion", "nodule"]
    lines = label_table(read_reports(table, "text", out, "proofs", "chest_xray", findings))
    found = rows_of(out)
    assert list(found[0]) == ["patient", "text", "pneumothorax", "pleural_effusion", "nodule"]
    assert [tuple(row.values())[2:] for row in found[:3]] == [("0", "1", ""), ("", "", "-1"), ("", "", "")]
    assert [row["patient"] for row in found] == [f"p{i}" for i in range(len(REPORTS))]
    assert any(line.startswith("2 report(s) are empty") for line in lines)
    assert any(line.startswith("1 report(s) with UTF-8") for line in lines)
    assert any(line.startswith("1 report(s) are in no language that has rules") for line in lines)
    assert any(line.startswith("2 report(s) hold no findings, only headings, an indication") for line in lines)
    proofs = rows_of(tmp_path / "labels_proofs.csv")
    assert [(row["row"], row["finding"], row["state"]) for row in proofs] == [
        ("2", "pneumothorax", "absent"), ("2", "pleural_effusion", "present"), ("3", "nodule", "uncertain"),
        ("8", "pleural_effusion", "present"),
    ]  # fmt: skip
    assert proofs[1]["sentence"] == "Small left effusion." and proofs[1]["words"] == "effusion"
    for path in (out, tmp_path / "labels_proofs.csv"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "txt"}, "nearest is 'text'"),
        ({"findings": ["effusoin"]}, "findings: 'effusoin' is no finding"),
        ({"modality": "chest_mr"}, "modality: 'chest_mr' is not one of chest_xray, chest_ct"),
        ({"out": "reports.csv"}, "would replace the table that is read"),
    ],
)
def test_faults(table: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    keys: dict[str, object] = {"text": "text", "beside": "proofs", "modality": "chest_xray", **change}
    out = tmp_path / str(keys.pop("out", "labels.csv"))
    with pytest.raises(InputError, match=message.replace("(", "\\(")):
        read_reports(table, out=out, **keys)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reports.csv"]
    assert len(rows_of(table)) == len(REPORTS)


def test_a_column_that_is_there_is_not_replaced(table: Path, tmp_path: Path) -> None:
    table.write_text("text,edema\nNo edema.,1\n")
    with pytest.raises(InputError, match="has a column 'edema' already"):
        read_reports(table, "text", tmp_path / "labels.csv", "proofs", "chest_xray")


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "TOGETHER", 15)
    reports = np.array([f"{text} Seen {i}." for i in range(20) for text in REPORTS], dtype=object)
    assert label_many(reports, "chest_xray", processes=0) == label_many(reports, "chest_xray", processes=2)


def test_terms_and_findings_of_a_user() -> None:
    reports = np.array(["Small Bochdalek defect.", "No pigtail is seen. Pigtail drain."], dtype=object)
    own = {"bochdalek": {"text": "Bochdalek hernia"}}
    terms = {"bochdalek": {"terms": ["bochdalek defect"]}, "support_devices": {"terms": ["pigtail"]}}
    first, second = label_many(reports, "chest_xray", own, terms)
    assert first["bochdalek"].state == "present" and second["support_devices"].state == "present"
    with pytest.raises(InputError, match=r"terms\.boch: unknown finding; nearest is 'bochdalek'"):
        label_many(reports, "chest_xray", own, {"boch": {"terms": ["x"]}})
    with pytest.raises(InputError, match="is none of terms"):
        label_many(reports, "chest_xray", own, {"edema": {"words": ["wet"]}})


def test_a_report_of_any_length_is_read_to_its_limit() -> None:
    label = Labeller("chest_xray").label
    assert label("No change. " * 12_000 + "Large effusion.") == {}
    assert label("The heart is normal. " * (MOST // 30) + "Large effusion.")["pleural_effusion"].state == "present"


WORDS = ["no", "effusion", "but", ",", ";", ":", "edema", "not seen", "\n", "IMPRESSION:", "?", "versus", "heart", "1."]


@given(st.text(max_size=400) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_has_labels_with_proofs_in_it(text: str) -> None:
    for proof in LABELLER.label(text).values():
        assert proof.words in proof.sentence and proof.state in ("present", "absent", "uncertain")


LABELLER = Labeller("chest_xray")
