"""`radz import`: a checkpoint in the original LLaVA layout becomes a Hugging Face folder, with a proof."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from original_llava import FAMILIES, PATCH, ROWS, SIDE, WIDTH, Parts
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.original_llava import convert
from radz.backbones.original_llava.checkpoint import CLIP_TOWERS
from radz.backbones.original_llava.convert import import_checkpoint
from radz.backbones.original_llava.tokenizer import SYSTEM_V1
from radz.cli.command_line import main
from radz.config.schema import BackboneConfig


@pytest.fixture(scope="module", params=list(FAMILIES))
def parts(request: pytest.FixtureRequest) -> Parts:
    return Parts(request.param)


@pytest.fixture(scope="module")
def mistral() -> Parts:
    return Parts("llava_mistral")


@pytest.fixture(scope="module")
def imported(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(checkpoint, new folder); the checkpoint has a tuned tower of its own, `tower` only says its shape."""
    place = tmp_path_factory.mktemp(parts.kind)
    source = parts.write(place / "source")
    tower = parts.write_tower(place / "clip", weights=False)
    return source, import_checkpoint(str(source), str(place / "new"), str(tower))


def test_features_equal_those_of_the_source_tensors(parts: Parts, imported: tuple[Path, Path]) -> None:
    config = BackboneConfig(path=str(imported[1]), train="frozen", dtype="float32")
    backbone = load_backbone(config, imported[1], 2, 3).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    prepared = (pixels.expand(-1, 3, -1, -1) / 255 - mean) / std
    expected = parts.image_tokens(prepared)
    assert expected.shape == (2, (SIDE // PATCH) ** 2, WIDTH) and expected.std() > 0.01
    with torch.no_grad():
        found = backbone.image_embeddings(backbone.prepare(pixels))
        ids = torch.tensor([[1, 40, 77, 102, 250]] * 2)
        words = parts.decoder.model.embed_tokens(ids)
        assert torch.equal(backbone.word_embeddings(ids), words)
        assert torch.allclose(found, expected, atol=1e-5)
        sequence = torch.cat([words[:, :2], expected, words[:, 2:]], dim=1)
        states = backbone.decode(sequence, torch.ones(sequence.shape[:2], dtype=torch.bool))
    assert torch.allclose(states, parts.states(sequence, -2), atol=1e-5)
    # The rotary base of the source is not the default one.
    assert backbone.model.config.text_config.rope_parameters["rope_theta"] == 1e6
    assert parts.text.rope_parameters["rope_theta"] == 1e6


def test_the_proof_names_every_tensor(parts: Parts, imported: tuple[Path, Path]) -> None:
    source, new = imported
    proof = json.loads((new / "import.json").read_text())
    before = {name: t for file in source.glob("*.safetensors") for name, t in load_file(file).items()}
    after = load_file(new / "model.safetensors")
    dropped = {name for name in before if name.endswith(("inv_freq", "position_ids"))}
    assert set(proof["computed"]) == dropped and len(dropped) == 2
    assert {entry["source"] for entry in proof["tensors"]} == set(before) - dropped
    assert {entry["target"] for entry in proof["tensors"]} == set(after)
    assert proof["counts"] == {"source": len(before), "written": len(after), "computed": 2}
    grown = 0
    for entry in proof["tensors"]:
        one, other = before[entry["source"]], after[entry["target"]]
        assert hashlib.sha256(one.numpy().tobytes()).hexdigest() == entry["sha256"]
        assert torch.equal(one, other[: len(one)]) and len(other) - len(one) == entry.get("rows_added", 0)
        if "rows_added" in entry:
            grown += 1
            assert torch.allclose(other[len(one) :], one.mean(0), atol=1e-6)
    assert grown == 2 and proof["vocabulary"] == {
        "rows": ROWS,
        "rows_added": 20,
        "tokens": proof["vocabulary"]["tokens"],
    }
    assert proof["tower"] == {"named": "openai/clip-vit-large-patch14-336", "weights": "checkpoint"}


def test_plain_transformers_loads_the_folder(parts: Parts, imported: tuple[Path, Path]) -> None:
    new = imported[1]
    model, report = LlavaForConditionalGeneration.from_pretrained(new, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    tokenizer, images = AutoTokenizer.from_pretrained(new), AutoImageProcessor.from_pretrained(new)
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    assert tokenizer.pad_token == "<pad>" and len(tokenizer) <= model.get_input_embeddings().weight.shape[0] == 320
    assert list(images.image_mean) == [0.4, 0.5, 0.6] and images.do_pad
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Any effusion?"}]}]
    answered = [*chat, {"role": "assistant", "content": "No."}]
    expected = {
        "llava_mistral": ("[INST] <image>\nAny effusion? [/INST]", " No. </s>"),
        "llava_llama": (f"{SYSTEM_V1}USER: <image>\nAny effusion? ASSISTANT:", " No.</s>"),
    }[parts.kind]
    assert tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) == expected[0]
    assert tokenizer.apply_chat_template(answered, tokenize=False) == "".join(expected)
    processor = AutoProcessor.from_pretrained(new)
    gray = torch.zeros(3, 40, 20, dtype=torch.uint8)
    batch = processor(images=[gray], text=expected[0], return_tensors="pt")
    assert (batch["input_ids"] == model.config.image_token_id).sum() == (SIDE // PATCH) ** 2
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()


def test_the_tower_may_come_from_its_own_folder(
    mistral: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "write_shards", lambda *a: write(*a, limit=20_000))
    from radz.backbones.original_llava.shards import write_shards as write

    source = mistral.write(tmp_path / "source", tower=False, shards=1)
    tower = mistral.write_tower(tmp_path / "clip")
    nested = {"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5] * 3}}
    (tower / "processor_config.json").write_text(json.dumps(nested))
    with pytest.raises(InputError, match=r"holds no vision tower.*give tower=FOLDER"):
        import_checkpoint(str(source), str(tmp_path / "new"))
    assert main(["import", str(source), f"out={tmp_path / 'new'}", f"tower={tower}", "conversation=plain"]) == 0
    assert len(list((tmp_path / "new").glob("model-*.safetensors"))) > 3
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "new")
    pixels = torch.rand(1, 3, SIDE, SIDE)
    found = model.get_image_features(pixel_values=pixels).pooler_output[0]
    assert torch.allclose(found, mistral.image_tokens(pixels)[0], atol=1e-5)
    assert list(AutoImageProcessor.from_pretrained(tmp_path / "new").image_mean) == [0.1, 0.2, 0.3]
    proof = json.loads((tmp_path / "new/import.json").read_text())
    assert proof["tower"]["weights"] == "folder" and proof["conversation"] == "plain"
    template = AutoTokenizer.from_pretrained(tmp_path / "new").apply_chat_template
    turn = [{"role": "user", "content": [{"type": "image"}]}]
    assert template(turn, add_generation_prompt=True, tokenize=False) == "<image>\n\n"


def test_a_published_tower_needs_no_folder(mistral: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = mistral.write(tmp_path / "source", shards=1)
    monkeypatch.setitem(CLIP_TOWERS, "openai/clip-vit-large-patch14-336", mistral.vision.to_dict())
    new = import_checkpoint(str(source), str(tmp_path / "new"))
    mean = AutoImageProcessor.from_pretrained(new).image_mean
    assert mean == pytest.approx([0.48145466, 0.4578275, 0.40821073])


def test_image_marks_of_the_first_llava(mistral: Parts, tmp_path: Path) -> None:
    source = mistral.write(tmp_path / "source", shards=1)
    edit(source / "config.json", mm_use_im_start_end=True)
    tower = mistral.write_tower(tmp_path / "clip")
    with pytest.raises(InputError, match="the tokenizer has no <im_start>"):
        import_checkpoint(str(source), str(tmp_path / "new"), str(tower))
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<im_start>", "<im_end>"], special_tokens=True)
    tokenizer.save_pretrained(source)
    new = import_checkpoint(str(source), str(tmp_path / "new"), str(tower))
    template = AutoTokenizer.from_pretrained(new).apply_chat_template
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}]
    assert template(turn, tokenize=False) == "[INST] <im_start><image><im_end>\nHi [/INST]"


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def drop(name: str):
    def change(folder: Path) -> None:
        file = folder / "model-00001-of-00001.safetensors"
        save_file({k: v for k, v in load_file(file).items() if k != name}, file, metadata={"format": "pt"})

    return change


def add(name: str, tensor: torch.Tensor):
    def change(folder: Path) -> None:
        file = folder / "model-00001-of-00001.safetensors"
        save_file({**load_file(file), name: tensor}, file, metadata={"format": "pt"})

    return change


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def pickled(folder: Path) -> None:
    (folder / "model-00001-of-00001.safetensors").unlink()
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(pickle.dumps(Bomb(folder / "exploded")))


FAULTS = [
    (pickled, r"weights are pickles \(pytorch_model-00001-of-00001.bin\).*safe_serialization=True"),
    (lambda f: (f / "model-00001-of-00001.safetensors").unlink(), "shard model-00001-of-00001.safetensors.*missing"),
    (lambda f: (f / "model.safetensors.index.json").write_text("{"), "not a readable index"),
    (
        lambda f: (f / "model-00001-of-00001.safetensors").write_bytes(
            (f / "model-00001-of-00001.safetensors").read_bytes()[:-100]
        ),
        "model-00001-of-00001.safetensors: truncated or damaged",
    ),
    (lambda f: (f / "config.json").unlink(), "no config.json; give the folder of an original"),
    (lambda f: edit(f / "config.json", model_type="llava"), "use it as backbone.path"),
    (lambda f: edit(f / "config.json", model_type="llava_mpt"), "known: llava_llama, llava_mistral"),
    (lambda f: edit(f / "config.json", mm_projector_type="linear"), "mm_projector_type linear"),
    (lambda f: edit(f / "config.json", image_aspect_ratio="anyres"), "LLaVA 1.6"),
    (lambda f: edit(f / "config.json", mm_vision_tower="ours/clip"), "ours/clip.*give tower=FOLDER"),
    (lambda f: edit(f / "config.json", mm_vision_select_feature="cls"), "mm_vision_select_feature cls"),
    (lambda f: edit(f / "config.json", num_hidden_layers=2), "has unknown .*layers.2"),
    (lambda f: edit(f / "config.json", intermediate_size=40), "has another shape of .*mlp"),
    (drop("model.mm_projector.2.bias"), "lacks .*linear_2.bias"),
    (drop("model.embed_tokens.weight"), "holds no language model"),
    (add("model.image_newline", torch.zeros(3)), "model.image_newline has no place"),
    (add("model.layers.0.mlp.down_proj.scales", torch.zeros(3, dtype=torch.complex64)), "C64|truncated or damaged"),
    (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer cannot be read"),
]


@pytest.mark.parametrize(("change", "words"), FAULTS)
def test_faults_are_one_line(mistral: Parts, tmp_path: Path, change, words: str, capsys: pytest.CaptureFixture) -> None:
    source = mistral.write(tmp_path / "source", shards=1)
    tower = mistral.write_tower(tmp_path / "clip", weights=False)
    keys = [] if "ours/clip" in words else [f"tower={tower}"]
    change(source)
    assert main(["import", str(source), f"out={tmp_path / 'new'}", *keys]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(InputError, match=words):
        raise InputError(told)
    assert not (tmp_path / "new").exists() and not (source / "exploded").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_tokenizer_of_another_checkpoint_is_refused(mistral: Parts, tmp_path: Path) -> None:
    source = mistral.write(tmp_path / "source", shards=1)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([f"word{i}" for i in range(50)])
    tokenizer.save_pretrained(source)
    with pytest.raises(InputError, match=f"tokens and the embedding table {ROWS} rows"):
        import_checkpoint(str(source), str(tmp_path / "new"), str(mistral.write_tower(tmp_path / "clip")))


def test_wrong_towers_and_places_are_one_line(mistral: Parts, tmp_path: Path) -> None:
    source = str(mistral.write(tmp_path / "source", tower=False, shards=1))
    tower = mistral.write_tower(tmp_path / "clip", weights=False)
    for change, words in (
        (lambda: str(tmp_path / "absent"), "absent: no such folder"),
        (lambda: str(tower), "no safetensors weights of a CLIP"),
        (lambda: edit(tower / "config.json", model_type="siglip") or str(tower), "model_type siglip"),
    ):
        with pytest.raises(InputError, match=words):
            import_checkpoint(source, str(tmp_path / "new"), change())
    with pytest.raises(InputError, match="conversation=v2: unknown; nearest is 'v1'"):
        import_checkpoint(source, str(tmp_path / "new"), conversation="v2")
    with pytest.raises(InputError, match="no such folder"):
        import_checkpoint(str(tmp_path / "nowhere"), str(tmp_path / "new"))
    mistral.tower.save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match=r"tower: .*bare: the image processor gives no image_mean"):
        import_checkpoint(source, str(tmp_path / "new"), str(tmp_path / "bare"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("kept")
    with pytest.raises(InputError, match=r"out: .*full is there and not empty"):
        import_checkpoint(source, str(tmp_path / "full"), str(mistral.write_tower(tmp_path / "clip2")))
    assert (tmp_path / "full/mine.txt").read_text() == "kept"


def test_half_precision_is_kept_and_a_clip_folder_with_text_will_do(mistral: Parts, tmp_path: Path) -> None:
    source = mistral.write(tmp_path / "source", tower=False, shards=1)
    file = source / "model-00001-of-00001.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    edit(source / "config.json", torch_dtype="bfloat16")
    tower = mistral.write_tower(tmp_path / "clip")
    vision = {f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in mistral.tower.state_dict().items()}
    save_file({**vision, "text_model.x": torch.zeros(2), "logit_scale": torch.zeros(())}, tower / "model.safetensors")
    edit(tower / "config.json", model_type="clip", vision_config=mistral.vision.to_dict())
    new = import_checkpoint(str(source), str(tmp_path / "new"), str(tower))
    with safe_open(new / "model.safetensors", framework="pt") as opened:
        assert opened.get_slice("language_model.model.norm.weight").get_dtype() == "BF16"
        assert not [key for key in opened.keys() if "text_model" in key]  # noqa: SIM118
    assert json.loads((new / "config.json").read_text())["dtype"] == "bfloat16"
