"""Which chat template is taken, and the one rule of what stands before images and texts."""

from __future__ import annotations

import json
import logging
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.config.schema import BackboneConfig, DfatConfig
from radz.models.encoder import Encoder

PARTS = (
    "{% for message in messages %}USER: {% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}ASSISTANT:"
)
STRINGS = "{% for message in messages %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"
PRINTED = "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
BOS, EOS = {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, {"id": "</s>", "ids": [2], "tokens": ["</s>"]}


def encoder(folder: Path) -> Encoder:
    config = BackboneConfig(path=str(folder), train="frozen")
    return Encoder(load_backbone(config, folder, 2, 3), DfatConfig(image_tokens=2, text_tokens=3))


def with_tokenizer(tiny: Path, folder: Path, before: list[str], after: list[str], template: str = PARTS) -> Path:
    """The tiny folder whose tokenizer puts tokens before and after a text by itself."""
    shutil.copytree(tiny, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    pieces: list[dict[str, Any]] = [{"SpecialToken": {"id": name, "type_id": 0}} for name in before]
    pieces += [{"Sequence": {"id": "A", "type_id": 0}}]
    pieces += [{"SpecialToken": {"id": name, "type_id": 0}} for name in after]
    content["post_processor"] = {
        "type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {"<s>": BOS, "</s>": EOS},
    }  # fmt: skip
    if not before and not after:
        content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("spelled", [False, True], ids=["plain", "spelled"])
@pytest.mark.parametrize(("before", "after"), [([], []), (["<s>"], []), (["<s>"], ["</s>"]), ([], ["</s>"])])
def test_bos_stands_where_tokenizer_or_template_puts_it(
    tiny_path: Path, tmp_path: Path, before: list[str], after: list[str], spelled: bool
) -> None:
    """Images: as the processor's `apply_chat_template(tokenize=True)`. Texts: as the tokenizer begins them."""
    template = ("{{ bos_token }}" if spelled else "") + PARTS
    made = encoder(with_tokenizer(tiny_path, tmp_path / "base", before, after, template))
    backbone, tokenizer = made.backbone, AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer("a").input_ids[: len(before)] == [1] * len(before) and tokenizer.bos_token_id == 1
    content = [{"type": "image"}, {"type": "text", "text": "Any?"}]
    turn = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    # As ProcessorMixin.apply_chat_template does, less an end behind the prompt for what is to come.
    ids = tokenizer(turn, add_special_tokens=not spelled).input_ids
    assert backbone.ids(backbone.chat("Any?", 1)) == (ids if spelled or not after else ids[:-1])
    assert backbone.ids(backbone.chat("Any?", 1)).count(1) == (1 if spelled or before else 0)
    sequences: list[torch.Tensor] = []
    backbone.word_embeddings = lambda ids: sequences.append(ids) or torch.zeros(*ids.shape, 32)
    made.encode_texts(["No nodule."])
    words = tokenizer("No nodule.", add_special_tokens=False).input_ids
    assert sequences[0].tolist() == [[*([1] if before else []), *words, *backbone.text_ids]]


def test_the_template_of_the_processor_comes_before_that_of_the_language_model(tiny_path: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "base")
    (folder / "chat_template.jinja").write_text(STRINGS)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": PARTS}))
    assert encoder(folder).backbone.chat("Any?", 2) == "USER: <image>\n<image>\nAny? ASSISTANT:"


@pytest.mark.parametrize("template", [STRINGS, PRINTED], ids=["joined", "printed"])
def test_a_template_of_strings_gets_the_image_spelled(
    tiny_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, template: str
) -> None:
    """The form in which LLaVA-1.6 on Mistral was trained."""
    folder = shutil.copytree(tiny_path, tmp_path / "base")
    (folder / "chat_template.jinja").write_text(template)
    with caplog.at_level(logging.INFO):
        made = encoder(folder)
    assert made.backbone.chat("Any?", 2) == "[INST] <image>\n<image>\nAny? [/INST]"
    assert made.backbone.chat("Any?", 0) == "[INST] Any? [/INST]"
    assert "chat_template.jinja takes messages as strings" in caplog.text
    found = made.encode_images(torch.zeros(1, 1, 64, 64, dtype=torch.uint8), torch.tensor([1]), ["chest_xray"])
    assert found.overall.isfinite().all()


AROUND = {
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3": "\n\n<start_of_image><image_soft_token><end_of_image>\n\n",
    "internvl": "<img><IMG_CONTEXT></img>\n",
    "smolvlm": "<fake_token_around_image><global-img><image><fake_token_around_image>",
}
"""an image as the processors of the families write it"""


@pytest.mark.parametrize("family", AROUND)
def test_a_spelled_image_has_the_tokens_around_it_that_the_family_knows(
    family_folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    """The same ids as by the family's own template, but for the words of the two templates."""
    listed = encoder(family_folders[family]).backbone
    folder = shutil.copytree(family_folders[family], tmp_path / "base")
    (folder / "chat_template.jinja").write_text(PRINTED)
    spelled = encoder(folder).backbone
    around = listed.chat("Any?", 1).partition("user\n")[2].partition("Any?")[0]
    assert around == AROUND[family]
    assert spelled.chat("Any?", 1) == f"[INST] {around}Any? [/INST]"


DATED = {
    "llama": "{%- if not date_string is defined %}\n    {%- set date_string = strftime_now('%d %b %Y') %}\n"
    "{%- endif %}\n{{- 'Today Date: ' + date_string + '\n\n' }}",
    "mistral": '{% set today = strftime_now("%Y-%m-%d") %}\nIt is {{ today }}.\n',
    "in a macro": " \n  {% macro day(form) %}{{ strftime_now(form) }}{% endmacro %}\n"
    "{{ day('%-d %B %y, %A, %H:%M') }} ",
    "indented": "  {% if strftime_now is defined %}\n{{ strftime_now(format='%B') }}\n  {% endif %}\n",
}
"""how chat templates print today's date"""


@pytest.mark.parametrize("name", DATED)
def test_a_template_prints_one_date_on_every_day(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """That of plain transformers on 26 July 2024, by byte; plain transformers of what is saved prints it too."""

    def clock(year: int, month: int, day: int) -> None:
        fixed = type("Clock", (datetime,), {"now": classmethod(lambda cls, tz=None: datetime(year, month, day))})
        monkeypatch.setattr(chat_template_utils, "datetime", fixed)

    folder = shutil.copytree(tiny_path, tmp_path / "base")
    (folder / "chat_template.jinja").write_text(DATED[name] + PARTS)
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Any?"}]}]
    clock(2024, 7, 26)
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(said, tokenize=False)
    assert "26" in expected or "July" in expected
    saved = shutil.copytree(folder, tmp_path / "saved")
    for day in ((2026, 12, 1), (2027, 3, 25)):
        clock(*day)
        backbone = encoder(folder).backbone
        assert backbone.chat("Any?", 1) == expected
        backbone.tokenizer.save_pretrained(tmp_path / "exported")
        shutil.copyfile(tmp_path / "exported/chat_template.jinja", saved / "chat_template.jinja")
        assert encoder(saved).backbone.chat("Any?", 1) == expected
        assert AutoTokenizer.from_pretrained(saved).apply_chat_template(said, tokenize=False) == expected
    assert encoder(saved).backbone.tokenizer.chat_template == backbone.tokenizer.chat_template


def test_a_template_without_a_date_stays_as_it_is(tiny_path: Path) -> None:
    template = (tiny_path / "chat_template.jinja").read_text()
    assert encoder(tiny_path).backbone.tokenizer.chat_template == template


@pytest.mark.parametrize("template", ["{{ messages[0]['text'] + 1 }}", "Hello", "{% broken"])
def test_a_template_that_shows_no_image_is_one_line(tiny_path: Path, tmp_path: Path, template: str) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "base")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match=r"^backbone\.path: .*no chat template \(chat_template\.jinja.* the folder$"):
        encoder(folder)
