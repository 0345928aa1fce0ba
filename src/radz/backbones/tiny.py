"""A random LLaVA small enough for a laptop, written as an ordinary Hugging Face folder.

Nothing below the writing knows that it is small: the folder is loaded by the same code as a LLaVA-1.5 folder. The
weights are random but structured where that is known to help small transformers trained from scratch: patches start
on low-frequency cosines, positions on sine waves, and attention near the identity (Trockman and Kolter 2023,
arXiv 2305.09828).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from radz.backbones.tiny_start import structured_start
from radz.config import TinyConfig

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# Positions must outweigh the patch in the first layer norm, or pooling over the image forgets where a patch lay.
POSITION_SIZE = 2.0
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]


def tiny_folder(config: TinyConfig, texts: Iterable[str], cache_dir: Path) -> Path:
    """Folder of the tiny backbone for `config` and tokenizer training `texts`; written once per cache."""
    corpus = list(texts)
    key = json.dumps(dataclasses.asdict(config), sort_keys=True) + "\n".join(corpus)
    folder = cache_dir / "backbones" / f"tiny-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".tiny-"))
        write_tiny(draft, config, corpus)
        try:
            draft.rename(folder)
        except OSError:  # another process was faster; its folder is equal
            shutil.rmtree(draft)
    return folder


def write_tiny(folder: Path, config: TinyConfig, texts: Iterable[str]) -> None:
    """Write model, tokenizer and image processor of a random LLaVA into `folder`."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, MistralConfig

    tokenizer = _tokenizer(config, texts)
    vision = CLIPVisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=3 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        projection_dim=config.vision_width,
        attention_dropout=0.0,
    )
    text = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=2 * config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.width // config.heads,
        max_position_embeddings=config.context,
        sliding_window=None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    settings = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(config.image_size // config.patch_size) ** 2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(config.seed)
    model = LlavaForConditionalGeneration(settings)
    structured_start(model, config)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _image_processor(folder, config)


def _tokenizer(config: TinyConfig, texts: Iterable[str]):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The words of the chat template become tokens too, or they would be spelled out in every sequence.
    raw.train_from_iterator([*texts, *["USER: ASSISTANT:"] * 100], trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=config.context,
    )


def _image_processor(folder: Path, config: TinyConfig) -> None:
    from transformers.models.clip import image_processing_pil_clip

    image_processing_pil_clip.CLIPImageProcessorPil(
        size={"shortest_edge": config.image_size},
        crop_size={"height": config.image_size, "width": config.image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    ).save_pretrained(folder)
