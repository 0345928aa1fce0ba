"""One vector per study, from the encoder that `supervised.encoder` names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from data_modules.base import StudyDataModule
from data_modules.errors import InputError
from radz import build as parts
from radz.baselines.clip import load_clip
from radz.baselines.cnn import study_mean
from radz.baselines.scored import Scored
from radz.baselines.two_towers import TwoTowers
from radz.checkpoints import check_weights, read_checkpoint
from radz.config import Experiment
from radz.encode import Encoder
from radz.exporting.load import is_export, load_export, load_trained, trained_experiment
from radz.losses import normalise

Head = TypeVar("Head", bound=Scored)
SAME = ("image_size", "resize", "equalize", "frames", "ct")
"""keys of `data` that must be as in the run whose encoder is used"""


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


def load_features(experiment: Experiment, data: StudyDataModule) -> tuple[StudyFeatures, str]:
    """The encoder of `supervised.encoder`, and what its weights began as.

    Raises:
        InputError: the run is none of method dfat or clip, its pixels were made otherwise, or the studies do not fit.
    """
    features, digest = _load(experiment)
    if isinstance(features.encoder, Encoder):
        features.encoder.check_images(data.most_images(), experiment.data.image_size)
    return features, digest


def _load(experiment: Experiment) -> tuple[StudyFeatures, str]:
    settings = experiment.supervised
    if settings.encoder == "backbone":
        encoder, digest = parts.encoder(experiment)
        return StudyFeatures(encoder, settings.features), digest
    if settings.encoder == "clip":
        clip, digest = load_clip(experiment)
        return StudyFeatures(clip, settings.features), digest
    folder = Path(str(settings.run)).expanduser()
    trained = trained_experiment(folder)
    for key in SAME if not is_export(folder) else SAME[:-1]:
        if getattr(trained.data, key) != getattr(experiment.data, key):
            raise InputError(
                f"data.{key}: {getattr(experiment.data, key)} conflicts with supervised.run, which was trained with "
                f"{getattr(trained.data, key)}; set it so"
            )
    trained = replace(trained, cache_dir=experiment.cache_dir)
    if trained.method == "clip":
        clip, digest = load_clip(trained)
        if trained.clip.train:
            _load_clip_weights(clip, folder / "checkpoints" / "best.ckpt")
        return StudyFeatures(clip, settings.features), f"{digest}-{_weights_digest(folder)}"
    found = load_export(folder)[1] if is_export(folder) else load_trained(trained, folder)
    return StudyFeatures(found.encoder, settings.features), f"{found.base_digest}-{_weights_digest(folder)}"


def head_on_features(
    kind: type[Head], experiment: Experiment, data: StudyDataModule, findings: tuple[str, ...], known: Mapping[str, Any]
) -> Head:
    """A probe or a fine-tuned head on the features of `supervised.encoder`; arguments as for `build_baseline`."""
    features, digest = load_features(experiment, data)
    outputs = tuple(known["findings"]) if known else data.findings
    view = parts.label_view(data)
    module = kind(features, experiment.supervised, view, outputs, findings, data.modalities)  # type: ignore[call-arg]
    module.base_digest = digest
    return module


def note(base_digest: str | None, outputs: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint of a head on features says of its encoder and its findings."""
    return {"base_digest": base_digest, "findings": list(outputs)}


def check_note(checkpoint: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another encoder or of other findings."""
    if checkpoint.get("radz") != expected:
        raise InputError("checkpoint: it is of another encoder or of other findings; start a new run")


def _weights_digest(folder: Path) -> str:
    """12 hex digits of the trained weights of a run folder or an export."""
    digest = hashlib.blake2b(digest_size=6)
    files = sorted(folder.rglob("*.safetensors")) if is_export(folder) else [folder / "checkpoints" / "best.ckpt"]
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def _load_clip_weights(clip: TwoTowers, checkpoint: Path) -> None:
    weights = read_checkpoint(checkpoint)["state_dict"]
    own = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    check_weights(own, clip.state_dict(), strict=True)
    clip.load_state_dict(own)
