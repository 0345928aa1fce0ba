"""The end of a run: score validation and test, write results, sanity checks and report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.files import replacing, write_json, write_text
from data_modules.label_map import label_map
from radz.config.files import digest, to_yaml
from radz.config.schema import Experiment
from radz.distributed import is_main_process
from radz.methods import registry, training_scope
from radz.methods.export_folder import is_export
from radz.methods.trained import headline_of, trained_experiment
from radz.metrics import sanity
from radz.metrics.headline import BY_VALIDATION, best_on_validation
from radz.metrics.summary import log_summary
from radz.models.factory import on_device
from radz.models.geometry import geometry
from radz.models.prompts import wordings_of
from radz.models.retrieval_features import Keeper
from radz.report.run_report import write_report
from radz.report.wandb_results import log_results
from radz.runs import metrics_file, preflight, score
from radz.runs.inputs import DIGESTS, changed
from radz.runs.prepare import Parts, prepare
from radz.runs.wandb_run import run_loggers
from radz.training.callbacks.csv_logger import CsvLog
from radz.training.environment import environment, peak_memory_gb
from radz.training.run_folder import check_empty, read_environment, working_in
from radz.training.trainer import make_trainer, precision_of

log = logging.getLogger(__name__)


def finish(
    experiment: Experiment, parts: Parts, trainer: pl.Trainer, run_dir: Path, trained: Path | None = None
) -> None:
    """Score validation (where there is one) and test with the module as it is, write results and report.

    `trained`: folder of the run that is scored, when that is not `run_dir`.
    """
    headline = _headline_before(experiment, parts, trained)
    names = tuple(parts.findings)
    keeps = experiment.scoring.retrieval and experiment.trainer.strategy != "fsdp"
    if experiment.scoring.retrieval and not keeps:
        log.info("no retrieval under fsdp, whose ranks must encode equally many reports; radz eval measures it")
    with_rows = [split for split in ("val", "test") if len(parts.data.table.rows(split))]
    wordings = wordings_of(experiment.scoring.wordings)
    splits = {}
    for split in with_rows:
        parts.module.keeper = Keeper() if split == "test" and keeps else None
        parts.module.wordings = wordings if split == "test" else None
        splits[split] = score.score(trainer, parts.module, parts.data, split, names)
        if split == "val" and headline is None:
            headline = best_on_validation(splits["val"], experiment.scoring.of_macro(parts.seen))
    headline = headline or parts.module.headline
    kept = parts.module.keeper.gathered() if parts.module.keeper is not None else None
    cost, parts.module.keeper = metrics_file.cost(parts.module), None
    parts.module.wordings = None
    lie = parts.module.geometry(kept)  # before other pictures come
    blank = score.score(trainer, parts.module, parts.data, "test", names, sanity.blank_rows(parts.data))
    if trainer.is_global_zero:
        if trained is not None:
            _clear_replaced(experiment, parts, run_dir)
        if experiment.scoring.pixel_baseline:
            score.add_pixel_baseline(parts.data, splits)
        metrics = metrics_file.write_results(
            experiment, parts.data, splits, parts.seen, headline, trainer.world_size, run_dir, trained, kept, cost
        )
        if parts.module.bank:
            metrics["anchors"] = geometry(parts.module.bank.vectors)
        if lie:
            metrics["geometry"] = lie
        sanity.record(metrics, parts.data, splits["test"], blank, headline, experiment.scoring.seed, run_dir)
        record(experiment, parts, run_dir, read_environment(run_dir) if trained is None else None)
        if trained is None and registry.has_anchors(experiment.method):  # of what `radz predict` can load
            training_scope.write(training_scope.measure(parts.data), run_dir)
        shown = metrics_file.cases(parts.data, splits["test"], headline, experiment.scoring.cases)
        log_results(trainer.loggers, experiment.wandb, digest(experiment), run_dir, metrics, shown)
        log_summary(metrics)
        log.info("report: %s", write_report(run_dir, shown))  # comes last: it says that the run is finished
    trainer.strategy.barrier()


def _headline_before(experiment: Experiment, parts: Parts, trained: Path | None) -> str | None:
    """The headline scorer as it is known before scoring; None where validation is to choose it."""
    if not registry.has_anchors(experiment.method) or experiment.scoring.headline != BY_VALIDATION:
        return parts.module.headline
    if trained is not None and trained_experiment(trained).scoring.headline == BY_VALIDATION:
        return headline_of(trained)
    if trained is not None and not len(parts.data.table.rows("val")):
        raise InputError(
            f"scoring.headline=validation: {trained} chose none, and these data have no val split; name a scorer"
        )
    return None


def _clear_replaced(experiment: Experiment, parts: Parts, out: Path) -> None:
    """Take away what belongs to the results in a folder that other ones replace, and say so."""
    before = read_environment(out)
    same = before.get("config_digest") == digest(experiment)
    if not (out / "metrics.json").is_file() or (same and not changed(experiment, before, parts.inputs, bits=True)):
        return
    gone = [name for name in ("compare", "evidence", "figures", "predictions") if (out / name).is_dir()]
    with_these = f", with {', '.join(gone)}" if gone else ""
    log.warning("%s: results of other settings or data are replaced%s; run_dir= keeps both", out, with_these)
    for name in gone:
        shutil.rmtree(out / name)


def record(experiment: Experiment, parts: Parts, run_dir: Path, begun: Mapping[str, Any] | None = None) -> None:
    """environment.json, and label_mapping.csv: which words of the corpora became which finding.

    `begun`: what a run that goes on noted; its digests stay, since its anchors may be trained ones meanwhile.
    """
    if is_main_process():
        with replacing(run_dir / "label_mapping.csv") as draft:
            label_map(parts.data, parts.seen).to_csv(draft, index=False)
        digests = {name: value for name, value in (begun or {}).items() if name in DIGESTS}
        trainer = experiment.trainer
        made = {**environment(), "precision": precision_of(trainer.precision, trainer.accelerator), **peak_memory_gb()}
        made["backbone_dtype"] = on_device(experiment.backbone, trainer.accelerator).dtype
        content = {**made, **parts.inputs, **digests, **parts.known}
        write_json(run_dir / "environment.json", {"config_digest": digest(experiment), **content})


def evaluate_run(experiment: Experiment) -> Path:
    """Score the data of `experiment` with the trained run `experiment.run`; results go to a folder of their own."""
    if experiment.run is None:
        raise InputError("run: missing; name a trained run folder, such as run=runs/demo/seed0-0123abcd")
    trained = Path(experiment.run).expanduser()
    settings = trained_experiment(trained)
    if registry.asks(experiment.method) and registry.has_anchors(settings.method):
        settings.method, settings.vqa = experiment.method, experiment.vqa  # the trained backbone, asked in words
    elif registry.asks(experiment.method) and not registry.asks(settings.method):
        raise InputError(
            f"run: {trained} is a run of method {settings.method}, which cannot be asked; give one of dfat"
        )
    _pixels_of_training(settings.data, experiment.data)
    settings.data, settings.scoring = experiment.data, experiment.scoring
    settings.trainer, settings.cache_dir = experiment.trainer, experiment.cache_dir
    settings.name = experiment.name
    # An exported folder stays as it was written.
    place = Path("runs") / "eval" / trained.resolve().name if is_export(trained) else trained / "eval"
    out = Path(experiment.run_dir).expanduser() if experiment.run_dir else place / experiment.name
    if (out / "checkpoints").exists():
        raise InputError(f"run_dir: {out} holds a trained run; choose another folder for what is scored now")
    preflight.before_data(settings)
    with working_in(out, "run_dir"):
        if is_main_process() and not (out / "config.yaml").is_file():
            check_empty(out)
        parts = prepare(settings, trained, trained=True)
        trainer = make_trainer(settings.trainer, out, run_loggers(settings, out, CsvLog(out / "metrics.csv")))
        if is_main_process():
            write_text(out / "config.yaml", to_yaml(settings))
        finish(settings, parts, trainer, out, trained)
    return out


def _pixels_of_training(trained: DataConfig, given: DataConfig) -> None:
    """Make pixels as the run was trained on, whatever the experiment to be scored says."""
    volumes = any(corpus.modality == "chest_ct" for corpus in trained.corpora)
    for key in ("image_size", "resize", "equalize", "frames", *(["ct"] if volumes else [])):
        if getattr(given, key) != getattr(trained, key):
            log.warning("data.%s: %s, as in training, not %s", key, getattr(trained, key), getattr(given, key))
            setattr(given, key, getattr(trained, key))
