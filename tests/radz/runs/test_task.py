"""From an experiment to its parts: which findings train, which are scored, how they are called, what is seen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from csv_rows import rows_of
from small_run import BARE

from data_modules.batch import StudyBatch
from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.findings import ontology
from radz.config.dkam import DkamConfig
from radz.config.files import find_resource, load_experiment
from radz.methods import dkam
from radz.models import factory
from radz.models.descriptions import load_descriptions, save_descriptions
from radz.models.labels import LabelView, label_sentence, pick
from radz.runs import preflight, task
from radz.runs.prepare import prepare
from radz.runs.wandb_run import wandb_mode
from radz.training.callbacks.csv_logger import CsvLog

NAN = float("nan")
FINDINGS = ("edema", "pleural_effusion", "no_finding", "mass")


class Data:
    """As much of a DataModule as `build` asks of it: six training and two test studies."""

    ontology = ontology()
    findings = FINDINGS

    def __init__(self) -> None:
        self.train = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [NAN, 0, 0, NAN]] * 2, dtype=np.float32)
        self.test = np.array([[0, 1, 0, NAN], [1, 0, 0, NAN]], dtype=np.float32)
        self.table = SimpleNamespace(rows=lambda split: split, coded=(FINDINGS,))
        self.config = SimpleNamespace(corpora=[SimpleNamespace(labels={})])

    def loss_labels(self, rows: str) -> np.ndarray:
        return getattr(self, rows)

    metric_labels = loss_labels
    trained_findings = StudyDataModule.trained_findings


def experiment(*overrides: str) -> Any:
    return load_experiment("demo", overrides)


def test_seen_is_label_text_or_none() -> None:
    texts = ["A small Pleural Effusion on the left.", "Normal."]
    seen = task.seen_findings(Data(), texts)  # type: ignore[arg-type]
    assert seen["label"] == ["edema", "no_finding"] and set(seen["text"]) == {"pleural_effusion", "no_finding"}
    assert task.seen_groups([*FINDINGS, "unheard_of"], seen) == {
        "edema": "label", "pleural_effusion": "text", "no_finding": "label", "mass": "none", "unheard_of": "none"
    }  # fmt: skip
    assert task.seen_groups(["pleural_effusion"], task.seen_findings(Data(), [])) == {  # type: ignore[arg-type]
        "pleural_effusion": "none"
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A massive effusion.", {"pleural_effusion"}),  # `effusion` is a short name; `mass` is no word of it
        ("A massive hydrothorax.", set()),
        ("Large LUNG MASS.", {"mass"}),
        ("Interstitial oedematous change.", set()),
        ("Hernia?", {"hiatal_hernia"}),
    ],
)
def test_a_finding_is_named_by_whole_words_of_name_text_or_alias(text: str, named: set[str]) -> None:
    seen = task.seen_findings(Data(), [text])  # type: ignore[arg-type]
    assert {"pleural_effusion", "mass", "hiatal_hernia", "edema"} & set(seen["text"]) == named


def test_label_sentences_are_training_texts() -> None:
    """`bacterial pneumonia` in a sentence names pneumonia, which has no label of its own."""
    data: Any = Data()
    data.findings = ("edema", "pleural_effusion", "bacterial_pneumonia", "mass")
    texts = task.training_texts(experiment("dfat.text_source=labels"), data)
    assert texts == ["pulmonary edema", "bacterial pneumonia"]
    assert task.seen_groups(["pneumonia"], task.seen_findings(data, texts)) == {"pneumonia": "text"}


def test_the_bank_holds_no_finding_and_what_training_knows_as_present() -> None:
    assert dkam.bank_findings(experiment().dkam, Data()) == ["no_finding", "edema"]  # type: ignore[arg-type]
    assert dkam.bank_findings(DkamConfig(findings=["mass", "edema"]), Data()) == ["mass", "edema"]  # type: ignore[arg-type]


def test_scored_are_findings_with_a_known_test_label() -> None:
    assert task.scored_findings(experiment(), Data()) == ["edema", "pleural_effusion"]  # type: ignore[arg-type]
    both = experiment("scoring.findings=[mass, effusion]")
    assert task.scored_findings(both, Data()) == ["mass", "pleural_effusion"]  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"nothing can be scored in the test split \(mass: no known label\)"):
        task.scored_findings(experiment("scoring.findings=[mass]"), Data())  # type: ignore[arg-type]
    data = Data()
    data.test[:] = NAN
    with pytest.raises(InputError, match="no finding has a known label"):
        task.scored_findings(experiment(), data)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"nothing can be scored in the test split \(nodule: no label of these data maps to it\)"
    ):
        task.scored_findings(experiment("scoring.findings=[nodule]"), Data())  # type: ignore[arg-type]


def test_class_texts_take_names_from_ontology_corpus_and_underscores(tmp_path: Path) -> None:
    added = "data.corpora.0.findings={lipoid_pneumonia: {parent: pneumonia, text: pneumonia caused by oil}}"
    settings = experiment(added)
    file = dkam.descriptions_file(settings.dkam, tmp_path)
    found = factory.class_texts(
        ["pleural_effusion", "lipoid_pneumonia", "swallowed_coin"], file, settings.data, ["shape"]
    )
    assert found.names == ("pleural effusion", "pneumonia caused by oil", "swallowed coin")
    assert found.descriptions[0] and found.descriptions[1:] == ("", "")


def test_written_descriptions_belong_to_the_run(tmp_path: Path) -> None:
    settings = experiment("dkam.write=true", "backbone.depth=full")
    assert dkam.descriptions_file(settings.dkam, tmp_path) == tmp_path / "descriptions.yaml"
    assert dkam.descriptions_file(experiment().dkam, tmp_path).name == "chest_xray.yaml"


# ---- Labels --------------------------------------------------------------------------------------------------------


def view() -> LabelView:
    loss = torch.tensor([[[0, 1, NAN, 0]] * 2, [[0, 1, 1, NAN]] * 2])
    metrics = torch.tensor([[[0, 1, NAN, NAN]] * 2] * 2)
    return LabelView(("edema", "mass"), ("edema", "mass"), loss, metrics)


def test_policies_are_applied_by_corpus_and_state() -> None:
    states = torch.tensor([[0, 1], [2, 3], [2, 3]], dtype=torch.int8)
    empty = torch.zeros(3, dtype=torch.int64)
    batch = StudyBatch(
        torch.zeros(3, 1, 2, 2), empty + 1, [""] * 3, empty, states, torch.tensor([0, 0, 1]), empty, empty
    )
    found = view().loss(batch)
    assert torch.equal(found.nan_to_num(9), torch.tensor([[0.0, 1.0], [9.0, 0.0], [1.0, 9.0]]))
    assert torch.equal(view().metrics(batch).nan_to_num(9), torch.tensor([[0.0, 1.0], [9.0, 9.0], [9.0, 9.0]]))


def test_pick_gives_unknown_for_a_finding_without_column() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, NAN]])
    assert view().columns(("mass", "nodule", "edema")) == [1, -1, 0]
    found = pick(labels, [1, -1, 0])
    assert torch.equal(found.nan_to_num(9), torch.tensor([[0.0, 9.0, 1.0], [9.0, 9.0, 0.0]]))
    assert pick(labels, []).shape == (2, 0)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([1, 0, 0], "A chest X-ray with edema."),
        ([1, 1, NAN], "A chest X-ray with edema and mass."),
        ([1, 1, 1], "A chest X-ray with edema, mass and nodule."),
        ([0, NAN, 0], ""),
    ],
)
def test_label_sentences(row: list[float], sentence: str) -> None:
    names = ("edema", "mass", "nodule")
    labels = LabelView(names, names, torch.zeros(1, 3, 4), torch.zeros(1, 3, 4))
    assert label_sentence(row, labels, "A {modality} with {finding}.", "chest X-ray") == sentence


# ---- The log -------------------------------------------------------------------------------------------------------


def test_the_log_merges_steps_and_continues_its_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    log.log_metrics({"train/loss": 2.0, "epoch": 0.0}, 0)
    log.log_metrics({"train/loss": 1.5, "epoch": 0.0}, 1)
    log.log_metrics({"val/auroc_macro": 0.5, "epoch": 0.0}, 1)
    log.save()
    again = CsvLog(path)
    again.log_metrics({"train/loss": 1.0, "epoch": 1.0, "new": 3}, 2)
    again.finalize("success")
    rows = rows_of(path)
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert list(rows[0])[:4] == ["step", "epoch", "train/loss", "val/auroc_macro"]
    assert rows[1]["train/loss"] == "1.5" and rows[1]["val/auroc_macro"] == "0.5" and rows[1]["epoch"] == "0"
    assert rows[2]["epoch"] == "1" and rows[2]["new"] == "3" and rows[0]["new"] == ""
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_resume_forgets_the_steps_it_repeats(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    for step in range(6):
        log.log_metrics({"train/loss": float(step)}, step)
    log.save()
    again = CsvLog(path)
    again.cut_from(4)
    again.log_metrics({"train/loss": 40.0}, 4)
    again.save()
    assert [(row["step"], float(row["train/loss"])) for row in rows_of(path)] == [
        ("0", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 40)
    ]  # fmt: skip


def test_wandb_is_offline_without_an_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    assert wandb_mode("auto") == "offline" and wandb_mode("disabled") == "disabled"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(InputError, match="WANDB_MODE"):
        wandb_mode("auto")


@pytest.fixture
def without_edema(tmp_path: Path) -> str:
    """A file of descriptions that lacks two findings."""
    known = load_descriptions(find_resource("descriptions/chest_xray.yaml", "x"))
    file = tmp_path / "ours.yaml"
    save_descriptions(file, {name: one for name, one in known.items() if name not in ("edema", "pleural_effusion")})
    return str(file)


@pytest.mark.parametrize(
    "labels, bank, scored",
    [
        ({"from_report": "rules"}, ["no_finding"], ["mass"]),
        ({"from_report": "rules", "edema": "column"}, ["no_finding", "edema"], ["edema", "mass"]),
        ({}, ["no_finding", "edema"], ["edema", "pleural_effusion", "mass"]),
    ],
)
def test_what_rules_alone_found_needs_a_description(
    without_edema: str, labels: dict[str, str], bank: list[str], scored: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    data: Any = Data()
    data.test[:] = [[1, 0, 0, 0], [0, 1, 0, 1]]
    data.config.corpora[0].labels = labels
    settings = experiment(f"dkam.descriptions={without_edema}", "scoring.headline=anchor")
    assert dkam.bank_findings(settings.dkam, data) == bank
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == ("edema" not in bank) and all(
        line.startswith("edema: found in reports by rules") for line in told
    )
    assert task.scored_findings(settings, data) == scored
    by_prompt = experiment(f"dkam.descriptions={without_edema}", "scoring.headline=prompt")
    assert task.scored_findings(by_prompt, data) == ["edema", "pleural_effusion", "mass"]


def test_all_findings_asked_for_without_description_are_named_at_once(without_edema: str) -> None:
    for key, told in (
        ("dkam", "has no edema, pleural_effusion; "),
        ("scoring", "edema, pleural_effusion have no desc"),
    ):
        keys = f"dkam.descriptions={without_edema}", f"{key}.findings=[edema,pleural_effusion,mass]"
        settings = experiment("scoring.headline=anchor", *keys)
        with pytest.raises(InputError, match=told):
            preflight.before_data(settings)


WIDER = "dkam.findings=[no_finding,edema,pleural_effusion,mass,tuberculosis]"


@pytest.mark.parametrize(
    ("keys", "read"),
    [
        (["dfat.statements_weight=1"], {"mass", "tuberculosis"}),
        (["dfat.statements_weight=0", "dfat.keep_weight=1"], {"mass", "tuberculosis"}),
        (["dfat.statements_weight=0", "dfat.sentences_weight=1", "dfat.twins={twins}"], {"mass"}),
        (["dfat.statements_weight=0"], set()),
    ],
)
def test_what_added_losses_read_is_seen(cache_dir: Path, tmp_path: Path, keys: list[str], read: set[str]) -> None:
    """A mass in the statement "Lung mass? Yes." is no unseen finding, whatever reports say; nor is one in a twin."""
    twins = tmp_path / "twins.yaml"
    twins.write_text("kind: {pairs: [[effusion, mass]]}")
    settings = [*BARE, WIDER, f"cache_dir={cache_dir}", *(key.format(twins=twins) for key in keys)]
    parts = prepare(load_experiment("demo", settings), None)
    groups = task.seen_groups(ontology().names, parts.known["seen"])
    unseen = {name for name, group in groups.items() if group == "none"}
    assert {"mass", "tuberculosis"} - unseen == read and "hiatal_hernia" in unseen
    assert parts.module.metrics.primary == [name for name in parts.findings if parts.seen[name] == "label"]
    assert set(parts.module.metrics.primary) < set(parts.findings)
