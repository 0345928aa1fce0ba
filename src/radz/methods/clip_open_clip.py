"""Folders of open_clip, such as BiomedCLIP's, for `method: clip`; needs the extra `openclip` and a torchvision.

Ilharco et al., github.com/mlfoundations/open_clip. A folder holds open_clip_config.json and weights as safetensors; for
a text tower of transformers (PubMedBERT) also its tokenizer, and its configuration is taken from the hub or its cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from data_modules.errors import InputError
from data_modules.listing import listed
from radz.methods.dual_encoder import TwoTowers
from radz.models.losses import at_least_fp32

CONFIG = "open_clip_config.json"


def is_open_clip(folder: Path) -> bool:
    """Whether the folder is one of open_clip."""
    return (folder / CONFIG).is_file()


class OpenClipEncoder(TwoTowers):
    """Both towers of an open_clip folder, in float32.

    Raises:
        InputError: the extra is not installed; no weights as safetensors; what open_clip finds wrong with the folder.
    """

    image_parts = ("visual",)

    def __init__(self, folder: Path) -> None:
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
            raise InputError(
                f"clip.path: {folder} is a folder of open_clip, which cannot be imported ({error}); install it and a "
                "torchvision that fits torch: pip install 'radz[openclip]'"
            ) from None
        if not listed(folder, "*.safetensors"):
            raise InputError(f"clip.path: {folder}: no *.safetensors; pickled weights are not read, convert them")
        name = f"local-dir:{folder}"
        try:
            model: Any = open_clip.create_model(name, precision="fp32", require_pretrained=True)
            words: Any = open_clip.get_tokenizer(name)
        except Exception as error:  # open_clip and what it calls promise no exception type
            raise InputError(
                f"clip.path: {folder}: open_clip cannot load it ({' '.join(str(error).split())})"
            ) from None
        settings = open_clip.get_model_preprocess_cfg(model)
        side = settings["size"]
        side = side if isinstance(side, int) else side[0]
        width = int(model.visual.output_dim if hasattr(model.visual, "output_dim") else model.text_projection.shape[1])
        super().__init__(model, side, words.context_length, width, settings["mean"], settings["std"])
        self.tokenizer: Any = words

    def images(self, pixels: Tensor) -> Tensor:
        return at_least_fp32(self.model.encode_image(self.values(pixels)))

    def texts(self, texts: list[str]) -> Tensor:
        ids = self.tokenizer(texts).to(self._scale.device)
        # The tokenizers cut without a word; a text whose last place is not padding fills the context at least.
        self.tell_cut(lambda: bool((ids[:, -1] != self._padding).any()))
        return at_least_fp32(self.model.encode_text(ids))

    @property
    def _padding(self) -> int:
        words = getattr(self.tokenizer, "tokenizer", None)
        return int(getattr(words, "pad_token_id", None) or 0)
