"""What a trained model is made of, from a run folder or from an export folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data_modules.errors import InputError
from radz import build
from radz.anchors import AnchorBank
from radz.backbones import load_backbone
from radz.backbones.folder import read_json
from radz.config import Experiment
from radz.dkam import encode_now
from radz.encode import Encoder
from radz.environment import folder_digest
from radz.experiment import from_plain
from radz.exporting.folder import ADAPTER, ANCHORS, BACKBONE, HEADS, OTHER_ANCHORS, RADZ_JSON
from radz.run_folder import load_run, read_environment
from radz.scoring.results import Thresholds
from radz.scoring.zero_shot import ClassTexts

FROZEN = {"modality_tokens": "keep", "train": "frozen", "train_projector": False}
"""Backbone settings of a model that is only used."""


@dataclass
class Trained:
    """A trained encoder, its training bank, and where further anchors come from."""

    encoder: Encoder
    bank: AnchorBank
    base_digest: str
    file: Path
    """descriptions"""
    others: AnchorBank | None = None
    """anchors beyond the training bank, where the base weights that encode them are not at hand"""

    def class_anchors(self, experiment: Experiment, texts: ClassTexts, base: Encoder | None = None) -> torch.Tensor:
        """Raw anchors [C, d]; see `build.class_anchors`. `base`: an encoder with base weights, where there is one."""
        if self.others is not None:
            return build.known_anchors(self.bank.extended(self.others), texts)
        if experiment.dkam.anchor_refresh == "every_n_steps":
            return encode_now(self.encoder, texts.descriptions, experiment.dkam.anchor_encoder).cpu()
        return build.class_anchors(experiment, self.bank, self.base_digest, texts, self.file, base)


def load_trained(experiment: Experiment, folder: Path) -> Trained:
    """A run folder's model.

    Raises:
        InputError: a run without a text side, or its parts do not belong together.
    """
    if experiment.method != "dfat":
        raise InputError(f"{folder}: a run of method {experiment.method} has no text side; give a run of method dfat")
    bank = AnchorBank.load(folder / ANCHORS)
    encoder, digest = build.encoder(experiment)
    bank.check_base(digest, encoder.backbone.hidden_size)
    file = build.stored_descriptions(experiment, folder)
    build.restore(experiment, encoder, bank, file, folder / "checkpoints" / "best.ckpt")
    return Trained(encoder, bank, digest, file)


def is_export(folder: Path) -> bool:
    """Whether a folder is what `radz export` wrote."""
    return (folder / RADZ_JSON).is_file()


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
    return experiment


def knowledge(folder: Path) -> dict[str, Any]:
    """`findings` (label columns of training) and `seen` (`build.seen_findings`) of a run or export folder."""
    found = read_json(folder, RADZ_JSON).get("known") if is_export(folder) else read_environment(folder)
    if not isinstance(found, dict) or not {"findings", "seen"} <= set(found):
        raise InputError(f"{folder}: does not say what the run has seen; train it again")
    return {key: found[key] for key in ("findings", "seen")}


def exported_thresholds(folder: Path, corpus: str) -> tuple[str, Thresholds] | None:
    """Validation thresholds that an export folder keeps for a corpus (or for its only one), and where they are from."""
    every = read_json(folder, RADZ_JSON).get("thresholds", {})
    keys = [key for key in every if key.rpartition("/")[0] == corpus] or list(every)[: len(every) == 1]
    return next(((key, every[key]["validation"]) for key in keys if every[key].get("validation")), None)


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
    plain["dkam"] = {**plain.get("dkam", {}), "descriptions": str(folder / "descriptions.yaml")}
    return from_plain(plain, str(folder / RADZ_JSON)), content


def load_export(folder: Path, depth: str = "feature") -> tuple[Experiment, Trained]:
    """Experiment and model of an export folder, its decoder as deep as `backbone.depth` would say.

    Raises:
        InputError: a part is missing, damaged, or was changed after the export.
    """
    experiment, content = exported_experiment(folder)
    experiment.backbone.depth = depth
    merged = content["backbone"]["merged"]
    place = folder / BACKBONE
    dfat = experiment.dfat
    backbone = load_backbone(experiment.backbone, place, dfat.image_tokens, dfat.text_tokens)
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
    return experiment, Trained(encoder, bank, content["base"]["digest"], folder / "descriptions.yaml", others)


def _unchanged(place: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise InputError(f"{place}: not as it was exported ({found} is not {wanted}); export the run again")


def _load_heads(encoder: Encoder, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        encoder.heads.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:120]
        raise InputError(f"{file}: not the heads of this export ({cause}); export the run again") from None
