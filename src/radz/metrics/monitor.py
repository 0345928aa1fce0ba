"""Exact AUROC, AUPRC and best F1 per finding while training, equal on every rank, for the log and the monitor.

Three habits of torchmetrics are worked around (torchmetrics issues 2195, 2494, 2685). It applies a sigmoid to any batch
that leaves [0, 1], so scores outside are refused. It counts a class without positives as AUROC 0 in a macro mean, and
fails on a column without any known label, so each finding is computed on its known rows alone and the macro is the mean
over findings with both labels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
)

from radz.distributed import is_main_process

log = logging.getLogger(__name__)
MONITOR = "val/auroc_macro"
"""What best.ckpt is chosen by."""
NAMES = ("auroc", "auprc", "f1")


class FindingMetrics(Metric):
    """AUROC, AUPRC and best F1 of C findings over all rows of a split, each row counted once under any world size.

    `f1` is the best over all thresholds: on validation it is the value at the threshold that will be kept.
    """

    full_state_update = False
    higher_is_better = True
    row_chunks: list[Tensor]
    score_chunks: list[Tensor]
    target_chunks: list[Tensor]

    def __init__(self, findings: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.findings = tuple(findings)
        self._warned = False
        self.add_state("row_chunks", default=[], dist_reduce_fx="cat")
        self.add_state("score_chunks", default=[], dist_reduce_fx="cat")
        self.add_state("target_chunks", default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor, scores: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            rows: int64 [N], row numbers of the study table; a row met again is ignored.
            scores: [N, C] in [0, 1], made in float32 (half precision ties scores and costs AUROC).
            targets: [N, C], 1 present, 0 absent, NaN unknown.

        Raises:
            ValueError: wrong shape, half-precision scores, or scores that are NaN or outside [0, 1].
        """
        shape = (len(rows), len(self.findings))
        if tuple(scores.shape) != shape or tuple(targets.shape) != shape:
            raise ValueError(f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)} must both be {shape}")
        if scores.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"scores must be float32 before they reach the metric, not {scores.dtype}")
        inside = (scores >= 0) & (scores <= 1)
        if not bool(inside.all()):
            finding = self.findings[int((~inside).any(dim=0).nonzero()[0])]
            raise ValueError(f"finding '{finding}': scores must be numbers in [0, 1]; map cosines before the metric")
        self.row_chunks.append(rows.detach().long())
        self.score_chunks.append(scores.detach().float())
        self.target_chunks.append(targets.detach().float())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather all ranks. A rank without rows takes part with empty tensors of the right rank and type.

        Left alone, torchmetrics would send a one-dimensional float from there, and the gather of sizes would break.
        """
        if not self.row_chunks:
            shape = (0, len(self.findings))
            self.row_chunks = [torch.empty(0, dtype=torch.int64, device=self.device)]
            self.score_chunks, self.target_chunks = (
                [torch.empty(shape, dtype=torch.float32, device=self.device)] for _ in range(2)
            )
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, Any]:
        """`{"macro": {name: scalar}, "findings": {finding: {name: scalar, "positives", "rows": scalar}}}`.

        Undefined values are NaN: a finding whose known labels are all alike, a macro without any defined finding.
        The latter is said once in the log, because nothing can then be chosen by it.
        """
        rows, scores, targets = (_join(x) for x in (self.row_chunks, self.score_chunks, self.target_chunks))
        keep = _first_of_each(rows)
        scores, targets = scores[keep], targets[keep]
        findings = {name: _finding(scores[:, c], targets[:, c]) for c, name in enumerate(self.findings)}
        macro = {}
        for name in NAMES:
            values = [f[name] for f in findings.values() if not torch.isnan(f[name])]
            macro[name] = torch.stack(values).mean() if values else scores.new_tensor(float("nan"))
        if torch.isnan(macro["auroc"]) and not self._warned and is_main_process():
            self._warned = True
            log.warning(
                "no finding is both present and absent in the validation split: %s is undefined (logged as 0), and the "
                "first epoch counts as the best", MONITOR,
            )  # fmt: skip
        return {"macro": macro, "findings": findings}


def as_log_dict(result: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Flat keys for a logger: `<prefix>/auroc_macro`, `<prefix>/auroc/<finding>`, and so for `auprc` and `f1`.

    The keys depend on the findings alone, never on the values, so they are the same on every rank (NaN = undefined).
    """
    flat = {f"{prefix}/{name}_macro": float(result["macro"][name]) for name in NAMES}
    for name in NAMES:
        flat |= {f"{prefix}/{name}/{finding}": float(values[name]) for finding, values in result["findings"].items()}
    return flat


def _join(chunks: list[Tensor] | Tensor) -> Tensor:
    """After a sync the state is one tensor, before it a list."""
    return chunks if isinstance(chunks, Tensor) else torch.cat(chunks)


def _first_of_each(rows: Tensor) -> Tensor:
    """Positions of the first occurrence of each row, by rising row number, so that no order of ranks shows."""
    # Padding of the last batch repeats rows under several ranks; a repeated row would count twice.
    values, order = torch.sort(rows, stable=True)
    first = torch.ones_like(values, dtype=torch.bool)
    first[1:] = values[1:] != values[:-1]
    return order[first]


def _finding(scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Metrics of one finding from its known rows, [N] each."""
    known = ~torch.isnan(targets)
    scores, labels = scores[known], targets[known].long()
    positives = labels.sum()
    support = {"positives": positives, "rows": known.sum()}
    if not 0 < int(positives) < len(labels):
        return {**{name: scores.new_tensor(float("nan")) for name in NAMES}, **support}
    precision, recall, _ = binary_precision_recall_curve(scores, labels)
    # The curve ends at recall 0, where the harmonic mean is 0 by definition and not 0/0.
    best = (2 * precision * recall / (precision + recall).clamp_min(1e-12)).max()
    auroc, auprc = binary_auroc(scores, labels), binary_average_precision(scores, labels)
    return {"auroc": auroc, "auprc": auprc, "f1": best, **support}
