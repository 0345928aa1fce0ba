"""`method: finetune`: a classification head on an encoder, trained on labels with the encoder or alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.baselines.cnn import masked_bce
from radz.baselines.features import StudyFeatures, check_note, head_on_features, note
from radz.baselines.scored import Scored, modalities_of, warm_cosine
from radz.callbacks.finite import stop_unless_finite
from radz.config import Experiment, SupervisedConfig
from radz.labels import LabelView, pick

SCORER = "finetune"


class Finetune(Scored):
    """Features, LayerNorm, a linear layer or two.

    Args:
        outputs: the K findings of the head; findings: the C that are scored.
        modalities: one for each corpus.
    """

    headline = SCORER

    def __init__(
        self, features: StudyFeatures, config: SupervisedConfig, labels: LabelView, outputs: Sequence[str],
        findings: Sequence[str], modalities: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.strict_loading = False  # frozen weights are not in the checkpoint; on_load_checkpoint checks the rest
        self.features, self.config, self.modalities = features, config, tuple(modalities)
        features.only_images() if config.train_encoder else features.requires_grad_(False)
        width, self.outputs = features.width, tuple(outputs)
        inner = [nn.Linear(width, width), nn.GELU()] if config.head == "mlp" else []
        last = nn.Linear(width, len(self.outputs))
        self.head = nn.Sequential(nn.LayerNorm(width), *inner, nn.Dropout(config.dropout), last)
        self.output_columns = [self.outputs.index(name) if name in self.outputs else -1 for name in findings]
        self.set_up(labels, findings)

    def forward(self, batch: StudyBatch) -> Tensor:
        """Logits float32 [B, K]."""
        if self.config.train_encoder:
            x = self._features(batch)
        else:
            with torch.no_grad():
                x = self._features(batch)
        with torch.autocast(self.device.type, enabled=False):  # bf16 logits would tie the ranking
            logits: Tensor = self.head(x.float())
        return logits

    def _features(self, batch: StudyBatch) -> Tensor:
        found: Tensor = self.features(batch.pixels, batch.image_counts, modalities_of(batch, self.modalities))
        return found

    def train(self, mode: bool = True) -> Finetune:
        """A frozen encoder has no dropout."""
        super().train(mode)
        if not self.config.train_encoder:
            self.features.eval()
        return self

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Binary cross-entropy over the known labels of a batch."""
        loss = masked_bce(self(batch), self.label_view.loss(batch))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        self._loss, self._rows = loss.detach(), batch.rows
        return loss

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`."""
        return {SCORER: pick(self(batch).sigmoid(), self.output_columns)}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and stop before a non-finite update."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
        stop_unless_finite(norm, self._loss, self._rows, getattr(self.trainer, "datamodule", None), self.global_step)

    def configure_optimizers(self) -> Any:
        """AdamW; encoder and head have rates of their own, norms and biases are not decayed."""
        rates = {"features": self.config.learning_rate, "head": self.config.head_learning_rate}
        groups = []
        for part, rate in rates.items():
            own = [p for p in getattr(self, part).parameters() if p.requires_grad]
            for decay, chosen in ((self.config.weight_decay, [p for p in own if p.ndim > 1]),
                                  (0.0, [p for p in own if p.ndim <= 1])):  # fmt: skip
                if chosen:
                    groups.append({"params": chosen, "weight_decay": decay, "lr": rate})
        steps = int(self.trainer.estimated_stepping_batches)
        return warm_cosine(torch.optim.AdamW(groups), steps, self.config.warmup)

    def _trained(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop frozen weights; note what the rest belongs to."""
        kept = self._trained()
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}
        checkpoint["radz"] = note(self.base_digest, self.outputs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another encoder, of other findings or of other trainable parts."""
        check_note(checkpoint, note(self.base_digest, self.outputs))
        if apart := self._trained() ^ set(checkpoint["state_dict"]):
            raise InputError(f"checkpoint: its trainable parts are others, first {min(apart)}; start a new run")


def build(
    experiment: Experiment, data: StudyDataModule, findings: tuple[str, ...], known: Mapping[str, Any],
    trained: Path | None,
) -> Finetune:  # fmt: skip
    """See `build_baseline`."""
    return head_on_features(Finetune, experiment, data, findings, known)
