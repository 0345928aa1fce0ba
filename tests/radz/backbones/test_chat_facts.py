"""Facts of the folders that people publish, one test each: templates, special tokens, tables, windows.

Others stand in `test_chat.py` (templates of strings, BOS of template and tokenizer) and `test_assembly.py` (SmolLM2's
manners, every kind of decoder without padding).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_families import PIXELS, TEXTS, plain
from tiny_parts import DECODERS, SIDE, write_decoder, write_tower

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.assembly.assemble import assemble
from radz.backbones.generation import next_logits, text_logits, write
from radz.config.schema import BackboneConfig, DfatConfig
from radz.models.encoder import Encoder
from radz.models.losses import Features

PARTS = (
    "{% for message in messages %}USER: {% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}ASSISTANT:"
)
DEAF = PARTS.replace("<image>\n", "")
STRINGS = "{% for message in messages %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"
POLITE = "{% if messages[0]['role'] != 'system' %}You are a helpful assistant.\n{% endif %}"
JSON, JINJA, PROCESSOR, TOKENIZER = (
    "chat_template.json", "chat_template.jinja", "processor_config.json", "tokenizer_config.json"
)  # fmt: skip


def encoder(folder: Path, **settings: Any) -> Encoder:
    config = BackboneConfig(path=str(folder), **{"train": "frozen", "dtype": "float32", **settings})
    dfat = DfatConfig(image_tokens=2, text_tokens=3, head="identity")
    return Encoder(load_backbone(config, folder, 2, 3), dfat).eval()


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))


def edit(file: Path, **keys: Any) -> None:
    """Give a JSON file these keys; those of None are dropped."""
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({key: value for key, value in {**content, **keys}.items() if value is not None}))


@pytest.mark.parametrize(("templates", "expected"), [
    ({TOKENIZER: STRINGS, JSON: PARTS}, "USER: <image>\nAny? ASSISTANT:"),
    ({TOKENIZER: PARTS, JSON: DEAF}, "USER: <image>\nAny? ASSISTANT:"),
    ({JINJA: DEAF, PROCESSOR: POLITE + PARTS}, "You are a helpful assistant.\nUSER: <image>\nAny? ASSISTANT:"),
    ({TOKENIZER: DEAF, PROCESSOR: POLITE + STRINGS}, "You are a helpful assistant.\n[INST] <image>\nAny? [/INST]"),
], ids=["text of the tokenizer", "deaf processor", "system prompt", "system prompt of strings"])  # fmt: skip
def test_the_template_that_shows_the_image_wins_with_its_system_prompt(
    tiny_path: Path, tmp_path: Path, templates: dict[str, str], expected: str
) -> None:
    folder = copied(tiny_path, tmp_path / "base")
    (folder / JINJA).unlink()
    for name, template in templates.items():
        if name == JINJA:
            (folder / name).write_text(template)
        else:
            edit(folder / name, chat_template=template)
    backbone = encoder(folder).backbone
    assert backbone.chat("Any?", 1) == expected
    assert backbone.chat("Any?", 0) == expected.replace("<image>\n", "")


NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


@pytest.mark.parametrize(("named", "padding"), [
    ("bos eos unk", "<unk>"), ("bos eos", "</s>"), ("bos", "<s>"), ("eos pad unk", "<pad>"), ("bos pad unk", "<pad>"),
])  # fmt: skip
def test_a_tokenizer_may_lack_special_tokens(tiny_path: Path, tmp_path: Path, named: str, padding: str) -> None:
    """Whatever stands in for padding touches nothing, on either side; without BOS a text begins with its words."""
    folder, features = copied(tiny_path, tmp_path / "base"), []
    edit(folder / TOKENIZER, **{name: None for name in NAMES if name.removesuffix("_token") not in named})
    if "bos" not in named:
        edit(folder / "tokenizer.json", post_processor=None)
    for side in ("right", "left"):
        made = encoder(folder, padding=side, depth="full")
        with torch.no_grad():
            together, alone = made.encode_texts(TEXTS), [made.encode_texts([text]).overall for text in TEXTS]
            torch.testing.assert_close(together.overall, torch.cat(alone), rtol=1e-4, atol=1e-5)
            features.append(together.overall)
            _, foretold = made.language_loss(TEXTS)
        tokenizer = made.backbone.tokenizer
        words = [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
        assert tokenizer.pad_token == padding and made.backbone.start == ([1] if "bos" in named else [])
        # Every word but the first is foretold: the first one after BOS alone, and an end after the last one.
        assert foretold == sum(map(len, words)) + len(TEXTS) * (("bos" in named) + ("eos" in named) - 1)
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-5)


def test_a_tokenizer_without_any_special_token_is_one_line(tiny_path: Path, tmp_path: Path) -> None:
    folder = copied(tiny_path, tmp_path / "base")
    edit(folder / TOKENIZER, **dict.fromkeys(NAMES))
    with pytest.raises(InputError, match=r"^backbone\.path: .*base: the tokenizer names no pad_token; add it to .*$"):
        encoder(folder)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LLaVA folders of three kinds of decoder, all with a window of 8 tokens where they have one."""
    place = tmp_path_factory.mktemp("assembled")
    tower = str(write_tower(place / "tower", "CLIPVision"))
    return {
        name: assemble(str(write_decoder(place / name, name)), tower, str(place / f"{name} with a tower"))
        for name in ("Mistral", "Qwen2", "Gemma3")
    }


def both(features: Features) -> torch.Tensor:
    """Global and local features side by side; the last tokens alone would see no padding through a window."""
    return torch.cat([features.overall, features.local], dim=1)


@pytest.mark.parametrize("name", ["Mistral", "Gemma3"])
def test_a_sliding_window_is_kept_beside_padding(assembled: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Sequences longer than the window, of texts and of images, alone and padded on either side."""
    pixels = PIXELS[..., :SIDE, :SIDE].contiguous()
    counts = torch.tensor([1, 3])
    wide = copied(assembled[name], tmp_path / "wide")
    text = json.loads((wide / "config.json").read_text())["text_config"]
    edit(wide / "config.json", text_config={**text, "sliding_window": 512})
    found = []
    for folder, side in ((assembled[name], "right"), (assembled[name], "left"), (wide, "right")):
        made = encoder(folder, padding=side)
        with torch.no_grad():
            texts, alone = both(made.encode_texts(TEXTS)), [both(made.encode_texts([text])) for text in TEXTS]
            images = both(made.encode_images(pixels[:4], counts, ["chest_xray"] * 2))
            one = both(made.encode_images(pixels[:1], counts[:1], ["chest_xray"]))
        torch.testing.assert_close(texts, torch.cat(alone), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(images[:1], one, rtol=1e-4, atol=1e-5)
        found.append(torch.cat([texts, images]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert (found[0] - found[2]).abs().max() > 1e-3, "the window of 8 is not at work"
    assert DECODERS[name]["sliding_window"] == 8


def test_a_head_that_is_the_table_knows_the_new_rows(assembled: dict[str, Path]) -> None:
    """Tied embeddings: logits of all tokens, trained modality rows among them, are those of plain transformers."""
    backbone = encoder(assembled["Qwen2"], train="lora", lora_rank=4, lora_alpha=8, depth="full").backbone
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "trainable_tokens_delta" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        ids = torch.tensor([[*backbone.ids(TEXTS[0]), *backbone.text_ids]])
        expected = plain("llava", assembled["Qwen2"], backbone)(input_ids=ids).logits
        found = text_logits(backbone, ids, torch.ones_like(ids, dtype=torch.bool))
    assert backbone.core.config.tie_word_embeddings
    torch.testing.assert_close(found[..., : expected.shape[-1]], expected, rtol=1e-4, atol=1e-4)
    assert expected[..., backbone.image_ids].abs().max() > 1


def test_rows_without_a_token_are_never_said(assembled: dict[str, Path]) -> None:
    """Vocabularies are padded beyond the tokenizer: here such a row is what the model would say first."""
    backbone = encoder(assembled["Qwen2"], depth="full").backbone
    tokens, ids = len(backbone.tokenizer), torch.tensor([backbone.ids(backbone.chat("Any?", 0))])
    with torch.no_grad():
        embeddings = backbone.word_embeddings(ids)
        state = backbone.decoded(embeddings, torch.ones_like(ids, dtype=torch.bool), None, {}).last_hidden_state[0, -1]
        head = backbone.core.get_output_embeddings().weight
        assert len(head) > tokens + 10
        head[tokens + 7] = 10 * state
        chosen = next_logits(backbone, embeddings, torch.zeros_like(ids, dtype=torch.bool))
        head[backbone.text_ids[1]] = 9 * state
    assert chosen.argmax() < min(backbone.image_ids) and chosen.isfinite().sum() == min(backbone.image_ids)
    assert len(write(backbone, ["Any?"], 1)[0]) > 0


def test_images_are_as_loud_as_words_that_the_model_makes_longer(assembled: dict[str, Path]) -> None:
    """Gemma multiplies the rows of its table by the root of its width."""
    backbone = encoder(assembled["Gemma3"]).backbone
    pixels = PIXELS[..., :SIDE, :SIDE].contiguous()
    with torch.no_grad():
        images = backbone.image_embeddings(backbone.prepare(pixels)).square().mean().sqrt()
        words = backbone.word_embeddings(torch.arange(400)).square().mean().sqrt()
    assert 0.5 < images / words < 2


def test_plain_transformers_says_what_radz_shows(assembled: dict[str, Path]) -> None:
    """BOS of the tokenizer beside a template without one: ids of a chat are those of the processor."""
    processor = transformers.LlavaProcessor.from_pretrained(assembled["Mistral"])
    backbone = encoder(assembled["Mistral"]).backbone
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Any?"}]}]
    image = PIXELS[0, :, :SIDE, :SIDE].expand(3, -1, -1)
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    expected = processor(text=text, images=image, return_tensors="pt").input_ids[0].tolist()
    each = backbone.tokens_per_image(SIDE)
    found = [token for one in backbone.ids(backbone.chat("Any?", 1))
             for token in [one] * (each if one == backbone.image_token else 1)]  # fmt: skip
    assert found == expected and found.count(backbone.tokenizer.bos_token_id) == 1
