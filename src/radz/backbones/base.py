"""What every backbone family offers to the rest of radz, and what the families share.

Shapes: M images of all studies, B sequences of T tokens, P tokens of an image, d hidden size of the decoder.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.folder import (
    choose_template,
    image_placeholder,
    image_settings,
    load_model,
    load_tokenizer,
    message,
    turn,
)
from radz.backbones.layers import Layers, layer_index
from radz.backbones.lora import adapt, add_modality_tokens
from radz.backbones.recompute import ElementwiseRecompute
from radz.config.schema import BackboneConfig


class Backbone(nn.Module, abc.ABC):
    """A loaded multimodal model behind one interface; one subclass per family.

    Attributes:
        architecture: class in transformers, which `architectures` of config.json names.
        tower_path: where the vision tower lies in the model.
        decoder_path: where the language model lies.
        projector_paths: where the projector lies, and what else belongs to it.
        model: the transformers model, wrapped by peft when LoRA is on; `core` is without the wrapper.
        tokenizer: the folder's tokenizer, modality tokens included.
        hidden_size: d.
        image_size: the one side in pixels that `prepare` takes; None where the family takes several.
        image_token: id of the image placeholder; it stands `tokens_per_image(side)` times in a sequence.
        processor_changes: what the folder's image processor must be told to make images as `prepare` does.
        context: longest sequence in tokens.
        image_ids, text_ids: ids of the modality tokens, one per slot.
        layer: index of the features in `hidden_states`, 1 to the number of layers.
    """

    architecture: ClassVar[str]
    tower_path: ClassVar[str] = "model.vision_tower"
    decoder_path: ClassVar[str] = "model.language_model"
    projector_paths: ClassVar[tuple[str, ...]] = ("model.multi_modal_projector",)
    image_size: int | None = None
    processor_changes: Mapping[str, Any] = {}
    _grid: int
    """of a family that takes `grid` and `image_embeddings` as they are here: tokens along a side of an image"""
    _scale: Tensor
    _shift: Tensor

    def __init__(
        self, config: BackboneConfig, folder: Path, image_tokens: int, text_tokens: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.model: Any = load_model(self.architecture, config, folder)
        self.tokenizer: Any = load_tokenizer(folder)
        self.tokenizer.padding_side = config.padding
        self.image_token: int = self.model.config.image_token_id
        self._image_text = image_placeholder(self.model, self.tokenizer, folder)
        text = self.model.config.text_config
        self.context: int = text.max_position_embeddings
        self.hidden_size: int = text.hidden_size
        self.depth, self.padding = config.depth, config.padding
        self._pool, self._tower_trains = math.isqrt(config.image_pool), config.train_tower
        settings = image_settings(folder)
        scale, std = settings.get("rescale_factor", 1 / 255), torch.tensor(settings["image_std"])
        self.register_buffer("_scale", (scale / std)[:, None, None], persistent=False)
        self.register_buffer("_shift", (-torch.tensor(settings["image_mean"]) / std)[:, None, None], persistent=False)
        self.read_settings(folder, settings)
        self._spelled = choose_template(folder, self.tokenizer, self.mark, self.spelled_image)
        if self.image_size is not None:
            self.tokens_per_image(self.image_size)
        self.image_ids, self.text_ids = add_modality_tokens(
            self.model, self.tokenizer, image_tokens, text_tokens, seed, keep=config.modality_tokens == "keep"
        )
        self.layer = layer_index(config.feature_layer, text.num_hidden_layers)
        if config.depth == "feature":
            self._truncate()
        if config.gradient_checkpointing:
            # The tower recomputes only while it is in training mode, which a frozen one never is.
            old = self.model.gradient_checkpointing_enable
            getattr(self.model, "activation_checkpointing_enable", old)({"use_reentrant": False})  # its name since 5.2x
        adapt(self, config)
        if config.compile:
            for layer in self.decoder.layers:
                layer.compile()  # in place: the names of the weights stay
        # Checkpointing makes the whole layer again, and compiled code decides by itself what it keeps.
        elementwise = config.recompute == "elementwise" and not (config.gradient_checkpointing or config.compile)
        self._recompute = ElementwiseRecompute(self.decoder.layers) if elementwise else None
        self.train(self.training)

    # What a family says.

    @abc.abstractmethod
    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        """Check and keep what the family needs of `self.model.config` and the image processor's `settings`."""

    @abc.abstractmethod
    def idle_tower_parts(self) -> Sequence[nn.Module | nn.Parameter]:
        """Parts of the tower, or of a projector inside it, that stay frozen though the rest trains: those without part
        in the features among them.
        """

    def grid(self, side: int) -> int:
        """Projected tokens along one side of a square image of `side` pixels, before `image_pool`."""
        return self._grid

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """Tower and projector: what `prepare` returned to [M, P, d]; the tower runs inside `tower_graph`.

        Channels beyond d are for `run_decoder` alone, which then takes them behind those of the embeddings. As it is
        here, the projector makes `_grid` tokens a side of the tower's last states.
        """
        with self.tower_graph():
            states = self.tower(prepared.to(next(self.tower.parameters()).dtype)).last_hidden_state
        projector = self.core.get_submodule(self.projector_paths[0])
        tokens = projector(states.to(next(projector.parameters()).dtype))
        return self.pooled(tokens.unflatten(1, (self._grid, self._grid))).flatten(1, 2)

    def truncate_tower(self) -> None:
        """Drop the tower's layers beyond the one that is read, if the family reads an earlier one."""

    def run_decoder(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, arguments: dict[str, Any]) -> Any:
        """Output of the decoder for [B, T, d or more]; `arguments` are those that all families take."""
        return self.decoder(inputs_embeds=embeddings, **arguments)

    @property
    def mark(self) -> str:
        """What the chat template shows for an image."""
        return self._image_text

    @property
    def shown_image(self) -> str:
        """What the family's processor puts in place of the mark: an image placeholder and what stands around it."""
        return self.mark

    @property
    def spelled_image(self) -> str:
        """An image in a message that is one string."""
        return f"{self.mark}\n"

    # What the rest of radz uses.

    @property
    def core(self) -> Any:
        """The transformers model without the peft wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def tower(self) -> Any:
        """The vision tower."""
        return self.core.get_submodule(self.tower_path)

    @property
    def decoder(self) -> Any:
        """The language model without its head: `embed_tokens`, `layers`, `norm`."""
        return self.core.get_submodule(self.decoder_path)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def part_of(self, name: str) -> str:
        """tower | projector | lora | rows | head | decoder: the part that a parameter belongs to, by its full name."""
        path = f".{name}."
        if "trainable_tokens_" in name:
            return "rows"
        if ".lora_" in name:
            return "lora"
        if any(f".{part}." in path for part in self.projector_paths):
            return "projector"
        if f".{self.tower_path}." in path:
            return "tower"
        return "head" if ".lm_head." in path else "decoder"

    def train(self, mode: bool = True) -> Backbone:
        """Frozen towers stay in eval mode."""
        super().train(mode)
        if not self._tower_trains:
            self.tower.eval()
        return self

    def check_side(self, side: int) -> None:
        """InputError where images of `side` pixels do not fit the tower."""
        if self.image_size is not None and side != self.image_size:
            raise InputError(
                f"data.image_size: {side} conflicts with the backbone's {self.image_size}; set it to {self.image_size}"
            )

    def tokens_per_image(self, side: int) -> int:
        """Placeholders of a square image of `side` pixels in a sequence."""
        self.check_side(side)
        return self.pooled_grid(self.grid(side)) ** 2

    def covered(self, side: int) -> float:
        """Pixels of an image of `side` that patches lie on, from its top left; no token sees the rest of the side."""
        return side

    def pooled_grid(self, grid: int) -> int:
        """A side of the grid after `image_pool`."""
        if grid % self._pool:
            raise InputError(
                f"backbone.image_pool: {self._pool**2} conflicts with the tower's {grid} x {grid} patches, which "
                f"{self._pool} does not divide; choose another of 1, 4, 9"
            )
        return grid // self._pool

    def pooled(self, tokens: Tensor) -> Tensor:
        """A square grid of projected tokens [M, g, g, d] averaged over squares of `image_pool`: [M, g', g', d]."""
        if self._pool == 1:
            return tokens
        return F.avg_pool2d(tokens.permute(0, 3, 1, 2), self._pool).permute(0, 2, 3, 1)

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, S, S] (C 1 or 3) to the tower's input, on the device of `pixels`."""
        self.check_side(pixels.shape[-1])
        return self.normalised(pixels)

    def normalised(self, pixels: Tensor) -> Tensor:
        """[M, C, S, S] of 0 to 255 to [M, 3, S, S]; gray becomes three channels on the device."""
        return pixels.expand(-1, 3, -1, -1) * self._scale + self._shift

    def tower_graph(self) -> Any:
        """Context of the tower's pass: it keeps a graph only where the tower trains."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and self._tower_trains)

    @cached_property
    def start(self) -> list[int]:
        """Ids that the tokenizer puts before every text by itself, such as BOS; of many none."""
        plain, whole = (self.tokenizer("a", add_special_tokens=special).input_ids for special in (False, True))
        places = (n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return whole[: next(places, 0)]

    def ids(self, text: str) -> list[int]:
        """Ids of a text with what the tokenizer puts before it, and nothing behind it."""
        return [*self.start, *self.tokenizer(text, add_special_tokens=False).input_ids]

    def chat(self, instruction: str, images: int, system: str = "") -> str:
        """One user turn in the folder's chat template, `images` placeholders and generation prompt included, behind a
        turn of the `system` where there is one.

        A BOS that the template spells is left out where the tokenizer adds it: `ids` of the turn are those of
        `apply_chat_template(tokenize=True)` of the processor.
        """
        said = message(system, 0, self._spelled) if system else None
        text = turn(self.tokenizer, message(instruction, images, self._spelled), system=said)
        bos = self.tokenizer.bos_token
        text = text.removeprefix(bos) if bos and self.tokenizer.bos_token_id in self.start else text
        shown = text.count(self.mark)
        if shown != images:
            raise InputError(f"backbone.path: the chat template shows {shown} image placeholders for {images} images")
        return text.replace(self.mark, self.shown_image)

    def word_embeddings(self, ids: Tensor) -> Tensor:
        """Token ids [...] to input embeddings [..., d]."""
        return self.core.get_input_embeddings()(ids)

    def embedded(self, ids: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Input embeddings [B, T, e] of sequences with images, and bool [B, T], true at image tokens.

        Args:
            ids: [B, T]. images: [..., P, e] of `image_embeddings`, in the order of the image tokens of all sequences.
        """
        words, patches = self.word_embeddings(ids), ids == self.image_token
        words = F.pad(words, (0, images.shape[-1] - words.shape[-1]))
        return words.masked_scatter(patches[..., None], images.to(words.dtype)), patches

    def decode(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, d] at `feature_layer` for input embeddings [B, T, d], or of `embedded`.

        Args:
            mask: bool [B, T], true at real tokens.
            patches: bool [B, T], true at image tokens; None for sequences of text.
        """
        output = self.decoded(embeddings, mask, patches, {"output_hidden_states": True} if self.depth == "full" else {})
        return output.last_hidden_state if self.depth == "feature" else output.hidden_states[self.layer]

    def decode_all(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, attention: bool) -> Layers:
        """All `hidden_states` up to `feature_layer`, and with `attention`, inside `eager`, what each layer attends to.

        The last states are those of `decode`; arguments as there.
        """
        output = self.decoded(embeddings, mask, patches, {"output_hidden_states": True, "output_attentions": attention})
        weights = tuple(output.attentions[: self.layer]) if attention else ()
        return Layers(tuple(output.hidden_states[: self.layer + 1]), weights)

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Attention that can be read: slower, and its matrices [B, heads, T, T] are kept."""
        self.decoder.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.decoder.set_attn_implementation("sdpa")

    def patch_map(self, values: Tensor, side: int) -> Tensor:
        """Values of the image tokens [M, P] of square images of `side` pixels as a map [M, g, g]."""
        grid = self.pooled_grid(self.grid(side))
        return values.unflatten(1, (grid, grid))

    def decoded(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, wanted: dict[str, Any]) -> Any:
        """The decoder's output for embeddings and mask as in `decode`; `wanted`: further arguments of transformers."""
        # Under a causal mask, padding on the right cannot reach a real token, so no mask has to be built.
        arguments: dict[str, Any] = {"use_cache": False, **wanted}
        if self.padding == "left":
            arguments["attention_mask"] = mask.long()
            arguments["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)
        embeddings = embeddings.to(self.decoder.layers[0].input_layernorm.weight.dtype)
        with self._recompute.active() if self._recompute else nullcontext():
            return self.run_decoder(embeddings, mask, patches, arguments)

    def _truncate(self) -> None:
        """Drop what lies beyond `hidden_states[layer]` of the decoder and beyond the tower's feature layer.

        A truncated decoder must lose its final norm, unless the feature is the last one, which Hugging Face gives after
        the norm; otherwise it is not the same number (docs/method.md 2.3).
        """
        decoder = self.decoder
        if self.layer < len(decoder.layers):
            decoder.layers = decoder.layers[: self.layer]
            decoder.norm = nn.Identity()
            decoder.config.num_hidden_layers = self.layer
        self.truncate_tower()
