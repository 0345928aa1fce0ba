"""metrics.json of a finished run, for all who read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from data_modules.files import check_there, read_json

AGAIN = "repeat its train or eval command"


def read_results(folder: Path) -> dict[str, Any]:
    """metrics.json of a folder: its `results` are those of one set at least, each of one scorer at least.

    Raises:
        InputError: there is none, or it holds no such results.
    """
    path = folder / "metrics.json"
    content = read_json(path, AGAIN)
    if content is None:
        check_there(folder)
        raise InputError(f"{folder}: no metrics.json; the run is not finished, {AGAIN}")
    results = content.get("results")
    if not isinstance(results, dict) or not results:
        raise InputError(f"{path}: no results; {AGAIN}, or name another folder")
    for key, result in results.items():
        scorers = result.get("scorers") if isinstance(result, dict) else None
        if not isinstance(scorers, dict) or not all(isinstance(of, dict) for of in scorers.values()) or not scorers:
            raise InputError(f"{path}: '{key}' has no scorer; {AGAIN}")
    return content


def averaged(result: dict[str, Any], scorer: str, metric: str = "auroc") -> list[str]:
    """The primary findings over which a macro metric of a scorer is a mean: those for which it has a value."""
    own = result["scorers"][scorer]["findings"]
    names = result.get("primary", own)
    return [name for name in names if name in own and (own[name].get(metric) or {}).get("value") is not None]


def headline_in(content: dict[str, Any], folder: Path) -> str:
    """The headline scorer that metrics.json names; InputError where it names none."""
    name = content.get("headline_scorer")
    if not isinstance(name, str):
        raise InputError(f"{folder / 'metrics.json'}: names no headline scorer; {AGAIN}")
    return name
