"""The arms of a comparison: experiment files, each run with several seeds in one process."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data_modules.counting import counted
from data_modules.disk import CannotWrite
from data_modules.errors import InputError, nearest
from data_modules.parsing import parse_yaml, yaml_fault
from radz.config.files import RECIPES, digest, experiment_roots, load_experiment, run_folder, split_recipes
from radz.config.schema import Experiment
from radz.runs.evaluate import evaluate_run
from radz.runs.train import is_finished, train

log = logging.getLogger(__name__)


@dataclass
class Arm:
    """One experiment of a comparison."""

    name: str
    """file below the experiments folder, without `.yaml`"""
    about: str
    """the comment at the head of the file: what is asked, what is expected"""
    delta: dict[str, Any]
    """keys that the file sets, dotted, over its base"""
    base: str
    runs: list[Path] = field(default_factory=list)
    """run folders, one per seed"""
    recipes: tuple[str, ...] = ()
    """what the file names as bases beside the first"""

    @property
    def scores_only(self) -> bool:
        """Whether the arm changes nothing but how a trained run is scored."""
        return bool(self.delta) and all(key.startswith("scoring.") for key in self.delta)

    def experiment(self, base: str | None, overrides: Sequence[str]) -> Experiment:
        """The resolved experiment; `base` replaces the one that the file names."""
        # An override is YAML, but for texts, which stand as they are.
        keys = [f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in self.delta.items()]
        if base is None:
            # What an arm changes stands above the recipes of a command.
            return load_experiment(self.name, [*(keys if split_recipes(overrides)[0] else []), *overrides])
        stem = Path(self.name).name
        recipes = [f"{RECIPES}{name}" for name in self.recipes]
        return load_experiment(base, [*recipes, *keys, f"name={Path(base).name}-{stem}", *overrides])


def group_arms(group: str) -> list[Arm]:
    """The files of `experiments/ablations/<group>/`; of `experiments/ablations/` itself for the group `core`.

    Raises:
        InputError: no such group.
    """
    folder = "ablations" if group == "core" else f"ablations/{group}"
    for root in experiment_roots() if group else ():
        if files := sorted((root / folder).glob("*.yaml")):
            return [read_arm(file, f"{folder}/{file.stem}") for file in files]
    known = {"core", *(p.name for root in experiment_roots() for p in (root / "ablations").glob("*") if p.is_dir())}
    raise InputError(f"GROUP={group}: no such group of ablations{nearest(group, sorted(known))}")


def read_arm(file: Path, name: str) -> Arm:
    """An experiment file as an arm; InputError where it is no YAML of keys."""
    text = file.read_text(encoding="utf-8")
    head = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    try:
        content = parse_yaml(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not valid YAML: {yaml_fault(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: an experiment file holds a map of keys")
    given = content.pop("base", "")
    base, *recipes = given if isinstance(given, list) else [given]
    delta, names = dict(_flat(content, "")), tuple(Path(recipe).name for recipe in recipes)
    return Arm(name, " ".join(head), delta, Path(base).name, recipes=names)


def with_base(arms: Sequence[Arm], base: str | None) -> list[Arm]:
    """The base that the arms change, before them.

    Raises:
        InputError: the files name several bases, and none was chosen.
    """
    bases = sorted({base} if base else {arm.base for arm in arms})
    if len(bases) > 1:
        raise InputError(f"BASE: the files of the group have the bases {', '.join(bases)}; choose one with BASE=")
    return [Arm(bases[0], "the base of all arms", {}, ""), *arms]


def train_arms(arms: Sequence[Arm], seeds: Sequence[int], base: str | None, overrides: Sequence[str]) -> dict[str, str]:
    """Train what is not finished yet, arm by arm, the base first; each arm's `runs` are filled.

    An arm that only scores otherwise scores the runs of the base.

    Returns:
        {arm: why it could not be run}. A fault of one arm does not stop the others; one of the base does.
    """
    failed: dict[str, str] = {}
    for number, arm in enumerate(arms):
        for place, seed in enumerate(seeds):
            try:
                experiment = arm.experiment(base if number else None, [*overrides, f"seed={seed}"])
                log.info("arm %d of %d, %s, seed %d", number + 1, len(arms), arm.name, seed)
                arm.runs.append(_scored(experiment, arms[0].runs[place]) if arm.scores_only else train(experiment))
            except InputError as error:
                if not number or isinstance(error, CannotWrite):
                    raise
                failed[arm.name] = str(error)
                log.warning("%s, seed %d: %s", arm.name, seed, error)
                break
    return failed


def planned(arms: Sequence[Arm], seeds: Sequence[int], base: str | None, overrides: Sequence[str]) -> list[str]:
    """What `train_arms` would do, a line for each arm, and how many runs it would make.

    Raises:
        InputError: an arm does not resolve, or a run folder holds another experiment.
    """
    lines, missing, trained = [], 0, list[Path]()
    for number, arm in enumerate(arms):
        done = []
        for place, seed in enumerate(seeds):
            experiment = arm.experiment(base if number else None, [*overrides, f"seed={seed}"])
            if not number:
                trained.append(run_folder(experiment))
            if arm.scores_only:
                done.append((_scores_folder(experiment, trained[place]) / "metrics.json").is_file())
            else:
                done.append(is_finished(experiment, run_folder(experiment)))
        missing += done.count(False)
        states = [f"seed {seed} {'done' if one else 'to run'}" for seed, one in zip(seeds, done, strict=True)]
        lines.append(f"{arm.name}: {', '.join(states)}{' (scores of the base)' if arm.scores_only else ''}")
    made = f"{missing} of {counted(len(arms) * len(seeds), 'run')} to make"
    return [*lines, f"{made}, of {counted(len(arms), 'arm')} and {counted(len(seeds), 'seed')}"]


def _scored(experiment: Experiment, trained: Path) -> Path:
    """The folder where a trained run is scored as `experiment` says; made once."""
    folder = _scores_folder(experiment, trained)
    if (folder / "metrics.json").is_file():
        return folder
    return evaluate_run(replace(experiment, run=str(trained), run_dir=str(folder)))


def _scores_folder(experiment: Experiment, trained: Path) -> Path:
    return trained / "eval" / f"{experiment.name}-{digest(experiment)}"


def _flat(content: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in content.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        found += _flat(value, name) if isinstance(value, dict) and value else [(name, value)]
    return found
