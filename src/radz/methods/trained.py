"""A trained model, put together from its run folder or export folder, and what the folder says of it."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data_modules.errors import InputError
from data_modules.files import add_file
from radz.backbones.folder import read_json
from radz.config.files import digest as config_digest
from radz.config.schema import Experiment
from radz.methods import dkam, registry
from radz.methods.dfat import DFAT
from radz.methods.dkam import AnchoredEncoder
from radz.methods.export_folder import ANCHORS, RADZ_JSON, exported_experiment, is_export, load_export
from radz.metrics.headline import chosen
from radz.models import factory
from radz.models.anchor_bank import AnchorBank
from radz.models.descriptions import load_descriptions
from radz.models.labels import LabelView
from radz.training.checkpoint_io import load_weights
from radz.training.run_folder import DESCRIPTIONS, load_run, read_environment

log = logging.getLogger(__name__)


def load_trained(
    folder: Path, others: bool = False, accelerator: str | None = None, cache_dir: str | None = None, **backbone: Any
) -> tuple[Experiment, AnchoredEncoder]:
    """Experiment and model of a run folder or an export folder; a learned temperature is that of the experiment.

    Args:
        others: encode all that is described beyond the bank, while the base weights that do so are at hand.
        accelerator, cache_dir: in place of the run's own.
        backbone: keys of `backbone` that the model is loaded with in place of the run's own; an export takes depth and
            dtype.

    Raises:
        InputError: a run without a text side, or its parts do not belong together.
    """
    if is_export(folder):
        return load_export(
            folder, backbone.get("depth", "feature"), accelerator or "auto", backbone.get("dtype", "auto")
        )
    experiment = load_run(folder)
    if not registry.has_anchors(experiment.method):
        raise InputError(f"{folder}: a run of method {experiment.method} has no text side; give a run of method dfat")
    experiment.cache_dir = cache_dir or experiment.cache_dir
    experiment.trainer.accelerator = accelerator or experiment.trainer.accelerator
    warn_of_changes(folder)
    config, where = experiment.dkam, experiment.trainer.accelerator
    bank, file = AnchorBank.load(folder / ANCHORS), dkam.descriptions_file(config, folder)
    settings = replace(experiment.backbone, **backbone)
    encoder, digest = factory.encoder(settings, experiment.dfat, experiment.seed, experiment.cache_dir, where)
    digest = dkam.checked_base(bank, encoder, digest, experiment.backbone.path is None)
    model = AnchoredEncoder(encoder, bank, digest, file)
    if others and config.anchor_refresh == "frozen":
        encoder.eval()
        texts = factory.class_texts(list(load_descriptions(file)), file, experiment.data, config.aspects)
        model.others = model.more_anchors(texts, config, where)
    view = LabelView((), (), torch.zeros(1, 0, 4), torch.zeros(1, 0, 4))
    texts = factory.class_texts(bank.names, file, experiment.data, config.aspects)
    modalities = [corpus.modality for corpus in experiment.data.corpora]
    sections = experiment.dfat, config, experiment.scoring
    module = DFAT(encoder, bank, view, texts, texts, bank.vectors, *sections, modalities)
    load_weights(module, folder / "checkpoints" / "best.ckpt")
    if module.log_scale is not None:
        experiment.dfat.temperature = round(math.exp(-module.log_scale.item()), 6)
    return experiment, model


def trained_experiment(folder: Path) -> Experiment:
    """The experiment of a run folder or an export folder.

    Raises:
        InputError: neither of the two, or a run without its best checkpoint.
    """
    if is_export(folder):
        return exported_experiment(folder)[0]
    experiment, best = load_run(folder), folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise InputError(f"{best}: no such checkpoint; finish the run with its train command first")
    warn_of_changes(folder)
    return experiment


def warn_of_changes(folder: Path) -> None:
    """Say where the descriptions of a run may be others than in training: an earlier radz kept no copy of them."""
    experiment, before = load_run(folder), read_environment(folder).get("config_digest")
    unkept = registry.has_anchors(experiment.method) and not (folder / DESCRIPTIONS).is_file()
    if unkept and before is not None and before != (now := config_digest(experiment)):
        log.warning(
            "%s: its config.yaml or a file that it names (%s) is not that of the run (%s is not %s): scores by what "
            "is described may be others; put the old one back", folder, experiment.dkam.descriptions, now, before,
        )  # fmt: skip


def knowledge(folder: Path) -> dict[str, Any]:
    """`findings` (label columns of training) and `seen` (`task.seen_findings`) of a run or export folder."""
    noted = read_json(folder, RADZ_JSON).get("known") if is_export(folder) else read_environment(folder)
    if not isinstance(noted, dict) or not {"findings", "seen"} <= set(noted):
        raise InputError(f"{folder}: does not say what the run has seen; train it again")
    return {key: noted[key] for key in ("findings", "seen")}


def headline_of(folder: Path) -> str:
    """The headline scorer of a finished run or an export."""
    if is_export(folder):
        return str(read_json(folder, RADZ_JSON)["headline_scorer"])
    return chosen(load_run(folder).scoring.headline, folder)


def computed_in(folder: Path) -> tuple[str | None, str]:
    """`trainer.precision` and `backbone.dtype` as they came out where a run, or the run that was exported, made its
    scores; None and auto where an earlier radz exported it.
    """
    if is_export(folder):
        content = read_json(folder, RADZ_JSON)
        return content.get("precision"), content.get("backbone_dtype", "auto")
    noted, run = read_environment(folder), load_run(folder)
    # An earlier radz noted the GPUs alone.
    on_gpu = bool(noted.get("gpus")) and run.trainer.accelerator != "cpu"
    precision, dtype = run.trainer.precision, run.backbone.dtype
    auto = ("bf16-mixed", "bfloat16") if on_gpu else ("32-true", "float32")
    if precision == "auto" and "precision" in noted:
        auto = (noted["precision"], "bfloat16" if noted["precision"] == "bf16-mixed" else "float32")
    precision = noted.get("precision") or (auto[0] if precision == "auto" else precision)
    return precision, noted.get("backbone_dtype") or (auto[1] if dtype == "auto" else dtype)


def run_digest(folder: Path) -> str | None:
    """The digest of the experiment of a run, or of the run that was exported; None where an earlier radz wrote none."""
    if is_export(folder):
        return read_json(folder, RADZ_JSON).get("run")
    return read_environment(folder).get("config_digest")


def weights_digest(folder: Path) -> str:
    """Of the files with the trained weights and anchors of a run or an export: 24 hex digits of BLAKE2b."""
    files = sorted((folder if is_export(folder) else folder / ANCHORS).rglob("*.safetensors"))
    digest = hashlib.blake2b(digest_size=12)
    for file in files if is_export(folder) else [folder / "checkpoints" / "best.ckpt", *files]:
        add_file(digest, file)
    return digest.hexdigest()
