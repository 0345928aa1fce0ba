"""Every family against plain transformers and its own image processor, on its tiny folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FIRST, NAMES, PIXELS, SHAPE, TEXTS, inputs, plain, token_types
from torch import Tensor

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.generation import write
from radz.backbones.llava_next import resized
from radz.backbones.qwen2_5_vl import image_positions
from radz.backbones.tiny import tiny_folder
from radz.config.schema import BackboneConfig, TinyConfig
from radz.models.encoder import Encoder

EACH = {"llava": 16, "llava_next": 4 + 4 * 5, "qwen2_5_vl": 4, "gemma3": 4, "qwen3_vl": 4, "llava_onevision": 4 + 2 * 3,
        "internvl": 5 * 4, "smolvlm": 4}  # fmt: skip
"""tokens of an image of 64 pixels in patches of 16"""
TILED = ("llava_next", "llava_onevision", "internvl")
WORDS = ["Small left effusion.", "The heart is enlarged, no pneumothorax is seen.", "Normal.", *TEXTS]
family = pytest.mark.parametrize("family", list(NAMES))
Build = Callable[..., Encoder]


def native(name: str, prepared: Tensor) -> Tensor:
    """What `prepare` returned in the layout of the family's processor."""
    if name in ("llava_next", "llava_onevision"):
        return torch.cat([prepared[:, 0, :1], prepared[:, 1:].flatten(1, 2)], dim=1)
    if name == "smolvlm":
        return prepared[None]  # one list of images
    return prepared.flatten(0, 1) if "qwen" in name or name == "internvl" else prepared


@family
@pytest.mark.parametrize("side", [64, 128, 96])
def test_prepare_equals_the_image_processor(
    make_family: Build, family_folders: dict[str, Path], family: str, side: int
) -> None:
    """Exactly, but for the resizing of tiles: filters of float and of fixed point differ by a level of 255."""
    backbone = make_family(family, train="frozen").backbone
    pixels = torch.nn.functional.interpolate(PIXELS[:3].float(), side, mode="bilinear").byte()
    if family in ("llava", "gemma3", "smolvlm") and side != 64:
        with pytest.raises(InputError, match=rf"data\.image_size: {side} conflicts with the backbone's 64"):
            backbone.prepare(pixels)
        return
    expected = inputs(family, family_folders[family], pixels)["pixel_values"]
    found = native(family, backbone.prepare(pixels))
    assert found.shape == expected.shape
    level = 1 / 255 / 0.25
    assert (found - expected).abs().max() < (1.01 * level if family in TILED else 1e-5)


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
    if images:
        images = {**images, **token_types(name, ids == backbone.image_token)}
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False, **images)
    assert len(out.hidden_states) == 7
    tokens = torch.isin(ids, torch.tensor(backbone.image_ids if images else backbone.text_ids))
    return out.hidden_states[-2][tokens].unflatten(0, (len(ids), -1))


@family
def test_features_equal_those_of_plain_transformers(
    make_family: Build, family_folders: dict[str, Path], family: str
) -> None:
    """One study and eight, of one image and of several, left and right padding, LoRA and rows at work."""
    counts = torch.tensor([1, 3, 1, 2, 1])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    model: Any = None
    for padding in ("right", "left"):
        encoder = make_family(family, padding=padding, dtype="float32").eval()
        backbone = encoder.backbone
        with torch.no_grad():
            for name, parameter in backbone.named_parameters():
                if "lora_B" in name or "trainable_tokens_delta" in name:
                    noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                    parameter.add_(0.1 * noise)
            images = encoder.encode_images(PIXELS, counts, ["chest_xray"] * 5).overall
            texts = encoder.encode_texts(WORDS).overall
        model = model or plain(family, family_folders[family], backbone)
        rows = [encoder._image_sequence(count, "chest_xray", 64) for count in counts.tolist()]
        assert [row.count(backbone.image_token) for row in rows] == [EACH[family] * c for c in counts.tolist()]
        bos = backbone.tokenizer.bos_token_id
        words = [[*backbone.tokenizer(text, add_special_tokens=False).input_ids, *backbone.text_ids] for text in WORDS]
        words = [[bos, *row] if bos is not None else row for row in words]
        seen = inputs(family, family_folders[family], PIXELS)
        for left in (False, True):
            together = states(model, encoder, family, rows, left, seen).mean(1)
            assert (together - images).abs().max() < 1e-4, (padding, left)
            assert (states(model, encoder, family, words, left, {}).mean(1) - texts).abs().max() < 1e-4
        for i in (0, 1):
            part = slice(starts[i], starts[i + 1])
            alone = states(
                model, encoder, family, rows[i : i + 1], False, inputs(family, family_folders[family], PIXELS[part])
            )
            with torch.no_grad():
                one = encoder.encode_images(PIXELS[part], counts[i : i + 1], ["chest_xray"]).overall
            assert (alone.mean(1) - images[i]).abs().max() < 1e-4 and (one[0] - images[i]).abs().max() < 1e-4
        # The comparison would be empty if every study had the same features.
        assert images.std(0).max() > 1e-2 and texts.std(0).max() > 1e-2


# ---- The rest of the interface -------------------------------------------------------------------------------------


@family
def test_pooled_tokens_are_means_of_squares(make_family: Build, family: str) -> None:
    plain, pooled = (make_family(family, train="frozen", image_pool=pool).backbone.eval() for pool in (1, 4))
    with torch.no_grad():
        each, found = (part.image_embeddings(part.prepare(PIXELS[:2])) for part in (plain, pooled))
    assert found.shape[1] == pooled.tokens_per_image(64) < each.shape[1] == plain.tokens_per_image(64) == EACH[family]
    side = {"llava": 4, "llava_next": 2, "qwen2_5_vl": 2, "gemma3": 2}.get(family, 2)
    square = each[:, : side**2].unflatten(1, (side // 2, 2, side // 2, 2)).mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(found[:, : square.shape[1]], square)
    if family == "llava_next":
        fine = each[:, 4:].unflatten(1, (4, 5))[:, :, :4].unflatten(2, (2, 2)).unflatten(1, (2, 2)).mean((2, 4))
        torch.testing.assert_close(found[:, 1:].unflatten(1, (2, 3))[:, :, :2], fine)
    encoder = make_family(family, train="frozen", image_pool=4).eval()
    features = encoder.encode_images(PIXELS, torch.tensor([6, 2]), ["chest_ct", "chest_ct"])
    assert torch.isfinite(features.overall).all() and torch.isfinite(features.local).all()
    with pytest.raises(InputError, match=r"backbone\.image_pool: 9 conflicts"):
        make_family(family, image_pool=9).check_images({"chest_xray": 1}, 64)


@pytest.mark.parametrize("family", FIRST)
def test_text_is_written_at_full_depth_only(make_family: Build, family: str) -> None:
    answers = write(
        make_family(family, depth="full", train="lora").eval().backbone, ["Describe edema.", "Pneumonia?"], 4
    )
    assert len(answers) == 2 and all(isinstance(answer, str) for answer in answers)
    with pytest.raises(InputError, match=r"backbone\.depth: feature conflicts"):
        write(make_family(family).backbone, ["x"], 1)


def test_positions_of_images_and_text_by_hand() -> None:
    """Two images of 2 x 2 tokens: [pad] t i i i i t i i i i t."""
    patches = torch.tensor([[0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0]]).bool()
    mask = torch.tensor([[0] + [1] * 11]).bool()
    time, row, column = image_positions(mask, patches)[:, 0].tolist()
    assert time == [0, 0, 1, 1, 1, 1, 3, 4, 4, 4, 4, 6]
    assert row == [0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6]
    assert column == [0, 0, 1, 2, 1, 2, 3, 4, 5, 4, 5, 6]


@pytest.mark.parametrize(("old", "new"), [(64, 32), (32, 64), (50, 37)])
def test_resizing_is_that_of_pillow(old: int, new: int) -> None:
    from PIL import Image

    shade = torch.nn.functional.interpolate(PIXELS[:1].float(), old, mode="nearest").byte()
    expected = torch.tensor(
        list(Image.fromarray(shade[0, 0].numpy()).resize((new, new), Image.Resampling.BICUBIC).getdata())
    )
    gap = (resized(shade, new)[0, 0].flatten().int() - expected.int()).abs()
    assert gap.max() <= 1 and (gap > 0).float().mean() < 5e-3


@pytest.mark.parametrize(("family", "side", "message"), [
    ("qwen2_5_vl", 80, "80 conflicts with the backbone, whose image processor would resize it; give a multiple of 32"),
    ("qwen2_5_vl", 544, "544 conflicts with the backbone.* multiple of 32 from 32 to 512"),
    ("gemma3", 96, "96 conflicts with the backbone's 64; set it to 64"),
])  # fmt: skip
def test_sides_that_do_not_fit_are_told_before_training(
    make_family: Build, family: str, side: int, message: str
) -> None:
    with pytest.raises(InputError, match=rf"data\.image_size: {message}"):
        make_family(family).check_images({"chest_xray": 1}, side)


@pytest.mark.parametrize(("family", "name", "key", "value", "message"), [
    ("llava_next", "preprocessor_config.json", "crop_size", {"height": 16, "width": 16}, "do not fit tiles of 32"),
    ("qwen2_5_vl", "preprocessor_config.json", "patch_size", 14, "image processor's patch_size is 14, the tower's 16"),
    ("qwen2_5_vl", "preprocessor_config.json", "merge_size", 3, "image processor's merge_size is 3, the tower's 2"),
    ("llava_onevision", "preprocessor_config.json", "size", {"height": 16, "width": 16}, "do not fit tiles of 32"),
    ("llava_onevision", "config.json", "vision_aspect_ratio", "square", "vision_aspect_ratio square of config.json is"),
    ("internvl", "preprocessor_config.json", "size", {"height": 16, "width": 16}, "do not fit tiles of 32 pixels"),
    ("internvl", "config.json", "vision_feature_layer", -2, "or what is read of the tower, do not fit"),
    ("smolvlm", "preprocessor_config.json", "max_image_size", {"longest_edge": 32}, "max_image_size is 32, the"),
    ("internvl", "tokenizer_config.json", "end_image_token", None, "the tokenizer lacks the tokens around an image"),
    ("gemma3", "config.json", "boi_token_index", 99999, "the tokenizer lacks the tokens around an image, ids 99999"),
])  # fmt: skip
def test_parts_of_different_models(
    family_folders: dict[str, Path], tmp_path: Path, family: str, name: str, key: str, value: Any, message: str
) -> None:
    shutil.copytree(family_folders[family], tmp_path / "mixed")
    settings = json.loads((tmp_path / "mixed" / name).read_text())
    (tmp_path / "mixed" / name).write_text(json.dumps({**settings, key: value}))
    with pytest.raises(InputError, match=message) as fault:
        load_backbone(BackboneConfig(path=str(tmp_path / "mixed")), tmp_path / "mixed", 2, 3)
    assert "\n" not in str(fault.value)


def test_idefics3_is_smolvlm_by_another_name(
    make_family: Build, family_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(family_folders["smolvlm"], tmp_path / "base")
    told = json.loads((folder / "config.json").read_text())
    told |= {"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]}
    told["vision_config"]["model_type"] = "idefics3_vision"
    (folder / "config.json").write_text(json.dumps(told))
    backbone = load_backbone(BackboneConfig(path=str(folder), dtype="float32"), folder, 2, 3)
    other = make_family("smolvlm", dtype="float32").backbone
    assert type(backbone.core).__name__ == "Idefics3ForConditionalGeneration"
    with torch.no_grad():
        pairs = [one.image_embeddings(one.prepare(PIXELS[:2])) for one in (backbone, other)]
    torch.testing.assert_close(*pairs)
    assert backbone.chat("Any?", 1) == other.chat("Any?", 1)
    assert "<fake_token_around_image><global-img><image><fake_token_around_image>Any?" in other.chat("Any?", 1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((folder / name).read_text().replace("<global-img>", "<view>"))
    with pytest.raises(InputError, match="the tokenizer lacks <global-img>, the tokens around an image"):
        load_backbone(BackboneConfig(path=str(folder)), folder, 2, 3)


def test_a_folder_without_a_head_is_told_its_remedy(family_folders: dict[str, Path], tmp_path: Path) -> None:
    """As Qwen3-VL-Embedding-8B was released."""
    folder = shutil.copytree(family_folders["qwen3_vl"], tmp_path / "base")
    kept = load_file(folder / "model.safetensors")
    assert kept.pop("lm_head.weight").numel()
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"missing, such as lm_head\.weight; .* set tie_word_embeddings to true in"):
        load_backbone(BackboneConfig(path=str(folder)), folder, 2, 3)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "tie_word_embeddings": True}))
    core = load_backbone(BackboneConfig(path=str(folder), train="frozen"), folder, 2, 3).core
    assert core.lm_head.weight is core.get_input_embeddings().weight


def test_shapes_of_tiny_families_are_checked() -> None:
    TinyConfig(family="llava", image_size=80).check()
    with pytest.raises(InputError, match=r"tiny\.image_size: must be a multiple of twice backbone\.tiny\.patch_size"):
        TinyConfig(family="qwen2_5_vl", image_size=80).check()
    with pytest.raises(InputError, match=r"backbone\.tiny\.family.*llava_next"):
        TinyConfig(family="other").check()


def test_the_folder_of_the_default_family_keeps_its_name(tmp_path: Path) -> None:
    """Its weights carry published numbers, and its name is the digest that they had before there were families."""
    shape = {**SHAPE, "vocabulary": 300}
    key = {**dataclasses.asdict(TinyConfig(**shape))}
    assert key.pop("family") == "llava"
    digest = hashlib.sha256((json.dumps(key, sort_keys=True) + "a b").encode()).hexdigest()[:12]
    assert tiny_folder(TinyConfig(**shape), ["a b"], tmp_path).name == f"tiny-{digest}"
    assert tiny_folder(TinyConfig(family="gemma3", **shape), ["a b"], tmp_path).name != f"tiny-{digest}"
