"""Plain maps of keys, laid over each other; places in them are written with dots."""

from __future__ import annotations

from typing import Any


def lay(below: dict[Any, Any], layer: dict[Any, Any]) -> None:
    """Lay a map over another: maps merge, all else replaces, lists too."""
    for key, value in layer.items():
        _set(below, key, value)


def value_at(content: Any, place: str) -> Any:
    """What stands at a place such as `data.corpora.0.root`; None where nothing does."""
    for part in place.split("."):
        if isinstance(content, list):
            content = content[int(part)] if part.isdigit() and int(part) < len(content) else None
        else:
            content = content.get(_key(content, part)) if isinstance(content, dict) else None
    return content


def put(content: Any, place: str, value: Any) -> None:
    """Set a place; maps on the way are made where they are missing.

    Raises:
        IndexError: a list on the way has no such item.
        ValueError: a list is asked for a name.
    """
    first, _, rest = place.partition(".")
    key = int(first) if isinstance(content, list) else _key(content, first)
    if not rest:
        _set(content, key, value)
        return
    if not isinstance(_held(content, key), dict | list):
        content[key] = {}
    put(content[key], rest, value)


def _key(content: dict[Any, Any], name: str) -> Any:
    """The key that is written so: a number or a truth value may be one, as in the coding of a label."""
    return next((key for key in content if str(key) == name), name)


def _set(content: Any, key: Any, value: Any) -> None:
    below = _held(content, key)
    if isinstance(below, dict) and isinstance(value, dict):
        lay(below, value)
    else:
        content[key] = value


def _held(content: Any, key: Any) -> Any:
    return content[key] if isinstance(content, list) else content.get(key)
