"""Modality tokens, LoRA and the freeze policy: the one place that decides what trains."""

from __future__ import annotations

import logging
import re
from typing import Any

import torch
from torch import nn

from data_modules.errors import InputError
from radz.backbones.fused_lora import fuse_lora
from radz.backbones.layers import at_least_fp32
from radz.config.schema import BackboneConfig

log = logging.getLogger(__name__)

# Anchored on the language model: a bare suffix list would also adapt the tower, whose layers are named alike.
LORA_TARGETS = r"{decoder}\.layers\.({layers})\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
TITLES = {
    "tower": "vision tower",
    "projector": "projector",
    "lora": "decoder LoRA",
    "rows": "modality rows",
    "decoder": "decoder",
    "head": "language model head",
}
"""how the table of what trains calls the parts that `Backbone.part_of` names"""


def modality_tokens(image_tokens: int, text_tokens: int) -> tuple[list[str], list[str]]:
    """Names of the modality tokens, one per slot."""
    return [f"<ImgCls_{i}>" for i in range(image_tokens)], [f"<TxtCls_{i}>" for i in range(text_tokens)]


def add_modality_tokens(
    model: Any, tokenizer: Any, image_tokens: int, text_tokens: int, seed: int = 0, keep: bool = False
) -> tuple[list[int], list[int]]:
    """Give each slot a token id and an embedding row: the mean of the old rows plus seeded noise.

    The table is only ever enlarged, since released checkpoints pad their vocabulary beyond the tokenizer. The noise has
    a generator of its own: it is the same at every depth and in every type that the model is loaded with.
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
    noise = torch.randn(len(ids), mean.shape[0], generator=torch.Generator().manual_seed(seed))
    noise = noise.to(mean.device)  # four-bit weights lie on the GPU when they are read
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[ids] = (mean + spread * noise).to(weight.dtype)
    return ids[:image_tokens], ids[image_tokens:]


def _kept_tokens(model: Any, tokenizer: Any, image: list[str], text: list[str]) -> tuple[list[int], list[int]]:
    """Ids of modality tokens that are there; InputError unless they are exactly these, each with a row."""
    held = {token for token in tokenizer.get_vocab() if re.fullmatch(r"<(Img|Txt)Cls_\d+>", token)}
    if held != {*image, *text}:
        raise InputError(
            f"backbone.modality_tokens: keep, but the tokenizer holds {len(held)} modality tokens where "
            f"dfat.image_tokens={len(image)} and dfat.text_tokens={len(text)} ask for {len(image) + len(text)}"
        )
    ids = tokenizer.convert_tokens_to_ids(image + text)
    rows = model.get_input_embeddings().weight.shape[0]
    if max(ids) >= rows:
        raise InputError(f"backbone.path: the tokenizer has id {max(ids)} and the embedding table only {rows} rows")
    return ids[: len(image)], ids[len(image) :]


def add_lora(model: Any, config: BackboneConfig, token_ids: list[int], decoder: str, layers: int) -> Any:
    """`model` with LoRA on the first `layers` layers of its `decoder`, and rows of `token_ids` that train."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=LORA_TARGETS.format(decoder=re.escape(decoder), layers="|".join(map(str, range(layers)))),
        trainable_token_indices={"embed_tokens": token_ids},
    )
    model = get_peft_model(model, settings)
    fuse_lora(model)
    return model


def adapt(backbone: Any, config: BackboneConfig) -> None:
    """Freeze everything, then open what `config` names. Every trainable parameter is fp32 afterwards.

    With `train: lora` the decoder learns through LoRA and only the modality rows of the embedding move; with
    `train: full` the decoder and its embedding table move; with `train: frozen` neither does. What takes no part in
    the features stays frozen, since DDP would wait for its gradients for ever: at full depth that is all beyond the
    feature layer of the decoder, and what the family names as idle in its tower.
    """
    backbone.model.requires_grad_(False)
    if config.train == "lora":
        ids, where = backbone.image_ids + backbone.text_ids, backbone.decoder_path
        backbone.model = add_lora(backbone.model, config, ids, where, backbone.layer)
    if config.train == "full":
        decoder = backbone.decoder
        decoder.requires_grad_(True)
        decoder.layers[backbone.layer :].requires_grad_(False)
        # Hugging Face gives the last hidden state after the norm, the others before it.
        decoder.norm.requires_grad_(backbone.layer == len(decoder.layers))
    if config.train_tower:
        backbone.tower.requires_grad_(True)
    for name, parameter in backbone.core.named_parameters():
        if backbone.part_of(name) == "projector":
            parameter.requires_grad_(config.train_projector)
    for part in backbone.idle_tower_parts():
        part.requires_grad_(False)
    # A layer of bf16 refuses what an fp32 one hands to it: what trains is fp32 as a whole, frozen last layers and head
    # too, since a model that writes goes through all of them without autocast.
    whole = {*(["tower"] if config.train_tower else []), *(["decoder", "head"] if config.train == "full" else [])}
    for name, parameter in backbone.core.named_parameters():
        # A step of 2e-5 on a bf16 weight of .02 is lost in rounding.
        if parameter.requires_grad or backbone.part_of(name) in whole:
            parameter.data = at_least_fp32(parameter.data)


def trainable_table(module: nn.Module) -> list[tuple[str, int, int]]:
    """(part, trainable parameters, all parameters) per part of a module, those of its backbone apart, totals last."""
    backbones = ((name, part) for name, part in module.named_modules() if hasattr(part, "part_of"))
    place, backbone = next(backbones, (None, None))
    inside = f"{place}." if place else ""
    counts: dict[str, list[int]] = {part: [0, 0] for part in [*TITLES.values(), "heads", "other", "total"]}
    for name, parameter in module.named_parameters():
        outside = "heads" if "heads." in name else "other"
        part = TITLES[backbone.part_of(name)] if backbone is not None and name.startswith(inside) else outside
        for row in (part, "total"):
            counts[row][0] += parameter.numel() if parameter.requires_grad else 0
            counts[row][1] += parameter.numel()
    return [(part, train, every) for part, (train, every) in counts.items() if every]


def log_trainable(module: nn.Module) -> None:
    """Log the table of what trains."""
    rows = [f"  {part:<20} {train:>13,} of {every:>15,}" for part, train, every in trainable_table(module)]
    log.info("trainable parameters\n%s", "\n".join(rows))
