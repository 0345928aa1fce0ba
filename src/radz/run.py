"""The verbs that work on run folders: train, anchors, eval, report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from data_modules.config import DataConfig
from data_modules.errors import InputError
from radz import build, checks, rehearsal
from radz.callbacks.checkpointing import LAST, usable_checkpoint
from radz.callbacks.csv_log import CsvLog
from radz.callbacks.stop import Stopped
from radz.checkpoints import read_checkpoint
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.experiment import to_yaml
from radz.exporting.load import is_export, trained_experiment
from radz.finish import finish, record
from radz.parts import Parts, prepare, save_bank
from radz.report.html import write_report
from radz.run_folder import (
    check_empty,
    is_finished,
    make_folder,
    open_folder,
    run_folder,
)
from radz.trainer import make_trainer

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
        checks.before_data(experiment)
        parts = prepare(experiment, None)
        rehearsal.one_batch(experiment, parts.module, parts.data)
        return run_dir
    if is_finished(experiment, run_dir):
        log.info("%s is finished; see report.html there, or start anew with overwrite=true", run_dir)
        return run_dir
    checks.before_data(experiment)
    open_folder(experiment, run_dir)
    torch.set_float32_matmul_precision("high")
    parts = prepare(experiment, run_dir)
    if before is not None:
        before(parts)
    checkpoints = run_dir / "checkpoints"
    log_file = CsvLog(run_dir / "metrics.csv")
    trainer = make_trainer(experiment, run_dir, log_file)
    record(experiment, parts, run_dir)
    best = checkpoints / "best.ckpt"
    with _stoppable(checkpoints):
        if parts.module.trains:
            _fit(experiment, parts, trainer, log_file, best)
        else:
            parts.module.fit_once(trainer, parts.data)
            trainer.strategy.connect(parts.module)
            trainer.save_checkpoint(best, weights_only=True)
        trainer.strategy.barrier()
        content = build.load_weights(parts.module, best)
        if parts.bank is not None:
            parts.bank = build.trained_bank(parts.module, content)
            if trainer.is_global_zero:
                save_bank(parts.bank, run_dir)
        finish(experiment, parts, trainer, run_dir)
    return run_dir


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
        log.warning("trainer.max_steps ended the run before its first validation: the last weights are the best")
        if trainer.is_global_zero:
            shutil.copyfile(best.parent / LAST, best)


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
    if experiment.method != "dfat":
        raise InputError(f"method={experiment.method}: has no anchors; use an experiment of method dfat")
    checks.before_data(experiment)
    open_folder(experiment, run_dir)
    data = build.data_module(experiment)
    data.setup()
    names = build.bank_findings(experiment, data)
    checks.before_model(experiment, build.scored_findings(experiment, data), names, False)
    base, base_digest = build.encoder(experiment)
    base.eval()
    file = build.descriptions_file(experiment, run_dir)
    bank = build.bank(experiment, base, base_digest, names, file)
    if is_main_process():
        save_bank(bank, run_dir)
    log.info("%d anchors in %s, descriptions in %s", len(bank.names), run_dir / "anchors", file)
    return run_dir


def evaluate_run(experiment: Experiment) -> Path:
    """Score the data of `experiment` with the trained run `experiment.run`; results go to a folder of their own."""
    if experiment.run is None:
        raise InputError("run: missing; name a trained run folder, such as run=runs/demo/seed0-0123abcd")
    trained = Path(experiment.run).expanduser()
    settings = trained_experiment(trained)
    asked = experiment.method == "vqa" and settings.method == "dfat"
    if experiment.method == "vqa" and settings.method not in ("dfat", "vqa"):
        raise InputError(
            f"run: {trained} is a run of method {settings.method}, which cannot be asked; give one of dfat"
        )
    if asked:  # the trained backbone, asked in words
        settings.method, settings.vqa = "vqa", experiment.vqa
    _pixels_of_training(settings.data, experiment.data)
    settings.data, settings.scoring = experiment.data, experiment.scoring
    settings.trainer, settings.cache_dir = experiment.trainer, experiment.cache_dir
    settings.name = experiment.name
    # An exported folder stays as it was written.
    place = Path("runs") / "eval" / trained.resolve().name if is_export(trained) else trained / "eval"
    out = Path(experiment.run_dir).expanduser() if experiment.run_dir else place / experiment.name
    if (out / "checkpoints").exists():
        raise InputError(f"run_dir: {out} holds a trained run; choose another folder for what is scored now")
    if is_main_process():
        if not (out / "config.yaml").is_file():
            check_empty(out)
        make_folder(out, "run_dir")
    checks.before_data(settings)
    parts = prepare(settings, trained, trained=True)
    if not is_export(trained) and not asked:
        build.load_weights(parts.module, trained / "checkpoints" / "best.ckpt")
    trainer = make_trainer(settings, out, CsvLog(out / "metrics.csv"))
    if is_main_process():
        (out / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")
    finish(settings, parts, trainer, out, trained)
    return out


def _pixels_of_training(trained: DataConfig, given: DataConfig) -> None:
    """Make pixels as the run was trained on, whatever the experiment to be scored says."""
    volumes = any(corpus.modality == "chest_ct" for corpus in trained.corpora)
    for key in ("image_size", "resize", "equalize", "frames", *(["ct"] if volumes else [])):
        if getattr(given, key) != getattr(trained, key):
            log.warning("data.%s: %s, as in training, not %s", key, getattr(trained, key), getattr(given, key))
            setattr(given, key, getattr(trained, key))


def report(folder: Path) -> Path:
    """Write report.html anew from the files of a run folder (without the pictures of single cases)."""
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: no metrics.json; the run is not finished, repeat its train command")
    return write_report(folder)
