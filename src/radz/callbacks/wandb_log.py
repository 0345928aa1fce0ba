"""Weights & Biases: one run per run folder, resumed with it; results as tables and curves; alerts.

What leaves the machine holds no place, no report, no study and no patient; pictures only with `wandb.images`, weights
and anchors only with `wandb.artifacts`.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from data_modules.errors import InputError
from radz.callbacks.stop import Stopped
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.experiment import digest
from radz.scoring.table import ScoreTable

if TYPE_CHECKING:
    from radz.report.html import Case

log = logging.getLogger(__name__)
POINTS = 200
"""Most points of one curve."""
NUMBERS = ("seen", "positives", "rows", "auroc", "low", "high", "auprc", "f1_validation")
"""Columns of a finding in W&B's table."""
_STAGES_ANYWHERE = "WANDB_DATA_DIR" not in os.environ


def wandb_mode(wanted: str) -> str:
    """`auto` follows WANDB_MODE, else is online exactly when an account is configured."""
    if wanted != "auto":
        return wanted
    if mode := os.environ.get("WANDB_MODE"):
        if mode not in ("online", "offline", "disabled"):
            raise InputError(f"WANDB_MODE: {mode!r} is not allowed; use online, offline or disabled")
        return mode
    try:
        known = netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        known = False
    return "online" if known or os.environ.get("WANDB_API_KEY") else "offline"


def wandb_logger(experiment: Experiment, run_dir: Path) -> WandbLogger | None:
    """The logger of a run folder; None when W&B is disabled. A resumed folder continues its W&B run."""
    mode = wandb_mode(experiment.wandb.mode)
    if mode == "disabled":
        return None
    import wandb

    settings = experiment.wandb
    os.environ.setdefault("WANDB_SILENT", "true")
    if _STAGES_ANYWHERE:  # files on their way to W&B wait below the home folder otherwise
        os.environ["WANDB_DATA_DIR"] = str((run_dir / "wandb").resolve())
    log.info("W&B is %s; files in %s", mode, run_dir / "wandb")
    logger = WandbLogger(
        project=settings.project,
        entity=settings.entity,
        group=settings.group or experiment.name,
        tags=settings.tags,
        name=f"{experiment.name}-seed{experiment.seed}-{digest(experiment)}",
        id=_run_id(run_dir),
        save_dir=run_dir,
        mode=mode,  # Lightning's `offline` would set WANDB_MODE for all that comes after
        config=shared_config(experiment),
        # The console, the command with its paths, the host and the git remote may say what must not leave the machine;
        # code is not W&B's to keep. Versions and hardware stand in the config.
        settings=wandb.Settings(
            console="off", disable_code=True, save_code=False, disable_git=True, host="", x_disable_meta=True,
            x_save_requirements=False,
        ),
    )  # fmt: skip
    logger._wandb_init.pop("anonymous", None)  # Lightning always gives it, and W&B warns of it
    return logger


def shared_config(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment without places and without what only names files of this machine."""
    plain = asdict(experiment)
    for key in ("run_dir", "cache_dir", "run", "overwrite", "wandb"):
        plain.pop(key)
    for section, key in (("backbone", "path"), ("clip", "path"), ("supervised", "run")):
        plain[section].pop(key)
    plain["dfat"]["rewrite"].pop("file")
    plain["dkam"]["descriptions"] = Path(plain["dkam"]["descriptions"]).name
    plain["dkam"]["sources"] = [Path(name).name for name in plain["dkam"]["sources"]]
    for corpus in plain["data"]["corpora"]:
        for key in ("root", "csv", "split_csv", "image_folder", "keep"):
            corpus.pop(key)
    return plain


def log_results(
    loggers: Sequence[Any], experiment: Experiment, run_dir: Path, metrics: dict[str, Any], cases: Sequence[Case]
) -> None:
    """Send final numbers, tables and curves, and what `wandb.images` and `wandb.artifacts` allow; end the W&B run."""
    run = next((one.experiment for one in loggers if isinstance(one, WandbLogger)), None)
    if run is None:
        return
    import wandb

    rows: list[Any] = []
    curves: list[list[Any]] = []
    for key, result in metrics["results"].items():
        for scorer, values in result["scorers"].items():
            for metric, entry in values["macro"].items():
                if isinstance(entry, dict) and entry.get("value") is not None:
                    run.summary[f"{key}/{scorer}/{metric}_macro"] = entry["value"]
            rows += [[key, scorer, name, *_row(of)] for name, of in values["findings"].items()]
        table = run_dir / "predictions" / f"{key.replace('/', '_')}.csv"
        if table.is_file():
            curves += _curves(key, ScoreTable.read_csv(table), metrics["headline_scorer"])
    run.log({"findings": wandb.Table(["split", "scorer", "finding", *NUMBERS], rows)})
    for kind, across, up in (("roc", "1 - specificity", "sensitivity"), ("pr", "sensitivity", "precision")):
        points = wandb.Table(["split and finding", across, up], [row for name, *row in curves if name == kind])
        run.log({kind: wandb.plot.line(points, across, up, stroke="split and finding", title=kind.upper())})
    if experiment.wandb.images:
        shown: list[Any] = [[c.finding, c.kind, c.score, c.label, wandb.Image(c.image)] for c in cases]
        run.log({"cases": wandb.Table(["finding", "kind", "score", "label", "image"], shown)})
    if experiment.wandb.artifacts:
        _artifacts(run, run_dir, digest(experiment))
    run.finish()  # or the next run of this process would go on in it


def log_evidence(experiment: Experiment, run_dir: Path, items: Sequence[dict[str, Any]]) -> None:
    """Send tables of evidence to the W&B run of a run folder, and the pictures with `wandb.images`; end it.

    Args:
        items: of `radz.report.evidence.items`. Nothing is sent where the run was not logged to W&B.
    """
    if not (run_dir / "wandb" / "run_id").is_file() or (logger := wandb_logger(experiment, run_dir)) is None:
        return
    import wandb

    run = logger.experiment
    for item in items:
        # A cell with an interval is value, low and high; the table holds the value, the report the rest.
        rows: list[Any] = [
            [cell[0] if isinstance(cell, list) else cell for cell in row] for row in item["table"]["rows"]
        ]
        if rows:
            run.log({f"evidence/{item['name']}": wandb.Table(item["table"]["header"], rows)})
        for picture in item["pictures"] if experiment.wandb.images else ():
            run.log({f"evidence/{picture['name']}": wandb.Image(str(run_dir / "evidence" / f"{picture['name']}.png"))})
    run.finish()


class DivergenceAlert(Callback):
    """Tells W&B when training stops on a number that is not finite, or on any other fault."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Send the kind of fault; the text of an error stays on the machine, since it may name a row."""
        if isinstance(exception, KeyboardInterrupt | SystemExit | Stopped):
            return
        for one in trainer.loggers:
            if isinstance(one, WandbLogger) and trainer.is_global_zero:
                kind = "input or divergence" if isinstance(exception, InputError) else type(exception).__name__
                one.experiment.alert("Training stopped", f"{kind} at step {trainer.global_step}", level="ERROR")
                one.experiment.finish(exit_code=1)


def _run_id(run_dir: Path) -> str:
    """That of the agent that started us, else that of the folder, else a new one, kept in the folder."""
    file = run_dir / "wandb" / "run_id"
    if given := os.environ.get("WANDB_RUN_ID"):
        return given
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    found = secrets.token_hex(6)
    if is_main_process():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found + "\n", encoding="utf-8")
    return found


def _row(of: dict[str, Any]) -> list[Any]:
    auroc = of["auroc"]
    return [
        of["seen"], of["positives"], of["rows"], auroc["value"], auroc["low"], auroc["high"], of["auprc"]["value"],
        of["f1_validation"]["value"],
    ]  # fmt: skip


def _curves(key: str, table: ScoreTable, scorer: str) -> list[list[Any]]:
    """Points of the curves of one split: [kind, "split finding", x, y]."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    found: list[list[Any]] = []
    for column, finding in enumerate(table.findings):
        labels, scores = table.labels[:, column], table.scores[scorer][:, column]
        known = np.isfinite(labels) & np.isfinite(scores)
        if len(set(labels[known])) < 2:
            continue
        precision, recall, _ = precision_recall_curve(labels[known], scores[known])
        false, true, _ = roc_curve(labels[known], scores[known])
        for kind, x, y in (("roc", false, true), ("pr", recall, precision)):
            keep = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(int))
            found += [[kind, f"{key} {finding}", float(x[i]), float(y[i])] for i in keep]
    return found


def _artifacts(run: Any, run_dir: Path, name: str) -> None:
    """The trained weights of best.ckpt (never the frozen backbone) and the anchor bank."""
    import tempfile

    import wandb
    from safetensors.torch import save_file

    from radz.checkpoints import read_checkpoint

    with tempfile.TemporaryDirectory() as draft:
        weights = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")["state_dict"]
        save_file({key: value.contiguous() for key, value in weights.items()}, Path(draft) / "adapter.safetensors")
        adapter = wandb.Artifact(f"adapter-{name}", "model")
        adapter.add_file(str(Path(draft) / "adapter.safetensors"))
        run.log_artifact(adapter, aliases=["best", name])
    if (run_dir / "anchors").is_dir():
        bank = wandb.Artifact(f"anchors-{name}", "anchors")
        bank.add_dir(str(run_dir / "anchors"))
        run.log_artifact(bank, aliases=["best", name])
