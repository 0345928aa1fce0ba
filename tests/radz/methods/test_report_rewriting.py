"""Training on reports in the backbone's words: against plain generation, over several runs, and what is refused."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from sections import backbone_folder
from small_run import SMALL
from tiny_families import FIRST

from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.reports import digest64
from radz.backbones.generation import equal_lengths, write
from radz.config.files import digest, load_experiment
from radz.config.schema import Experiment
from radz.methods import report_rewriting
from radz.runs import task
from radz.runs.prepare import prepare
from radz.training.run_folder import read_environment

# the file of answers is named after the prompt: each worker of the tests, which share a cache, has one of its own
PROMPT = f"{os.environ.get('PYTEST_XDIST_WORKER', '')} Say it again: {{report}}"
REWRITE = [
    *SMALL,
    "dfat.text_source=rewrite",
    "dfat.rewrite.max_new_tokens=6",
    "dfat.rewrite.batch_size=3",
    f"dfat.rewrite.prompt='{PROMPT}'",
]


@pytest.mark.parametrize("family", FIRST)
def test_prompts_of_one_length_are_answered_together_as_each_alone(make_family, family: str) -> None:
    """Against `generate` of transformers, one prompt at a time; tokens of radz are not said."""
    backbone = make_family(family, depth="full").backbone.eval()
    prompts = ["one nodule", "a mass in the left lung", "two nodules", "one mass", "no effusion", "one mass"]
    alone, ours = [], [*backbone.image_ids, *backbone.text_ids]
    for prompt in prompts:
        ids = backbone.tokenizer(backbone.chat(prompt, 0), return_tensors="pt").input_ids
        out = backbone.core.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False,
            pad_token_id=backbone.tokenizer.pad_token_id, suppress_tokens=ours,
        )  # fmt: skip
        alone.append(backbone.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert write(backbone, prompts, 7, 4) == write(backbone, prompts, 7) == alone
    assert len(set(alone)) > 1


def test_groups_hold_one_length_and_everything_once() -> None:
    sequences = [[0] * n for n in (2, 3, 2, 2, 1)]
    assert list(equal_lengths(sequences, 2)) == [[4], [0, 2], [3], [1]]


def experiment(cache: Path, *overrides: str) -> Any:
    return load_experiment("demo", [*REWRITE, f"cache_dir={cache}", *overrides])


def answers_file(of: Experiment) -> Path:
    return report_rewriting._place(of.dfat.rewrite, backbone_folder(of), of.backbone.quantize, of.cache_dir)


def reword(of: Experiment, data: StudyDataModule) -> str:
    return report_rewriting.reword(data, of.backbone, of.dfat, of.seed, of.cache_dir, "cpu")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, Path, Any]:
    """The run folder, the file of answers and the parts of a small demo."""
    folder = tmp_path_factory.mktemp("rewritten") / "run"
    folder.mkdir()
    settings = experiment(cache_dir)
    return folder, answers_file(settings), prepare(settings, folder)


def original(cache: Path) -> tuple[list[str], list[int]]:
    """The reports of the small demo, and its training rows."""
    data = task.data_module(experiment(cache, "dfat.text_source=report"))
    data.setup()
    return data.texts, data.table.rows("train").tolist()


def test_training_reads_the_answers_and_testing_the_reports(begun, cache_dir: Path) -> None:
    _, file, parts = begun
    reports, training = original(cache_dir)
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    known = {entry["report"]: entry["rewritten"] for entry in entries}
    assert len(entries) == len(known) and set(known) == {reports[row] for row in training}
    assert file.stat().st_mode & 0o777 == 0o600
    expected = [known[text] or text if row in training else text for row, text in enumerate(reports)]
    assert parts.data.texts == expected != reports
    batch = parts.data._collate(training[:4])
    assert batch.reports == [expected[row] for row in training[:4]]
    assert batch.text_digest.tolist() == [digest64(text) for text in batch.reports]


def test_a_stopped_writer_goes_on_behind_its_last_whole_line(begun, cache_dir: Path, caplog) -> None:
    """And an answer that a person corrected stays as it is."""
    folder, file, parts = begun
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    corrected = json.dumps({"report": json.loads(lines[0])["report"], "rewritten": "As a person wrote it."}) + "\n"
    file.write_text(corrected + "".join(lines[1:5]) + lines[5][: len(lines[5]) // 2])
    try:
        with caplog.at_level(logging.INFO):
            texts = prepare(experiment(cache_dir), folder.parent / "other").data.texts
        written = file.read_text().splitlines(keepends=True)
        assert f"rewrites {len(lines) - 5} distinct training reports, 5 are there" in caplog.text
        assert written[0] == corrected and sorted(written[1:]) == sorted(lines[1:])
        assert "As a person wrote it." in texts and len(texts) == len(parts.data.texts)
        with pytest.raises(InputError, match=r"others than .* was begun with; put them back or start a new run"):
            (folder / "environment.json").write_text(json.dumps(parts.known))
            prepare(experiment(cache_dir), folder)
    finally:
        file.write_text(whole)
    assert prepare(experiment(cache_dir), folder).known["rewritten_digest"] == parts.known["rewritten_digest"]
    assert read_environment(folder)["rewritten_digest"] == parts.known["rewritten_digest"]


def test_a_last_line_that_is_whole_stays_without_its_end(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"report": "a", "rewritten": "b"}\n{"report": "c", "rewritten": "d"}')
    assert report_rewriting.read(file, cut=True) == {"a": "b", "c": "d"}
    assert file.read_text().endswith("\n") and file.stat().st_mode & 0o777 == 0o600
    file.write_text('{"report": "a", "rewritten": "b"}\n{"report": "c", "rew')
    assert report_rewriting.read(file, cut=True) == {"a": "b"} and file.read_text().count("\n") == 1


def test_the_text_of_a_file_of_ones_own_is_part_of_the_experiment(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    digests = []
    for answer in ("so", "or so"):
        file.write_text(json.dumps({"report": "a", "rewritten": answer}))
        digests.append(digest(load_experiment("demo", [f"dfat.rewrite.file={file}"])))
    assert digests[0] != digests[1]


def test_other_weights_prompts_or_lengths_have_a_file_of_their_own(begun, cache_dir: Path) -> None:
    _, file, _ = begun
    assert answers_file(experiment(cache_dir)) == file
    others = ("dfat.rewrite.max_new_tokens=7", "dfat.rewrite.prompt='In short: {report}'", "backbone.tiny.seed=1")
    assert len({answers_file(experiment(cache_dir, one)) for one in others} | {file}) == 4
    assert answers_file(experiment(cache_dir, "dfat.rewrite.batch_size=5")) == file


def test_a_file_of_ones_own_is_read_and_nothing_written(cache_dir: Path, tmp_path: Path) -> None:
    """An empty answer keeps the report; words that are to be masked are masked again."""
    reports, training = original(cache_dir)
    distinct = list(dict.fromkeys(reports[row] for row in training))
    answers = {text: f"Chest film number {number}, no Effusion." for number, text in enumerate(distinct)}
    answers[distinct[0]] = ""
    file = tmp_path / "own.jsonl"
    lines = [json.dumps({"report": report, "rewritten": answer}) for report, answer in answers.items()]
    file.write_text("\n".join(lines))
    data = task.data_module(experiment(cache_dir))
    data.setup()
    data.config.mask_terms = ["effusion"]
    cache = tmp_path / "cache"
    found = reword(experiment(cache, f"dfat.rewrite.file={file}"), data)
    assert not list(cache.rglob("*.jsonl")) and len(found) == 12
    for row in training:
        number = distinct.index(reports[row])
        if number:
            assert data.texts[row].startswith(f"Chest film number {number}, no") and "ffusion" not in data.texts[row]
        else:
            assert data.texts[row] == reports[row]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("", r"own\.jsonl lacks 1 of the \d+ training reports; add them, or leave the key empty"),
        ("{]", r"own\.jsonl, line \d+: not JSON in UTF-8; correct or delete the line"),
        ('{"report": "a secret"}', r"own\.jsonl, line \d+: must be .* with two texts; correct the line"),
        ('{"report": "a secret", "rewritten": 3}', r"own\.jsonl, line \d+: must be .* with two texts"),
        ("3", r"own\.jsonl, line \d+: must be .* with two texts"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_its_texts(
    cache_dir: Path, tmp_path: Path, last: str, message: str
) -> None:
    reports, training = original(cache_dir)
    distinct = list(dict.fromkeys(reports[row] for row in training))[1:]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join([*(json.dumps({"report": one, "rewritten": "so"}) for one in distinct), last]))
    data = task.data_module(experiment(cache_dir))
    data.setup()
    with pytest.raises(InputError, match=message) as raised:
        reword(experiment(cache_dir, f"dfat.rewrite.file={file}"), data)
    assert "secret" not in str(raised.value) and reports[training[0]] not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dfat.rewrite.prompt=Again.", r"dfat\.rewrite\.prompt: must contain \{report\}"),
        ("dfat.rewrite.prompt='{report} {word}'", r"dfat\.rewrite\.prompt: .* unknown placeholder \{word\}"),
        ("dfat.rewrite.batch_size=0", r"dfat\.rewrite\.batch_size"),
        ("dfat.rewrite.file=nowhere.jsonl", r"dfat\.rewrite\.file: nowhere\.jsonl: cannot be read"),
    ],
)
def test_settings_that_cannot_be_meant(cache_dir: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(experiment(cache_dir, override), tmp_path)


def test_a_rehearsal_writes_nothing(cache_dir: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        parts = prepare(experiment(cache_dir, "dfat.rewrite.max_new_tokens=5"), None)
    assert parts.data.texts == original(cache_dir)[0] and "the reports themselves stand in" in caplog.text
    assert not answers_file(experiment(cache_dir, "dfat.rewrite.max_new_tokens=5")).exists()


def test_methods_that_read_no_text_write_none(cache_dir: Path, tmp_path: Path) -> None:
    for method in ("probe", "vqa"):
        settings = experiment(cache_dir, f"method={method}", "dfat.rewrite.max_new_tokens=5")
        assert "rewritten_digest" not in prepare(settings, tmp_path).known
        assert not answers_file(settings).exists()
