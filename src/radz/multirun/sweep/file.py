"""The sweep file: what `wandb sweep` reads (docs.wandb.ai, sweep configuration), as far as a local search needs it.

A parameter is a key of the experiment; the command is `radz train EXPERIMENT [key=value ..] ${args_no_hyphens}`.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import InputError, nearest
from data_modules.parsing import parse_yaml, yaml_fault
from radz.config.files import experiment_roots
from radz.metrics.monitor import MONITOR

KEYS = (
    "name", "description", "project", "entity", "program", "command", "method", "metric", "parameters",
    "early_terminate", "run_cap",
)  # fmt: skip
METHODS = ("grid", "random", "bayes")
DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values", "q_uniform")
ARGUMENTS = "${args_no_hyphens}"


@dataclass(frozen=True)
class Parameter:
    """One key of the experiment and what it may be: a choice of `values`, or a range."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Sweep:
    """A search over the keys of one experiment."""

    name: str
    experiment: str
    overrides: tuple[str, ...]
    """fixed key=value of the command"""
    method: str
    metric: str
    maximize: bool
    parameters: tuple[Parameter, ...]
    early: dict[str, Any] = field(default_factory=dict)
    """early_terminate: type hyperband, with min_iter and eta; empty: every run ends by itself"""


def read_sweep(name: str) -> Sweep:
    """A sweep file: a path, or a name below `experiments/sweeps` without `.yaml`.

    Raises:
        InputError: no such file, no sweep, or something in it that a local search does not know.
    """
    path = _find(name)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {yaml_fault(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a sweep file holds a map of keys")
    for key in content:
        if key not in KEYS:
            raise InputError(f"{path}: {key}: unknown key{nearest(str(key), KEYS)}")
    method = content.get("method", "")
    if method not in METHODS:
        raise InputError(f"{path}: method: {method!r} is not allowed; use one of {', '.join(METHODS)}")
    metric = content.get("metric") or {"name": MONITOR, "goal": "maximize"}
    if not isinstance(metric, dict) or metric.get("goal", "minimize") not in ("maximize", "minimize"):
        raise InputError(f"{path}: metric: must name a column of metrics.csv and a goal, maximize or minimize")
    given = content.get("parameters")
    if not isinstance(given, dict) or not given:
        raise InputError(f"{path}: parameters: missing; name at least one key of the experiment")
    parameters = tuple(_parameter(path, str(key), of) for key, of in given.items())
    if method == "grid" and (ranges := [p.key for p in parameters if not p.values]):
        raise InputError(f"{path}: parameters.{ranges[0]}: a grid needs `values`; a range is for random or bayes")
    experiment, overrides = _command(path, content.get("command"))
    return Sweep(
        str(content.get("name") or path.stem), experiment, overrides, method, str(metric.get("name", MONITOR)),
        metric.get("goal", "minimize") == "maximize", parameters, _early(path, content.get("early_terminate")),
    )  # fmt: skip


def _find(name: str) -> Path:
    candidates = [Path(name), *(root / "sweeps" / f"{name}.yaml" for root in experiment_roots())]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = sorted(path.stem for root in experiment_roots() for path in (root / "sweeps").glob("*.yaml"))
    raise InputError(f"sweep {name!r}: no such file or name{nearest(name, known)}")


def _command(path: Path, command: Any) -> tuple[str, tuple[str, ...]]:
    """Experiment and fixed overrides of the command that both kinds of agent launch."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    words = words[1:] if words[:1] == ["${env}"] else words
    if words[:2] != ["radz", "train"] or len(words) < 4 or words.count(ARGUMENTS) != 1:
        raise InputError(f"{path}: command: must be the list [radz, train, EXPERIMENT, .., '{ARGUMENTS}']")
    rest = [_environment(path, word) for word in words[2:] if word != ARGUMENTS]
    return rest[0], tuple(rest[1:])


def _environment(path: Path, word: str) -> str:
    """`${envvar:NAME}` as W&B fills it in."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise InputError(f"{path}: command: the environment has no {found[1]}; export it first")
        return os.environ[found[1]]

    return re.sub(r"\$\{envvar:([A-Z0-9_]*)\}", value, word)


def _parameter(path: Path, key: str, of: Any) -> Parameter:
    place = f"{path}: parameters.{key}"
    if not isinstance(of, dict):
        raise InputError(f"{place}: give it value, values, or min and max")
    for name in of:
        if name not in ("value", "values", "min", "max", "distribution", "q"):
            raise InputError(f"{place}.{name}: not known to a local sweep; use value, values, or min and max")
    if "value" in of:
        return Parameter(key, values=(of["value"],))
    if "values" in of:
        if not isinstance(of["values"], list) or not of["values"]:
            raise InputError(f"{place}.values: must be a list of at least one value")
        return Parameter(key, values=tuple(of["values"]))
    given = [of.get("min"), of.get("max"), of.get("q", 1)]
    numbers = [number for number in given if isinstance(number, int | float) and math.isfinite(number)]
    if len(numbers) < len(given):
        raise InputError(f"{place}: min, max and q must be finite numbers (1e-4 is text in YAML, 1.0e-4 a number)")
    low, high, step = numbers
    whole = isinstance(low, int) and isinstance(high, int)
    kind = of.get("distribution", "int_uniform" if whole else "uniform")
    if kind not in DISTRIBUTIONS:
        raise InputError(f"{place}.distribution: {kind!r} is not one of {', '.join(DISTRIBUTIONS)}")
    log = "log" in kind
    if low > high or (log and low <= 0):
        raise InputError(f"{place}: min {low} and max {high} are no range{' of positive numbers' if log else ''}")
    steps = float(step) if kind.startswith("q_") else None
    return Parameter(key, low=low, high=high, integer=kind == "int_uniform", log=log, step=steps)


def _early(path: Path, given: Any) -> dict[str, Any]:
    if not given:
        return {}
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise InputError(f"{path}: early_terminate.type: only hyperband is known")
    for key in given:
        if key not in ("type", "min_iter", "eta"):
            raise InputError(f"{path}: early_terminate.{key}: not known to a local sweep; use min_iter and eta")
    return dict(given)
