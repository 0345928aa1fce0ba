"""Decoding-side feature alignment training: encode, loss, log (method.md 2)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.anchors import AnchorBank
from radz.callbacks.finite import stop_unless_finite
from radz.callbacks.metrics import FindingMetrics, as_log_dict
from radz.checkpoints import check_weights
from radz.config import DfatConfig, DkamConfig, ScoringConfig
from radz.distributed import over_ranks, total, world
from radz.dkam import encode_now
from radz.encode import Encoder
from radz.gradient_cache import cached_features
from radz.labels import LabelView, batch_texts, pick
from radz.losses import Features, alignment, category, positive_pairs
from radz.optimizer import adamw
from radz.scoring.kept import Keeper
from radz.scoring.zero_shot import ClassTexts, ZeroShot
from radz.sharding import local, shard, whole

log = logging.getLogger(__name__)
FIRST_BIAS = -2.0
"""where the bias of the sigmoid category loss starts: about one known pair in eight is a present finding"""
NO_FINDING = "no_finding"
LARGE_BANK = 512
"""anchors from which on the ranks share the work of the anchor head"""
LARGEST_SCALE = math.log(100)
"""of a learned temperature, as in CLIP: it lies between .01 and 1"""


def _index(names: Sequence[str]) -> int | None:
    return list(names).index(NO_FINDING) if NO_FINDING in names else None


class DFAT(LightningModule):
    """Aligns image and report features, and both with the anchors.

    Args:
        encoder: backbone and heads.
        bank: training bank; its raw vectors are part of the checkpoint.
        labels: label columns and policies of the corpora.
        texts: findings scored in validation and test.
        class_anchors: raw vectors [C, d], or sets [C, S, d], of those findings, NaN rows where there is none.
        modalities: one for each corpus that `StudyBatch.corpus` counts.
    """

    trains = True

    def __init__(
        self,
        encoder: Encoder,
        bank: AnchorBank,
        labels: LabelView,
        texts: ClassTexts,
        class_anchors: Tensor,
        dfat: DfatConfig,
        dkam: DkamConfig,
        scoring: ScoringConfig,
        modalities: Sequence[str],
    ) -> None:
        super().__init__()
        self.dkam = dkam
        self.strict_loading = False  # frozen weights are not in the checkpoint; on_load_checkpoint checks the rest
        self.encoder, self.bank, self.labels, self.dfat = encoder, bank, labels, dfat
        self.headline, self.modalities = scoring.headline, tuple(modalities)
        self.anchors: Tensor
        self.class_anchors: Tensor
        self.register_buffer("anchors", bank.vectors.clone())
        self.register_buffer("class_anchors", class_anchors.clone(), persistent=False)
        self.category_bias = nn.Parameter(torch.tensor([FIRST_BIAS])) if dkam.category == "sigmoid" else None
        first = torch.tensor([-math.log(dfat.temperature)])
        self.log_scale = nn.Parameter(first) if dfat.learn_temperature else None
        self.bank_columns = labels.columns(bank.names)
        self.no_finding = _index(bank.names)
        # What no corpus labels is unknown in every study and tells none from another; no_finding follows from the rest.
        told = [(n, c) for n, c in zip(bank.names, self.bank_columns, strict=True) if c >= 0 or n == NO_FINDING]
        self.pair_columns, self.pair_no_finding = [c for _, c in told], _index([n for n, _ in told])
        self.classifier = ZeroShot(encoder, texts, dfat, scoring, modalities)
        self.class_columns = labels.columns(texts.findings)
        self.metrics = FindingMetrics(texts.findings)
        self.scored: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.keeper: Keeper | None = None
        self.timed: list[tuple[int, float]] = []
        self._warned = False

    @property
    def temperature(self) -> float | Tensor:
        """As configured, or [1] as learned."""
        return self.dfat.temperature if self.log_scale is None else (-self.log_scale).exp()

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Total loss of one batch."""
        if self.refreshes and self.global_step and self.global_step % self.dkam.anchor_refresh_steps == 0:
            self.refresh_anchors()
        labels = self.labels.loss(batch)
        texts, digest = batch_texts(batch, self.labels, self.dfat, self.modalities)
        image, text = self._features(batch, texts)
        usable = torch.tensor([bool(words) for words in texts], device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            pairs = positive_pairs(digest, self.dfat.positives, pick(labels, self.pair_columns), self.pair_no_finding)
            aligned = alignment(
                image, text, pairs, usable, loss=self.dfat.loss, temperature=self.temperature,
                global_weight=self.dfat.global_weight,
            )  # fmt: skip
            anchors = over_ranks(self.encoder.anchor_features, self.anchors, LARGE_BANK)
            seen = pick(labels, self.bank_columns)
            every = torch.ones_like(usable)
            settings: dict[str, Any] = {
                "no_finding": self.no_finding, "temperature": self.temperature, "bias": self.category_bias,
            }  # fmt: skip
            of_image, used = category(image.overall, anchors, seen, every, **settings)
            of_text, _ = category(text.overall, anchors, seen, usable, **settings)
            guided = (of_image + of_text) / 2
            weight = self.dfat.alignment_weight
            loss = weight * aligned + (1 - weight) * guided
        if self.dfat.lm_weight:
            loss = loss + self.dfat.lm_weight * self._language_loss(texts)
        self._log_step(loss, aligned, guided, used, torch.maximum(image.peak_share, text.peak_share))
        self._loss, self._rows = loss.detach(), batch.rows
        return loss

    def _language_loss(self, texts: list[str]) -> Tensor:
        """Mean over the tokens of all ranks, as the means of `radz.losses`."""
        loss, tokens = self.encoder.language_loss(texts, self.dfat.gradient_cache or None)
        mean = world()[1] * loss / total(loss.new_tensor(tokens)).clamp(min=1)
        self._log_language(mean)
        return mean

    def _log_language(self, mean: Tensor) -> None:
        self.log("train/loss_language", mean)

    @property
    def refreshes(self) -> bool:
        """Whether anchors follow the weights."""
        return self.dkam.anchor_refresh == "every_n_steps"

    def refresh_anchors(self) -> None:
        """Encode the anchors, of the bank and of the findings to be scored, with the weights of now."""
        texts = [*self.bank.descriptions, *self.classifier.texts.descriptions]
        vectors = encode_now(self.encoder, texts, self.dkam.anchor_encoder)
        bank, classes = vectors.split([len(self.anchors), len(self.class_anchors)])
        self.anchors.copy_(bank)
        self.class_anchors.copy_(classes)

    def _features(self, batch: StudyBatch, texts: list[str]) -> tuple[Features, Features]:
        images = batch.pixels, batch.image_counts, self._modalities(batch)
        if self.dfat.gradient_cache:
            return cached_features(self.encoder, *images, texts, self.dfat.gradient_cache)
        return self.encoder.encode_images(*images), self.encoder.encode_texts(texts)

    def _modalities(self, batch: StudyBatch) -> list[str]:
        """The modality of each study."""
        return [self.modalities[corpus] for corpus in batch.corpus.tolist()]

    def _log_step(self, loss: Tensor, aligned: Tensor, guided: Tensor, used: Tensor, share: Tensor) -> None:
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict(
            {
                "train/loss_alignment": aligned,
                "train/loss_category": guided,
                "train/category_used_fraction": used,
                "train/peak_share": share,
                "lr": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            }
        )
        if self.log_scale is not None:
            self.log("train/temperature", self.temperature)
        # Reading the share waits for the device, so it is looked at now and then only.
        if not self._warned and self.global_step % 50 == 0 and share > 0.5:
            self._warned = True
            log.warning("one position holds %.0f %% of a pooled feature's power (method.md 2.4)", 100 * share)

    def on_train_batch_start(self, batch: StudyBatch, batch_idx: int) -> None:
        """Start the clock of the throughput meter."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: StudyBatch, batch_idx: int) -> None:
        """Keep a learned temperature within its bounds; log study-report pairs per second over all ranks."""
        if self.log_scale is not None:
            local(self.log_scale.detach()).clamp_(0, LARGEST_SCALE)
        seconds = time.perf_counter() - self._started
        self.log("pairs_per_second", len(batch) * world()[1] / seconds, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """Anchors of the weights that last.ckpt will hold, also where no validation came before."""
        if self.refreshes:
            self.refresh_anchors()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and stop before a non-finite update; gradients are already those of all ranks."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, self.dfat.gradient_clip))
        stop_unless_finite(norm, self._loss, self._rows, getattr(self.trainer, "datamodule", None), self.global_step)

    def configure_model(self) -> None:
        """Shard under FSDP2; called before every stage."""
        found = self.trainer.strategy
        if isinstance(found, ModelParallelStrategy):
            # Each call of the decoder gathers its weights over the ranks, which must all make equally many.
            self.encoder.text_groups = 1
            shard(self, found.device_mesh["data_parallel"], self.trainer.precision == "bf16-mixed")

    def configure_optimizers(self) -> Any:
        """See `radz.optimizer`."""
        return adamw(self, self.dfat, int(self.trainer.estimated_stepping_batches))

    # Validation and test: the same scores; validation reduces them to the monitor, test keeps them as a table.

    def refresh_classifier(self) -> None:
        """Encode the class texts with the weights of now."""
        if self.refreshes:
            self.refresh_anchors()
        self.classifier.refresh(self.anchors, self.class_anchors, float(self.temperature))

    def on_validation_epoch_start(self) -> None:
        """Encode the class texts; forget earlier scores."""
        self.refresh_classifier()
        self.metrics.reset()

    def validation_step(self, batch: StudyBatch, batch_idx: int) -> None:
        """Score one batch with the headline scorer."""
        scores = self._score(batch)[self.headline]
        labels = pick(self.labels.metrics(batch), self.class_columns)
        self.metrics.update(batch.rows, scores, labels)

    def on_validation_epoch_end(self) -> None:
        """Log val/auroc_macro and the rest, equal on all ranks."""
        values = as_log_dict(self.metrics.compute(), "val")
        monitor = values.pop("val/auroc_macro")
        # A macro without any class to average is a fault of the split, which best.ckpt could not be chosen by.
        self.log("val/auroc_macro", 0.0 if math.isnan(monitor) else monitor, prog_bar=True)
        self.log_dict(values)

    def on_test_epoch_start(self) -> None:
        """Encode the class texts; forget earlier scores and times (images, seconds of each batch)."""
        self.refresh_classifier()
        self.scored, self.timed = [], []

    def test_step(self, batch: StudyBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep all scorers' scores of one batch, and its features where a keeper asks for them."""
        started = time.perf_counter()
        modalities = self._modalities(batch)
        image = self.classifier.encode(batch.pixels, batch.image_counts, modalities)
        scores = self.classifier.score_features(image, batch.image_counts, modalities)
        # On the CPU the scores are there when the time is taken.
        self.scored.append((batch.rows.cpu(), {k: v.cpu() for k, v in scores.items()}))
        self.timed.append((len(batch.pixels), time.perf_counter() - started))
        if self.keeper is not None:
            self.keeper.add(batch, self.classifier.study_features(image, batch.image_counts), self.encoder)

    def _score(self, batch: StudyBatch) -> dict[str, Tensor]:
        return self.classifier.score(batch.pixels, batch.image_counts, self._modalities(batch))

    # Checkpoints: trainable weights and anchors only.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop frozen weights; note what the rest belongs to."""
        kept = {name for name, p in self.named_parameters() if p.requires_grad} | {"anchors"}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint["radz"] = {
            "base_digest": self.bank.info.base_digest,
            "findings": list(self.bank.names),
            "image_tokens": self.dfat.image_tokens,
            "text_tokens": self.dfat.text_tokens,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another backbone, number of tokens, bank, or of other trainable parts, before any is
        loaded."""
        note = checkpoint.get("radz", {})
        for key in ("image_tokens", "text_tokens"):
            if key in note and note[key] != getattr(self.dfat, key):
                raise InputError(
                    f"checkpoint: it has dfat.{key}={note[key]} where this run has {getattr(self.dfat, key)}; start a "
                    "new run"
                )
        if note.get("base_digest") != self.bank.info.base_digest:
            raise InputError("checkpoint: it was trained on another backbone or other modality tokens; start a new run")
        if note["findings"] != list(self.bank.names):
            raise InputError("checkpoint: its anchor bank holds other findings than this run; start a new run")
        if "state_dict" not in checkpoint:
            return  # FSDP's strategy has loaded and taken it; `radz.run.train` has checked it
        expected = {name for name, p in self.named_parameters() if p.requires_grad} | {"anchors"}
        found = set(checkpoint["state_dict"])
        if expected != found:
            first = sorted(expected ^ found)[0]
            raise InputError(
                f"checkpoint: its trainable parts differ from this run's, first at {first}; start a new run"
            )
        check_weights(checkpoint["state_dict"], self.state_dict(), strict=False)
