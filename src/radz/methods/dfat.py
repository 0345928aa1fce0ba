"""Decoding-side feature alignment training: encode, loss, log (docs/method.md 2)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from data_modules.findings import NO_FINDING
from radz.backbones.folder import base_change
from radz.backbones.lora import log_trainable
from radz.config.checks import known_findings
from radz.config.schema import DfatConfig, DkamConfig
from radz.config.scoring import ScoringConfig
from radz.distributed import over_ranks, world
from radz.methods import dkam, feature_means
from radz.methods.base import Scored, Task, modalities_of
from radz.methods.dkam import encode_now
from radz.methods.export_folder import ANCHORS, is_export, load_export
from radz.metrics.headline import monitored
from radz.models import factory
from radz.models.anchor_bank import AnchorBank
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, ExtraLoss, Given
from radz.models.extra_losses import ADDED, extra_losses, without_losses
from radz.models.first_loss import FirstLoss, FirstPairs
from radz.models.geometry import of_encoder, told_of_sinks
from radz.models.gradient_cache import cached_features
from radz.models.labels import LabelView, batch_texts, label_view, training_prior
from radz.models.losses import Features, Focus, alignment, of_both_sides, positive_pairs
from radz.models.prompts import check_prompts
from radz.models.retrieval_features import Keeper, Kept
from radz.models.zero_shot import ClassTexts, ZeroShot
from radz.training.checkpoint_io import check_weights, content_digest
from radz.training.fsdp import local, shard
from radz.training.optimizer import adamw, keep_scale

log = logging.getLogger(__name__)
FIRST_BIAS = -2.0
"""where the bias of the sigmoid category loss starts: about one known pair in eight is a present finding"""
FIRST_BIASES = torch.tensor([-2.0, 0.0])
"""and those of what statements say and deny"""
PART_OF_CHECKPOINTS = ("encoder.centre.", "first_loss.", "first_pairs.", ADDED)
"""buffers of these names hold what was measured of features, or what added losses hold"""
LARGE_BANK = 512
"""anchors from which on the ranks share the work of the anchor head"""
SAMPLE = 256
"""studies of the test whose features show their geometry"""


class DFAT(Scored):
    """Aligns image and report features, and both with the anchors.

    Args:
        encoder: backbone and heads.
        bank: training bank; its raw vectors are part of the checkpoint.
        labels: label columns and policies of the corpora.
        texts: findings scored in validation and test; `of_bank`: those of the training bank.
        class_anchors: raw vectors [C, d], or sets [C, S, d], of those findings, NaN rows where there is none.
        modalities: one for each corpus that `StudyBatch.corpus` counts.
        extras: losses that are added, by name, as `extra_losses` makes them.
        prior: [K], see `training_prior`, of the findings of the bank, where `dkam.logit_adjustment` asks for them.
        seed: of what added losses draw.
    """

    bank: AnchorBank

    def __init__(
        self, encoder: Encoder, bank: AnchorBank, labels: LabelView, texts: ClassTexts, of_bank: ClassTexts,
        class_anchors: Tensor, dfat: DfatConfig, dkam: DkamConfig, scoring: ScoringConfig, modalities: Sequence[str],
        extras: Mapping[str, ExtraLoss] | None = None, prior: Tensor | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.dkam, self.extras, self.seed = dkam, dict(extras or {}), seed
        self.added = nn.ModuleDict({name: one for name, one in self.extras.items() if isinstance(one, nn.Module)})
        self.strict_loading = False  # frozen weights are not in the checkpoint; on_load_checkpoint checks the rest
        self.encoder, self.bank, self.dfat, self.gradient_clip = encoder, bank, dfat, dfat.gradient_clip
        self.base_digest = bank.info.base_digest
        self.headline, self.modalities = monitored(scoring.headline), tuple(modalities)
        self.anchors: Tensor
        self.class_anchors: Tensor
        self.register_buffer("anchors", bank.vectors.clone())
        self.register_buffer("class_anchors", class_anchors.clone(), persistent=False)
        self.prior: Tensor | None
        self.register_buffer("prior", None if prior is None else dkam.logit_adjustment * prior, persistent=False)
        self.focus = Focus(dkam.focus_present, dkam.focus_absent, dkam.absent_margin)
        first_bias = torch.tensor([0.0 if dkam.logit_adjustment else FIRST_BIAS])
        self.category_bias = nn.Parameter(first_bias) if dkam.category == "sigmoid" else None
        by_sigmoid = dfat.alignment == "sigmoid"
        self.alignment_bias = nn.Parameter(torch.tensor([FIRST_BIAS])) if by_sigmoid else None
        self.first_pairs = FirstPairs() if by_sigmoid else None
        self.local_bias = nn.Parameter(torch.tensor([FIRST_BIAS])) if dfat.local_weight else None
        self.statement_bias = nn.Parameter(FIRST_BIASES.clone()) if dfat.statements_weight else None
        first = torch.tensor([-math.log(dfat.temperature)])
        self.log_scale = nn.Parameter(first) if dfat.learn_temperature else None
        self.first_loss = FirstLoss() if dfat.temperature_warmup else None
        # What no corpus labels is unknown in every study and tells none from another; no_finding follows from the rest.
        self.pair_names = [name for name in bank.names if name in (*labels.findings, NO_FINDING)]
        self.classifier = ZeroShot(encoder, texts, of_bank, dfat, scoring, modalities)
        self._warned, self._measured = False, -1
        self.set_up(labels, texts.findings)

    @property
    def temperature(self) -> float | Tensor:
        """As configured, or [1] as learned."""
        return self.dfat.temperature if self.log_scale is None else (-self.log_scale).exp()

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Total loss of one batch."""
        if self.refreshes and self.global_step and self.global_step % self.dkam.anchor_refresh_steps == 0:
            self.refresh_anchors()
        texts, digest = batch_texts(batch, self.label_view, self.dfat, self.modalities)
        given = Given(self.global_step, batch, texts, modalities_of(batch, self.modalities), self.seed)
        image, text = self._features(batch, texts)
        own = {name: extra.encode(self.encoder, given) for name, extra in self.extras.items()}
        usable = torch.tensor([bool(words) for words in texts], device=self.device)
        projector_alone = self.global_step < self.dfat.projector_warmup_steps
        with torch.autocast(self.device.type, enabled=False):
            if centre := self.encoder.centre:
                of_batch = self.dfat.centre == "batch"
                image = centre.training_step(image, "image", torch.ones_like(usable), of_batch)
                text = centre.training_step(text, "text", usable, of_batch)
            anchors = over_ranks(self.encoder.anchor_features, self.anchors, LARGE_BANK)
            anchors = self.encoder.of_bank(anchors).taken_from(anchors)
            seen, labels = (self.label_view.for_losses(batch, of) for of in (self.bank.names, self.pair_names))
            temperature, bias = self._temperature_and_bias(image, text, usable, anchors, seen)
            pairs = positive_pairs(batch.rows, digest, self.dfat.positives, labels)
            aligned = alignment(
                image, text, pairs, usable, loss=self.dfat.loss, temperature=temperature,
                global_weight=self.dfat.global_weight,
                bias=self._pairs_bias(image, text, pairs, usable, temperature),
            )  # fmt: skip
            settings: dict[str, Any] = {"temperature": temperature, "bias": bias}
            rare: dict[str, Any] = {"prior": self.prior, "focus": self.focus}
            guided, used = of_both_sides(image, text, anchors, seen, usable, **settings, **rare)
            weight = 1.0 if projector_alone else self.dfat.alignment_weight
            loss = weight * aligned + (1 - weight) * guided
            level = self.first_loss.level if self.first_loss else 0.0
            encoded = Encoded(image, text, usable, anchors, seen, settings, level)
            parts = {
                name: extra.loss(self.encoder, given, encoded, own[name], self._bias_of(name))
                for name, extra in self.extras.items()
            }
        for name, part in parts.items():
            # Times nothing, not left out: DDP waits for a gradient of every weight.
            loss = loss + (0.0 if projector_alone else self.extras[name].weight) * part
        self._log_step(aligned, guided, used, torch.maximum(image.peak_share, text.peak_share), parts)
        return self.log_loss(loss, batch)

    def _bias_of(self, extra: str) -> Tensor:
        """What an added loss learns beside the encoder; empty where it learns none."""
        bias = {"statements": self.statement_bias, "local": self.local_bias}.get(extra)
        return self.anchors.new_zeros(0) if bias is None else bias

    def _temperature_and_bias(
        self, image: Features, text: Features, usable: Tensor, anchors: Tensor, labels: Tensor
    ) -> tuple[float | Tensor, Tensor | None]:
        """Those of this step; with `dfat.temperature_warmup` on their way from a start that the first step tells."""
        if (start := self.first_loss) is None:
            return self.temperature, self.category_bias
        begin = self.dfat.projector_warmup_steps
        if self.global_step in (0, begin):
            settings = self.dfat.loss, self.dfat.global_weight
            of_labels = start.measure(image, text, usable, anchors, labels, *settings)
            if self.category_bias is not None:  # a prior holds how common findings are
                local(self.category_bias.detach()).fill_(of_labels * (self.prior is None))
            first = float(torch.as_tensor(self.temperature).detach())
            log.info(
                "temperature: %.3g in the first step, falls to %.3g over %.0f %% of the steps",
                float(start.temperature(first, 0.0)), first,
                100 * self.dfat.temperature_warmup,
            )  # fmt: skip
        steps = self.dfat.temperature_warmup * (self.trainer.estimated_stepping_batches - begin)
        temperature = start.temperature(self.temperature, max(0, self.global_step - begin) / max(1.0, steps))
        self.log("train/temperature", temperature)
        bias = None if self.category_bias is None else self.category_bias - start.level / temperature
        return temperature, bias

    def _pairs_bias(
        self, image: Features, text: Features, pairs: Tensor, usable: Tensor, temperature: float | Tensor
    ) -> Tensor | None:
        """[1], what the sigmoid alignment loss adds to its logits; the first step tells where it starts."""
        if self.alignment_bias is None or self.first_pairs is None:
            return None
        if self.global_step in (0, self.dfat.projector_warmup_steps):
            settings = self.dfat.loss, self.dfat.global_weight
            first = self.first_pairs.measure(image, text, pairs, usable, *settings)
            local(self.alignment_bias.detach()).fill_(first)
        return self.alignment_bias - self.first_pairs.level / temperature

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
        images = batch.pixels, batch.image_counts, modalities_of(batch, self.modalities)
        if self.dfat.gradient_cache:
            return cached_features(self.encoder, *images, texts, self.dfat.gradient_cache)
        return self.encoder.encode_images(*images, raw=True), self.encoder.encode_texts(texts, raw=True)

    def _log_step(
        self, aligned: Tensor, guided: Tensor, used: Tensor, share: Tensor, parts: Mapping[str, Tensor]
    ) -> None:
        self.log_dict(
            {
                **{f"train/loss_{name}": part.detach() for name, part in parts.items()},
                "train/loss_alignment": aligned,
                "train/loss_category": guided,
                "train/category_used_fraction": used,
                "train/peak_share": share[0],
                "train/top_percent_share": share[1],
                "lr": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            }
        )
        if self.log_scale is not None and self.first_loss is None:
            self.log("train/temperature", self.temperature)
        # Reading the share waits for the device, so it is looked at now and then only.
        if not self._warned and self.global_step % 50 == 0:
            self._warned = told_of_sinks(share)

    def on_train_batch_start(self, batch: StudyBatch, batch_idx: int) -> None:
        """Start the clock of the throughput meter."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: StudyBatch, batch_idx: int) -> None:
        """Keep a learned temperature within its bounds; log study-report pairs per second over all ranks."""
        if self.log_scale is not None:
            keep_scale(self.log_scale)
        seconds = time.perf_counter() - self._started
        self.log("pairs_per_second", len(batch) * world()[1] / seconds, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """Anchors and means of the weights that last.ckpt will hold, also where no validation came before."""
        if self.refreshes:
            self.refresh_anchors()
        self._measure_centre()

    def on_validation_epoch_start(self) -> None:
        """The means of the weights of now; then as every method."""
        if self.encoder.centre is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._measure_centre()
        super().on_validation_epoch_start()

    def _measure_centre(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if self.encoder.centre is not None and data is not None and self._measured != self.global_step:
            self._measured = self.global_step
            # As in a step: in bfloat16 features are not what they are in float32, by more than tells them apart.
            with self.trainer.precision_plugin.forward_context():
                feature_means.measure(self.encoder, data, self.label_view, self.modalities)

    def configure_model(self) -> None:
        """Shard under FSDP2; called before every stage."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            # Each call of the decoder gathers its weights over the ranks, which must all make equally many.
            self.encoder.text_groups = 1
            shard(self, strategy.device_mesh["data_parallel"], self.trainer.precision == "bf16-mixed")

    def configure_optimizers(self) -> Any:
        """A rate for base (decoder and tower), projector and heads each, and for the tower where it has its own; the
        temperature goes at the heads' rate."""
        rates = {"base": self.dfat.learning_rate, "projector": self.dfat.projector_learning_rate}
        rates |= dict.fromkeys(("heads", "temperature"), self.dfat.head_learning_rate)
        rates |= {"tower": self.dfat.tower_learning_rate} if self.dfat.tower_learning_rate else {}
        named = list(self.named_parameters())
        parts = {key: (rate, [item for item in named if self._part_of(item[0]) == key]) for key, rate in rates.items()}
        first, steps = self.dfat.projector_warmup_steps, int(self.trainer.estimated_stepping_batches)
        alone = ("projector", first, self.dfat.projector_warmup_rate) if first else None
        return adamw(parts, self.dfat.weight_decay, steps, self.dfat.warmup, alone)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """In the projector's own steps nothing else moves, not even by its momentum or decay."""
        if self.global_step < self.dfat.projector_warmup_steps:
            for name, parameter in self.named_parameters():
                if self._part_of(name) != "projector":
                    parameter.grad = None
        super().on_before_optimizer_step(optimizer)

    def _part_of(self, name: str) -> str:
        if name == "log_scale":
            return "temperature"
        if ".heads." in name or name.startswith(ADDED) or (name.endswith("_bias") and "." not in name):
            return "heads"
        part = self.encoder.backbone.part_of(name)
        return part if part == "projector" or (part == "tower" and self.dfat.tower_learning_rate) else "base"

    def begin(self) -> None:
        """Encode the class texts with the weights of now."""
        self._sample: list[Tensor] = []
        if self.refreshes:
            self.refresh_anchors()
        self.classifier.refresh(self.anchors, self.class_anchors, float(self.temperature))
        self.classifier.encode_wordings(self.wordings or {})

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`: all scorers of the classifier."""
        modalities = modalities_of(batch, self.modalities)
        self._image = self.classifier.encode(batch.pixels, batch.image_counts, modalities)
        if sum(map(len, self._sample)) < SAMPLE:
            self._sample.append(self._image.overall.float().cpu())
        return self.classifier.score_features(self._image, batch.image_counts, modalities)

    def geometry(self, kept: Kept | None) -> dict[str, Any]:
        """See `geometry.of_encoder`; `kept`: texts."""
        images, texts = torch.cat(self._sample)[:SAMPLE], kept.text.overall[:SAMPLE] if kept else None
        return of_encoder(self.encoder, images, texts, self.anchors, self.classifier.prompts())

    def agreement(self, batch: StudyBatch) -> dict[str, Tensor]:
        return self.classifier.agreement(self._image, batch.image_counts, modalities_of(batch, self.modalities))

    def keep(self, batch: StudyBatch, keeper: Keeper) -> None:
        keeper.add(batch, self.classifier.study_features(self._image, batch.image_counts), self.encoder)

    def kept(self) -> set[str]:
        """Anchors too, which with `anchor_refresh: frozen` nothing encodes again, and what was measured of features."""
        measured = {name for name, _ in self.named_buffers() if name.startswith(PART_OF_CHECKPOINTS)}
        return super().kept() | {"anchors"} | measured

    def note(self) -> dict[str, Any]:
        return {
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
        if cause := base_change(note.get("base_digest", ""), self.bank.info.base_digest):
            raise InputError(f"checkpoint: it was trained on another backbone: {cause}; start a new run")
        if note["findings"] != list(self.bank.names):
            raise InputError("checkpoint: its anchor bank holds other findings than this run; start a new run")
        if "state_dict" not in checkpoint:
            return  # FSDP's strategy has loaded and taken it; `radz.runs.train` has checked it
        checkpoint["state_dict"] = without_losses(checkpoint["state_dict"], self.extras)
        if apart := self.kept() ^ set(checkpoint["state_dict"]):
            raise InputError(
                f"checkpoint: its trainable parts differ from this run's, first at {min(apart)}; start a new run"
            )
        check_weights(checkpoint["state_dict"], self.state_dict(), strict=False)

    def trained_bank(self, checkpoint: Mapping[str, Any]) -> AnchorBank:
        """The bank with the anchors of a checkpoint, which was loaded, and a note of what encoded them."""
        if not self.refreshes:
            return self.bank
        weights = {name: value for name, value in checkpoint["state_dict"].items() if name != "anchors"}
        info = replace(self.bank.info, adapter_digest=content_digest(weights), step=checkpoint["global_step"])
        return replace(self.bank, vectors=self.anchors.detach().cpu().clone(), info=info)


def build(task: Task) -> DFAT:
    """See `registry.build`, with base weights where the folder is no export. A bank there is used again."""
    experiment, data, findings, folder = task.experiment, task.data, task.findings, task.folder
    bank = AnchorBank.load(folder / ANCHORS) if folder and (folder / ANCHORS / "anchors.json").is_file() else None
    names = bank.names if bank else dkam.bank_findings(experiment.dkam, data)
    check_prompts(experiment.scoring, experiment.data, findings)
    dkam.check_anchors(experiment.dkam, experiment.scoring.headline, findings, names, bank is not None)
    model = load_export(folder)[1] if folder is not None and is_export(folder) else dkam.base_encoder(task, bank, names)
    texts = factory.class_texts(findings, model.file, experiment.data, experiment.dkam.aspects)
    anchors = model.class_anchors(texts, experiment.dkam, experiment.trainer.accelerator)
    model.encoder.check_images(data.most_images(), experiment.data.image_size)
    sections = experiment.dfat, experiment.dkam, experiment.scoring
    of_bank = factory.class_texts(model.bank.names, model.file, experiment.data, experiment.dkam.aspects)
    known, view, names = known_findings(experiment.data), label_view(data), model.bank.names
    extras = {} if task.known else extra_losses(experiment.dfat, model.encoder, model.bank, known, data.modalities)
    adjusted, kind = experiment.dkam.logit_adjustment, experiment.dkam.category
    prior = training_prior(view, data, names, kind) if adjusted else None
    given = view, texts, of_bank, anchors, *sections, data.modalities, extras, prior, experiment.seed
    module = DFAT(model.encoder, model.bank, *given)
    module.train()
    log_trainable(module)
    return module
