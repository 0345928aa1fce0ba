"""The end of a run: score validation and test, write results, sanity checks and report."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning.pytorch as pl

from data_modules.label_map import label_map
from radz import beside, evaluate
from radz.callbacks.wandb_log import log_results
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.environment import environment, peak_memory_gb
from radz.evidence import sanity
from radz.experiment import digest
from radz.parts import Parts
from radz.report.html import write_report
from radz.run_folder import write_json
from radz.scoring.kept import Keeper

log = logging.getLogger(__name__)


def finish(
    experiment: Experiment, parts: Parts, trainer: pl.Trainer, run_dir: Path, trained: Path | None = None
) -> None:
    """Score validation (where there is one) and test with the module as it is, write results and report.

    `trained`: folder of the run that is scored, when that is not `run_dir`.
    """
    headline = parts.module.headline
    names = tuple(parts.findings)
    keeps = experiment.scoring.retrieval and experiment.trainer.strategy != "fsdp"
    if experiment.scoring.retrieval and not keeps:
        log.info("no retrieval under fsdp, whose ranks must encode equally many reports; radz eval measures it")
    there = [split for split in ("val", "test") if len(parts.data.table.rows(split))]
    splits = {}
    for split in there:
        parts.module.keeper = Keeper() if split == "test" and keeps else None
        splits[split] = evaluate.score(trainer, parts.module, parts.data, split, names)
    kept = parts.module.keeper.gathered() if parts.module.keeper is not None else None
    cost, parts.module.keeper = beside.cost(parts.module), None
    blank = evaluate.score(trainer, parts.module, parts.data, "test", names, sanity.blank_rows(parts.data))
    if trainer.is_global_zero:
        if experiment.scoring.pixel_baseline:
            evaluate.add_pixel_baseline(parts.data, splits)
        metrics = evaluate.write_results(
            experiment, parts.data, splits, parts.seen, headline, trainer.world_size, run_dir, trained, kept, cost
        )
        sanity.record(metrics, parts.data, splits["test"], blank, headline, experiment.scoring.seed, run_dir)
        record(experiment, parts, run_dir)
        shown = evaluate.cases(parts.data, splits["test"], headline, experiment.scoring.cases)
        page = write_report(run_dir, shown)
        log_results(trainer.loggers, experiment, run_dir, metrics, shown)
        evaluate.log_summary(metrics)
        log.info("report: %s", page)
    trainer.strategy.barrier()


def record(experiment: Experiment, parts: Parts, run_dir: Path) -> None:
    """environment.json, and label_mapping.csv: which words of the corpora became which finding."""
    if is_main_process():
        label_map(parts.data, parts.seen).to_csv(run_dir / "label_mapping.csv", index=False)
        bank = parts.bank
        digests = {"anchors_digest": bank.digest(), "base_digest": bank.info.base_digest} if bank else {}
        if getattr(parts.module, "base_digest", None):
            digests = {"base_digest": parts.module.base_digest}
        content = {**environment(), **parts.data.environment(), **digests, **peak_memory_gb(), **parts.known}
        write_json(run_dir / "environment.json", {"config_digest": digest(experiment), **content})
