"""Write an export folder: backbone, heads, anchors, radz.json and model card, as a whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from data_modules.errors import InputError
from data_modules.files import new_folder, write_json
from radz.backbones import Backbone
from radz.backbones.folder import folder_digest, read_json
from radz.backbones.layers import layer_index
from radz.backbones.lora import modality_tokens
from radz.config.schema import Experiment
from radz.inference.image_processor import FOUR_BIT, SQUARE, write_processors
from radz.inference.model_card import write_card
from radz.methods import registry, training_scope
from radz.methods.export_folder import (
    ADAPTER,
    ANCHORS,
    BACKBONE,
    CENTRE,
    HEADS,
    OTHER_ANCHORS,
    RADZ_JSON,
    exported_experiment,
    is_export,
)
from radz.methods.trained import computed_in, load_trained
from radz.methods.validation import KEY as VALIDATION
from radz.methods.validation import validations
from radz.metrics.results_file import headline_in, read_results
from radz.models import factory
from radz.models.descriptions import load_descriptions
from radz.models.labels import MODALITY_TEXT
from radz.training.run_folder import DESCRIPTIONS, SOURCES, keep_descriptions, load_run, read_environment
from radz.version import __version__

log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHARD = "5GB"
USED = (
    "image_tokens", "text_tokens", "instruction", "text_source", "label_sentence", "text_prompt", "max_text_tokens",
    "text_groups", "head", "head_width", "head_order", "local_pool", "token_norm", "centre", "loss", "global_weight",
    "temperature", "local_weight", "local_temperature", "sentences_weight", "sentences_by",
)  # fmt: skip
"""Keys of `dfat` that features, texts and scorers need; the others say how it trained, which may need weights that
train, a depth or a file of the user's."""
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
    if not registry.has_anchors(experiment.method):
        raise InputError(f"{folder}: a run of method {experiment.method} has no backbone; give a run of method dfat")
    metrics = read_results(folder)
    instruction, seed = experiment.dfat.instruction, experiment.seed
    base = factory.backbone_folder(experiment.backbone, instruction, seed, experiment.cache_dir)
    wanted = _dtype(base, dtype)
    architectures = read_json(base, "config.json").get("architectures", [])
    if wanted == "float16" and "Gemma3ForConditionalGeneration" in architectures:
        log.warning("dtype=float16: states of Gemma 3 exceed its largest number, 65,504; use bfloat16 or float32")
    if experiment.backbone.quantize == "4bit":
        log.warning("%s was trained on 4-bit weights: %s", folder, FOUR_BIT)
    with new_folder(target, "out") as draft:
        environment = read_environment(folder)
        parts = _Trained(folder, base, wanted)
        merged = parts.write_backbone(draft, merge)
        parts.write_rest(draft)
        if scopes := training_scope.read(folder):
            training_scope.write(scopes, draft)
        known = {key: environment.get(key) for key in ("findings", "seen")}
        content = {
            "schema": 1,
            "radz": __version__,
            **parts.describe(draft, merged),
            "known": known,
            "headline_scorer": headline_in(metrics, folder),
            "run": environment.get("config_digest"),
            **dict(zip(("precision", "backbone_dtype"), computed_in(folder), strict=True)),
            "thresholds": {key: of.get("thresholds", {}) for key, of in metrics["results"].items()},
            VALIDATION: {corpus: rules.plain() for corpus, rules in validations(folder).items()},
            "experiment": portable(parts.experiment),
        }
        write_json(draft / RADZ_JSON, content)
        exported_experiment(draft)  # as every use of the folder begins: what is refused there is never announced
        write_card(draft / "README.md", content, metrics, environment, experiment.data, experiment.backbone)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    log.info("%s: %.1f MB; see README.md there", target, size / 1e6)
    return target


@contextmanager
def backbone_of(source: str) -> Iterator[str]:
    """The backbone folder of a source: of a run or an export the trained one, there as long as the context lasts."""
    path = Path(source).expanduser()
    if is_export(path):
        yield str(path / BACKBONE)
    elif (path / "config.yaml").is_file():
        with TemporaryDirectory() as place:
            yield str(export_run(source, str(Path(place) / "export")) / BACKBONE)
    else:
        yield source


def portable(experiment: Experiment) -> dict[str, Any]:
    """What use of the model needs of an experiment: no places, no tables, nothing of training."""
    plain = asdict(experiment)
    settings = {key: plain[key] for key in ("name", "method", "seed", "dkam", "scoring")}
    settings["dfat"] = {key: plain["dfat"][key] for key in USED}
    settings["trainer"] = {key: plain["trainer"][key] for key in ("max_epochs", "max_steps")}
    data = plain["data"]
    kept = {key: data[key] for key in ("image_size", "resize", "equalize", "frames", "ct")}
    corpora = [{key: corpus[key] for key in ("modality", "findings")} for corpus in data["corpora"]]
    backbone = {key: plain["backbone"][key] for key in ("feature_layer", "image_pool", "padding")}
    sources = [f"{SOURCES}/{number}.yaml" for number in range(len(experiment.dkam.sources))]
    settings["dkam"] |= {"descriptions": DESCRIPTIONS, "sources": sources, "write": False}
    return {**settings, "data": {**kept, "corpora": corpora}, "backbone": backbone}


class _Trained:
    """A run's encoder at full depth, as trained; further anchors are encoded by the weights that encoded the bank."""

    def __init__(self, folder: Path, base: Path, dtype: str) -> None:
        self.base_folder, self.dtype = base, dtype
        # float16 is for keeping, not for computing: LoRA is merged in float32 then.
        loaded = "bfloat16" if dtype == "bfloat16" else "float32"
        self.experiment, model = load_trained(folder, others=True, depth="full", dtype=loaded, **PLAIN)
        model.encoder.eval()
        config, file = self.experiment.dkam, model.file
        if model.others is None:  # none is described, or the trained weights encode them
            texts = factory.class_texts(list(load_descriptions(file)), file, self.experiment.data, config.aspects)
            model.others = model.more_anchors(texts, config, self.experiment.trainer.accelerator)
        self.model, self.encoder = model, model.encoder

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
        changes = backbone.processor_changes
        write_processors(self.base_folder, self.experiment.data, draft / BACKBONE, draft / SQUARE, changes)
        return merge or not adapted

    def write_rest(self, draft: Path) -> None:
        """Write heads, anchors and descriptions."""
        from safetensors.torch import save_file

        heads = {name: value.detach().contiguous() for name, value in self.encoder.heads.state_dict().items()}
        if self.encoder.centre is not None:
            heads |= {f"{CENTRE}{name}": value for name, value in self.encoder.centre.state_dict().items()}
        save_file(heads, draft / HEADS, metadata={"format": "pt"})
        self.model.bank.save(draft / ANCHORS)
        if self.model.others is not None:
            self.model.others.save(draft / OTHER_ANCHORS)
        keep_descriptions(self.experiment.dkam, self.model.file, draft)

    def describe(self, draft: Path, merged: bool) -> dict[str, Any]:
        """What radz.json says of the model itself."""
        backbone, dfat = self.backbone, self.experiment.dfat
        settings = read_json(draft / BACKBONE, "config.json")
        layers = settings.get("text_config", settings)["num_hidden_layers"]
        image, text = modality_tokens(dfat.image_tokens, dfat.text_tokens)
        modalities = dict.fromkeys(corpus.modality for corpus in self.experiment.data.corpora)
        asked = {name: dfat.instruction.format(modality=MODALITY_TEXT[name]) for name in modalities}
        described: dict[str, Any] = {
            "architecture": settings["architectures"][0],
            "base": {"folder": self.base_folder.name, "digest": self.model.base_digest},
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
            "image_prompts": {name: backbone.chat(instruction, 1) for name, instruction in asked.items()},
            "image_part": _image_part(*(backbone.chat(next(iter(asked.values())), count) for count in (1, 2, 3))),
        }  # fmt: skip
        if not merged:
            described["adapter"] = {"folder": ADAPTER, "digest": folder_digest(draft / ADAPTER, [])}
        return described


def _image_part(one: str, two: str, three: str) -> str | None:
    """What stands in a prompt once per image, by the prompts of one to three; None where a template counts images."""
    length = len(two) - len(one)
    for start in range(len(one) - length + 1):
        part = one[start : start + length]
        if one.count(part) == 1 and (one.replace(part, part * 2), one.replace(part, part * 3)) == (two, three):
            return part
    return None


def _dtype(base: Path, wanted: str) -> str:
    """The dtype to write; auto is that of the backbone folder."""
    if wanted != "auto":
        if wanted not in DTYPES:
            raise InputError(f"dtype={wanted}: unknown; use auto, {', '.join(DTYPES)}")
        return wanted
    settings = read_json(base, "config.json")
    of_base = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    return of_base if of_base in DTYPES else "float32"


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
