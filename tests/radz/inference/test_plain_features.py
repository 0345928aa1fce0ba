"""The engine's features from a trained checkpoint, computed anew with nothing but transformers, peft and torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from PIL import Image
from sections import backbone_folder
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, LlavaForConditionalGeneration

from radz import Radz
from radz.backbones import load_backbone
from radz.config.schema import BackboneConfig
from radz.training.run_folder import load_run

SIDE = 64
EXTRA = 3
"""padding that every row gets, since the prompts of single pictures are equally long"""
TEXTS = [
    "Small left pleural effusion.",
    "The heart is enlarged. No pneumothorax is seen, and there is a patchy opacity in the right lower zone.",
    "Normal.",
    "Rounded opacity in the left mid zone, 20 mm, well defined.",
    "A pacemaker lies over the left chest wall.",
    "The lungs are clear.",
    "Linear atelectasis at both bases. The aorta is wide and the costophrenic angles are sharp on either side.",
    "Edema.",
]
TARGETS = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
INSIDE = "encoder.backbone.model."


class Plain:
    """A LLaVA folder at full depth with the weights of best.ckpt put in by name."""

    def __init__(self, run: Path, base: Path) -> None:
        self.config = yaml.safe_load((run / "config.yaml").read_text())
        assert self.config["backbone"]["feature_layer"] == -2 and self.config["dfat"]["head"] == "linear"
        vision = json.loads((base / "config.json").read_text())["vision_config"]
        self.patches = (vision["image_size"] // vision["patch_size"]) ** 2
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.processor = AutoImageProcessor.from_pretrained(base)
        image = [f"<ImgCls_{i}>" for i in range(self.config["dfat"]["image_tokens"])]
        text = [f"<TxtCls_{i}>" for i in range(self.config["dfat"]["text_tokens"])]
        self.tokenizer.add_tokens(image + text, special_tokens=True)
        self.image_ids = self.tokenizer.convert_tokens_to_ids(image)
        self.text_ids = self.tokenizer.convert_tokens_to_ids(text)
        model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
        model.resize_token_embeddings(max(model.get_input_embeddings().weight.shape[0], len(self.tokenizer)))
        adapter = LoraConfig(
            r=self.config["backbone"]["lora_rank"],
            lora_alpha=self.config["backbone"]["lora_alpha"],
            target_modules=TARGETS,
            trainable_token_indices={"embed_tokens": self.image_ids + self.text_ids},
        )
        self.model: Any = get_peft_model(model, adapter).eval()
        self.state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        trained = {name.removeprefix(INSIDE): value for name, value in self.state.items() if name.startswith(INSIDE)}
        result = self.model.load_state_dict(trained, strict=False)
        assert trained and result.unexpected_keys == []

    @torch.no_grad()
    def features(
        self, sequences: Sequence[list[int]], token_ids: list[int], head: str, left: bool, pixels: Any = None
    ) -> Tensor:
        """`hidden_states[-2]` of the whole model at the tokens, through the head, averaged, of unit length."""
        longest = max(map(len, sequences)) + EXTRA
        gaps = [longest - len(row) for row in sequences]
        pad = self.tokenizer.pad_token_id
        rows = [[pad] * gap + row if left else row + [pad] * gap for gap, row in zip(gaps, sequences, strict=True)]
        real = [
            [0] * gap + [1] * len(row) if left else [1] * len(row) + [0] * gap
            for gap, row in zip(gaps, sequences, strict=True)
        ]
        ids = torch.tensor(rows)
        inputs = {} if pixels is None else {"pixel_values": pixels}
        out = self.model(input_ids=ids, attention_mask=torch.tensor(real), output_hidden_states=True, **inputs)
        assert len(out.hidden_states) == 1 + self.model.config.text_config.num_hidden_layers == 7
        weight, bias = (self.state[f"encoder.heads.{head}.{part}"] for part in ("weight", "bias"))
        states = out.hidden_states[-2] @ weight.T + bias
        tokens = torch.isin(ids, torch.tensor(token_ids))
        assert tokens.sum(1).tolist() == [len(token_ids)] * len(ids)
        mean = states[tokens].unflatten(0, (len(ids), len(token_ids))).mean(1)
        return mean / mean.norm(dim=1, keepdim=True)

    def images(self, paths: Sequence[Path], left: bool) -> Tensor:
        """Features of pictures."""
        pixels = self.processor(images=[Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
        instruction = self.config["dfat"]["instruction"].format(modality="chest X-ray")
        sequences = [self._prompt(instruction) for _ in paths]
        return self.features(sequences, self.image_ids, "image", left, pixels["pixel_values"])

    def _prompt(self, instruction: str) -> list[int]:
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": instruction}]}]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return [*self.tokenizer(text.replace("<image>", "<image>" * self.patches)).input_ids, *self.image_ids]

    def texts(self, texts: Sequence[str], left: bool) -> Tensor:
        """Features of sentences of different lengths."""
        sequences = [[*self.tokenizer(text).input_ids, *self.text_ids] for text in texts]
        return self.features(sequences, self.text_ids, "text", left)


@pytest.fixture(scope="module")
def base(trained_run: Path) -> Path:
    """The folder of the tiny backbone, an ordinary Hugging Face folder."""
    return backbone_folder(load_run(trained_run))


@pytest.fixture(scope="module")
def plain(trained_run: Path, base: Path) -> Plain:
    return Plain(trained_run, base)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight gray PNG pictures of the backbone's size, so that no resizing comes between."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for i in range(8):
        waves = np.sin(2 * np.pi * (rows * (1 + i % 3) + columns * (1 + i // 3) + generator.uniform()))
        shade = 120 + 80 * waves + generator.normal(0, 12, waves.shape)
        Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def test_the_checkpoint_has_moved(plain: Plain, base: Path) -> None:
    lora = {name: value for name, value in plain.state.items() if "lora_B" in name}
    assert len(lora) == 5 * 7 and all(value.abs().max() > 1e-4 for value in lora.values())
    start = load_backbone(
        BackboneConfig(path=str(base), train="frozen"), base, len(plain.image_ids), len(plain.text_ids)
    )
    before = start.word_embeddings(torch.tensor(plain.image_ids + plain.text_ids)).detach()
    after = next(value for name, value in plain.state.items() if "trainable_tokens" in name)
    assert after.shape == before.shape and ((after - before).norm(dim=1) > 1e-3).all()


@pytest.mark.parametrize("padding", ["right", "left"])
def test_plain_transformers_and_peft_reproduce_the_engine(
    engine: Radz, plain: Plain, pictures: list[Path], monkeypatch: pytest.MonkeyPatch, padding: str
) -> None:
    backbone = engine.encoder.backbone
    monkeypatch.setattr(backbone, "padding", padding)
    monkeypatch.setattr(backbone.tokenizer, "padding_side", padding)
    of_images, of_texts = engine.embed_images(pictures), engine.embed_texts(TEXTS)
    assert of_images.dtype == of_texts.dtype == np.float32 and of_images.shape == of_texts.shape == (8, 32)
    # The comparison would be empty if every picture or sentence had the same feature.
    assert np.ptp(of_images, axis=0).max() > 1e-2 and np.ptp(of_texts, axis=0).max() > 1e-2
    for left in (False, True):
        for size in (1, 8):
            images = torch.cat([plain.images(pictures[i : i + size], left) for i in range(0, 8, size)])
            texts = torch.cat([plain.texts(TEXTS[i : i + size], left) for i in range(0, 8, size)])
            assert np.abs(of_images - images.numpy()).max() < 1e-4, (left, size)
            assert np.abs(of_texts - texts.numpy()).max() < 1e-4, (left, size)
    for i in (0, 1):
        assert np.abs(engine.embed_texts(TEXTS[i : i + 1]) - of_texts[i]).max() < 1e-4
        assert np.abs(engine.embed_images(pictures[i : i + 1]) - of_images[i]).max() < 1e-4


def test_the_modality_rows_and_lora_matter(plain: Plain, engine: Radz) -> None:
    """Without its adapter the plain model must not reproduce the engine: the agreement is no accident."""
    found = engine.embed_texts(TEXTS)
    with plain.model.disable_adapter():
        bare = plain.texts(TEXTS, left=False)
    assert np.abs(found - bare.numpy()).max() > 1e-2
