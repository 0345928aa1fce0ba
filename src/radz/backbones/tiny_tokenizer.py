"""The tokenizers of the tiny backbones: byte-level BPE with the special tokens and chat template of each family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radz.config.schema import TinyConfig

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# In their order the special tokens have the ids 0, 1, 2, ...
LLAVA_TOKENS = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}
QWEN_TOKENS = {"pad": "<|endoftext|>", "eos": "<|im_end|>"}
GEMMA_TOKENS = {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN = (
    QWEN_TEMPLATE, QWEN_TOKENS,
    ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>"], "user assistant",
)  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, str], list[str], str]] = {
    "llava": (LLAVA_TEMPLATE, LLAVA_TOKENS, ["<image>"], "USER: ASSISTANT:"),
    "llava_next": (LLAVA_TEMPLATE, LLAVA_TOKENS, ["<image>"], "USER: ASSISTANT:"),
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
    "llava_onevision": (
        QWEN_TEMPLATE.replace(QWEN_IMAGE, "<image>\n"), QWEN_TOKENS, ["<image>", "<video>", "<|im_start|>"],
        "user assistant",
    ),
    "internvl": (
        QWEN_TEMPLATE.replace(QWEN_IMAGE, "<IMG_CONTEXT>\n"),
        {**QWEN_TOKENS, "start_image": "<img>", "end_image": "</img>"}, ["<IMG_CONTEXT>", "<|im_start|>"],
        "user assistant",
    ),
    "smolvlm": (
        QWEN_TEMPLATE.replace(QWEN_IMAGE, "<image>"), QWEN_TOKENS,
        ["<image>", "<fake_token_around_image>", "<global-img>", "<|im_start|>"], "user assistant",
    ),
    "gemma3": (
        GEMMA_TEMPLATE, GEMMA_TOKENS,
        ["<image_soft_token>", "<start_of_image>", "<end_of_image>", "<start_of_turn>", "<end_of_turn>"], "user model",
    ),
}  # fmt: skip
"""template, named special tokens, further ones with the image token first, words of the template"""


def tiny_tokenizer(config: TinyConfig, texts: Iterable[str]) -> Any:
    """A tokenizer of `config.vocabulary` tokens learned from `texts`."""
    template, named, further, words = FAMILIES[config.family]
    # The words of the chat template become tokens too, or they would be spelled out in every sequence.
    return byte_level(
        [*texts, *[words] * 100], config.vocabulary, named, further, f"{named['bos']} $A" if "bos" in named else None,
        additional_special_tokens=further, chat_template=template, model_max_length=config.context,
    )  # fmt: skip


def byte_level(
    texts: Iterable[str], size: int, named: Mapping[str, str], further: Sequence[str] = (), single: str | None = None,
    **settings: Any,
) -> Any:  # fmt: skip
    """A byte-level BPE tokenizer of `size` tokens learned from `texts`.

    Args:
        named: special tokens, such as {"bos": "<s>"}; `further` ones have no name.
        single: what stands around a text $A, such as "<s> $A"; None: nothing.
        settings: of the tokenizer, of transformers.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token=named.get("unk")))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*named.values(), *further], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator(texts, trainer)
    if single:
        around = [(token, raw.token_to_id(token)) for token in single.split() if token != "$A"]
        raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)
    names = {f"{name}_token": token for name, token in named.items()}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names, **settings)
