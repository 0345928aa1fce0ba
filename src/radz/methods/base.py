"""What every method is as a run: clipped steps, the validation monitor, the scores of the test, the time they take."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.datamodule import StudyDataModule
from radz.config.schema import Experiment
from radz.distributed import gather_objects
from radz.metrics.monitor import MONITOR, FindingMetrics, as_log_dict
from radz.models.anchor_bank import AnchorBank
from radz.models.labels import LabelView, pick
from radz.models.losses import known_cross_entropy
from radz.models.prompts import Wording
from radz.models.retrieval_features import Keeper, Kept
from radz.training.callbacks.finite import stop_unless_finite
from radz.training.fsdp import whole

GREY = 128
"""value of every pixel of a blank image"""
WORDING = "wording "
"""begins the names of what `Scored.agreement` gives, beside those of scorers"""


@dataclass(frozen=True)
class Task:
    """What a method is built for."""

    experiment: Experiment
    data: StudyDataModule
    findings: tuple[str, ...]
    """those that are scored"""
    known: Mapping[str, Any]
    """what training knew, where a trained run is scored on these data; empty otherwise"""
    folder: Path | None
    """of the run that is trained, or, where something is known, of the trained one"""


class Scored(LightningModule, abc.ABC):
    """Base of the methods; a subclass calls `set_up` at the end of its `__init__` and says `score`.

    One whose `strict_loading` is off keeps in its checkpoints what trains, and no more.
    """

    trains: bool = True
    """whether steps of training come before scoring"""
    headline: str
    """scorer of the monitor and of the summary"""

    bank: AnchorBank | None = None
    """anchors that training uses, where it does"""
    base_digest: str | None = None
    """of the folder that the weights began as, where there is one"""
    wordings: Mapping[str, Wording] | None = None
    """in which a test also asks what `agreement` answers"""
    gradient_clip: float = math.inf
    """largest norm of the gradients of a step"""

    def set_up(self, labels: LabelView, findings: Sequence[str]) -> None:
        """`findings`: those that are scored, C of them."""
        self.label_view, self.scored_columns = labels, labels.columns(findings)
        self.metrics = FindingMetrics(findings)
        self.scored: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.timed: list[tuple[int, float]] = []
        self.keeper: Keeper | None = None

    @abc.abstractmethod
    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """{scorer: float32 [B, C] in [0, 1]}; a column of NaN where a finding has no score."""

    def fit_once(self, trainer: Trainer, data: StudyDataModule) -> None:
        """What a baseline does in place of training steps."""

    def begin(self) -> None:
        """What precedes a pass over validation or test, such as encoding the prompts."""

    def geometry(self, kept: Kept | None) -> dict[str, Any]:
        """How the features of the test lie; nothing where they are of no decoder. `kept`: as the keeper gathered."""
        return {}

    def agreement(self, batch: StudyBatch) -> dict[str, Tensor]:
        """{wording: [B, 2C]}, how far the studies, which have just been scored, agree with what each of `wordings` says
        of the findings, and then with what it denies, or [B, C], the former less the latter, of one that is not
        `apart`; nothing where no such sentence is read."""
        return {}

    def keep(self, batch: StudyBatch, keeper: Keeper) -> None:
        """Hand the features of a batch, which has just been scored, to the keeper for retrieval."""

    def log_loss(self, loss: Tensor, batch: StudyBatch) -> Tensor:
        """The loss of a training step, after it was logged and noted for the case that the step cannot be taken."""
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        self._loss, self._rows = loss.detach(), batch.rows
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and stop before a non-finite update; gradients are already those of all ranks."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, self.gradient_clip))
        stop_unless_finite(norm, self._loss, self._rows, getattr(self.trainer, "datamodule", None), self.global_step)

    def kept(self) -> set[str]:
        """Names of the weights that checkpoints hold where loading is not strict."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def note(self) -> dict[str, Any]:
        """What the weights of a checkpoint belong to, for `on_load_checkpoint` to compare."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop frozen weights; note what the rest belongs to."""
        if not self.strict_loading:  # a backbone of gigabytes that no step changes is read from its own folder
            kept = self.kept()
            checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}
        if note := self.note():
            checkpoint["radz"] = note

    def on_validation_epoch_start(self) -> None:
        """Empty the metric."""
        self.begin()
        self.metrics.reset()

    def validation_step(self, batch: StudyBatch, batch_idx: int) -> None:
        """Score one batch with the headline scorer."""
        scores = self.score(batch)[self.headline]
        labels = pick(self.label_view.metrics(batch), self.scored_columns)
        self.metrics.update(batch.rows, batch.corpus, scores, labels)

    def on_validation_epoch_end(self) -> None:
        """Log val/auroc_macro and the rest, equal on all ranks."""
        values = as_log_dict(self.metrics.compute(), "val")
        monitor = values.pop(MONITOR)
        # A macro without any class to average is a fault of the split, which best.ckpt could not be chosen by.
        self.log(MONITOR, 0.0 if math.isnan(monitor) else monitor, prog_bar=True)
        self.log_dict(values)

    def on_test_epoch_start(self) -> None:
        """Forget earlier scores and times (images, seconds of each batch)."""
        self.begin()
        self.scored, self.timed = [], []

    def test_step(self, batch: StudyBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the scores of one batch, and its features where a keeper asks for them."""
        started = time.perf_counter()
        # On the CPU the scores are there when the time is taken.
        scores = {name: values.cpu() for name, values in self.score(batch).items()}
        self.timed.append((len(batch.pixels), time.perf_counter() - started))
        if self.wordings:
            scores |= {WORDING + name: values.cpu() for name, values in self.agreement(batch).items()}
        self.scored.append((batch.rows.cpu(), scores))
        if self.keeper is not None:
            self.keep(batch, self.keeper)


class Classifier(Scored):
    """Base of the methods that learn labels; a subclass says `forward`: a batch to logits float32 [B, K]."""

    def set_outputs(self, labels: LabelView, outputs: Sequence[str], findings: Sequence[str]) -> None:
        """In place of `set_up`. `outputs`: the K findings of the logits; `findings`: the C that are scored."""
        self.outputs = tuple(outputs)
        self.output_columns = [self.outputs.index(name) if name in self.outputs else -1 for name in findings]
        self.set_up(labels, findings)

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Binary cross-entropy over the known labels of a batch."""
        return self.log_loss(known_cross_entropy(self(batch), self.label_view.loss(batch)), batch)

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        return {self.headline: pick(self(batch).sigmoid(), self.output_columns)}


def modalities_of(batch: StudyBatch, modalities: Sequence[str]) -> list[str]:
    """The modality of each study; `modalities` has one for each corpus."""
    return [modalities[corpus] for corpus in batch.corpus.tolist()]


class _Rows(pl.LightningDataModule):
    """Rows to score. Their loader is made on demand: how many processes share it is known only inside the test.

    `blank`: every image is an even grey one.
    """

    def __init__(self, data: StudyDataModule, rows: NDArray[np.int64], blank: bool = False) -> None:
        super().__init__()
        self._data, self._rows, self._blank = data, rows, blank

    def test_dataloader(self) -> Any:
        return self._data.rows_dataloader(self._rows)

    def on_after_batch_transfer(self, batch: StudyBatch, dataloader_idx: int) -> StudyBatch:
        return replace(batch, pixels=torch.full_like(batch.pixels, GREY)) if self._blank else batch


def run_rows(
    trainer: Trainer, module: Any, data: StudyDataModule, rows: NDArray[np.int64], blank: bool = False
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """Table rows, rising, each once under any world size, and {name: [N, ..]} of what a test keeps of them.

    `module.scored` holds, after `trainer.test`, this rank's (rows, {name: [n, ..]}). `blank`: every image is replaced
    by an even grey one of the same size.
    """
    trainer.test(module, datamodule=_Rows(data, rows, blank), verbose=False)
    own = [(places.numpy(), {name: v.numpy() for name, v in values.items()}) for places, values in module.scored]
    parts = [part for rank in gather_objects(own) for part in rank]
    # Ranks that must make equally many steps score a study again.
    tested, first = np.unique(np.concatenate([part[0] for part in parts]), return_index=True)
    return tested, {name: np.concatenate([part[1][name] for part in parts])[first] for name in parts[0][1]}
