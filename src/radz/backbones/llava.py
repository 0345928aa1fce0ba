"""LLaVA-1.5 class folders (`LlavaForConditionalGeneration`): CLIP tower, projector, decoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.adapt import adapt, add_modality_tokens
from radz.backbones.base import Backbone, layer_index, read_json, reading
from radz.config import BackboneConfig


class LlavaBackbone(Backbone):
    """See `Backbone`. `model` is the transformers model, wrapped by peft when LoRA is on."""

    def __init__(self, config: BackboneConfig, folder: Path, image_tokens: int, text_tokens: int) -> None:
        super().__init__()
        model = _load_model(config, folder)
        self.tokenizer = _load_tokenizer(folder)
        self.tokenizer.padding_side = config.padding
        self.image_token = model.config.image_token_id
        self._image_text = self.tokenizer.convert_ids_to_tokens(self.image_token)
        if self._image_text is None:
            raise InputError(
                f"backbone.path: {folder}: the tokenizer has no token of id {self.image_token} (the image)"
            )
        self.context = model.config.text_config.max_position_embeddings
        self.hidden_size = model.config.text_config.hidden_size
        self._pixels(folder, model, config.image_pool)
        self.image_ids, self.text_ids = add_modality_tokens(
            model, self.tokenizer, image_tokens, text_tokens, keep=config.modality_tokens == "keep"
        )
        self.layer = layer_index(config.feature_layer, model.config.text_config.num_hidden_layers)
        self.depth, self.padding = config.depth, config.padding
        tower_layer = tower_index(model, folder)
        if config.depth == "feature":
            truncate(model, self.layer, tower_layer)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model: Any = adapt(model, config, self.image_ids + self.text_ids, self.layer, tower_layer)
        self._tower_trains = config.train_tower
        self.train(self.training)

    @property
    def llava(self) -> Any:
        """The transformers model without the peft wrapper."""
        return self.model if not hasattr(self.model, "get_base_model") else self.model.get_base_model()

    def train(self, mode: bool = True) -> LlavaBackbone:
        """Frozen towers stay in eval mode."""
        super().train(mode)
        if not self._tower_trains:
            self.llava.model.vision_tower.eval()
        return self

    _tower_trains = True
    _scale: Tensor
    _shift: Tensor

    def _pixels(self, folder: Path, model: Any, pool: int) -> None:
        settings = read_json(folder, "preprocessor_config.json")
        settings = settings or read_json(folder, "processor_config.json").get("image_processor", {})
        for key in ("image_mean", "image_std"):
            values = settings.get(key)
            if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
                raise InputError(f"backbone.path: {folder}: the image processor gives no {key} of three numbers")
        if min(settings["image_std"]) <= 0:
            raise InputError(f"backbone.path: {folder}: image_std of the image processor must be above 0")
        vision = model.config.vision_config
        self.image_size = vision.image_size
        self._grid, self._side = vision.image_size // vision.patch_size, math.isqrt(pool)
        if self._grid % self._side:
            raise InputError(
                f"backbone.image_pool: {pool} conflicts with the tower's {self._grid} x {self._grid} patches, which "
                f"{self._side} does not divide; choose another of 1, 4, 9"
            )
        self.tokens_per_image = (self._grid // self._side) ** 2
        self.tokens_per_image += model.config.vision_feature_select_strategy != "default"
        scale = settings.get("rescale_factor", 1 / 255)
        mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
        self.register_buffer("_scale", (scale / std)[:, None, None], persistent=False)
        self.register_buffer("_shift", (-mean / std)[:, None, None], persistent=False)

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, H, W] to [M, 3, S, S]; gray becomes three channels on the device."""
        side = self.image_size
        if pixels.shape[-2:] != (side, side):
            raise InputError(
                f"data.image_size: {pixels.shape[-1]} conflicts with the backbone's {side}; set it to {side}"
            )
        return pixels.expand(-1, 3, -1, -1) * self._scale + self._shift

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """[M, 3, S, S] to [M, P, d]."""
        core = self.llava.model
        dtype = core.multi_modal_projector.linear_1.weight.dtype
        tower = next(core.vision_tower.parameters()).dtype
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._tower_trains):
            layers = core.vision_tower(prepared.to(tower), output_hidden_states=True).hidden_states
        picked = layers[core.config.vision_feature_layer]
        if core.config.vision_feature_select_strategy == "default":
            picked = picked[:, 1:]
        return self._pooled(core.multi_modal_projector(picked.to(dtype)))

    def _pooled(self, tokens: Tensor) -> Tensor:
        """Projected patches [M, P, d] averaged over squares of the grid; a class token before them stays."""
        if self._side == 1:
            return tokens
        first, patches = tokens[:, : -(self._grid**2)], tokens[:, -(self._grid**2) :]
        grid = patches.unflatten(1, (self._grid, self._grid)).permute(0, 3, 1, 2)
        return torch.cat([first, F.avg_pool2d(grid, self._side).flatten(2).transpose(1, 2)], dim=1)

    def word_embeddings(self, ids: Tensor) -> Tensor:
        """[...] to [..., d]."""
        return self.llava.get_input_embeddings()(ids)

    def decode(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """[B, T, d] and bool [B, T] to [B, T, d]."""
        decoder = self.llava.model.language_model
        # Under a causal mask, padding on the right cannot reach a real token, so no mask has to be built.
        arguments: dict[str, Any] = {"use_cache": False}
        if self.padding == "left":
            arguments["attention_mask"] = mask.long()
            arguments["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)
        embeddings = embeddings.to(next(decoder.layers.parameters()).dtype)
        if self.depth == "feature":
            return decoder(inputs_embeds=embeddings, **arguments).last_hidden_state
        states = decoder(inputs_embeds=embeddings, output_hidden_states=True, **arguments).hidden_states
        return states[self.layer]

    @torch.no_grad()
    def write(self, prompts: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers, one prompt at a time: no padding can touch them."""
        if self.depth != "full":
            raise InputError("backbone.depth: feature conflicts with writing descriptions, which needs depth full")
        answers = []
        for prompt in prompts:
            ids = self.tokenizer(self.chat(prompt, 0), return_tensors="pt").input_ids.to(self.device)
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            answers.append(self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
        return answers

    def chat(self, instruction: str, images: int) -> str:
        """Text of one user turn with `images` placeholders."""
        content = [{"type": "image"}] * images + [{"type": "text", "text": instruction}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        # The tokenizer adds BOS by itself; templates that spell it out would double it.
        bos = self.tokenizer.bos_token
        text = text.removeprefix(bos) if bos else text
        found = text.count(self._image_text)
        if found != images:
            raise InputError(f"backbone.path: the chat template shows {found} image placeholders for {images} images")
        return text


def tower_index(model: Any, folder: Path) -> int:
    """`vision_feature_layer` as an index into the tower's hidden states, 1..layers."""
    chosen, layers = model.config.vision_feature_layer, len(model.model.vision_tower.encoder.layers)
    index = chosen if not isinstance(chosen, int) or chosen >= 0 else layers + 1 + chosen
    if not isinstance(index, int) or not 1 <= index <= layers:
        raise InputError(
            f"backbone.path: {folder}: vision_feature_layer {chosen} in config.json is not one of the tower's {layers} "
            "layers; only a single layer is supported"
        )
    return index


def truncate(model: Any, layer: int, tower_layer: int) -> None:
    """Drop what lies beyond `hidden_states[layer]` of the decoder and beyond the tower's feature layer.

    A truncated decoder must lose its final norm, unless the feature is the last one, which Hugging Face gives after
    the norm; otherwise it is not the same number (method.md 2.3).
    """
    decoder = model.model.language_model
    if layer < model.config.text_config.num_hidden_layers:
        decoder.layers = decoder.layers[:layer]
        decoder.norm = nn.Identity()
        decoder.config.num_hidden_layers = layer
    tower = model.model.vision_tower
    tower.encoder.layers = tower.encoder.layers[:tower_layer]
    tower.config.num_hidden_layers = tower_layer
    model.config.vision_feature_layer = -1


def _load_model(config: BackboneConfig, folder: Path) -> Any:
    from transformers import LlavaForConditionalGeneration

    auto = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    dtype = {"auto": auto, "float32": torch.float32, "bfloat16": torch.bfloat16}[config.dtype]
    loader: Any = LlavaForConditionalGeneration
    with reading(folder, "model"):
        # Weights of another shape are let through here and refused by name below.
        model, report = loader.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True,
            ignore_mismatched_sizes=True, local_files_only=True,
        )  # fmt: skip
    unfit = sorted(entry[0] for entry in report["mismatched_keys"])
    if unfit:
        raise InputError(
            f"backbone.path: {folder}: {len(unfit)} weights have another shape than config.json says, such as "
            f"{unfit[0]}; copy the folder from its source again"
        )
    lost = sorted(report["missing_keys"])
    if lost:
        raise InputError(f"backbone.path: {folder}: {len(lost)} weights are missing, such as {lost[0]}")
    return model


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with reading(folder, "tokenizer"):
        # Code that a folder brings along is never run, nor asked about.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not tokenizer.chat_template:
        # Older LLaVA folders keep the template in a file that belongs to the processor.
        tokenizer.chat_template = read_json(folder, "chat_template.json").get("chat_template")
    if not tokenizer.chat_template:
        raise InputError(f"backbone.path: {folder}: no chat template; add chat_template.jinja to the folder")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer
