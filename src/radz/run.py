"""The verbs that work on run folders: train, anchors, eval, report."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from data_modules.base import StudyDataModule
from data_modules.errors import InputError
from radz import build, evaluate
from radz.anchors import AnchorBank
from radz.backbones.adapt import log_trainable, trainable_table
from radz.callbacks.csv_log import CsvLog
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.encode import Encoder
from radz.environment import environment, peak_memory_gb
from radz.experiment import digest, load_experiment, to_yaml
from radz.report.html import write_report
from radz.trainer import make_trainer

log = logging.getLogger(__name__)


class Stopped(Exception):
    """A signal ended the run; a checkpoint allows to resume."""


@dataclass
class Parts:
    """What a run is made of before it trains."""

    data: StudyDataModule
    findings: list[str]
    seen: dict[str, str]
    module: Any
    bank: AnchorBank | None


def run_folder(experiment: Experiment) -> Path:
    """`run_dir`, else runs/<experiment>/seed<seed>-<digest>."""
    if experiment.run_dir is not None:
        return Path(experiment.run_dir).expanduser()
    return Path("runs") / experiment.name / f"seed{experiment.seed}-{digest(experiment)}"


def train(experiment: Experiment) -> Path:
    """Anchors if missing, fit, test of the best checkpoint, report. Resumes an unfinished run folder.

    Returns:
        The run folder.
    """
    run_dir = run_folder(experiment)
    if (run_dir / "metrics.json").is_file() and not experiment.overwrite:
        log.info("%s is finished; see report.html there, or start anew with overwrite=true", run_dir)
        return run_dir
    _open_folder(experiment, run_dir)
    torch.set_float32_matmul_precision("high")
    parts = prepare(experiment, run_dir)
    last = run_dir / "checkpoints" / "last.ckpt"
    log_file = CsvLog(run_dir / "metrics.csv")
    trainer = make_trainer(experiment, run_dir, log_file)
    _record(experiment, parts, run_dir)
    if last.is_file():
        step = _checked(last)["global_step"]
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
    load_weights(parts, best)
    if parts.bank is not None and trainer.is_global_zero:
        parts.bank.save(run_dir / "anchors")
    finish(experiment, parts, trainer, run_dir)
    return run_dir


def prepare(experiment: Experiment, folder: Path | None) -> Parts:
    """Data, bank and module. With a `folder`, its bank is reused, or written there when missing."""
    pl.seed_everything(experiment.seed, verbose=False)
    data = build.data_module(experiment)
    data.setup()
    findings = build.scored_findings(experiment, data)
    if experiment.method == "cnn":
        return _prepare_cnn(experiment, data, findings)
    base, base_digest = build.encoder(experiment)
    view = build.label_view(data)
    training, file = training_bank(experiment, data, base, base_digest, folder)
    texts = build.class_texts(experiment, findings, file)
    base.eval()
    anchors = build.class_anchors(experiment, training, base_digest, texts, file, base)
    module = build.module(experiment, base, training, view, texts, anchors, data.modalities[0])
    module.train()
    log_trainable(module)
    names = [data.texts[row] for row in data.table.rows("train")] if experiment.dfat.text_source == "report" else []
    return Parts(data, findings, build.seen_groups(data, names), module, training)


def training_bank(
    experiment: Experiment, data: StudyDataModule, base: Encoder, base_digest: str, folder: Path | None
) -> tuple[AnchorBank, Path]:
    """The run's bank and the file of its descriptions."""
    file = build.descriptions_file(experiment, folder or Path())
    if folder is not None and (folder / "anchors" / "anchors.json").is_file():
        bank = AnchorBank.load(folder / "anchors")
        bank.check_base(base_digest)
        return bank, file
    bank = build.bank(experiment, base, base_digest, build.bank_findings(experiment, data), file)
    if folder is not None and is_main_process():
        bank.save(folder / "anchors")
    return bank, file


def finish(experiment: Experiment, parts: Parts, trainer: pl.Trainer, run_dir: Path) -> None:
    """Score validation and test with the module as it is, write results and report."""
    headline = "cnn" if experiment.method == "cnn" else experiment.scoring.headline
    names = tuple(parts.findings)
    splits = {split: evaluate.score(trainer, parts.module, parts.data, split, names) for split in ("val", "test")}
    if trainer.is_global_zero:
        if experiment.scoring.pixel_baseline:
            evaluate.add_pixel_baseline(parts.data, splits)
        metrics = evaluate.write_results(
            experiment, parts.data, splits, parts.seen, headline, trainer.world_size, run_dir
        )
        _record(experiment, parts, run_dir)
        shown = evaluate.cases(parts.data, splits["test"], headline, experiment.scoring.cases)
        page = write_report(run_dir, shown)
        log_summary(metrics)
        log.info("report: %s", page)
    trainer.strategy.barrier()


def anchors(experiment: Experiment) -> Path:
    """DKAM alone: write (when asked) and encode the bank into the run folder."""
    run_dir = run_folder(experiment)
    _open_folder(experiment, run_dir)
    data = build.data_module(experiment)
    data.setup()
    base, base_digest = build.encoder(experiment)
    base.eval()
    shutil.rmtree(run_dir / "anchors", ignore_errors=True)
    bank, file = training_bank(experiment, data, base, base_digest, run_dir)
    log.info("%d anchors in %s, descriptions in %s", len(bank.names), run_dir / "anchors", file)
    return run_dir


def evaluate_run(experiment: Experiment) -> Path:
    """Score the data of `experiment` with the trained run `experiment.run`; results go to a folder of their own."""
    if experiment.run is None:
        raise InputError("run: missing; name a trained run folder, such as run=runs/demo/seed0-0123abcd")
    trained = Path(experiment.run).expanduser()
    settings = load_run(trained)
    settings.data, settings.scoring = experiment.data, experiment.scoring
    settings.trainer, settings.cache_dir = experiment.trainer, experiment.cache_dir
    settings.name = experiment.name
    out = Path(experiment.run_dir) if experiment.run_dir else trained / "eval" / experiment.name
    out.mkdir(parents=True, exist_ok=True)
    parts = prepare_trained(settings, trained)
    trainer = make_trainer(settings, out, CsvLog(out / "metrics.csv"))
    (out / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")
    finish(settings, parts, trainer, out)
    return out


def prepare_trained(experiment: Experiment, trained: Path) -> Parts:
    """Parts with the weights of a trained run; findings new to it get anchors encoded now."""
    parts = prepare(experiment, trained)
    load_weights(parts, trained / "checkpoints" / "best.ckpt")
    return parts


def load_run(folder: Path) -> Experiment:
    """The resolved experiment of a run folder."""
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder (no config.yaml)")
    return load_experiment(str(folder / "config.yaml"))


def report(folder: Path) -> Path:
    """Write report.html anew from the files of a run folder (without the pictures of single cases)."""
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: no metrics.json; the run is not finished, repeat its train command")
    return write_report(folder)


def load_weights(parts: Parts, checkpoint: Path) -> None:
    """Best weights into the module."""
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; the run has not finished its first validation")
    if parts.bank is not None:
        build.load_weights(parts.module, checkpoint)
    else:
        parts.module.load_state_dict(_checked(checkpoint)["state_dict"])


def dry_run(experiment: Experiment) -> list[str]:
    """Build data and model, train nothing; lines to print."""
    parts = prepare(experiment, None)
    lines = [f"{corpus}: {splits}" for corpus, splits in parts.data.counts().items()]
    lines += [f"findings scored: {', '.join(f'{name} ({parts.seen[name]})' for name in parts.findings)}"]
    lines += [f"{part:<20} {n:>13,} trainable of {every:>15,}" for part, n, every in trainable_table(parts.module)]
    if parts.bank is not None:
        lines.append(f"anchors: {len(parts.bank.names)} of dimension {parts.bank.vectors.shape[1]}")
    steps = len(parts.data.table.rows("train")) // (experiment.data.batch_size * experiment.trainer.devices)
    lines.append(f"steps per epoch: {steps}; run folder: {run_folder(experiment)}")
    return lines


def log_summary(metrics: dict[str, Any]) -> None:
    """One line per corpus and scorer: macro AUROC with interval, and the groups of findings by seen."""
    for key, result in metrics["results"].items():
        log.info("%s: macro AUROC [95 %% interval] per scorer", key)
        for scorer, values in result["scorers"].items():
            groups = {"macro": values["macro"], **{f"seen={g}": v for g, v in values["macro_by_seen"].items()}}
            cells = []
            for group, entry in groups.items():
                auroc = entry["auroc"]
                if auroc["value"] is not None:
                    cells.append(f"{group} {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]")
            mark = "*" if scorer == metrics["headline_scorer"] else " "
            log.info("%s %-12s %s", mark, scorer, "  ".join(cells))


def _prepare_cnn(experiment: Experiment, data: StudyDataModule, findings: list[str]) -> Parts:
    from radz.baselines.cnn_run import ScoredCNN

    steps = experiment.trainer.max_steps or (
        len(data.table.rows("train")) // (experiment.data.batch_size * experiment.trainer.devices)
        * (experiment.trainer.max_epochs or 1)
    )  # fmt: skip
    module = ScoredCNN(experiment.cnn, build.label_view(data), tuple(findings), steps)
    return Parts(data, findings, build.seen_groups(data, []), module, None)


def _open_folder(experiment: Experiment, run_dir: Path) -> None:
    """Make the run folder, or check that the one that is there belongs to this experiment."""
    config = run_dir / "config.yaml"
    if not is_main_process():
        return
    if experiment.overwrite and config.is_file():
        log.info("overwrite=true: %s starts anew", run_dir)
        shutil.rmtree(run_dir)
    if config.is_file():
        other = load_experiment(str(config))
        if digest(other) != digest(experiment):
            raise InputError(
                f"run_dir: {run_dir} holds another experiment ({digest(other)} is not {digest(experiment)}); "
                "choose another run_dir, or give overwrite=true"
            )
    elif run_dir.is_dir() and any(run_dir.iterdir()):
        raise InputError(f"run_dir: {run_dir} is not empty and not a run folder; choose another")
    run_dir.mkdir(parents=True, exist_ok=True)
    config.write_text(to_yaml(experiment), encoding="utf-8")


def _record(experiment: Experiment, parts: Parts, run_dir: Path) -> None:
    """environment.json."""
    if is_main_process():
        digests = (
            {"anchors_digest": parts.bank.digest(), "base_digest": parts.bank.info.base_digest} if parts.bank else {}
        )
        content = {**environment(), **parts.data.environment(), **digests, **peak_memory_gb()}
        evaluate.write_json(run_dir / "environment.json", content)


def _checked(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's content; only tensors and plain values are unpickled."""
    try:
        content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged archive
        raise InputError(
            f"{checkpoint}: not a readable checkpoint ({type(error).__name__}); delete it to start anew"
        ) from None
    return content


def _stop_message(last: Path) -> str:
    if last.is_file():
        return f"stopped; repeat the command to resume from {last}"
    return "stopped before the first checkpoint; repeat the command to start again"
