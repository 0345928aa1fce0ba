"""Labels that a backbone reads out of reports: its log-odds, their probabilities, and what stands in the tables."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from csv_rows import rows_of

from data_modules.labelling.table import read_reports
from radz.backbones import load_backbone
from radz.cli.command_line import main
from radz.config.backbone import BackboneConfig
from radz.methods import vqa_questions
from radz.metrics.calibration import fit
from radz.runs import backbone_labels
from radz.runs.backbone_labels import Reader, fitted, label_by_backbone

REPORTS = ("Small left effusion.", "No pneumothorax is seen.", "Small left effusion.", " ", ("long " * 400).strip())
FINDINGS = "findings=[effusion,pneumothorax]"


def write(path: Path, head: list[str], *rows: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "reports.csv", ["patient", "text"], *((f"p{i}", one) for i, one in enumerate(REPORTS)))


@pytest.fixture
def call(table: Path, tmp_path: Path, family_folders: dict[str, Path]) -> list[str]:
    """The verb with its keys."""
    return [
        "data", "label", f"csv={table}", "text=text", f"out={tmp_path / 'labels.csv'}", "labeller=backbone",
        f"backbone={family_folders['llava']}", f"cache_dir={tmp_path / 'cache'}", "device=cpu",
    ]  # fmt: skip


def by_hand(folder: Path, report: str, finding: str) -> float:
    """What a report adds to log P(yes) - log P(no), each question put alone, in a whole pass."""
    backbone = load_backbone(BackboneConfig(path=str(folder), train="frozen", depth="full"), folder, 4, 8).eval()
    ask = f"According to this report, does the patient have {finding}? Answer yes or no."
    odds = []
    for text in (f"Report of a chest X-ray:\n{report}\n\n{ask}", ask):
        asked = vqa_questions.question(backbone, text, 0, ("Yes", "No"))
        yes, no = vqa_questions.log_probabilities(backbone, torch.zeros(1, 0, backbone.hidden_size), asked)[0]
        odds.append((yes - no).item())
    return odds[0] - odds[1]


def test_what_a_report_adds_to_the_odds_of_yes(
    call: list[str], tmp_path: Path, family_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*call, FINDINGS]) == 0
    told = capsys.readouterr().out
    assert "2 report(s) are empty, or longer than the backbone's context" in told and "without examples" in told
    scores = {(row["row"], row["finding"]): row for row in rows_of(tmp_path / "labels_scores.csv")}
    names = ("pleural_effusion", "pneumothorax")
    assert sorted(scores) == [(str(row), name) for row in (2, 3, 4) for name in names]
    folder = family_folders["llava"]
    for (row, name), cells in scores.items():
        score = by_hand(folder, REPORTS[int(row) - 2], name.replace("_", " "))
        assert float(cells["score"]) == pytest.approx(score, abs=2e-4)
        assert float(cells["probability"]) == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-4)
    found = rows_of(tmp_path / "labels.csv")
    assert list(found[0]) == ["patient", "text", *names] and len(found) == len(REPORTS)
    assert all(found[row][name] in ("1", "0", "-1") for row in range(3) for name in names)
    assert all(found[row][name] == "" for row in (3, 4) for name in names)
    for path in (tmp_path / "labels.csv", tmp_path / "labels_scores.csv", *(tmp_path / "cache" / "asked").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stopped_call_goes_on(call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*call, FINDINGS]) == 0
    first = (tmp_path / "labels_scores.csv").read_text()
    (kept,) = (tmp_path / "cache" / "asked").iterdir()
    lines = kept.read_text().splitlines(keepends=True)
    assert len(lines) == 3 and all("effusion" not in line for line in lines)
    kept.write_text("".join(lines[:2]) + lines[2][:20])
    asked: list[str] = []
    odds = Reader.log_odds
    monkeypatch.setattr(Reader, "log_odds", lambda self, report: asked.append(report) or odds(self, report))
    assert main([*call, FINDINGS]) == 0
    assert asked == ["", REPORTS[4]] and (tmp_path / "labels_scores.csv").read_text() == first
    assert main([*call, "findings=[edema]"]) == 0  # other questions have answers of their own
    assert len(asked) == 6


def test_probabilities_are_those_of_the_examples(
    table: Path, tmp_path: Path, family_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose yes and no are exchanged and shifted, set right by examples."""
    odds = {"none": 4.0, "effusion": 2.0, "": 3.0, "half": 3.02}
    monkeypatch.setattr(Reader, "log_odds", lambda self, report: np.array([odds[report], odds["none"]]))
    write(table, ["text"], ("effusion",), ("none",), ("half",))
    shown = [("effusion", "1.0", ""), ("none", "0", "-1")] * 6
    examples = write(tmp_path / "examples.csv", ["text", "pleural_effusion", "no_finding"], *shown)
    out, keys = tmp_path / "labels.csv", ("chest_xray", ["effusion", "edema", "no_finding"])
    backbone = BackboneConfig(path=str(family_folders["llava"]))
    lines = label_by_backbone(
        read_reports(table, "text", out, "scores", *keys), "text", "chest_xray", backbone, examples, tmp_path, "cpu"
    )
    found = rows_of(out)
    assert list(found[0]) == ["text", "pleural_effusion", "edema"]
    assert [row["pleural_effusion"] for row in found] == ["1", "0", "-1"]
    assert lines[-3].startswith("by the examples a higher score speaks against pleural_effusion, edema")


def test_few_examples_share_a_fit() -> None:
    draw = np.random.default_rng(0)
    labels = np.stack([np.arange(40) % 2, np.arange(40) < 3, np.full(40, np.nan)], axis=1).astype(float)
    scores = draw.normal(size=(40, 3)) + labels * [2, 1, 0]
    scores[:, 2] = 0
    own, *rest = fitted(scores, labels, ["a", "b", "c"])
    assert own == fit(labels[:, 0], scores[:, 0])
    assert rest == [fit(labels.ravel(), scores.ravel())] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (("edema", "1"), "has no column of a finding that is asked about, such as pleural_effusion"),
        (("pleural_effusion", "0"), "no report has any of the findings"),
        (("pleural_effusion", "yes"), "row 2, column pleural_effusion: must be 1, 0, -1 or blank"),
    ],
)
def test_examples_at_fault(
    call: list[str], tmp_path: Path, content: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = write(tmp_path / "examples.csv", ["text", content[0]], ("Effusion.", content[1]))
    assert main([*call, FINDINGS, f"examples={examples}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["labeller=rule"], "labeller: 'rule' is not one of rules, backbone; nearest is 'rules'"),
        (["labeller=rules"], "backbone: labeller=rules does not read it"),
        (["processes=2"], "processes: labeller=backbone does not read it"),
    ],
)
def test_keys_of_the_other_labeller(
    call: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [key for key in call if key.split("=")[0] not in {one.split("=")[0] for one in more}]
    assert main([*keys, *more]) == 2
    assert message in capsys.readouterr().err


def test_a_backbone_is_named(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([key for key in call if not key.startswith("backbone=")]) == 2
    assert "backbone: labeller=backbone needs it" in capsys.readouterr().err


def test_examples_are_read_before_any_weight(call: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_labels.factory, "encoder", lambda *_: pytest.fail("loaded"))
    assert main([*call, "examples=/nowhere.csv"]) == 2


def test_no_finding_alone_is_no_question(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*call, "findings=[no_finding]"]) == 2
    assert "no_finding alone cannot be asked about" in capsys.readouterr().err
