"""The verbs that work on run folders: train, anchors, eval, report."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from data_modules.base import StudyDataModule
from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.label_map import label_map
from radz import build, checks, evaluate
from radz.anchors import AnchorBank
from radz.backbones.adapt import log_trainable
from radz.callbacks.csv_log import CsvLog
from radz.callbacks.wandb_log import log_results
from radz.checkpoints import read_checkpoint
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.environment import environment, peak_memory_gb
from radz.experiment import digest, to_yaml
from radz.exporting.load import Trained, is_export, knowledge, load_export, trained_experiment
from radz.report.html import write_report
from radz.run_folder import (
    check_empty,
    is_finished,
    make_folder,
    open_folder,
    run_folder,
    write_json,
)
from radz.trainer import make_trainer

log = logging.getLogger(__name__)


class Stopped(Exception):
    """A signal ended the run; a checkpoint allows to resume."""


@dataclass
class Parts:
    """What a run is made of before it trains."""

    data: StudyDataModule
    findings: list[str]
    known: dict[str, Any]
    """what training knows: `findings` (its label columns) and `seen` (`build.seen_findings`)"""
    module: Any
    bank: AnchorBank | None

    @property
    def seen(self) -> dict[str, str]:
        """`label`, `text` or `none` for each finding that is scored."""
        return build.seen_groups(self.findings, self.known["seen"])


def train(experiment: Experiment) -> Path:
    """Anchors if missing, fit, test of the best checkpoint, report. Resumes an unfinished run folder.

    Returns:
        The run folder.
    """
    run_dir = run_folder(experiment)
    if is_finished(experiment, run_dir):
        log.info("%s is finished; see report.html there, or start anew with overwrite=true", run_dir)
        return run_dir
    checks.before_data(experiment)
    open_folder(experiment, run_dir)
    torch.set_float32_matmul_precision("high")
    parts = prepare(experiment, run_dir)
    last = run_dir / "checkpoints" / "last.ckpt"
    log_file = CsvLog(run_dir / "metrics.csv")
    trainer = make_trainer(experiment, run_dir, log_file)
    _record(experiment, parts, run_dir)
    if last.is_file():
        step = read_checkpoint(last)["global_step"]
        log_file.cut_after(step)
        log.info("resuming %s after step %d", run_dir, step)
    try:
        trainer.fit(parts.module, datamodule=parts.data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except SystemExit:
        raise Stopped(_stop_message(last)) from None
    except Exception as error:
        if type(error).__name__ == "SIGTERMException":
            raise Stopped(_stop_message(last)) from None
        raise
    best = run_dir / "checkpoints" / "best.ckpt"
    if not best.is_file():
        log.warning("trainer.max_steps ended the run before its first validation: the last weights count as the best")
        if trainer.is_global_zero:
            shutil.copyfile(last, best)
    trainer.strategy.barrier()
    content = build.load_weights(parts.module, best)
    if parts.bank is not None:
        parts.bank = build.trained_bank(parts.module, content)
        if trainer.is_global_zero:
            _save_bank(parts.bank, run_dir)
    finish(experiment, parts, trainer, run_dir)
    return run_dir


def prepare(experiment: Experiment, folder: Path | None, trained: bool = False) -> Parts:
    """Data, bank and module. With a `folder`, its bank is reused, or written there when missing.

    `trained`: the folder is that of a trained run, and the data are only scored: they need a test split alone.
    """
    pl.seed_everything(experiment.seed, verbose=False)
    data = build.data_module(experiment)
    data.setup("test" if trained else None)
    findings = build.scored_findings(experiment, data)
    known = knowledge(folder) if trained and folder else {}
    if experiment.method == "cnn":
        return _prepare_cnn(experiment, data, findings, known)
    stored = _stored_bank(folder)
    names = list(stored.names) if stored else build.bank_findings(experiment, data)
    checks.before_model(experiment, findings, names, stored is not None)
    view = build.label_view(data)
    if folder is not None and is_export(folder):
        model = load_export(folder)[1]
    else:
        model = _base_model(experiment, folder, stored, names)
    base, bank = model.encoder, model.bank
    texts = build.class_texts(experiment, findings, model.file)
    anchors = model.class_anchors(experiment, texts, base)
    base.check_images(data.most_images(), experiment.data.image_size)
    module = build.module(experiment, base, bank, view, texts, anchors, data.modalities)
    module.train()
    log_trainable(module)
    known = known or _knowledge(data, build.training_texts(experiment, data))
    return Parts(data, findings, known, module, bank)


def _base_model(experiment: Experiment, folder: Path | None, bank: AnchorBank | None, names: list[str]) -> Trained:
    """The encoder with base weights, and its bank, which is built unless it is given."""
    base, base_digest = build.encoder(experiment)
    file = build.descriptions_file(experiment, folder or Path())
    base.eval()
    if bank is None:
        bank = build.bank(experiment, base, base_digest, names, file)
        if folder is not None and is_main_process():
            _save_bank(bank, folder)
    bank.check_base(base_digest, base.backbone.hidden_size)
    return Trained(base, bank, base_digest, file)


def finish(
    experiment: Experiment, parts: Parts, trainer: pl.Trainer, run_dir: Path, trained: Path | None = None
) -> None:
    """Score validation (where there is one) and test with the module as it is, write results and report.

    `trained`: folder of the run that is scored, when that is not `run_dir`.
    """
    headline = "cnn" if experiment.method == "cnn" else experiment.scoring.headline
    names = tuple(parts.findings)
    there = [split for split in ("val", "test") if len(parts.data.table.rows(split))]
    splits = {split: evaluate.score(trainer, parts.module, parts.data, split, names) for split in there}
    if trainer.is_global_zero:
        if experiment.scoring.pixel_baseline:
            evaluate.add_pixel_baseline(parts.data, splits)
        metrics = evaluate.write_results(
            experiment, parts.data, splits, parts.seen, headline, trainer.world_size, run_dir, trained
        )
        _record(experiment, parts, run_dir)
        shown = evaluate.cases(parts.data, splits["test"], headline, experiment.scoring.cases)
        page = write_report(run_dir, shown)
        log_results(trainer.loggers, experiment, run_dir, metrics, shown)
        evaluate.log_summary(metrics)
        log.info("report: %s", page)
    trainer.strategy.barrier()


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
        _save_bank(bank, run_dir)
    log.info("%d anchors in %s, descriptions in %s", len(bank.names), run_dir / "anchors", file)
    return run_dir


def evaluate_run(experiment: Experiment) -> Path:
    """Score the data of `experiment` with the trained run `experiment.run`; results go to a folder of their own."""
    if experiment.run is None:
        raise InputError("run: missing; name a trained run folder, such as run=runs/demo/seed0-0123abcd")
    trained = Path(experiment.run).expanduser()
    settings = trained_experiment(trained)
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
    if not is_export(trained):
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


def _prepare_cnn(experiment: Experiment, data: StudyDataModule, findings: list[str], known: dict[str, Any]) -> Parts:
    """`known` is empty unless the network has been trained on other data."""
    from radz.baselines.cnn_run import ScoredCNN

    steps = experiment.trainer.max_steps or (
        len(data.table.rows("train")) // (experiment.data.batch_size * experiment.trainer.processes)
        * (experiment.trainer.max_epochs or 1)
    )  # fmt: skip
    trained = tuple(known["findings"]) if known else None
    module = ScoredCNN(experiment.cnn, build.label_view(data), tuple(findings), steps, trained)
    return Parts(data, findings, known or _knowledge(data, []), module, None)


def _knowledge(data: StudyDataModule, texts: list[str]) -> dict[str, Any]:
    return {"findings": list(data.findings), "seen": build.seen_findings(data, texts)}


def _stored_bank(folder: Path | None) -> AnchorBank | None:
    if folder is None or not (folder / "anchors" / "anchors.json").is_file():
        return None
    return AnchorBank.load(folder / "anchors")


def _save_bank(bank: AnchorBank, folder: Path) -> None:
    """The bank as folder/anchors; the old one stays until the new one is whole."""
    draft = folder / f".anchors.{os.getpid()}"
    bank.save(draft)
    shutil.rmtree(folder / "anchors", ignore_errors=True)
    draft.rename(folder / "anchors")


def _record(experiment: Experiment, parts: Parts, run_dir: Path) -> None:
    """environment.json, and label_mapping.csv: which words of the corpora became which finding."""
    if is_main_process():
        label_map(parts.data, parts.seen).to_csv(run_dir / "label_mapping.csv", index=False)
        bank = parts.bank
        digests = {"anchors_digest": bank.digest(), "base_digest": bank.info.base_digest} if bank else {}
        content = {**environment(), **parts.data.environment(), **digests, **peak_memory_gb(), **parts.known}
        write_json(run_dir / "environment.json", {"config_digest": digest(experiment), **content})


def _stop_message(last: Path) -> str:
    if last.is_file():
        return f"stopped; repeat the command to resume from {last}"
    return "stopped before the first checkpoint; repeat the command to start again"
