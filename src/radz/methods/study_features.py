"""One vector per study, from the encoder that `supervised.encoder` names."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.files import add_file
from radz.config.supervised import SupervisedConfig
from radz.methods.base import Classifier, Task, modalities_of
from radz.methods.clip import load_clip
from radz.methods.dual_encoder import TwoTowers
from radz.methods.export_folder import is_export
from radz.methods.trained import load_trained, trained_experiment
from radz.models import factory
from radz.models.encoder import Encoder
from radz.models.labels import LabelView, label_view
from radz.models.losses import normalise
from radz.models.pooling import study_mean
from radz.training.checkpoint_io import check_weights, read_checkpoint

Head = TypeVar("Head", bound="OnFeatures")
SAME = ("image_size", "resize", "equalize", "frames", "ct")
"""keys of `data` that must be as in the run whose encoder is used"""


class Collector(LightningModule):
    """Features of studies in the place of scores, through a Trainer, which places `module` on its devices."""

    def __init__(self, module: nn.Module, features: Callable[[StudyBatch], Tensor]) -> None:
        """`features`: a batch of B studies to [B, P], by `module`."""
        super().__init__()
        self.module, self.compute = module, features
        self.scored: list[tuple[Tensor, dict[str, Tensor]]] = []

    def test_step(self, batch: StudyBatch, batch_idx: int) -> None:
        """Keep the features of one batch."""
        self.scored.append((batch.rows.cpu(), {"features": self.compute(batch).float().cpu()}))


class StudyFeatures(nn.Module):
    """B studies to float32 [B, width]: features of a DFAT encoder, or the mean of a CLIP's L2-normalised images."""

    def __init__(self, encoder: Encoder | TwoTowers, kind: str) -> None:
        """`kind`: global, local or both; a CLIP has one vector per image, whatever it says."""
        super().__init__()
        self.encoder, self.kind = encoder, kind
        self.width = encoder.width * (2 if kind == "both" and isinstance(encoder, Encoder) else 1)

    def forward(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Tensor:
        """Arguments as for `Encoder.encode_images`."""
        if isinstance(self.encoder, TwoTowers):
            return study_mean(normalise(self.encoder.images(pixels)), counts)
        found = self.encoder.encode_images(pixels, counts, modalities)
        sides = {"global": [found.overall], "local": [found.local], "both": [found.overall, found.local]}
        return torch.cat(sides[self.kind], dim=1)

    def only_images(self) -> None:
        """Freeze what has no part in the features of images."""
        if isinstance(self.encoder, Encoder):
            for side in ("text", "anchor"):
                self.encoder.heads[side].requires_grad_(False)
        else:
            self.encoder.only_images()


class OnFeatures(Classifier):
    """Base of the methods on the features of an encoder, from which the frozen part of it can be had again.

    Args:
        outputs: the K findings that are learned; findings: the C that are scored.
        modalities: one for each corpus.
    """

    def __init__(
        self, features: StudyFeatures, config: SupervisedConfig, labels: LabelView, outputs: Sequence[str],
        findings: Sequence[str], modalities: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.strict_loading = False
        self.features, self.config, self.modalities = features, config, tuple(modalities)
        self.set_outputs(labels, outputs, findings)
        self.make_head(features)

    @abc.abstractmethod
    def make_head(self, features: StudyFeatures) -> None:
        """Make what is learned on the features, and freeze what of them is not."""

    def features_of(self, batch: StudyBatch) -> Tensor:
        """[B, width]."""
        features: Tensor = self.features(batch.pixels, batch.image_counts, modalities_of(batch, self.modalities))
        return features

    def note(self) -> dict[str, Any]:
        return {"base_digest": self.base_digest, "findings": list(self.outputs)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another encoder, of other findings or of other trainable parts."""
        if checkpoint.get("radz") != self.note():
            raise InputError("checkpoint: it is of another encoder or of other findings; start a new run")
        if apart := self.kept() ^ set(checkpoint["state_dict"]):
            raise InputError(f"checkpoint: its trainable parts are others, first {min(apart)}; start a new run")


def build(kind: type[Head], task: Task) -> Head:
    """A probe or a fine-tuned head on the features of `supervised.encoder`; see `registry.build`.

    Raises:
        InputError: the run is none of method dfat or clip, its pixels were made otherwise, or the studies do not fit.
    """
    experiment, data = task.experiment, task.data
    settings, seed, cache_dir = experiment.supervised, experiment.seed, experiment.cache_dir
    encoder: Encoder | TwoTowers
    if settings.encoder == "backbone":
        where = experiment.trainer.accelerator
        encoder, digest = factory.encoder(experiment.backbone, experiment.dfat, seed, cache_dir, where)
    elif settings.encoder == "clip":
        encoder, digest = load_clip(experiment.clip, experiment.data.image_size, seed, cache_dir)
    else:
        encoder, digest = _trained_encoder(Path(str(settings.run)).expanduser(), experiment.data, cache_dir)
    if isinstance(encoder, Encoder):
        encoder.check_images(data.most_images(), experiment.data.image_size)
    features = StudyFeatures(encoder, settings.features)
    outputs = task.known.get("findings", data.findings)
    module = kind(features, settings, label_view(data), outputs, task.findings, data.modalities)
    module.base_digest = digest
    return module


def _trained_encoder(folder: Path, data: DataConfig, cache_dir: str) -> tuple[Encoder | TwoTowers, str]:
    """The encoder of the run or export `supervised.run`, and the digest of what it began as and of its weights."""
    trained = trained_experiment(folder)
    for key in SAME if not is_export(folder) else SAME[:-1]:
        if getattr(trained.data, key) != getattr(data, key):
            raise InputError(
                f"data.{key}: {getattr(data, key)} conflicts with supervised.run, which was trained with "
                f"{getattr(trained.data, key)}; set it so"
            )
    encoder: Encoder | TwoTowers
    if trained.method == "clip":
        encoder, digest = load_clip(trained.clip, trained.data.image_size, trained.seed, cache_dir)
        if trained.clip.train:
            _load_clip_weights(encoder, folder / "checkpoints" / "best.ckpt")
    else:
        model = load_trained(folder, cache_dir=cache_dir)[1]
        encoder, digest = model.encoder, model.base_digest
    return encoder, f"{digest}-{_weights_digest(folder)}"


def _weights_digest(folder: Path) -> str:
    """12 hex digits of the trained weights of a run folder or an export."""
    digest = hashlib.blake2b(digest_size=6)
    files = sorted(folder.rglob("*.safetensors")) if is_export(folder) else [folder / "checkpoints" / "best.ckpt"]
    for file in files:
        add_file(digest, file)
    return digest.hexdigest()


def _load_clip_weights(clip: TwoTowers, checkpoint: Path) -> None:
    weights = read_checkpoint(checkpoint)["state_dict"]
    own = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    check_weights(own, clip.state_dict(), strict=True)
    clip.load_state_dict(own)
