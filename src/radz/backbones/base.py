"""What every backbone family offers to the rest of radz."""

from __future__ import annotations

import abc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.config import BackboneConfig


class Backbone(nn.Module, abc.ABC):
    """A loaded multimodal model behind one interface.

    Attributes:
        model: of transformers, wrapped by peft when LoRA is on.
        tokenizer: the folder's tokenizer, modality tokens included.
        hidden_size: d of the decoder.
        image_size: side in pixels of the images `prepare` expects.
        image_token: id of the image placeholder; it is repeated `tokens_per_image` times in a sequence.
        context: longest sequence in tokens.
        image_ids, text_ids: ids of the modality tokens, one per slot.
    """

    model: Any
    tokenizer: Any
    hidden_size: int
    image_size: int
    image_token: int
    tokens_per_image: int
    context: int
    image_ids: list[int]
    text_ids: list[int]

    @abc.abstractmethod
    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, H, W] (C 1 or 3) to the tower's normalised input, on the device of `pixels`."""

    @abc.abstractmethod
    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """Tower and projector: prepared images to [M, tokens_per_image, d]."""

    @abc.abstractmethod
    def word_embeddings(self, ids: Tensor) -> Tensor:
        """Token ids [...] to input embeddings [..., d]."""

    @abc.abstractmethod
    def decode(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [B, T, d] at `feature_layer` for input embeddings [B, T, d] and mask bool [B, T]."""

    @abc.abstractmethod
    def write(self, prompts: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers of the language model to text-only chats (depth full only)."""

    @abc.abstractmethod
    def chat(self, instruction: str, images: int) -> str:
        """The folder's chat template around `instruction` and `images` placeholders, generation prompt included."""

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device


def layer_index(layer: int, layers: int) -> int:
    """`hidden_states` index in 0..layers for a Hugging Face style index.

    Raises:
        InputError: the layer does not exist, or is the embedding layer.
    """
    index = layer if layer >= 0 else layers + 1 + layer
    if not 1 <= index <= layers:
        raise InputError(
            f"backbone.feature_layer: {layer} is not a layer of a decoder with {layers} layers; "
            f"give 1 to {layers} or -{layers} to -1"
        )
    return index


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a backbone folder; {} when it is not there."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); the backbone folder is damaged") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no keys; the backbone folder is damaged")
    return content


@contextmanager
def reading(folder: Path, part: str) -> Iterator[None]:
    """Turn what Hugging Face raises on a damaged `part` of a folder into one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tokenizers raises Exception itself, safetensors and the config classes their own
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"backbone.path: {folder}: the {part} cannot be read ({cause}); copy the folder from its source again"
        ) from None


def check_folder(config: BackboneConfig, folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        InputError: no folder, no config, no tokenizer or no image processor.
    """
    if not folder.is_dir():
        raise InputError(f"backbone.path: {config.path}: no such folder; give a Hugging Face model folder")
    settings = read_json(folder, "config.json")
    if not settings:
        raise InputError(f"backbone.path: {folder}: no config.json; this is not a Hugging Face model folder")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise InputError(f"backbone.path: {folder}: no tokenizer.json or tokenizer.model; add the model's tokenizer")
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise InputError(f"backbone.path: {folder}: no preprocessor_config.json; add the model's image processor")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"backbone.path: {folder}: no safetensors weights; convert them first (pickles are not read)")
    return settings
