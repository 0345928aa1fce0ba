"""What is wrong with a backbone folder: one line each, and never a pickle."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import load

from data_modules.errors import InputError
from radz.config.schema import BackboneConfig


def test_unknown_architecture(tiny_path: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "other")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "architectures": ["OtherModel"]}))
    known = "LlavaForConditionalGeneration, LlavaNextForConditionalGeneration, Qwen2_5_VL.*, Gemma3"
    with pytest.raises(InputError, match=f"architecture OtherModel is not supported; known: {known}"):
        load(folder)


def lack(name: str, folder: Path) -> None:
    (folder / name).unlink()


def edited(folder: Path, name: str, **changes: object) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))


def weights(folder: Path, **changes: torch.Tensor) -> None:
    kept = load_file(folder / "model.safetensors")
    save_file({**kept, **changes}, folder / "model.safetensors", {"format": "pt"})


def cut(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter.safetensors")
    torch.save({}, folder / "pytorch_model.bin")


def a_shard_less(folder: Path) -> None:
    from transformers import LlavaForConditionalGeneration

    LlavaForConditionalGeneration.from_pretrained(folder).save_pretrained(folder, max_shard_size="60KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def a_changed_value(folder: Path, value: float) -> None:
    kept = load_file(folder / "model.safetensors")
    name = next(key for key in kept if key.endswith("layers.2.mlp.up_proj.weight"))
    kept[name][3, 5] = value
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def more_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"extra{i}" for i in range(500)])
    tokenizer.save_pretrained(folder)


HEAD = "language_model.lm_head.weight"
LACKING = {
    "tokenizer.json": "tokenizer",
    "config.json": "config.json",
    "preprocessor_config.json": "preprocessor",
    "model.safetensors": "safetensors",
    "chat_template.jinja": "chat template",
}
DAMAGE = {
    **{name: (partial(lack, name), message) for name, message in LACKING.items()},
    "header cut": (lambda f: cut(f, "model.safetensors", 500), "the model cannot be read"),
    "tensors cut": (lambda f: cut(f, "model.safetensors", -500), "the model cannot be read"),
    "git-lfs pointer": (lambda f: (f / "model.safetensors").write_text("version 1\noid 2\n"), "the model cannot be"),
    "pickle": (only_a_pickle, "no file named model.safetensors"),
    "other shape": (lambda f: weights(f, **{HEAD: torch.zeros(9, 32)}), "another shape.*lm_head.weight"),
    "vision config": (lambda f: edited(f, "config.json", vision_config=3), "the model cannot be read"),
    "model type": (lambda f: edited(f, "config.json", model_type="llama"), "weights are missing"),
    "architectures": (lambda f: edited(f, "config.json", architectures=3), "architecture 3 is not supported"),
    "config": (lambda f: (f / "config.json").write_text("[1]"), "config.json: holds no keys"),
    "feature list": (
        lambda f: edited(f, "config.json", vision_feature_layer=[-2, 9]),
        r"multi_modal_projector\.linear_1",
    ),
    "feature layer": (lambda f: edited(f, "config.json", vision_feature_layer=9), "vision_feature_layer 9"),
    "tokenizer cut": (lambda f: cut(f, "tokenizer.json", 300), "the tokenizer cannot be read"),
    "tokenizer": (lambda f: edited(f, "tokenizer.json", model={"type": "Guess"}), "the tokenizer cannot be read"),
    "mean": (lambda f: edited(f, "preprocessor_config.json", image_mean=0.5), "image_mean of three numbers"),
    "shard": (a_shard_less, r"1 of \d+ weight files are missing, such as model-00002-of"),
    "NaN": (lambda f: a_changed_value(f, float("nan")), r"layers\.2\.mlp\.up_proj\.weight holds NaN or infinite"),
    "infinite": (lambda f: a_changed_value(f, float("-inf")), r"layers\.2\.mlp\.up_proj\.weight holds NaN or infinite"),
    "vocabulary": (more_tokens, r"knows ids up to \d+ \(extra499\), but .* table has \d+ rows"),
    "image id beyond": (lambda f: edited(f, "config.json", image_token_index=99999), "id 99999, which is no token of"),
    "image id a word": (
        lambda f: edited(f, "config.json", image_token_index=80),
        "id 80, which is no special token",
    ),
    "std": (lambda f: edited(f, "preprocessor_config.json", image_std=[1, 0, 1]), "image_std .* above 0"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_one_line(tiny_path: Path, tmp_path: Path, case: str) -> None:
    spoil, message = DAMAGE[case]
    folder = shutil.copytree(tiny_path, tmp_path / "damaged")
    spoil(folder)
    with pytest.raises(InputError, match=message) as fault:
        load(folder)
    assert "\n" not in str(fault.value) and str(folder) in str(fault.value)


def test_a_modality_token_that_is_taken(tiny_path: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    folder = shutil.copytree(tiny_path, tmp_path / "taken")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<TxtCls_1>"])
    tokenizer.save_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    with pytest.raises(InputError, match="already holds <TxtCls_1>; give the folder before radz changed it"):
        load(folder)


def test_a_model_without_sdpa(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CLIPVisionModel, LlavaForConditionalGeneration

    monkeypatch.setattr(CLIPVisionModel, "_supports_sdpa", False)
    with pytest.raises(InputError, match="scaled_dot_product_attention") as fault:
        load(tiny_path)
    assert "\n" not in str(fault.value)
    monkeypatch.undo()
    real = LlavaForConditionalGeneration.from_pretrained

    def eager(*arguments, **settings):
        return real(*arguments, **{**settings, "attn_implementation": "eager"})

    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", eager)
    with pytest.raises(InputError, match="LlavaConfig runs with eager attention; radz needs torch's scaled_dot"):
        load(tiny_path)


def test_four_bit_weights_need_their_package_and_a_gpu(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"quantize: 4bit conflicts with backbone\.train=full"):
        BackboneConfig(quantize="4bit", train="full")
    with pytest.raises(InputError, match=r"quantize.*none, 4bit"):
        BackboneConfig(quantize="8bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package bitsandbytes; run pip install 'radz\[quantize\]'"):
        load(tiny_path, quantize="4bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="4bit needs an NVIDIA GPU, and none is visible"):
        load(tiny_path, quantize="4bit")


def test_pickles_are_never_read(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "pickle")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no safetensors weights"):
        load(folder)
    (folder / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="no file named model"):
        load(folder)
