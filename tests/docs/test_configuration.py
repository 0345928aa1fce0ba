"""docs/configuration.md against the schema, and every key that a page names."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from doc_pages import BY_NAME, ROOT, spans

from radz.config.schema import Experiment

SECTIONS = "data|backbone|dfat|dkam|cnn|supervised|clip|vqa|scoring|trainer|wandb"


@cache
def writer() -> Any:
    """docs/write_configuration.py as a module."""
    spec = importlib.util.spec_from_file_location("write_configuration", ROOT / "docs/write_configuration.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_keys_is_what_the_script_writes() -> None:
    assert writer().PAGE.read_text() == writer().page(), "run `make docs`"


def test_every_key_says_what_it_means() -> None:
    assert [key for key, _, text in writer().rows(Experiment) if not text] == []


@cache
def patterns() -> list[re.Pattern[str]]:
    """Of every key and every section; `<i>` and `<name>` are anything."""
    parts = [key.split(".") for key, _, _ in writer().rows(Experiment)]
    places = {tuple(one[:length]) for one in parts for length in range(1, len(one) + 1)}
    return [re.compile(r"\.".join("[^.]+" if part[0] == "<" else part for part in place)) for place in places]


@pytest.mark.parametrize("page", BY_NAME)
def test_every_key_that_is_named_exists(page: Path) -> None:
    for token in spans(page):
        match = re.match(rf"((?:{SECTIONS})(?:\.[\w<>]+)+)(?:\.\{{([\w,]+)\}})?(?:$|[=:])", token)
        if match is None or match[1].endswith((".py", ".yaml", ".csv")):
            continue
        for key in [f"{match[1]}.{one}" for one in match[2].split(",")] if match[2] else [match[1]]:
            assert any(pattern.fullmatch(key) for pattern in patterns()), f"{page.name}: {key}"
