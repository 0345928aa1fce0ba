"""`radz assemble` against plain transformers: every kind of decoder and tower, and what is refused."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from gguf_file import SPECIAL, TEMPLATE, write_gguf
from tiny_parts import DECODER, DECODERS, PATCH, SIDE, TEXT, TOWERS, text_tokenizer, write_decoder, write_tower

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.assembly import decoder as decoders
from radz.backbones.assembly.assemble import assemble
from radz.backbones.assembly.tower import TowerShape
from radz.backbones.tiny_tokenizer import byte_level
from radz.cli.command_line import main
from radz.config.schema import BackboneConfig


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama, a CLIP tower and their assembly."""
    place = tmp_path_factory.mktemp("parts")
    assemble(
        str(write_decoder(place / "llama", "Llama")),
        str(write_tower(place / "clip", "CLIPVision")),
        str(place / "both"),
    )
    return place


def opened(folder: Path) -> Any:
    return load_backbone(BackboneConfig(path=str(folder), train="frozen", dtype="float32"), folder, 1, 1).eval()


def plain(folder: Path) -> Any:
    loader: Any = transformers.LlavaForConditionalGeneration
    return loader.from_pretrained(folder, dtype=torch.float32).eval()


def plain_tokens(model: Any, processor: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Image tokens [M, P, d] as transformers makes them of uint8 images."""
    prepared = processor.image_processor(list(pixels), return_tensors="pt")["pixel_values"]
    found = model.get_image_features(prepared)
    found = getattr(found, "pooler_output", found)
    return torch.stack(list(found)) if isinstance(found, list | tuple) else found


@torch.no_grad()
def check_images(folder: Path) -> None:
    """Image tokens of the folder in radz are those of plain transformers, as many as its processor writes."""
    model, processor = plain(folder), transformers.LlavaProcessor.from_pretrained(folder)
    pixels = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    backbone = opened(folder)
    found, expected = backbone.image_embeddings(backbone.prepare(pixels)), plain_tokens(model, processor, pixels)
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5) and expected.std() > 1e-3
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is seen?"}]}]
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    inputs = processor(text=text, images=pixels[0], return_tensors="pt")
    places = (inputs.input_ids == model.config.image_token_id).sum().item()
    assert places == found.shape[1] == backbone.tokens_per_image(SIDE)
    assert model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_keeps_its_states(parts: Path, tmp_path: Path, name: str) -> None:
    source = write_decoder(tmp_path / "decoder", name)
    folder = assemble(str(source), str(parts / "clip"), str(tmp_path / "out"))
    check_images(folder)
    loader: Any = transformers.AutoModelForCausalLM
    alone, tokenizer = loader.from_pretrained(source).eval(), transformers.AutoTokenizer.from_pretrained(source)
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    with torch.no_grad():
        expected = alone(ids, output_hidden_states=True)
        found = plain(folder)(input_ids=ids, output_hidden_states=True)
        backbone = opened(folder)
        states = backbone.decode(backbone.word_embeddings(ids), torch.ones_like(ids, dtype=torch.bool))
    assert torch.equal(found.hidden_states[-2], expected.hidden_states[-2])
    assert torch.equal(found.logits[..., : DECODER["vocab_size"]], expected.logits)
    assert torch.allclose(states, expected.hidden_states[-2], atol=1e-5)
    proof = json.loads((folder / "assembly.json").read_text())
    assert proof["vocabulary"] == {"rows": 515, "rows_added": 61, "tokens": len(tokenizer) + 2}
    assert len(proof["tensors"]) == len(alone.model.state_dict()) + len(plain(folder).model.vision_tower.state_dict())


@pytest.mark.parametrize("layers", [-2, [1, 3]])
@pytest.mark.parametrize("name", TOWERS)
def test_every_tower_gives_the_tokens_of_transformers(parts: Path, tmp_path: Path, name: str, layers: Any) -> None:
    tower = write_tower(tmp_path / "tower", name)
    folder = assemble(str(parts / "llama"), str(tower), str(tmp_path / "out"), tower_layers=layers)
    check_images(folder)
    assert opened(folder).tokens_per_image(SIDE) == (SIDE // PATCH) ** 2 + TOWERS[name]
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert settings["image_mean"] == [0.4, 0.5, 0.6]


def test_patches_that_do_not_divide_the_image_cover_less_of_it(parts: Path, tmp_path: Path) -> None:
    """As SigLIP's 384 pixels hold 27 patches of 14: the last pixels reach no token, and maps end before them."""
    tower = write_tower(tmp_path / "tower", "SiglipVision", image_size=SIDE + 6)
    backbone = opened(assemble(str(parts / "llama"), str(tower), str(tmp_path / "out")))
    assert backbone.covered(SIDE + 6) == SIDE and opened(parts / "both").covered(SIDE) == SIDE
    pixels = torch.randint(0, 256, (1, 3, SIDE + 6, SIDE + 6), dtype=torch.uint8)
    other = pixels.clone()
    other[..., SIDE:] = 255 - other[..., SIDE:]
    with torch.no_grad():
        seen, same = (backbone.image_embeddings(backbone.prepare(one)) for one in (pixels, other))
    assert torch.equal(seen, same)


def test_a_tower_that_trains_leaves_idle_parts_alone(parts: Path, tmp_path: Path) -> None:
    """Every weight that moves has a part in the features: DDP would wait for the gradient of another."""
    for name in TOWERS:
        tower = write_tower(tmp_path / name, name)
        folder = assemble(str(parts / "llama"), str(tower), str(tmp_path / f"with {name}"), tower_layers=[1, 2])
        config = BackboneConfig(path=str(folder), train="frozen", train_tower=True, dtype="float32")
        backbone = load_backbone(config, folder, 1, 1).train()
        pixels = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8)
        backbone.image_embeddings(backbone.prepare(pixels)).square().sum().backward()
        moving = {key: weight.grad for key, weight in backbone.tower.named_parameters() if weight.requires_grad}
        assert moving and not [key for key, gradient in moving.items() if gradient is None], name
        assert not any("patch_embedding" in key for key in moving)


def test_a_fresh_tower_speaks_as_loudly_as_words(parts: Path, tmp_path: Path) -> None:
    shape = TowerShape(image_size=SIDE, patch_size=PATCH, width=64, layers=2, heads=2)
    folder = assemble(str(parts / "llama"), "new", str(tmp_path / "out"), shape=shape)
    check_images(folder)
    backbone = opened(folder)
    with torch.no_grad():
        pixels = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
        images = backbone.image_embeddings(backbone.prepare(pixels)).square().mean().sqrt()
        words = backbone.word_embeddings(torch.arange(400)).square().mean().sqrt()
    assert 0.5 < images / words < 2
    again = assemble(str(parts / "llama"), "new", str(tmp_path / "again"), shape=shape)
    other = assemble(str(parts / "llama"), "new", str(tmp_path / "other"), shape=shape, seed=1)
    weights = [(one / "model.safetensors").read_bytes() for one in (folder, again, other)]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    ("tower", "dtype", "read_as", "kept"),
    [
        ("clip", "auto", "float32", "bfloat16"),
        ("clip", "float32", "float32", "float32"),
        ("clip", "float16", "float32", "float16"),
        ("new", "auto", "float32", "bfloat16"),
        ("new", "bfloat16", "float32", "bfloat16"),
    ],
)
def test_parts_of_two_dtypes_are_joined_in_one(
    parts: Path, tmp_path: Path, tower: str, dtype: str, read_as: str, kept: str
) -> None:
    """A decoder in bfloat16, as most are published, with a tower in float32."""
    loader: Any = transformers.AutoModelForCausalLM
    source = shutil.copytree(parts / "llama", tmp_path / "llama")
    loader.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(source)
    of = {"shape": TowerShape(SIDE, PATCH, width=64, layers=2, heads=2)} if tower == "new" else {}
    given = tower if tower == "new" else str(parts / tower)
    folder = assemble(str(source), given, str(tmp_path / "out"), dtype=dtype, **of)
    whole: Any = transformers.LlavaForConditionalGeneration
    weights = whole.from_pretrained(folder, dtype="auto").state_dict()
    assert {weight.dtype for weight in weights.values()} == {getattr(torch, kept)}
    proof = json.loads((folder / "assembly.json").read_text())
    assert (proof["tower"]["read_as"], proof["dtype"]) == (read_as, kept)
    if tower != "new":
        own = transformers.CLIPVisionModel.from_pretrained(parts / tower).state_dict()  # type: ignore[attr-defined]
        table = {key.removeprefix("model.vision_tower."): weight for key, weight in weights.items()}
        assert all(torch.equal(table[name], weight.to(getattr(torch, kept))) for name, weight in own.items())


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A GGUF file, the model and the tokenizer in it."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokenizer = byte_level([TEXT] * 50, 400, SPECIAL)
    return file, write_gguf(file, tokenizer), tokenizer


def test_a_gguf_file_keeps_weights_words_and_manners(
    gguf: tuple[Path, Any, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of SmolLM2's kind: strings are joined, a system prompt comes by itself, padding is the end of a turn."""
    file, model, tokenizer = gguf
    assert main(["assemble", f"decoder={file}", "tower=new", "image_size=56", "patch_size=14", "width=64", "layers=2",
                 "heads=2", f"out={tmp_path / 'out'}"]) == 0  # fmt: skip
    said = capfd.readouterr().err
    assert "\r" not in said and len(re.findall("GGUF tensors.*100%", said)) == 1  # a log keeps every drawing of a bar
    folder = tmp_path / "out"
    check_images(folder)
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states[-2]
        assert torch.allclose(
            plain(folder)(input_ids=ids, output_hidden_states=True).hidden_states[-2], expected, atol=1e-6
        )
    backbone = opened(folder)
    assert backbone.ids(TEXT) == ids[0].tolist()
    assert backbone.tokenizer.pad_token == "<pad>" and backbone.tokenizer.eos_token == "<|im_end|>"
    shown = backbone.chat("Findings?", 1)
    assert shown == (
        "<|im_start|>system\nYou read radiographs.<|im_end|>\n<|im_start|>user\n<image>\nFindings?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    # A message of one string is what the model's own template makes of it.
    said = [{"role": "user", "content": "Findings?"}]
    own = tokenizer.apply_chat_template(said, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True)
    assert backbone.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True) == own


def test_the_tower_of_a_run_is_the_trained_one(parts: Path, trained_run: Path, tmp_path: Path) -> None:
    assert main(["assemble", f"decoder={parts / 'llama'}", f"tower={trained_run}", f"out={tmp_path / 'out'}"]) == 0
    assert main(["export", str(trained_run), f"out={tmp_path / 'export'}"]) == 0
    found = plain(tmp_path / "out").model.vision_tower.state_dict()
    expected = plain(tmp_path / "export" / "backbone").model.vision_tower.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def damaged(folder: Path, **changed: Any) -> Path:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **changed}))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": "nowhere/at/all"}, r"decoder: nowhere/at/all: no Hugging Face folder, hub id or \.gguf file"),
        ({"decoder": "gone.gguf"}, r"decoder: gone\.gguf: no such file"),
        ({"decoder": "{tmp}/no.gguf"}, r"decoder: .*no\.gguf: is no GGUF file"),
        ({"decoder": "{tmp}/cut.gguf"}, r"decoder: .*cut\.gguf: the config cannot be read"),
        ({"decoder": "{tmp}/other.gguf"}, r"decoder: .*other\.gguf: the config cannot be read \(.*plamo"),
        ({"decoder": "{tmp}/bert"}, r"decoder: .*bert: is a bert model; known: llama, mistral"),
        ({"decoder": "{tmp}/image"}, r"decoder: .*image: its tokenizer has <image> already"),
        ({"decoder": "{tmp}/bare"}, r"decoder: .*bare: no safetensors weights"),
        ({"decoder": "{tmp}/half"}, r"decoder: .*half: \d+ weights are missing or of another shape, such as"),
        ({"decoder": "{tmp}/deaf"}, r"no chat template .* shows an image and the words beside it"),
        ({"tower": "nowhere/at/all"}, r"tower: nowhere/at/all: no Hugging Face folder or hub id"),
        ({"tower": "{tmp}/oblong"}, r"tower: .*images of \[56, 28\] and patches of 14 pixels"),
        ({"tower": "{tmp}/swin"}, r"tower: .*a vision tower of type swin is not supported; known: clip_vision_model"),
        ({"tower": "{tmp}/mean"}, r"tower: .*mean: the image processor gives no image_mean"),
        ({"tower_layers": "[4]"}, r"tower_layers \[4\] does not name different ones of the tower's 3 layers"),
        ({"tower_layers": "[1,-3]"}, r"tower_layers \[1, -3\] does not name different ones"),
        ({"tower_layers": "last"}, r"tower_layers=last: must be a whole number"),
        ({"dtype": "int8"}, r"dtype=int8: unknown; use auto, float32, bfloat16, float16"),
        ({"width": "64"}, r"tower: .*clip: has its shape already"),
        ({"tower": "new", "patch_size": "15"}, r"image_size=112: is not a multiple of patch_size=15"),
        ({"tower": "new", "width": "60"}, r"width=60: must be a multiple of 8 x heads=4"),
        ({"tower": "new", "width": "0"}, r"width=0: must be a whole number from 1"),
        ({"out": "{parts}/both"}, r"out: .*both is there and not empty"),
    ],
)
def test_what_cannot_be_joined_is_said_in_a_line(
    parts: Path, gguf: tuple[Path, Any, Any], tmp_path: Path, capsys: Any, change: dict[str, str], message: str
) -> None:  # fmt: skip
    value = change.get("decoder", "") + change.get("tower", "")
    (tmp_path / "no.gguf").write_bytes(b"not at all")
    (tmp_path / "cut.gguf").write_bytes(gguf[0].read_bytes()[:300])
    if "other.gguf" in value:
        write_gguf(tmp_path / "other.gguf", gguf[2], architecture="plamo")
    if value.endswith(("bert", "image", "bare", "half", "deaf")):
        folder = Path(shutil.copytree(parts / "llama", tmp_path / value.rsplit("/")[-1]))
        if value.endswith("bert"):
            damaged(folder, model_type="bert", architectures=["BertModel"])
        elif value.endswith("image"):
            tokenizer = text_tokenizer()
            tokenizer.add_tokens(["<image>"])
            tokenizer.save_pretrained(folder)
        elif value.endswith("bare"):
            (folder / "model.safetensors").unlink()
        elif value.endswith("half"):
            damaged(folder, num_hidden_layers=4)
        else:
            (folder / "chat_template.jinja").write_text("{{ bos_token }}Say nothing.")
    if value.endswith(("oblong", "mean")):
        folder = Path(shutil.copytree(parts / "clip", tmp_path / value.rsplit("/")[-1]))
        if value.endswith("mean"):
            (folder / "preprocessor_config.json").write_text("{}")
        else:
            shutil.rmtree(folder)
            damaged(write_tower(folder, "ViT"), image_size=[56, 28])
    if value.endswith("swin"):
        config = transformers.SwinConfig(
            image_size=56, patch_size=14, embed_dim=12, depths=[1], num_heads=[2], window_size=2
        )
        transformers.SwinModel(config).save_pretrained(tmp_path / "swin")
        shutil.copyfile(parts / "clip" / "preprocessor_config.json", tmp_path / "swin" / "preprocessor_config.json")
    keys = {"decoder": str(parts / "llama"), "tower": str(parts / "clip"), "out": str(tmp_path / "out"), **change}
    words = [f"{key}={text.format(tmp=tmp_path, parts=parts)}" for key, text in keys.items()]
    handler = logging.StreamHandler(io.StringIO())  # that of transformers may hold the stream of another test
    logging.getLogger("transformers").addHandler(handler)
    assert main(["assemble", *words]) == 2
    logging.getLogger("transformers").removeHandler(handler)
    assert "LOAD REPORT" not in handler.stream.getvalue()
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_gguf_file_needs_its_package(gguf: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'radz\[gguf\]'"):
        decoders.check_gguf(gguf[0])
