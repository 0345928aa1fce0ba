"""Writes a tiny checkpoint in the layout of haotian-liu/LLaVA and LLaVA-Med v1.5, and computes with its parts alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIDE, PATCH, WIDTH, ROWS = 32, 8, 32, 300
TEXTS = ["There is a small left pleural effusion.", "The heart is enlarged. No pneumothorax is seen.", "USER: [INST]"]
FAMILIES: dict[str, Any] = {
    "llava_mistral": (MistralConfig, MistralForCausalLM),
    "llava_llama": (LlamaConfig, LlamaForCausalLM),
}


class Parts:
    """Decoder, tower and projector, apart from each other as LLaVA keeps them."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(5)
        config, decoder = FAMILIES[kind]
        self.kind = kind
        self.text: Any = config(
            vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rope_theta=1_000_000.0, rms_norm_eps=3e-6,
            bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        self.vision = CLIPVisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=SIDE,
            patch_size=PATCH, projection_dim=16,
        )  # fmt: skip
        self.decoder = decoder(self.text).eval()
        self.tower = CLIPVisionModel(self.vision).eval()
        self.projector = nn.Sequential(nn.Linear(24, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)).eval()

    @torch.no_grad()
    def image_tokens(self, pixels: Tensor) -> Tensor:
        """[M, P, d] of normalised pixels [M, 3, S, S]: patches of the last layer but one."""
        return self.projector(self.tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:])

    @torch.no_grad()
    def states(self, embeddings: Tensor, layer: int) -> Tensor:
        """[B, T, d]."""
        found = self.decoder.model(inputs_embeds=embeddings, output_hidden_states=True, use_cache=False)
        return found.hidden_states[layer]

    def tensors(self, tower: bool) -> dict[str, Tensor]:
        """All weights under the names of the original layout."""
        found = dict(self.decoder.state_dict())
        found |= {f"model.mm_projector.{name}": value for name, value in self.projector.state_dict().items()}
        if tower:
            inside = "model.vision_tower.vision_tower.vision_model."
            names = {name.removeprefix("vision_model."): value for name, value in self.tower.state_dict().items()}
            found |= {inside + name: value for name, value in names.items()}
            found[f"{inside}embeddings.position_ids"] = torch.arange((SIDE // PATCH) ** 2 + 1)[None]
        found["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        return {name: value.clone() for name, value in found.items()}

    def config(self, tower: str) -> dict[str, Any]:
        """config.json, with the keys of LLaVA-Med v1.5."""
        return {
            "model_type": self.kind, "architectures": ["LlavaMistralForCausalLM"], "vocab_size": ROWS,
            "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 3e-6, "rope_theta": 1000000.0,
            "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
            "torch_dtype": "float32", "use_cache": True, "transformers_version": "4.36.2", "use_mm_proj": True,
            "mm_vision_tower": tower, "mm_hidden_size": 24, "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "mm_use_im_start_end": False,
            "mm_use_im_patch_token": False, "image_aspect_ratio": "pad", "freeze_mm_mlp_adapter": False,
            "tokenizer_padding_side": "right", "tokenizer_model_max_length": 2048,
        }  # fmt: skip

    def write(self, folder: Path, tower: bool = True, shards: int = 3) -> Path:
        """The checkpoint in `shards` files; without `tower` it names a published one."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.config("openai/clip-vit-large-patch14-336")))
        tensors, per = self.tensors(tower), 0
        names = list(tensors)
        per = math.ceil(len(names) / shards)
        placed = {}
        for number in range(shards):
            file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            mine = names[number * per : (number + 1) * per]
            save_file({name: tensors[name] for name in mine}, folder / file, metadata={"format": "pt"})
            placed |= dict.fromkeys(mine, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
        write_tokenizer(folder)
        return folder

    def write_tower(self, folder: Path, weights: bool = True) -> Path:
        """The CLIP folder that a checkpoint may name."""
        self.tower.save_pretrained(folder)
        if not weights:
            (folder / "model.safetensors").unlink()
        CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=[0.4, 0.5, 0.6],
            image_std=[0.2, 0.25, 0.3],
        ).save_pretrained(folder)  # fmt: skip
        return folder


def write_tokenizer(folder: Path) -> None:
    """A tokenizer with neither <image> nor <pad>, as that of Mistral."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<unk>", "<s>", "</s>"]
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=290, special_tokens=special, initial_alphabet=alphabet)
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>").save_pretrained(
        folder
    )
