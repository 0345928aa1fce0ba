"""Exact AUROC, AUPRC and best F1 per finding while training, equal on every rank, for the log and the monitor.

Three habits of torchmetrics are worked around (torchmetrics issues 2195, 2494, 2685). It applies a sigmoid to any batch
that leaves [0, 1], so scores outside are refused. It counts a class without positives as AUROC 0 in a macro mean, and
fails on a column without any known label, so each finding is computed on its known rows alone, those of each corpus by
themselves, and the macro is the mean over corpora and findings with both labels.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
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
from radz.metrics.ranking import with_both_labels

log = logging.getLogger(__name__)
MONITOR = "val/auroc_macro"
"""What best.ckpt is chosen by."""
NAMES = ("auroc", "auprc", "f1")


class FindingMetrics(Metric):
    """AUROC, AUPRC and best F1 of C findings over all rows of a split, each row counted once under any world size.

    Each is computed within each corpus (`with_both_labels`); that of a finding is the mean over corpora. `f1` is the
    best over all thresholds: on validation it is the value at the threshold that will be kept.
    """

    full_state_update = False
    higher_is_better = True
    primary: Collection[str]
    """findings of the macro; where none of them has both labels, all findings are"""
    row_chunks: list[Tensor]
    corpus_chunks: list[Tensor]
    score_chunks: list[Tensor]
    target_chunks: list[Tensor]

    def __init__(self, findings: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.findings = self.primary = tuple(findings)
        self._said: set[str] = set()
        for state in ("row_chunks", "corpus_chunks", "score_chunks", "target_chunks"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor, corpus: Tensor, scores: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            rows: int64 [N], row numbers of the study table; a row met again is ignored.
            corpus: int64 [N], number of the corpus of each.
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
        self.corpus_chunks.append(corpus.detach().long())
        self.score_chunks.append(scores.detach().float())
        self.target_chunks.append(targets.detach().float())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather all ranks. A rank without rows takes part with empty tensors of the right rank and type.

        Left alone, torchmetrics would send a one-dimensional float from there, and the gather of sizes would break.
        """
        if not self.row_chunks:
            shape = (0, len(self.findings))
            self.row_chunks, self.corpus_chunks = (
                [torch.empty(0, dtype=torch.int64, device=self.device)] for _ in range(2)
            )
            self.score_chunks, self.target_chunks = (
                [torch.empty(shape, dtype=torch.float32, device=self.device)] for _ in range(2)
            )
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, Any]:
        """`{"macro": {name: scalar}, "findings": {finding: {name: scalar}}}`, the macro over `primary`.

        Undefined values are NaN: a finding without both labels in any corpus, a macro without any defined finding.
        """
        rows, corpus, scores, targets = (
            _join(x) for x in (self.row_chunks, self.corpus_chunks, self.score_chunks, self.target_chunks)
        )
        keep = _first_of_each(rows)
        corpus, scores, targets = corpus[keep], scores[keep], targets[keep]
        cells: dict[str, list[dict[str, Tensor]]] = {name: [] for name in self.findings}
        for known, column in with_both_labels(targets.cpu().numpy(), corpus.cpu().numpy()):
            at = torch.from_numpy(known).to(scores.device)
            cells[self.findings[column]].append(_measured(scores[at, column], targets[at, column].long()))
        counted = self._counted([name for name, of in cells.items() if of])
        nothing = scores.new_tensor(float("nan"))
        return {
            "macro": _mean([cell for name in counted for cell in cells[name]], nothing),
            "findings": {name: _mean(of, nothing) for name, of in cells.items()},
        }

    def _counted(self, defined: Sequence[str]) -> Sequence[str]:
        """The findings of the macro, of those that have both labels."""
        counted = [name for name in defined if name in self.primary]
        others = ", ".join(name for name in defined if name not in counted)
        lacking = "no finding %sis both present and absent in the validation split of any corpus: "
        if not defined:
            self._say(
                logging.WARNING, f"{lacking}%s is undefined (logged as 0), and the first epoch counts as the best",
                "", MONITOR,
            )  # fmt: skip
        elif not counted:
            self._say(
                logging.WARNING, f"{lacking}%s and with it the best epoch are by others (%s)",
                "of scoring.primary ", MONITOR, others,
            )  # fmt: skip
        elif others:
            self._say(logging.INFO, "%s is without findings that scoring.primary leaves out (%s)", MONITOR, others)
        return counted or defined

    def _say(self, level: int, text: str, *values: str) -> None:
        """Log once; every epoch would say the same."""
        if text not in self._said and is_main_process():
            self._said.add(text)
            log.log(level, text, *values)


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


def _measured(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Metrics of one finding in one corpus from its known rows, [N] each, of both labels."""
    precision, recall, _ = binary_precision_recall_curve(scores, labels)
    # The curve ends at recall 0, where the harmonic mean is 0 by definition and not 0/0.
    best = (2 * precision * recall / (precision + recall).clamp_min(1e-12)).max()
    return {"auroc": binary_auroc(scores, labels), "auprc": binary_average_precision(scores, labels), "f1": best}


def _mean(cells: Sequence[Mapping[str, Tensor]], nothing: Tensor) -> dict[str, Tensor]:
    return {name: torch.stack([cell[name] for cell in cells]).mean() if cells else nothing for name in NAMES}
