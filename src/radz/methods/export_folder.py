"""What `radz export` wrote, read back: the experiment and the model."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.folder import base_change, folder_digest, read_json
from radz.config.files import from_plain
from radz.config.schema import Experiment
from radz.methods.dkam import AnchoredEncoder
from radz.models import factory
from radz.models.anchor_bank import AnchorBank
from radz.models.encoder import Encoder
from radz.training.run_folder import DESCRIPTIONS, with_kept

RADZ_JSON, BACKBONE, ADAPTER, HEADS = "radz.json", "backbone", "adapter", "heads.safetensors"
CENTRE = "centre."
"""begins the names of the features' means in HEADS"""
ANCHORS, OTHER_ANCHORS = "anchors", "anchors_other"

log = logging.getLogger(__name__)
FROZEN = {"modality_tokens": "keep", "train": "frozen", "train_projector": False}
"""Backbone settings of a model that is only used."""


def is_export(folder: Path) -> bool:
    """Whether a folder is what `radz export` wrote."""
    return (folder / RADZ_JSON).is_file()


def exported_experiment(folder: Path) -> tuple[Experiment, dict[str, Any]]:
    """The experiment of an export folder, its backbone the exported one, and all of radz.json.

    Raises:
        InputError: radz.json is damaged or of a later version.
    """
    content = read_json(folder, RADZ_JSON)
    if content.get("schema") != 1:
        raise InputError(f"{folder / RADZ_JSON}: schema {content.get('schema')} is not known; update radz")
    try:
        plain = dict(content["experiment"])
        place = str(folder / content["backbone"]["folder"])
        plain["backbone"] = {**plain["backbone"], **FROZEN, "path": place}
        noted = [content["base"], content["backbone"], *([] if content["backbone"]["merged"] else [content["adapter"]])]
        if not all(isinstance(part["digest"], str) for part in noted):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{folder / RADZ_JSON}: damaged; export the run again") from None
    experiment = from_plain(plain, str(folder / RADZ_JSON))
    experiment.dkam = with_kept(experiment.dkam, folder)
    return experiment, content


def load_export(
    folder: Path, depth: str = "feature", accelerator: str = "auto", dtype: str = "auto"
) -> tuple[Experiment, AnchoredEncoder]:
    """Experiment and model of an export folder, `depth` and `dtype` as in `backbone`.

    `accelerator`: where it will compute, as in `trainer.accelerator`.

    Raises:
        InputError: a part is missing, damaged, or was changed after the export.
    """
    experiment, content = exported_experiment(folder)
    experiment.backbone.depth, experiment.backbone.dtype, experiment.trainer.accelerator = depth, dtype, accelerator
    experiment.scoring.headline = content.get("headline_scorer", experiment.scoring.headline)
    merged = content["backbone"]["merged"]
    place = folder / BACKBONE
    dfat = experiment.dfat
    backbone = load_backbone(
        factory.on_device(experiment.backbone, accelerator), place, dfat.image_tokens, dfat.text_tokens
    )
    ids = backbone.image_ids + backbone.text_ids
    _unchanged(place, folder_digest(place, ids), content["backbone"]["digest"])
    if not merged:
        from peft import PeftModel

        _unchanged(folder / ADAPTER, folder_digest(folder / ADAPTER, []), content["adapter"]["digest"])
        backbone.model = PeftModel.from_pretrained(backbone.model, str(folder / ADAPTER))
    encoder = Encoder(backbone, dfat)
    _load_heads(encoder, folder / HEADS)
    bank = AnchorBank.load(folder / ANCHORS)
    bank.check_base(content["base"]["digest"], backbone.hidden_size)
    others = replace(bank, names=(), descriptions=(), vectors=bank.vectors[:0])
    if (folder / OTHER_ANCHORS).is_dir():
        others = AnchorBank.load(folder / OTHER_ANCHORS)
        others.check_base(content["base"]["digest"], backbone.hidden_size)
    file = folder / DESCRIPTIONS
    return experiment, AnchoredEncoder(encoder, bank, content["base"]["digest"], file, others)


def _unchanged(place: Path, found: str, wanted: str) -> None:
    if "-" not in wanted and found.startswith(wanted):
        log.warning("%s: exported by an earlier radz; whether image processor and template changed is not known", place)
    elif cause := base_change(wanted, found):
        raise InputError(f"{place}: not as it was exported: {cause} ({found} is not {wanted}); export the run again")


def _load_heads(encoder: Encoder, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
        means = {name: tensors.pop(name) for name in list(tensors) if name.startswith(CENTRE)}
        encoder.heads.load_state_dict(tensors)
        if encoder.centre is not None:
            encoder.centre.load_state_dict({name.removeprefix(CENTRE): value for name, value in means.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:120]
        raise InputError(f"{file}: not the heads of this export ({cause}); export the run again") from None
