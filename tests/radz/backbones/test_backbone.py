"""Backbone facts of a LLaVA class folder: loading, tokens, truncation, what trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_families import load

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.folder import image_settings
from radz.backbones.generation import write
from radz.backbones.layers import layer_index
from radz.backbones.lora import trainable_table
from radz.config.schema import BackboneConfig

PIXELS = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
COUNTS = torch.ones(3, dtype=torch.int64)
XRAYS = ["chest_xray"] * len(COUNTS)
TEXTS = ["Small left effusion.", "The heart is enlarged, no pneumothorax.", "Normal chest radiograph."]


def loss_of(encoder) -> torch.Tensor:
    image = encoder.encode_images(PIXELS, COUNTS, XRAYS)
    text = encoder.encode_texts(TEXTS)
    anchors = encoder.anchor_features(encoder.encode_descriptions(TEXTS, "decoder").detach())
    weights = torch.linspace(-1, 1, image.overall.shape[1])
    return sum(
        (part.tanh() * weights).sum() for part in (image.overall, image.local, text.overall, text.local, anchors)
    )


@pytest.mark.parametrize("train", ["lora", "full", "frozen"])
@pytest.mark.parametrize("depth", ["feature", "full"])
@pytest.mark.parametrize("tower", [False, True])
@pytest.mark.parametrize(("layer", "checkpointing"), [(-2, True), (3, False), (-1, False)])
def test_every_trainable_parameter_gets_a_gradient(
    make_encoder, train: str, depth: str, tower: bool, layer: int, checkpointing: bool
) -> None:
    """Under DDP a trainable parameter without one is waited for for ever."""
    encoder = make_encoder(
        train=train, depth=depth, train_tower=tower, feature_layer=layer, gradient_checkpointing=checkpointing
    ).train()
    loss_of(encoder).backward()
    named = [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]
    dead = [name for name, p in named if p.grad is None]
    assert dead == []
    # LoRA's A factors wait for B to leave zero; everything else must move at once.
    still = [n for n, p in named if not p.grad.abs().any() and "lora_A" not in n]
    assert still == []


@pytest.mark.parametrize("train", ["lora", "full"])
def test_both_depths_train_the_same_parameters(make_encoder, train: str) -> None:
    """So a checkpoint of one is a checkpoint of the other."""
    found = {}
    for depth in ("feature", "full"):
        encoder = make_encoder(train=train, depth=depth, feature_layer=3, train_tower=True)
        found[depth] = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert found["feature"] == found["full"] and any("layers.2." in name for name in found["full"])


def test_lora_stays_out_of_the_tower_and_moves_only_the_new_rows(make_encoder) -> None:
    encoder = make_encoder(train="lora")
    names = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert any("language_model.layers.0.self_attn.q_proj.lora_A" in name for name in names)
    assert not any("vision_tower" in name for name in names)
    rows = [p for name, p in encoder.named_parameters() if p.requires_grad and "trainable_tokens" in name]
    assert [tuple(row.shape) for row in rows] == [(5, 32)]
    assert {p.dtype for p in encoder.parameters() if p.requires_grad} == {torch.float32}


def test_trained_weights_are_fp32_on_a_bf16_base(make_encoder) -> None:
    encoder = make_encoder(train="lora", dtype="bfloat16")
    trained = {p.dtype for p in encoder.parameters() if p.requires_grad}
    frozen = {p.dtype for p in encoder.parameters() if not p.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {torch.bfloat16})
    with torch.autocast("cpu", torch.bfloat16):
        image = encoder.encode_images(PIXELS, COUNTS, XRAYS)
    assert image.overall.dtype == torch.float32 and torch.isfinite(image.overall).all()


@pytest.mark.parametrize("train", ["lora", "full", "frozen"])
def test_a_bf16_model_writes_without_autocast(make_encoder, train: str) -> None:
    """Through the layers behind the feature layer too, which do not train."""
    backbone = make_encoder(train=train, dtype="bfloat16", depth="full").backbone
    assert len(write(backbone, ["Describe edema.", "Describe a mass."], 4)) == 2


@pytest.mark.parametrize("layer", [-3, -2, -1, 4])
def test_truncated_equals_full_depth(make_encoder, layer: int) -> None:
    found = {}
    for depth in ("feature", "full"):
        encoder = make_encoder(train="frozen", depth=depth, feature_layer=layer).eval()
        with torch.no_grad():
            found[depth] = (
                encoder.encode_images(PIXELS, COUNTS, XRAYS),
                encoder.encode_texts(TEXTS),
            )
    for one, other in zip(found["feature"], found["full"], strict=True):
        assert torch.equal(one.overall, other.overall) and torch.equal(one.local, other.local)


def test_truncation_drops_layers_and_norm(make_encoder) -> None:
    model = make_encoder(train="frozen").backbone.core.model
    assert len(model.language_model.layers) == 5
    assert isinstance(model.language_model.norm, torch.nn.Identity)
    assert len(model.vision_tower.encoder.layers) == 3


@pytest.mark.parametrize("layer", [0, 7, -7, -8])
def test_layer_beyond_the_decoder(layer: int) -> None:
    with pytest.raises(InputError, match="feature_layer"):
        layer_index(layer, 6)


def test_modality_tokens_are_single_ids_and_reproducible(tiny_path: Path) -> None:
    one, two = load(tiny_path), load(tiny_path)
    ids = one.image_ids + one.text_ids
    assert len(set(ids)) == 5
    assert one.tokenizer("<ImgCls_0>", add_special_tokens=False).input_ids == [one.image_ids[0]]
    tensor = torch.tensor(ids)
    assert torch.equal(one.word_embeddings(tensor), two.word_embeddings(tensor))
    rows = one.word_embeddings(tensor)
    assert (rows[0] - rows[1]).norm() > 1e-3


def test_a_padded_vocabulary_is_never_shrunk(tiny_path: Path, tmp_path: Path) -> None:
    from transformers import LlavaForConditionalGeneration

    folder = shutil.copytree(tiny_path, tmp_path / "padded")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(640, mean_resizing=False)
    model.save_pretrained(folder)
    assert load(folder).core.get_input_embeddings().weight.shape[0] == 640


def test_of_two_image_processors_the_one_of_transformers_is_read(tiny_path: Path, tmp_path: Path) -> None:
    """transformers 5 saves it within processor_config.json, beside a file that transformers 4 left."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = shutil.copytree(tiny_path, tmp_path / "two")
    old = json.loads((folder / "preprocessor_config.json").read_text())
    new = {**old, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.7, 0.8, 0.9]}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": new}))
    plain = CLIPImageProcessorPil.from_pretrained(folder)
    assert list(plain.image_mean) == new["image_mean"] != old["image_mean"]
    expected = plain(images=[image.expand(3, -1, -1).numpy() for image in PIXELS], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(load(folder).prepare(PIXELS), expected, rtol=0, atol=1e-5)
    (folder / "processor_config.json").write_text(json.dumps({"patch_size": 16}))
    assert image_settings(folder) == old


def test_sequences_hold_the_placeholders_and_one_bos(make_encoder) -> None:
    encoder = make_encoder()
    backbone = encoder.backbone
    for images in (1, 3):
        sequence = encoder._image_sequence(images, "chest_xray", 64)
        assert sequence.count(backbone.image_token) == images * 16
        assert sequence.count(backbone.tokenizer.bos_token_id) == 1
        assert sequence[-2:] == backbone.image_ids
        assert backbone.tokenizer.eos_token_id not in sequence


def test_too_many_images_for_the_context(make_encoder) -> None:
    encoder = make_encoder()
    with pytest.raises(
        InputError,
        match=r"a study of 20 chest X-ray image\(s\): a sequence of \d+ tokens \(20 x 16 \+ \d+\) exceeds.* 256",
    ):
        encoder.encode_images(PIXELS[:1].expand(20, -1, -1, -1), torch.tensor([20]), XRAYS[:1])


def test_trainable_table_adds_up(make_encoder) -> None:
    encoder = make_encoder(train="lora")
    *parts, total = trainable_table(encoder)
    assert total[0] == "total"
    assert sum(part[1] for part in parts) == total[1] == sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert "other" not in [part[0] for part in parts]


@pytest.mark.parametrize(("tower", "strategy", "tokens"), [
    ("siglip_vision_model", "full", 16), ("clip_vision_model", "full", 17), ("pixtral", "full", 0),
])  # fmt: skip
def test_other_towers_of_llava(tiny_path: Path, tmp_path: Path, tower: str, strategy: str, tokens: int) -> None:
    """A tower without class token, a class token that is kept, and a tower that is not known."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    folder = shutil.copytree(tiny_path, tmp_path / "tower")
    config = LlavaConfig.from_pretrained(folder)
    vision = {"model_type": tower, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
              "num_attention_heads": 4, "image_size": 64, "patch_size": 16}  # fmt: skip
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=config.text_config, image_token_index=config.image_token_id,
                    vision_feature_select_strategy=strategy)
    ).eval()  # fmt: skip
    model.save_pretrained(folder)
    if not tokens:
        with pytest.raises(InputError, match="vision tower of type pixtral is not supported; known: clip_vision_model"):
            load(folder)
        return
    backbone = load(folder, train="frozen", train_tower=True)
    assert backbone.tokens_per_image(64) == tokens
    prepared = backbone.prepare(PIXELS)
    with torch.no_grad():
        found, expected = backbone.image_embeddings(prepared), model.model.get_image_features(prepared).pooler_output
    torch.testing.assert_close(found, torch.stack(list(expected)), rtol=1e-4, atol=1e-5)
    backbone.image_embeddings(prepared).square().sum().backward()
    assert [
        name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None and "row" not in name
    ] == []


def test_placeholders_and_features_must_agree(make_encoder) -> None:
    told = "48 image placeholders for 32 image features"
    with pytest.raises(InputError, match=told):
        make_encoder().encode_images(PIXELS[:2], torch.tensor([2, 1]), XRAYS[:2])
    encoder = make_encoder({"instruction": "Find <image> here."})
    with pytest.raises(InputError, match="shows 2 image placeholders for 1 images"):
        encoder.encode_images(PIXELS[:1], torch.tensor([1]), XRAYS[:1])


def test_wrong_image_size_is_named(make_encoder) -> None:
    with pytest.raises(InputError, match=r"data\.image_size"):
        make_encoder().encode_images(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), torch.tensor([1]), ["chest_xray"])


def test_pooled_tokens_are_means_of_squares(make_encoder) -> None:
    plain, pooled = (make_encoder(train="frozen", image_pool=pool).backbone.eval() for pool in (1, 4))
    with torch.no_grad():
        each = plain.image_embeddings(plain.prepare(PIXELS))
        found = pooled.image_embeddings(pooled.prepare(PIXELS))
    assert (plain.tokens_per_image(64), pooled.tokens_per_image(64)) == (16, 4)
    for token, square in enumerate(([0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15])):
        torch.testing.assert_close(found[:, token], each[:, square].mean(1))
    sequence = make_encoder(image_pool=4)._image_sequence(32, "chest_ct", 64)
    assert sequence.count(pooled.image_token) == 32 * 4
    with pytest.raises(InputError, match=r"image_pool: 9 conflicts with the tower's 4 x 4 patches, which 3 does not"):
        make_encoder(image_pool=9)
    with pytest.raises(InputError, match=r"backbone.image_pool=2: must be 1, 4 or 9"):
        make_encoder(image_pool=2)


def test_slices_beyond_the_context_are_told_with_the_sum(make_encoder) -> None:
    encoder = make_encoder()
    encoder.check_images({"chest_xray": 1, "chest_ct": 12}, 64)
    told = r"a study of 16 chest CT image\(s\): .*\(16 x 16 \+ \d+\) exceeds.* 256; lower data.ct.slices .*image_pool"
    with pytest.raises(InputError, match=told):
        encoder.check_images({"chest_xray": 1, "chest_ct": 16}, 64)


def test_the_projector_reads_the_states_of_the_tower_themselves(tiny_path: Path) -> None:
    """A copy of them is laid out otherwise: now and then a product with it is rounded otherwise, in the backward pass
    too, and a run of an earlier radz would no longer be repeated bit for bit."""
    backbone = load_backbone(BackboneConfig(path=str(tiny_path), train="frozen"), tiny_path, 1, 1).eval()
    seen: dict[str, torch.Tensor] = {}
    projector = backbone.core.model.multi_modal_projector
    projector.register_forward_pre_hook(lambda _, given: seen.update(read=given[0]))
    (layer,) = backbone._tower_layers
    backbone.tower.register_forward_hook(lambda _, __, out: seen.update(state=out.hidden_states[layer]))
    backbone.image_embeddings(backbone.prepare(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)))
    assert seen["read"].untyped_storage().data_ptr() == seen["state"].untyped_storage().data_ptr()
