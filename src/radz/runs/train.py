"""The verbs that work on run folders: train, anchors, eval, report."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.exceptions import SIGTERMException

from data_modules.disk import CannotWrite, cannot_write
from data_modules.errors import InputError
from data_modules.files import check_there, replacing, write_json, write_text
from radz.config.files import digest, run_folder, to_yaml
from radz.config.schema import Experiment
from radz.distributed import is_main_process
from radz.methods import dkam, registry
from radz.methods.base import Task
from radz.methods.dkam import base_encoder
from radz.models.prompts import check_prompts
from radz.report.run_report import write_report
from radz.runs import preflight, task
from radz.runs.evaluate import finish, record
from radz.runs.inputs import changed
from radz.runs.prepare import Parts, prepare
from radz.runs.wandb_run import run_loggers
from radz.training import checkpoint_io, trial_steps
from radz.training.callbacks.checkpointing import LAST, PREVIOUS, usable_checkpoint
from radz.training.callbacks.csv_logger import CsvLog
from radz.training.callbacks.signals import Stopped
from radz.training.checkpoint_io import read_checkpoint
from radz.training.environment import software
from radz.training.run_folder import check_empty, clear, load_run, read_environment, working_in
from radz.training.trainer import make_trainer

log = logging.getLogger(__name__)


def train(experiment: Experiment, before: Callable[[Parts], None] | None = None) -> Path:
    """Anchors if missing, fit, test of the best checkpoint, report. Resumes an unfinished run folder.

    Args:
        before: looks at the parts of the run before anything is trained, and may raise.

    Returns:
        The run folder; with `trainer.fast_dev_run` it was not made.
    """
    run_dir = run_folder(experiment)
    if experiment.trainer.fast_dev_run:
        preflight.before_data(experiment)
        parts = prepare(experiment, None)
        trial_steps.one_batch(experiment.trainer, parts.module, parts.data)
        return run_dir
    if is_finished(experiment, run_dir):
        _check_moved(experiment, run_dir)
        log.info("%s is finished; see report.html there, or start anew with overwrite=true", run_dir)
        return run_dir
    preflight.before_data(experiment)
    with working_in(run_dir, "run_dir"), _resumable(run_dir / "checkpoints"):
        if not is_finished(experiment, run_dir):  # by a command that has ended since
            _train(experiment, run_dir, before)
    return run_dir


def _train(experiment: Experiment, run_dir: Path, before: Callable[[Parts], None] | None) -> None:
    open_folder(experiment, run_dir)
    parts = prepare(experiment, run_dir)
    if before is not None:
        before(parts)
    begun = {} if experiment.overwrite else read_environment(run_dir)
    if cause := changed(experiment, begun, parts.inputs, bits=False):
        raise InputError(
            f"{run_dir}: cannot go on, {cause}{_other_radz(begun)}; put the old ones back, choose another run_dir, or "
            "give overwrite=true"
        )
    if is_main_process():  # the places may be others now
        write_text(run_dir / "config.yaml", to_yaml(experiment))
    checkpoints = run_dir / "checkpoints"
    log_file = CsvLog(run_dir / "metrics.csv")
    trainer = make_trainer(experiment.trainer, run_dir, run_loggers(experiment, run_dir, log_file))
    record(experiment, parts, run_dir, begun)
    best = checkpoints / "best.ckpt"
    with _stoppable(checkpoints):
        if parts.module.trains:
            _fit(experiment, parts, trainer, log_file, best)
        else:
            parts.module.fit_once(trainer, parts.data)
            trainer.strategy.connect(parts.module)
            trainer.save_checkpoint(best, weights_only=True)
        trainer.strategy.barrier()
        content = checkpoint_io.load_weights(parts.module, best)
        if parts.module.bank:
            parts.module.bank = parts.module.trained_bank(content)
            if trainer.is_global_zero:
                parts.module.bank.replace_in(run_dir)
        finish(experiment, parts, trainer, run_dir)


def _other_radz(begun: Mapping[str, Any]) -> str:
    """What a run may also differ by: a newer radz may read the same files otherwise."""
    now = software()
    other = any(begun.get(key) != now[key] for key in ("git_revision", "packages"))
    return ", or radz reads them otherwise: it is not the one that began the run (environment.json)" if other else ""


def _fit(experiment: Experiment, parts: Parts, trainer: pl.Trainer, log_file: CsvLog, best: Path) -> None:
    """Train, from the last usable checkpoint on where there is one; `best` is there afterwards."""
    start = None
    if found := usable_checkpoint(best.parent):
        start, step = found
        if experiment.trainer.strategy == "fsdp":  # which asks the module only after it has loaded the weights
            parts.module.on_load_checkpoint(read_checkpoint(start))
        log_file.cut_from(step)
        log.info("resuming %s after step %d", best.parents[1], step)
    trainer.fit(parts.module, datamodule=parts.data, ckpt_path=start, weights_only=True)
    if not best.is_file():
        # An earlier radz trained it to an end that it did not validate, and was stopped there.
        log.warning("%s was trained to its end without a validation: the last weights are the best", best.parents[1])
        if trainer.is_global_zero:
            with replacing(best) as draft:
                shutil.copyfile(best.parent / LAST, draft)


def is_finished(experiment: Experiment, run_dir: Path) -> bool:
    """Whether the folder holds the results of this experiment; InputError when they are of another one."""
    if experiment.overwrite or not all((run_dir / name).is_file() for name in ("metrics.json", "report.html")):
        return False
    _check_same(experiment, run_dir)
    return True


def open_folder(experiment: Experiment, run_dir: Path) -> None:
    """Begin the run folder, or check that what is there belongs to this experiment (rank 0 only)."""
    if not is_main_process():
        return
    if experiment.overwrite and (run_dir / "config.yaml").is_file():
        clear(run_dir)
    if (run_dir / "config.yaml").is_file():
        _check_same(experiment, run_dir)
    else:
        check_empty(run_dir)
        write_text(run_dir / "config.yaml", to_yaml(experiment))
    if not (run_dir / "environment.json").is_file():
        write_json(run_dir / "environment.json", {"config_digest": digest(experiment)})


def _check_same(experiment: Experiment, run_dir: Path) -> None:
    """The digest noted when the run began counts: it also covers files that the experiment only names."""
    wanted = digest(experiment)
    found = read_environment(run_dir).get("config_digest") or digest(load_run(run_dir))
    if found != wanted:
        raise InputError(
            f"run_dir: {run_dir} holds another experiment ({found} is not {wanted}; the descriptions file counts too); "
            "choose another run_dir, or give overwrite=true"
        )


def _check_moved(experiment: Experiment, run_dir: Path) -> None:
    """InputError where a corpus lies elsewhere than when a run was finished, and is another by its digest."""
    roots = [
        [os.path.realpath(Path(corpus.root or "").expanduser()) for corpus in one.data.corpora]
        for one in (experiment, load_run(run_dir))
    ]
    if roots[0] == roots[1]:
        return
    data = task.data_module(experiment)
    data.setup("test")
    if cause := changed(experiment, read_environment(run_dir), data.environment(), bits=False):
        raise InputError(f"{run_dir} holds the results of other data: {cause}; choose another run_dir")


@contextmanager
def _resumable(checkpoints: Path) -> Iterator[None]:
    """Let what the disk refuses be told as what it is, and whether the repeated command goes on from a checkpoint."""
    try:
        yield
    except Exception as error:
        fault = error if isinstance(error, CannotWrite) else cannot_write(error)
        if fault is None:
            raise
        fault.resumable = any((checkpoints / name).is_file() for name in (LAST, PREVIOUS))
        raise fault from None


@contextmanager
def _stoppable(checkpoints: Path) -> Iterator[None]:
    """Make one kind of what Lightning and Python raise when a signal comes outside the steps of a fit."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt, SIGTERMException):
        raise Stopped(checkpoints) from None


def anchors(experiment: Experiment) -> Path:
    """DKAM alone: write (when asked) and encode the bank into the run folder."""
    run_dir = run_folder(experiment)
    if not registry.has_anchors(experiment.method):
        raise InputError(f"method={experiment.method}: has no anchors; use an experiment of method dfat")
    preflight.before_data(experiment)
    with working_in(run_dir, "run_dir"):
        open_folder(experiment, run_dir)
        _write_anchors(experiment, run_dir)
    return run_dir


def _write_anchors(experiment: Experiment, run_dir: Path) -> None:
    data = task.data_module(experiment)
    data.setup()
    names, scored = dkam.bank_findings(experiment.dkam, data), task.scored_findings(experiment, data)
    check_prompts(experiment.scoring, experiment.data, scored)
    dkam.check_anchors(experiment.dkam, experiment.scoring.headline, scored, names, False)
    made = base_encoder(Task(experiment, data, tuple(scored), {}, run_dir), None, names)
    log.info("%d anchors in %s, descriptions in %s", len(made.bank.names), run_dir / "anchors", made.file)


def report(folder: Path) -> Path:
    """Write report.html anew from the files of a run folder (without the pictures of single cases)."""
    check_there(folder)
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: no metrics.json; the run is not finished, repeat its train command")
    with working_in(folder, "RUN"):
        return write_report(folder)
