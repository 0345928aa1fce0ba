"""Modality tokens, LoRA and the freeze policy: the one place that decides what trains."""

from __future__ import annotations

import logging
import re
from typing import Any

import torch
from torch import nn

from data_modules.errors import InputError
from radz.config import BackboneConfig

log = logging.getLogger(__name__)

# Anchored on the language model: a bare suffix list would also adapt the CLIP tower (anchors.md, facts 0.7 and D1).
LORA_TARGETS = r"model\.language_model\.layers\.({layers})\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"


def modality_tokens(image_tokens: int, text_tokens: int) -> tuple[list[str], list[str]]:
    """Names of the modality tokens, one per slot."""
    return [f"<ImgCls_{i}>" for i in range(image_tokens)], [f"<TxtCls_{i}>" for i in range(text_tokens)]


def add_modality_tokens(
    model: Any, tokenizer: Any, image_tokens: int, text_tokens: int, keep: bool = False
) -> tuple[list[int], list[int]]:
    """Give each slot a token id and an embedding row: the mean of the old rows plus seeded noise.

    The table is only ever enlarged, since released checkpoints pad their vocabulary beyond the tokenizer.
    `keep`: the folder is an exported one, whose tokens and rows are used as they are.
    """
    image, text = modality_tokens(image_tokens, text_tokens)
    if keep:
        return _kept_tokens(model, tokenizer, image, text)
    taken = [token for token in image + text if token in tokenizer.get_vocab()]
    if taken:
        raise InputError(
            f"backbone.path: the tokenizer already holds {taken[0]}; give the folder before radz changed it"
        )
    before = len(tokenizer)
    tokenizer.add_tokens(image + text, special_tokens=True)
    table = model.get_input_embeddings().weight
    rows = max(table.shape[0], len(tokenizer))
    old = table.detach()[: min(before, table.shape[0])].float()
    if rows > table.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(image + text)
    if len(set(ids)) != len(ids) or min(ids) < before:
        raise InputError("backbone.path: the tokenizer did not give each modality token an id of its own")
    mean, spread = old.mean(0), old.std(0)
    noise = torch.randn(len(ids), mean.shape[0], generator=torch.Generator().manual_seed(len(ids)))
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[ids] = (mean + spread * noise).to(weight.dtype)
    return ids[:image_tokens], ids[image_tokens:]


def _kept_tokens(model: Any, tokenizer: Any, image: list[str], text: list[str]) -> tuple[list[int], list[int]]:
    """Ids of modality tokens that are there; InputError unless they are exactly these, each with a row."""
    there = {token for token in tokenizer.get_vocab() if re.fullmatch(r"<(Img|Txt)Cls_\d+>", token)}
    if there != {*image, *text}:
        raise InputError(
            f"backbone.modality_tokens: keep, but the tokenizer holds {len(there)} modality tokens where "
            f"dfat.image_tokens={len(image)} and dfat.text_tokens={len(text)} ask for {len(image) + len(text)}"
        )
    ids = tokenizer.convert_tokens_to_ids(image + text)
    rows = model.get_input_embeddings().weight.shape[0]
    if max(ids) >= rows:
        raise InputError(f"backbone.path: the tokenizer has id {max(ids)} and the embedding table only {rows} rows")
    return ids[: len(image)], ids[len(image) :]


def adapt(model: Any, config: BackboneConfig, token_ids: list[int], layer: int, tower_layer: int) -> Any:
    """Freeze everything, then open what `config` names. Every trainable parameter is fp32 afterwards.

    With `train: lora` the decoder learns through LoRA and only the modality rows of the embedding move; with
    `train: full` the decoder and its embedding table move; with `train: frozen` neither does. What takes no part in
    the features stays frozen, since DDP would wait for its gradients for ever: at full depth that is all beyond
    `layer` of the decoder and `tower_layer` of the tower (indices into `hidden_states`).
    """
    model.requires_grad_(False)
    if config.train == "lora":
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=LORA_TARGETS.format(layers="|".join(map(str, range(layer)))),
            trainable_token_indices={"embed_tokens": token_ids},
        )
        model = get_peft_model(model, settings)
        core = model.get_base_model().model
    else:
        core = model.model
    if config.train == "full":
        core.language_model.requires_grad_(True)
        core.language_model.layers[layer:].requires_grad_(False)
        # Hugging Face gives the last hidden state after the norm, the others before it.
        core.language_model.norm.requires_grad_(layer == len(core.language_model.layers))
    core.multi_modal_projector.requires_grad_(config.train_projector)
    if config.train_tower:
        core.vision_tower.requires_grad_(True)
        core.vision_tower.encoder.layers[tower_layer:].requires_grad_(False)
        core.vision_tower.post_layernorm.requires_grad_(False)
        # A frozen patch projection trains more stably (Chen et al. 2021, arXiv 2104.02057) and its gradient is costly.
        core.vision_tower.embeddings.patch_embedding.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = at_least_float32(parameter.data)
    return model


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """A 2e-5 step on a bf16 weight of .02 changes nothing (anchors.md, fact 0.8), so trained weights are fp32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def trainable_table(module: nn.Module) -> list[tuple[str, int, int]]:
    """(part, trainable parameters, all parameters) per part of the model, totals last."""
    parts = {
        "vision tower": "vision_tower.",
        "projector": "multi_modal_projector.",
        "decoder LoRA": ".lora_",
        "modality rows": "trainable_tokens_",
        "decoder": "language_model.",
        "language model head": "lm_head",
        "heads": "heads.",
    }
    counts: dict[str, list[int]] = {part: [0, 0] for part in [*parts, "other", "total"]}
    for name, parameter in module.named_parameters():
        part = next((part for part, mark in parts.items() if mark in name), "other")
        for row in (part, "total"):
            counts[row][0] += parameter.numel() if parameter.requires_grad else 0
            counts[row][1] += parameter.numel()
    return [(part, train, every) for part, (train, every) in counts.items() if every]


def log_trainable(module: nn.Module) -> None:
    """Log the table of what trains."""
    rows = [f"  {part:<20} {train:>13,} of {every:>15,}" for part, train, every in trainable_table(module)]
    log.info("trainable parameters\n%s", "\n".join(rows))
