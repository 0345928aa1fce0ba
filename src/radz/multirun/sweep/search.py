"""A local sweep: Optuna chooses the keys, `radz train` runs them, one process for each run."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from data_modules.errors import InputError
from data_modules.files import make_folder, read_rows
from data_modules.parsing import parse_json
from data_modules.workers import WorkerDied, cause
from radz.config.files import digest, load_experiment
from radz.config.schema import Experiment
from radz.multirun.sweep.file import Parameter, Sweep
from radz.multirun.sweep.table import REASON, again_of, write_results
from radz.training.run_folder import working_in

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0
"""How often the metrics of a run are looked at."""
STOPPED = 3
"""Exit code of a run that a signal has ended."""
GIVE_UP_AFTER = 3
"""A sweep whose first runs, of so many points, all fail is at fault itself."""
MOST_POINTS = 100
"""Points of a grid up to which each is looked at before the first run."""
DRAWN = 8
"""Draws of the other keys with which a value is tried that does not fit their first ones."""


class Search:
    """One sweep in one folder: `study.log` (the state of the search), runs/, logs/, sweep.csv and the picture."""

    def __init__(self, sweep: Sweep, out: Path, overrides: Sequence[str], seed: int = 0) -> None:
        """Open or continue the search.

        Raises:
            InputError: the folder holds another sweep, or a parameter is no key of the experiment.
        """
        self.sweep, self.out = sweep, out
        self.fixed = [*sweep.overrides, *overrides]
        self.space = {parameter.key: _distribution(parameter) for parameter in sweep.parameters}
        self._check_keys()
        make_folder(out, "out")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        early = sweep.early
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(out / "study.log"))),
            pruner=optuna.pruners.HyperbandPruner(early.get("min_iter", 1), "auto", early.get("eta", 3))
            if early
            else optuna.pruners.NopPruner(),
            study_name=sweep.name,
            direction="maximize" if sweep.maximize else "minimize",
            load_if_exists=True,
        )
        self._check_same()
        # A search that goes on must not draw its first points once more.
        seed += len(self.study.get_trials(deepcopy=False))
        self.study.sampler = (
            optuna.samplers.TPESampler(seed=seed, multivariate=True)
            if sweep.method == "bayes"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._turns: dict[str, threading.Lock] = {}
        """run folder -> held by who runs there"""
        self._killed: list[str] = []

    def run(self, count: int | None, workers: int = 1) -> Path:
        """Train until `count` runs have ended (a grid: all of it when None), and write sweep.csv and the picture.

        Raises:
            InputError: the first runs all fail, or another process works in the folder.
            WorkerDied: all others have ended, but runs were killed; the repeated call makes them again.
        """
        with working_in(self.out, "out"):
            self._continue()
            wanted = self._enqueue_grid(count) if self.sweep.method == "grid" else count
            if wanted is None:
                raise InputError("count: missing; say how many runs a random or bayes sweep makes, such as count=20")
            places = _gpus()
            try:
                with ThreadPoolExecutor(workers) as pool:
                    futures = [pool.submit(self._work, wanted, places[i % len(places)]) for i in range(workers)]
                    try:
                        for future in futures:
                            future.result()
                        if not self._killed:
                            self._give_up(1)
                    finally:  # an interrupt: the runs save themselves and go on with the next call
                        self._stop.set()
            finally:
                table = write_results(self.study, self.sweep, self.out)
            if self._killed:
                raise WorkerDied(f"{', '.join(self._killed)}; repeat the command to make such runs again")
            return table

    def _work(self, wanted: int, gpu: str | None) -> None:
        """Ask, run, tell, until enough runs have ended or are on their way."""
        while not self._stop.is_set():
            with self._lock:
                states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
                if sum(state is not TrialState.WAITING for state in states) - len(again_of(self.study)) >= wanted:
                    return
                trial = self.study.ask(self.space)
            try:
                folder = str(self._folder(trial.params))
            except InputError as error:  # of values that fit alone, and not together
                log.warning("run %d failed (%s): %s", trial.number, _in_words(trial.params), error)
                trial.set_user_attr(REASON, str(error))
                self._tell(trial, TrialState.FAIL)
                continue
            trial.set_user_attr("run_dir", folder)
            with self._lock:
                turn = self._turns.setdefault(folder, threading.Lock())
            with turn:  # the same point may be drawn twice, and one folder holds one run at a time
                if self._stop.is_set():
                    return
                self._tell(trial, *(self._taken(trial, folder) or self._train(trial, gpu)))

    def _tell(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        """What became of a run; InputError when the sweep is to be given up."""
        with self._lock:
            self.study.tell(trial, value if state is TrialState.COMPLETE else None, state)
        if state is TrialState.FAIL:
            self._give_up(GIVE_UP_AFTER)

    def _taken(self, trial: Trial, folder: str) -> tuple[TrialState, float | None] | None:
        """What an earlier run of the same point has come to; None where there is none, or it failed."""
        ended = self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        twin = next(
            (one for one in ended if (one.user_attrs.get("run_dir"), one.params) == (folder, trial.params)), None
        )
        if twin is None:
            return None
        log.info("run %d: the point of run %d, whose values it takes", trial.number, twin.number)
        for step, value in twin.intermediate_values.items():
            trial.report(value, step)
        return twin.state, twin.value

    def _train(self, trial: Trial, gpu: str | None) -> tuple[TrialState, float | None]:
        """One run as a process of its own, ended early when the pruner says so."""
        folder = Path(trial.user_attrs["run_dir"])
        output = self.out / "logs" / f"{trial.number:04d}.log"
        output.parent.mkdir(exist_ok=True)
        command = [
            sys.executable, "-m", "radz", "train", self.sweep.experiment, *self.fixed,
            *[f"{key}={value}" for key, value in trial.params.items()], f"run_dir={folder}",
        ]  # fmt: skip
        place = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        log.info("run %d: %s", trial.number, _in_words(trial.params))
        told, best = 0, None
        with output.open("ab") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **place}
            )
            ended = pruned = False
            while not ended:
                try:
                    process.wait(POLL_SECONDS)
                    ended = True
                except subprocess.TimeoutExpired:
                    pass
                values = _curve(folder / "metrics.csv", self.sweep.metric)
                for step, value in enumerate(values[told:], start=told + 1):
                    trial.report(value, step)
                told = max(told, len(values))
                best = (max if self.sweep.maximize else min)(values, default=None)
                if not ended and not pruned and (self._stop.is_set() or trial.should_prune()):
                    pruned = not self._stop.is_set()
                    process.send_signal(signal.SIGTERM)
        if pruned:
            log.info("run %d: ended early after %d validations, %s %.4f", trial.number, told, self.sweep.metric, best)
            return TrialState.PRUNED, best
        code = process.returncode
        if code or best is None:
            why = cause(code) if code else f"has no number of {self.sweep.metric} in metrics.csv"
            trial.set_user_attr(REASON, why)
            log.warning("run %d failed: it %s; see %s", trial.number, why, output)
            cut_off = code < 0 or code == STOPPED
            if cut_off and not self._stop.is_set():
                self._killed.append(f"run {trial.number} (process {process.pid}) {why}")
            trial.set_user_attr("lost", cut_off or self._stop.is_set())
            return TrialState.FAIL, None
        log.info("run %d: %s %.4f", trial.number, self.sweep.metric, best)
        return TrialState.COMPLETE, best

    def _folder(self, params: dict[str, Any]) -> Path:
        """The run folder of these keys, so that a run that was cut off goes on in its own.

        All of them name it: the digest of an experiment leaves out where its corpora lie. An earlier radz took that
        alone.
        """
        plain = self.out / "runs" / digest(self._load(params))
        point = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:8]
        return plain if plain.is_dir() else plain.with_name(f"{plain.name}-{point}")

    def _load(self, params: Mapping[str, Any]) -> Experiment:
        keys = [f"{key}={value}" for key, value in params.items()]
        return load_experiment(self.sweep.experiment, [*self.fixed, *keys])

    def _check_keys(self) -> None:
        """InputError for a point of a grid that no run can have, and a value that none can, before the first run.

        Of a large grid, and of a search that draws, a value is at fault that fits neither the first values of the other
        keys nor others that are drawn; points that do not fit are failed runs there.
        """
        tried = {key: _tried(distribution) for key, distribution in self.space.items()}
        if self.sweep.method == "grid" and math.prod(map(len, tried.values())) <= MOST_POINTS:
            for chosen in itertools.product(*tried.values()):
                self._load(dict(zip(tried, chosen, strict=True)))
            return
        draw = random.Random(0)
        for key, values in tried.items():
            for value in values:
                others = [{other: choices[0] for other, choices in tried.items()}]
                others += [{other: draw.choice(choices) for other, choices in tried.items()} for _ in range(DRAWN)]
                faults = []
                for point in others:
                    try:
                        self._load({**point, key: value})
                        break
                    except InputError as error:
                        faults.append(error)
                else:
                    raise faults[0]

    def _check_same(self) -> None:
        """InputError when the folder belongs to a search over something else."""
        here = {
            "experiment": self.sweep.experiment, "fixed": self.fixed, "method": self.sweep.method,
            "metric": self.sweep.metric, "space": {key: str(value) for key, value in self.space.items()},
        }  # fmt: skip
        known = self.study.user_attrs.get("sweep")
        if known is None:
            self.study.set_user_attr("sweep", here)
        elif known != (here := parse_json(json.dumps(here))):
            changed = ", ".join(_differing(known, here))
            raise InputError(f"out: {self.out} holds another sweep (it differs in {changed}); choose another folder")

    def _continue(self) -> None:
        """Runs that were under way when an earlier call ended are asked for again."""
        again = again_of(self.study)
        lost = self.study.get_trials(states=(TrialState.RUNNING,))
        for trial in lost:
            self.study.tell(trial.number, state=TrialState.FAIL)
        failed = self.study.get_trials(states=(TrialState.FAIL,))
        lost += [one for one in failed if one.user_attrs.get("lost") and one.number not in again]
        for trial in lost:
            self.study.enqueue_trial(trial.params)
        self.study.set_user_attr("again", [*again, *(trial.number for trial in lost)])

    def _enqueue_grid(self, count: int | None) -> int:
        """All points of the grid, each once; the number of runs that are wanted."""
        choices = [distribution.choices for distribution in self.space.values()]  # type: ignore[attr-defined]
        points = [dict(zip(self.space, point, strict=True)) for point in itertools.product(*choices)]
        for point in points:
            self.study.enqueue_trial(point, skip_if_exists=True)
        return min(count, len(points)) if count is not None else len(points)

    def _give_up(self, fewest: int) -> None:
        """InputError where runs of so many points, or of all there are, have ended and every one failed."""
        if self._stop.is_set():
            return
        trials, again = self.study.get_trials(deepcopy=False), again_of(self.study)
        ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in again]
        # The same point fails again, which tells nothing of others.
        points = {tuple(sorted(trial.params.items())) for trial in ended}
        lists = [one.choices for one in self.space.values() if isinstance(one, CategoricalDistribution)]
        every = math.prod(map(len, lists)) if len(lists) == len(self.space) else fewest
        if len(points) >= min(fewest, every) and all(trial.state is TrialState.FAIL for trial in ended):
            self._stop.set()
            last = ended[-1].user_attrs.get(REASON, "failed")
            raise InputError(
                f"{self.sweep.name}: the first {len(ended)} runs all failed (the last: {last}); see {self.out / 'logs'}"
            )


def _differing(known: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """In what two sweeps differ: experiment, method or metric with the one before, and keys of the experiment."""
    found = [f"{name} (it has {known.get(name)})" for name in ("experiment", "method", "metric")
             if known.get(name) != here[name]]  # fmt: skip
    fixed = [dict(item.partition("=")[::2] for item in one.get("fixed", [])) for one in (known, here)]
    for one, other in (fixed, [one.get("space", {}) for one in (known, here)]):
        found += [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return list(dict.fromkeys(found)) or ["the order of its keys"]


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.values:
        plain = (str, int, float, bool, type(None))
        return CategoricalDistribution([v if isinstance(v, plain) else json.dumps(v) for v in parameter.values])
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _tried(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The values that a distribution may take, or both ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    return distribution.low, distribution.high  # type: ignore[attr-defined]


def _in_words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in params.items())


def _curve(path: Path, metric: str) -> list[float]:
    """The numbers of a column of metrics.csv so far; of a metric that validation cannot tell there are none."""
    values = [float(row[metric]) for row in read_rows(path) if metric in row]
    return [value for value in values if math.isfinite(value)]


def _gpus() -> list[str | None]:
    """What CUDA_VISIBLE_DEVICES of the workers' runs become, in turn; [None] leaves it alone."""
    import torch

    if torch.cuda.device_count() < 2:
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [*visible.split(",")] if visible else [str(i) for i in range(torch.cuda.device_count())]
