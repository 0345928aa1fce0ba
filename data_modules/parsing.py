"""JSON and YAML from outside: what cannot be read has one kind of error, however it is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A safe loader; libyaml's is ten times as fast, and PyYAML may be built without it."""
DEEPEST = 100
"""Levels of lists and maps that a file may have; far behind them Python's own limit ends whoever walks through."""
TOO_DEEP = f"lists or maps nested deeper than {DEEPEST} levels"


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds; ValueError where it is none, or nested too deep."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if _is_deep(content):
        raise ValueError(TOO_DEEP)
    return content


def parse_yaml(text: str, loader: Any = YamlLoader) -> Any:
    """What a YAML text holds by a safe loader; YAMLError where it is none, or nested too deep."""
    level = 0
    for event in yaml.parse(text, Loader=loader):  # first, since libyaml builds what is deep until its stack overflows
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
    try:
        content = yaml.load(text, Loader=loader)
    except RecursionError:  # of a long chain of aliases
        raise yaml.YAMLError(TOO_DEEP) from None
    except ValueError as error:  # an impossible date, which YAML tries to read
        raise yaml.YAMLError(str(error)) from None
    if _is_deep(content):
        raise yaml.YAMLError(TOO_DEEP)
    return content


def yaml_fault(error: Exception) -> str:
    """What is wrong with a YAML text, and where, in one line; libraries call every text <unicode string>."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return re.sub(r',? in "<[a-z ]+>"', "", " ".join(str(error).split()))
    context = f" ({error.context})" if getattr(error, "context", None) else ""  # type: ignore[attr-defined]
    return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join(problem.split())}{context}"


def _is_deep(content: Any) -> bool:
    """Whether lists and maps lie deeper in each other than DEEPEST; each is looked at once a level, as YAML repeats."""
    level = [content]
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = list({id(one): one for of in inner for one in of if isinstance(one, dict | list)}.values())
        if not level:
            return False
    return True
