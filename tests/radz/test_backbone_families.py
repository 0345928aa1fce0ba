"""Every family against plain transformers and its own image processor, on its tiny folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import SHAPE, TEXTS
from torch import Tensor

from data_modules.errors import InputError
from radz.backbones import FAMILIES, load_backbone
from radz.backbones.tiny import write_tiny
from radz.config import BackboneConfig, DfatConfig, TinyConfig
from radz.encode import Encoder

NAMES = dict(zip(("llava", "llava_next", "qwen2_5_vl", "gemma3"), FAMILIES, strict=True))
EACH = {"llava": 16, "llava_next": 4 + 4 * 5, "qwen2_5_vl": 4, "gemma3": 4}
"""tokens of an image of 64 pixels in patches of 16"""
PIXELS = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
WORDS = ["Small left effusion.", "The heart is enlarged, no pneumothorax is seen.", "Normal.", *TEXTS]
family = pytest.mark.parametrize("family", list(NAMES))
Build = Callable[..., Encoder]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny folder of every family."""
    found = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in found.items():
        write_tiny(folder, TinyConfig(family=name, **SHAPE), TEXTS * 20)
    return found


@pytest.fixture
def build(folders: dict[str, Path]) -> Build:
    """Encoder of a family; keywords go to BackboneConfig."""

    def make(name: str, **settings: Any) -> Encoder:
        config = BackboneConfig(path=str(folders[name]), **{"lora_rank": 4, "lora_alpha": 8, **settings})
        torch.manual_seed(0)
        return Encoder(
            load_backbone(config, folders[name], 2, 3),
            DfatConfig(image_tokens=2, text_tokens=3, head="identity"),
        )

    return make


def processor(name: str, folder: Path) -> Any:
    """The image processor of the family in the version without torchvision."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    kinds = (CLIPImageProcessorPil, LlavaNextImageProcessorPil, Qwen2VLImageProcessorPil, Gemma3ImageProcessorPil)
    return dict(zip(NAMES, kinds, strict=True))[name].from_pretrained(folder)


def inputs(name: str, folder: Path, pixels: Tensor) -> dict[str, Any]:
    found = processor(name, folder)(images=[image.expand(3, -1, -1).numpy() for image in pixels], return_tensors="pt")
    return {key: value for key, value in found.items() if key != "num_crops"}


def native(name: str, prepared: Tensor) -> Tensor:
    """What `prepare` returned in the layout of the family's processor."""
    if name == "llava_next":
        return torch.cat([prepared[:, 0, :1], prepared[:, 1:].flatten(1, 2)], dim=1)
    return prepared.flatten(0, 1) if name == "qwen2_5_vl" else prepared


@family
@pytest.mark.parametrize("side", [64, 128, 96])
def test_prepare_equals_the_image_processor(build: Build, folders: dict[str, Path], family: str, side: int) -> None:
    """Exactly, but for LLaVA-NeXT's resizing: filters of float and of fixed point differ by a level of 255."""
    backbone = build(family, train="frozen").backbone
    pixels = torch.nn.functional.interpolate(PIXELS[:3].float(), side, mode="bilinear").byte()
    if family in ("llava", "gemma3") and side != 64:
        with pytest.raises(InputError, match=rf"data\.image_size: {side} conflicts with the backbone's 64"):
            backbone.prepare(pixels)
        return
    expected = inputs(family, folders[family], pixels)["pixel_values"]
    found = native(family, backbone.prepare(pixels))
    assert found.shape == expected.shape
    level = 1 / 255 / 0.25
    assert (found - expected).abs().max() < (1.01 * level if family == "llava_next" else 1e-5)


def plain(name: str, folder: Path, backbone: Any) -> Any:
    """The folder in plain transformers, full depth, with the rows and LoRA of `backbone` put in by hand."""
    model = getattr(transformers, NAMES[name]).from_pretrained(folder, dtype=torch.float32).eval()
    model.resize_token_embeddings(len(backbone.tokenizer), mean_resizing=False)
    ids = backbone.image_ids + backbone.text_ids
    state = dict(backbone.core.named_parameters())
    with torch.no_grad():
        rows = next(value for key, value in state.items() if "trainable_tokens_delta" in key)
        model.get_input_embeddings().weight[ids] = rows
        for key, value in state.items():
            if "lora_A" in key:
                up = state[key.replace("lora_A", "lora_B")]
                model.get_parameter(key.split(".lora_A")[0] + ".weight").add_(2 * up @ value)
    return model


def states(
    model: Any, encoder: Encoder, name: str, rows: list[list[int]], left: bool, images: dict[str, Any]
) -> Tensor:
    """`hidden_states[-2]` at the modality tokens, [B, tokens, d]."""
    backbone, longest = encoder.backbone, max(map(len, rows)) + 3
    pad = backbone.tokenizer.pad_token_id
    gaps = [longest - len(row) for row in rows]
    pairs = list(zip(gaps, rows, strict=True))
    ids = torch.tensor([[pad] * gap + row if left else row + [pad] * gap for gap, row in pairs])
    ones = [[1] * len(row) for row in rows]
    mask = torch.tensor([[0] * g + one if left else one + [0] * g for g, one in zip(gaps, ones, strict=True)])
    if images and name in ("qwen2_5_vl", "gemma3"):
        key = "mm_token_type_ids" if name == "qwen2_5_vl" else "token_type_ids"
        images = {**images, key: (ids == backbone.image_token).long()}
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False, **images)
    assert len(out.hidden_states) == 7
    tokens = torch.isin(ids, torch.tensor(backbone.image_ids if images else backbone.text_ids))
    return out.hidden_states[-2][tokens].unflatten(0, (len(ids), -1))


@family
def test_features_equal_those_of_plain_transformers(build: Build, folders: dict[str, Path], family: str) -> None:
    """One study and eight, of one image and of several, left and right padding, LoRA and rows at work."""
    counts = torch.tensor([1, 3, 1, 2, 1])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    model: Any = None
    for padding in ("right", "left"):
        encoder = build(family, padding=padding, dtype="float32").eval()
        backbone = encoder.backbone
        with torch.no_grad():
            for name, parameter in backbone.named_parameters():
                if "lora_B" in name or "trainable_tokens_delta" in name:
                    noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                    parameter.add_(0.1 * noise)
            images = encoder.encode_images(PIXELS, counts, ["chest_xray"] * 5).overall
            texts = encoder.encode_texts(WORDS).overall
        model = model or plain(family, folders[family], backbone)
        rows = [encoder._image_sequence(count, "chest_xray", 64) for count in counts.tolist()]
        assert [row.count(backbone.image_token) for row in rows] == [EACH[family] * c for c in counts.tolist()]
        bos = backbone.tokenizer.bos_token_id
        words = [[*backbone.tokenizer(text, add_special_tokens=False).input_ids, *backbone.text_ids] for text in WORDS]
        words = [[bos, *row] if bos is not None else row for row in words]
        seen = inputs(family, folders[family], PIXELS)
        for left in (False, True):
            together = states(model, encoder, family, rows, left, seen).mean(1)
            assert (together - images).abs().max() < 1e-4, (padding, left)
            assert (states(model, encoder, family, words, left, {}).mean(1) - texts).abs().max() < 1e-4
        for i in (0, 1):
            part = slice(starts[i], starts[i + 1])
            alone = states(
                model, encoder, family, rows[i : i + 1], False, inputs(family, folders[family], PIXELS[part])
            )
            with torch.no_grad():
                one = encoder.encode_images(PIXELS[part], counts[i : i + 1], ["chest_xray"]).overall
            assert (alone.mean(1) - images[i]).abs().max() < 1e-4 and (one[0] - images[i]).abs().max() < 1e-4
        # The comparison would be empty if every study had the same features.
        assert images.std(0).max() > 1e-2 and texts.std(0).max() > 1e-2
