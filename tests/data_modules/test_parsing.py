"""JSON and YAML from outside, and that nobody reads it elsewhere."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_modules.corpora.chestxdet import RELEASES, entries
from data_modules.errors import InputError
from data_modules.files import read_json
from data_modules.lock import _parsed
from data_modules.parsing import DEEPEST, parse_json, parse_yaml
from data_modules.phrases import _json
from radz.backbones.folder import read_json as read_backbone
from radz.config.files import load_experiment
from radz.config.prompt_sets import read_published
from radz.methods.report_rewriting import _texts
from radz.models.anchor_bank import AnchorBank
from radz.models.descriptions import load_descriptions
from radz.models.prompts import read_paraphrases
from radz.models.sentences import Turns
from radz.models.statements import read_wordings
from radz.multirun.ablation.arms import read_arm
from radz.multirun.sweep.file import read_sweep

ROOT = Path(__file__).parents[2]


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_what_is_nested_too_deep_is_no_json_and_no_yaml() -> None:
    assert parse_json(nested(DEEPEST)) == json.loads(nested(DEEPEST)) == parse_yaml(nested(DEEPEST))
    for levels in (DEEPEST + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested deeper than 100 levels"):
            parse_json(nested(levels))
    for text in (nested(DEEPEST + 1), nested(3000), "&a [*a]", "&a {b: *a}"):
        with pytest.raises(yaml.YAMLError, match="nested deeper than 100 levels"):
            parse_yaml(text)
    with pytest.raises(yaml.YAMLError):
        parse_yaml("a: 2020-13-45")
    repeated = "\n".join(["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)])
    assert len(parse_yaml(repeated)) == 12  # a thousand million ends, looked at once each


READERS: dict[str, Callable[[Path], Any]] = {
    "read_json": read_json,
    "backbone": lambda path: read_backbone(path.parent, path.name),
    "boxed phrases": lambda path: _json(path, "phrases"),
    "chestxdet": lambda path: list(entries(path, RELEASES[0], "x")),
    "rewritten reports": lambda path: _texts(path.read_bytes(), str(path)),
    "experiment": lambda path: load_experiment(str(path)),
    "override": lambda path: load_experiment("demo", [f"data.corpora={path.read_text()}"]),
    "prompt sets": read_published,
    "paraphrases": lambda path: read_paraphrases(str(path)),
    "descriptions": load_descriptions,
    "twins": Turns,
    "statements": read_wordings,
    "sweep": lambda path: read_sweep(str(path)),
    "arm": lambda path: read_arm(path, "x"),
}


@pytest.mark.parametrize("name", READERS)
def test_broken_yaml_is_told_by_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1\nb: :\n")
    with pytest.raises(InputError) as fault:
        READERS[name](path)
    said = str(fault.value)
    assert "<unicode string>" not in said and "\n" not in said
    assert "broken.yaml" in said or name in ("override", "boxed phrases", "chestxdet"), said


@pytest.mark.parametrize("levels", [DEEPEST + 1, 400, 900, 100_000])
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_nested_too_deep_is_one_line(tmp_path: Path, name: str, levels: int) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(nested(levels if name != "override" else min(levels, 10_000)))
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_lock_and_a_bank_that_are_nested_too_deep(tmp_path: Path) -> None:
    assert _parsed(nested(100_000).encode()) == {}
    (tmp_path / "anchors.json").write_text(nested(100_000))
    with pytest.raises(InputError, match="not a readable anchor bank"):
        AnchorBank.load(tmp_path)


def test_json_of_no_keys(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'a.json'}: holds no keys; do it again")):
        read_json(tmp_path / "a.json", "do it again")


def test_json_and_yaml_are_read_in_one_place() -> None:
    found = set()
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "data_modules").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "json.load", "json.loads", "yaml.load", "yaml.safe_load", "OmegaConf.load",
            ):  # fmt: skip
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"data_modules/parsing.py"}
