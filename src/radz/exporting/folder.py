"""Write an export folder: backbone, heads, anchors, radz.json and model card, as a whole or not at all."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.errors import InputError
from data_modules.files import new_folder
from radz import __version__, build
from radz.anchors import AnchorBank
from radz.backbones import Backbone
from radz.backbones.adapt import modality_tokens
from radz.backbones.folder import read_json
from radz.backbones.layers import layer_index
from radz.config import Experiment
from radz.descriptions import load_descriptions
from radz.encode import MODALITY_TEXT
from radz.environment import folder_digest
from radz.exporting.card import write_card
from radz.exporting.processor import SQUARE, write_processors
from radz.run_folder import load_run, read_environment, write_json

log = logging.getLogger(__name__)
RADZ_JSON, BACKBONE, ADAPTER, HEADS = "radz.json", "backbone", "adapter", "heads.safetensors"
ANCHORS, OTHER_ANCHORS = "anchors", "anchors_other"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHARD = "5GB"
PLAIN: dict[str, Any] = {"gradient_checkpointing": False, "compile": False, "quantize": "none"}
"""Settings of training that say nothing of the weights; LoRA of a 4-bit base is merged into the whole one."""


def export_run(run: str, out: str, merge: bool = True, dtype: str = "auto") -> Path:
    """Write the best checkpoint of a finished run to the new folder `out`.

    Args:
        merge: LoRA becomes part of the weights; else it stands in adapter/ as PEFT keeps it.
        dtype: of the weights: float32, float16, bfloat16, or auto, that of the backbone that was trained.

    Raises:
        InputError: not a finished run of method dfat, or `out` holds something.
    """
    folder, target = Path(run).expanduser(), Path(out).expanduser()
    experiment = load_run(folder)
    if experiment.method != "dfat":
        raise InputError(f"{folder}: a run of method {experiment.method} has no backbone; give a run of method dfat")
    metrics = read_json(folder, "metrics.json")
    if not metrics:
        raise InputError(f"{folder}: no metrics.json; the run is not finished, repeat its train command")
    base = build.backbone_folder(experiment)
    wanted = _dtype(base, dtype)
    with new_folder(target, "out") as draft:
        parts = _Trained(experiment, folder, base, wanted)
        merged = parts.write_backbone(draft, merge)
        parts.write_rest(draft)
        known = {key: read_environment(folder).get(key) for key in ("findings", "seen")}
        content = {
            "schema": 1,
            "radz": __version__,
            **parts.describe(draft, merged),
            "known": known,
            "headline_scorer": metrics["headline_scorer"],
            "thresholds": {key: of["thresholds"] for key, of in metrics["results"].items()},
            "experiment": portable(experiment),
        }
        write_json(draft / RADZ_JSON, content)
        write_card(draft / "README.md", content, metrics, read_environment(folder), experiment)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    log.info("%s: %.1f MB; see README.md there", target, size / 1e6)
    return target


def portable(experiment: Experiment) -> dict[str, Any]:
    """What use of the model needs of an experiment: no places, no tables, nothing of training but what it meant."""
    plain = asdict(experiment)
    found = {key: plain[key] for key in ("name", "method", "seed", "dfat", "dkam", "scoring")}
    found["trainer"] = {key: plain["trainer"][key] for key in ("max_epochs", "max_steps")}
    data = plain["data"]
    kept = {key: data[key] for key in ("image_size", "resize", "equalize", "frames", "ct")}
    corpora = [{key: corpus[key] for key in ("modality", "findings")} for corpus in data["corpora"]]
    backbone = {key: plain["backbone"][key] for key in ("feature_layer", "image_pool", "padding")}
    found["dkam"]["descriptions"], found["dkam"]["write"] = "descriptions.yaml", False
    found["dfat"]["lm_weight"] = 0.0  # needs a depth that use of the features does not
    return {**found, "data": {**kept, "corpora": corpora}, "backbone": backbone}


class _Trained:
    """A run's encoder at full depth, as trained; further anchors are encoded by the weights that encoded the bank."""

    def __init__(self, experiment: Experiment, folder: Path, base: Path, dtype: str) -> None:
        self.experiment, self.base_folder, self.dtype = experiment, base, dtype
        # float16 is for keeping, not for computing: LoRA is merged in float32 then.
        loaded = "bfloat16" if dtype == "bfloat16" else "float32"
        backbone = replace(experiment.backbone, depth="full", dtype=loaded, **PLAIN)
        settings = replace(experiment, backbone=backbone)
        self.bank = AnchorBank.load(folder / ANCHORS)
        self.encoder, self.base_digest = build.encoder(settings)
        self.encoder.eval()
        self.bank.check_base(self.base_digest, self.encoder.backbone.hidden_size)
        self.file = build.stored_descriptions(experiment, folder)
        others = [name for name in load_descriptions(self.file) if name not in self.bank.names]
        plain = replace(settings, dkam=replace(settings.dkam, write=False))
        self.others: AnchorBank | None = None
        restore = experiment, self.encoder, self.bank, self.file, folder / "checkpoints" / "best.ckpt"
        if experiment.dkam.anchor_refresh == "every_n_steps":
            build.restore(*restore)
        if others:
            self.others = build.bank(plain, self.encoder, self.base_digest, others, self.file)
        if experiment.dkam.anchor_refresh == "frozen":
            build.restore(*restore)

    @property
    def backbone(self) -> Backbone:
        """The encoder's backbone."""
        return self.encoder.backbone

    @torch.no_grad()
    def write_backbone(self, draft: Path, merge: bool) -> bool:
        """Write backbone/ (and adapter/); returns whether everything stands in backbone/."""
        backbone, model = self.backbone, self.backbone.model
        ids = backbone.image_ids + backbone.text_ids
        adapted = hasattr(model, "peft_config")
        if adapted and not merge:
            _write_adapter(model, draft / ADAPTER)
        if adapted:
            # Only the modality rows are adapted by value; they belong to the table either way.
            rows = next(value for name, value in model.named_parameters() if "trainable_tokens_delta" in name).clone()
            model = model.merge_and_unload() if merge else model.unload()
            table = model.get_input_embeddings().weight
            table[ids] = rows.to(table.dtype)
        model = model.to(DTYPES[self.dtype])
        model.config.dtype = DTYPES[self.dtype]
        model.save_pretrained(draft / BACKBONE, max_shard_size=SHARD)
        backbone.tokenizer.save_pretrained(draft / BACKBONE)
        write_processors(self.base_folder, self.experiment.data, draft / BACKBONE, draft / SQUARE)
        return merge or not adapted

    def write_rest(self, draft: Path) -> None:
        """Write heads, anchors and descriptions."""
        from safetensors.torch import save_file

        heads = {name: value.detach().contiguous() for name, value in self.encoder.heads.state_dict().items()}
        save_file(heads, draft / HEADS, metadata={"format": "pt"})
        self.bank.save(draft / ANCHORS)
        if self.others is not None:
            self.others.save(draft / OTHER_ANCHORS)
        shutil.copyfile(self.file, draft / "descriptions.yaml")

    def describe(self, draft: Path, merged: bool) -> dict[str, Any]:
        """What radz.json says of the model itself."""
        backbone, dfat = self.backbone, self.experiment.dfat
        settings = read_json(draft / BACKBONE, "config.json")
        layers = settings.get("text_config", settings)["num_hidden_layers"]
        image, text = modality_tokens(dfat.image_tokens, dfat.text_tokens)
        modalities = dict.fromkeys(corpus.modality for corpus in self.experiment.data.corpora)
        found: dict[str, Any] = {
            "architecture": settings["architectures"][0],
            "base": {"folder": self.base_folder.name, "digest": self.base_digest},
            "backbone": {
                "folder": BACKBONE, "dtype": self.dtype, "merged": merged,
                "digest": folder_digest(draft / BACKBONE, backbone.image_ids + backbone.text_ids),
            },
            "feature_layer": layer_index(self.experiment.backbone.feature_layer, layers),
            "tokens": {
                "image": dict(zip(image, backbone.image_ids, strict=True)),
                "text": dict(zip(text, backbone.text_ids, strict=True)),
                "image_placeholder": backbone.image_token,
                "per_image": backbone.tokens_per_image(self.experiment.data.image_size),
            },
            "image_prompts": {
                name: backbone.chat(dfat.instruction.format(modality=MODALITY_TEXT[name]), 1) for name in modalities
            },
        }  # fmt: skip
        if not merged:
            found["adapter"] = {"folder": ADAPTER, "digest": folder_digest(draft / ADAPTER, [])}
        return found


def _dtype(base: Path, wanted: str) -> str:
    """The dtype to write; auto is that of the backbone folder."""
    if wanted != "auto":
        if wanted not in DTYPES:
            raise InputError(f"dtype={wanted}: unknown; use auto, {', '.join(DTYPES)}")
        return wanted
    settings = read_json(base, "config.json")
    found = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    return found if found in DTYPES else "float32"


def _write_adapter(model: Any, out: Path) -> None:
    """LoRA as PEFT keeps it, without the modality rows, which stand in the table of backbone/."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    lora: dict[str, Tensor] = {
        name: value.detach().contiguous()
        for name, value in get_peft_model_state_dict(model, save_embedding_layers=False).items()
        if ".lora_" in name
    }
    config = replace(model.peft_config["default"], trainable_token_indices=None, inference_mode=True)
    config.base_model_name_or_path = f"../{BACKBONE}"
    config.save_pretrained(out)
    save_file(lora, out / "adapter_model.safetensors", metadata={"format": "pt"})
