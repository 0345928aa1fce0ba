"""`radz rerun RUN`: the same run again, from its folder, and whether the numbers come out the same."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from data_modules.counting import counted
from data_modules.errors import InputError
from data_modules.files import read_rows
from radz.config.files import digest
from radz.metrics.results_file import read_results
from radz.runs.inputs import changed
from radz.runs.prepare import Parts
from radz.runs.train import train
from radz.training.environment import environment
from radz.training.run_folder import load_run, read_environment

log = logging.getLogger(__name__)
TOLERANCE = 0.005
"""Largest difference of a metric on other hardware or other packages, unless the user states another."""
NOT_RESULTS = ("test_evaluations", "cost")
NOT_REPEATED = ("pairs_per_second",)
"""Columns of metrics.csv that measure time."""


def rerun(folder: Path, run_dir: Path | None = None, tolerance: float | None = None) -> tuple[Path, str]:
    """Train the experiment of a finished run again and compare.

    Args:
        folder: the finished run.
        run_dir: of the repetition, by default `<folder>-rerun`; an unfinished one goes on.
        tolerance: largest allowed difference of a number; None: 0 where machine, packages and threads are the same
            and no GPU takes part, else `TOLERANCE`.

    Returns:
        The folder of the repetition, and a line that says how it compares.

    Raises:
        InputError: the run is not finished, what it was made of has changed (named), or its numbers do not come back.
    """
    experiment, before = load_run(folder), read_environment(folder)
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: no metrics.json; the run is not finished, repeat its train command first")
    if before.get("config_digest") != digest(experiment):
        raise InputError(
            f"{folder}: its config.yaml or the descriptions it names ({experiment.dkam.descriptions}) are not those of "
            f"the run ({digest(experiment)} is not {before.get('config_digest')}); put the old ones back"
        )
    out = run_dir or folder.with_name(f"{folder.name}-rerun")
    if out.resolve() == folder.resolve():
        raise InputError(f"run_dir: {out} is the run itself; choose another folder for its repetition")
    experiment.run_dir, experiment.overwrite = str(out), False
    same_machine = _told_changes(before, environment())

    def unchanged(parts: Parts) -> None:
        if cause := changed(experiment, before, parts.inputs, bits=same_machine):
            raise InputError(f"{folder}: cannot be repeated, {cause}")

    train(experiment, unchanged)
    exact = same_machine and not before.get("gpus")
    allowed = tolerance if tolerance is not None else 0.0 if exact else TOLERANCE
    count, found = differences(folder, out, allowed, more=not same_machine)
    if found:
        raise InputError(
            f"{out}: {len(found)} of {counted(count, 'number')} differ from {folder} by more than {allowed:g}, "
            f"first {found[0]}"
        )
    how = "bit for bit" if allowed == 0 else f"within {allowed:g}"
    return out, f"{counted(count, 'number')} of {folder} repeated {how}"


def differences(one: Path, other: Path, tolerance: float, more: bool = False) -> tuple[int, list[str]]:
    """How many numbers two runs hold in metrics.json and metrics.csv, and which differ by more than `tolerance`.

    `more`: the other may measure more, as a later radz does, but of the same steps.
    """
    first, second = _numbers(one), _numbers(other)
    steps = {key.partition(": ")[0] for key in first if key.startswith("step ")}
    differing = []
    for key in sorted(set(first) | set(second)):
        if more and key not in first and (not key.startswith("step ") or key.partition(": ")[0] in steps):
            continue
        a, b = first.get(key), second.get(key)
        if a != b and not (a is not None and b is not None and _is_near(a, b, tolerance)):
            differing.append(f"{key}: {b} is not {a}")
    return len(first), differing


def _numbers(folder: Path) -> dict[str, Any]:
    """Every leaf of metrics.json and every cell of metrics.csv under a name."""
    found: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}/{key}" if name else str(key))
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                walk(inner, f"{name}/{number}")
        else:
            found[name] = value

    metrics = read_results(folder)
    walk({key: value for key, value in metrics.items() if key not in NOT_RESULTS}, "")
    for row in read_rows(folder / "metrics.csv"):  # none of a method without training steps
        found |= {f"step {row['step']}: {key}": float(cell) for key, cell in row.items() if key not in NOT_REPEATED}
    return found


def _is_near(one: Any, other: Any, tolerance: float) -> bool:
    both_nan = one != one and other != other
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return numbers and (both_nan or math.isclose(one, other, rel_tol=0, abs_tol=tolerance))


def _told_changes(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Warn of packages, revision and hardware that are not those of the run; whether all is the same."""
    others = []
    for name, version in before.get("packages", {}).items():
        if now["packages"].get(name) != version:
            others.append(f"{name} {now['packages'].get(name)} (was {version})")
    for key in ("python", "git_revision", "system", "machine", "processor", "threads", "gpus"):
        if before.get(key) != now[key]:
            others.append(f"{key} {now[key]} (was {before.get(key)})")
    if others:
        log.warning("not the surroundings of the run: %s", "; ".join(others))
    return not others
