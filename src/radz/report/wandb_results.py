"""Results, curves and pictures of a finished run to W&B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger

from radz.config.trainer import WandbConfig
from radz.metrics.score_table import ScoreTable, prediction_file

if TYPE_CHECKING:
    from radz.report.run_report import Case

POINTS = 200
"""Most points of one curve."""
NUMBERS = ("seen", "positives", "rows", "auroc", "low", "high", "auprc", "f1_validation")
"""Columns of a finding in W&B's table."""


def log_results(
    loggers: Sequence[Any], settings: WandbConfig, digest: str, run_dir: Path, metrics: dict[str, Any],
    cases: Sequence[Case],
) -> None:  # fmt: skip
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
        table = prediction_file(run_dir, key)
        if table.is_file():
            curves += _curves(key, ScoreTable.read_csv(table), metrics["headline_scorer"])
    run.log({"findings": wandb.Table(["split", "scorer", "finding", *NUMBERS], rows)})
    for kind, across, up in (("roc", "1 - specificity", "sensitivity"), ("pr", "sensitivity", "precision")):
        points = wandb.Table(["split and finding", across, up], [row for name, *row in curves if name == kind])
        run.log({kind: wandb.plot.line(points, across, up, stroke="split and finding", title=kind.upper())})
    if settings.images:
        shown: list[Any] = [[c.finding, c.kind, c.score, c.label, wandb.Image(c.image)] for c in cases]
        run.log({"cases": wandb.Table(["finding", "kind", "score", "label", "image"], shown)})
    if settings.artifacts:
        _artifacts(run, run_dir, digest)
    run.finish()  # or the next run of this process would go on in it


def log_evidence(logger: WandbLogger, run_dir: Path, items: Sequence[dict[str, Any]], images: bool) -> None:
    """Send tables of evidence to the W&B run of a run folder, and with `images` the pictures; end it.

    Args:
        items: of `radz.report.evidence_section.items`.
    """
    import wandb

    run = logger.experiment
    for item in items:
        # A cell with an interval is value, low and high; the table holds the value, the report the rest.
        rows: list[Any] = [
            [cell[0] if isinstance(cell, list) else cell for cell in row] for row in item["table"]["rows"]
        ]
        if rows:
            run.log({f"evidence/{item['name']}": wandb.Table(item["table"]["header"], rows)})
        for picture in item["pictures"] if images else ():
            run.log({f"evidence/{picture['name']}": wandb.Image(str(run_dir / "evidence" / f"{picture['name']}.png"))})
    run.finish()


def _row(of: dict[str, Any]) -> list[Any]:
    auroc = of["auroc"]
    return [
        of["seen"], of["positives"], of["rows"], auroc["value"], auroc["low"], auroc["high"], of["auprc"]["value"],
        of["f1_validation"]["value"],
    ]  # fmt: skip


def _curves(key: str, table: ScoreTable, scorer: str) -> list[list[Any]]:
    """Points of the curves of one split: [kind, "split finding", x, y]."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    points: list[list[Any]] = []
    for finding in table.findings:
        labels, scores = table.column(scorer, finding)
        known = np.isfinite(labels) & np.isfinite(scores)
        if len(set(labels[known])) < 2:
            continue
        precision, recall, _ = precision_recall_curve(labels[known], scores[known])
        false, true, _ = roc_curve(labels[known], scores[known])
        for kind, x, y in (("roc", false, true), ("pr", recall, precision)):
            keep = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(int))
            points += [[kind, f"{key} {finding}", float(x[i]), float(y[i])] for i in keep]
    return points


def _artifacts(run: Any, run_dir: Path, name: str) -> None:
    """The trained weights of best.ckpt (never the frozen backbone) and the anchor bank."""
    import tempfile

    import wandb
    from safetensors.torch import save_file

    from radz.training.checkpoint_io import read_checkpoint

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
