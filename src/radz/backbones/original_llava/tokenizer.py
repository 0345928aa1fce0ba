"""Tokenizer, chat template and image processor of an imported checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from radz.backbones.folder import image_settings, reading

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
IMAGE, PAD = "<image>", "<pad>"
SYSTEM_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
TURNS = {
    "v1": (SYSTEM_V1, ("USER: ", " "), ("ASSISTANT: ", "</s>"), "ASSISTANT:"),
    "mistral_instruct": ("", ("[INST] ", " [/INST]"), (" ", " </s>"), ""),
    "plain": ("", ("", "\n"), ("", "\n"), ""),
}
"""Conversation versions of `llava/conversation.py`: system text, what surrounds a user's turn and an answer, and what
asks for an answer."""
DEFAULTS = {"llava_llama": "v1", "llava_mistral": "mistral_instruct"}
SELECTED = {"patch": "default", "cls_patch": "full"}
"""Their `mm_vision_select_feature` -> `vision_feature_select_strategy` of transformers."""


def chat_template(conversation: str, image: str) -> str:
    """A conversation version as a Jinja template; `image` marks an image, on a line of its own."""
    system, user, answer, ask = TURNS[conversation]
    q = json.dumps  # a JSON string is a Jinja string
    parts = [
        "{%- macro content(message) -%}",
        "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}",
        "{%- for part in message['content'] -%}",
        f"{{%- if part['type'] == 'image' -%}}{{{{ {q(image + chr(10))} }}}}",
        "{%- else -%}{{ part['text'] }}{%- endif -%}",
        "{%- endfor -%}{%- endif -%}{%- endmacro -%}",
        f"{{{{ {q(system)} }}}}",
        "{%- for message in messages -%}{%- if message['role'] == 'user' -%}",
        f"{{{{ {q(user[0])} + content(message) + {q(user[1])} }}}}{{%- else -%}}",
        f"{{{{ {q(answer[0])} + content(message) + {q(answer[1])} }}}}{{%- endif -%}}{{%- endfor -%}}",
        f"{{%- if add_generation_prompt -%}}{{{{ {q(ask)} }}}}{{%- endif -%}}",
    ]
    return "".join(parts)


def write_tokenizer(source: Path, config: dict[str, Any], conversation: str, rows: int, out: Path) -> Any:
    """Save the tokenizer with <image>, <pad> and a chat template; returns it.

    Args:
        conversation: key of TURNS.
        rows: rows of the checkpoint's embedding table.

    Raises:
        InputError: no tokenizer, an unreadable one, or one with more tokens than rows.
    """
    from transformers import AddedToken, AutoTokenizer

    present = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not {"tokenizer.json", "tokenizer.model"} & set(present):
        raise InputError(f"import: {source}: no tokenizer.json or tokenizer.model; add the checkpoint's tokenizer")
    for name in present:
        shutil.copyfile(source / name, out / name)
    try:
        # Beside the new config.json, since transformers does not know the model type of the old one.
        tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        need = str(error).split()[0] if "tokenizer.json" in present else "sentencepiece and protobuf"
        raise InputError(
            f"import: {source}: the tokenizer needs {need} to be read; pip install it, then import again"
        ) from None
    except Exception as error:  # tokenizers raises Exception itself
        cause = " ".join(str(error).split())[:120]
        raise InputError(f"import: {source}: the tokenizer cannot be read ({cause})") from None
    if len(tokenizer) > rows:
        raise InputError(
            f"import: {source}: the tokenizer has {len(tokenizer)} tokens and the embedding table {rows} rows; the two "
            "are not of the same checkpoint"
        )
    for name in present:
        (out / name).unlink()
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    if tokenizer.pad_token_id is None or tokenizer.pad_token == tokenizer.unk_token:
        tokenizer.add_special_tokens({"pad_token": PAD})
    mark = "<im_start><image><im_end>" if config.get("mm_use_im_start_end") else IMAGE
    if mark != IMAGE and tokenizer.convert_tokens_to_ids("<im_start>") == tokenizer.unk_token_id:
        raise InputError(f"import: {source}: mm_use_im_start_end is set, but the tokenizer has no <im_start>")
    tokenizer.chat_template = chat_template(conversation, mark)
    tokenizer.save_pretrained(out)
    return tokenizer


def write_processors(
    tokenizer: Any, config: dict[str, Any], vision: dict[str, Any], tower: Path | None, out: Path
) -> None:
    """Save the image processor, as LLaVA prepares images, and the processor of both.

    Raises:
        InputError: the tower's processor gives no mean and deviation.
    """
    from transformers import LlavaProcessor
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    of_tower = image_settings(tower, "tower") if tower else {}
    size = vision["image_size"]
    images = LlavaImageProcessorPil(
        do_pad=config.get("image_aspect_ratio") == "pad",
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=of_tower.get("image_mean", OPENAI_CLIP_MEAN),
        image_std=of_tower.get("image_std", OPENAI_CLIP_STD),
    )
    images.save_pretrained(out)
    with reading(out, "processor"):
        LlavaProcessor(
            image_processor=images,
            tokenizer=tokenizer,
            patch_size=vision["patch_size"],
            vision_feature_select_strategy=SELECTED[config.get("mm_vision_select_feature", "patch")],
            num_additional_image_tokens=1,  # CLIP's class token
            chat_template=tokenizer.chat_template,
        ).save_pretrained(out)
