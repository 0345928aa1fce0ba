"""Sentences of each finding out of a file: its forms, the names in it, and files that are none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from data_modules.errors import InputError
from radz.config.files import digest, load_experiment, to_yaml
from radz.config.scoring import ClassPrompts
from radz.models.prompts import check_prompts

MEDKLIP = {
    "effusion": "Water in the pleura.",
    "thicken": "A thick pleura.",
    "edema": "A wet lung.",
    "tail": "Others.",
}
"""in the form of its authors' file of observations, whose sentences are their own"""


def written(folder: Path, text: str, name: str = "own sentences.json") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return f"scoring.class_prompts={folder / name}"


def test_sentences_of_a_file_are_those_of_the_experiment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loaded = load_experiment("demo", [written(tmp_path, json.dumps(MEDKLIP))])
    assert loaded.scoring.class_prompts == {
        "pleural_effusion": ClassPrompts(["Water in the pleura."]),
        "pleural_thickening": ClassPrompts(["A thick pleura."]),
        "edema": ClassPrompts(["A wet lung."]),
    }
    said = [record.message for record in caplog.records]
    assert any("sentences of 3 findings" in line and "effusion as pleural_effusion" in line for line in said)
    assert any("not read, as they name no finding: tail" in line for line in said)
    (tmp_path / "kept.yaml").write_text(to_yaml(loaded))
    again = load_experiment(str(tmp_path / "kept.yaml"))
    assert again == loaded and digest(again) == digest(loaded) != digest(load_experiment("demo"))
    caplog.clear()
    check_prompts(loaded.scoring, loaded.data, ["edema", "nodule", "mass"])
    assert "nodule, mass have none" in caplog.text


def test_lists_and_both_sides_in_yaml_on_findings_of_the_corpus(tmp_path: Path) -> None:
    """Below a file's key, and over sentences of a layer below; the names that corpora add are known."""
    text = "edema: [Wet., Very wet.]\nPneumothorax: {positive: [Air.], negative: No air.}\nbullet: {positive: Metal.}\n"
    written(tmp_path, text, "own.yaml")
    (tmp_path / "base.yaml").write_text("base: demo\nscoring: {class_prompts: {mass: {positive: [A lump.]}}}\n")
    (tmp_path / "mine.yaml").write_text(f"base: base\nscoring: {{class_prompts: '{tmp_path / 'own.yaml'}'}}\n")
    found = load_experiment(str(tmp_path / "mine.yaml"), ["data.corpora.0.findings={bullet: {text: bullet}}"])
    assert found.scoring.class_prompts == {
        "edema": ClassPrompts(["Wet.", "Very wet."]),
        "pneumothorax": ClassPrompts(["Air."], ["No air."]),
        "bullet": ClassPrompts(["Metal."]),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "must map names of findings to sentences"),
        ("{", "not valid JSON or YAML"),
        ("[" * 100_000, "not valid JSON or YAML"),
        ("{}", "none of its 0 names is a finding"),
        ('{"edeema": "Wet."}', "none of its 1 names is a finding; nearest is 'edema'"),
        ('{"effusion": "a", "Pleural Effusion": "b"}', "'effusion' and 'Pleural Effusion' are both pleural_effusion"),
        ('{"edema": 3}', "edema: must be a sentence"),
        ('{"edema": {"no": "x"}}', "edema: must be a sentence"),
        ('{"edema": [1]}', "edema: must be a sentence"),
        ('{"edema": {"negative": "Dry."}}', "scoring.class_prompts.edema.positive: name one sentence"),
        ('{"edema": "{age}"}', "unknown placeholder {age}"),
        ('{"edema": " "}', "an empty prompt"),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as fault:
        load_experiment("demo", [written(tmp_path, text)])
    assert words in str(fault.value) and "\n" not in str(fault.value) and "(in the command line)" in str(fault.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json"):
        load_experiment("demo", [f"scoring.class_prompts={tmp_path / 'gone.json'}"])
