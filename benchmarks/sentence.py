"""The training step of sentence-transformers 6 on the same pairs: the second reference, what people pick today.

Same on both sides: the LLaVA folder (sentence-transformers takes images and texts through the folder's processor and
chat template), LoRA of one rank on the same layers, the projector that trains, float32, the pairs of a batch and its
size. The loss is InfoNCE in both directions at radz's temperature, for all pairs at once
(`MultipleNegativesRankingLoss`) or with gradient caching (`CachedMultipleNegativesRankingLoss`, the counterpart of
`dfat.gradient_cache`, which also reads every pair twice).

Different is what each library decides, and it is that which is compared: sentence-transformers pads reports to the
longest and runs every layer, its feature is the mean of all states, and there are no modality tokens, heads or anchors,
so that its sequences are a little shorter. It gets prepared tensors, while radz's step includes its tokenizer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.reference import MEAN, STD, TARGETS
from benchmarks.shapes import LORA
from data_modules.batch import StudyBatch

PACKAGE = "sentence_transformers"
MISSING = "sentence-transformers is not installed, so that nothing is compared with it; pip install 'radz[bench]'"
LOSSES = {"sentence": "MultipleNegativesRankingLoss", "sentence-cached": "CachedMultipleNegativesRankingLoss"}
SCALE = 20.0
"""1 / temperature, as of the other reference"""


def is_there() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def load(folder: Path) -> Any:
    """The folder as a SentenceTransformer on the CPU, with LoRA and a projector that trains."""
    from peft import LoraConfig
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    _write_processor(folder)
    transformer = Transformer(str(folder))
    width = transformer.model.config.text_config.hidden_size
    model = SentenceTransformer(modules=[transformer, Pooling(width, pooling_mode="mean")], device="cpu")
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=LORA["lora_rank"], lora_alpha=LORA["lora_alpha"], target_modules=TARGETS))
    transformer.model.multi_modal_projector.requires_grad_(True)
    return model.train()


def loss_of(model: Any, kind: str, chunk: int) -> Any:
    """The loss `kind`, a key of LOSSES, in both directions; `chunk`: pairs read at a time where it caches."""
    from sentence_transformers.sentence_transformer import losses

    cached = {"mini_batch_size": chunk} if kind == "sentence-cached" else {}
    return getattr(losses, LOSSES[kind])(
        model, scale=SCALE, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction", **cached
    )


def inputs(model: Any, batch: StudyBatch, instruction: str) -> list[dict[str, Any]]:
    """Tensors of the images beside the instruction, and of the reports."""
    images = [Image.fromarray(one[0].numpy()).convert("RGB") for one in batch.pixels]
    pairs = [{"image": image, "text": instruction} for image in images]
    return [model.preprocess(pairs), model.preprocess(list(batch.reports))]


def step(folder: Path, batch: StudyBatch, instruction: str, kind: str, chunk: int) -> Callable[[], Tensor]:
    """A training step on a batch: forward, backward, clip, update, as of the other reference."""
    model = load(folder)
    loss, given = loss_of(model, kind, chunk), inputs(model, batch, instruction)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)

    def work() -> Tensor:
        # A module writes its states into the dict that it is given.
        value: Tensor = loss([dict(one) for one in given], None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.detach()

    return work


def _write_processor(folder: Path) -> None:
    """The folder's tokenizer and image processor as one LLaVA processor."""
    from transformers import AutoTokenizer, LlavaConfig, LlavaProcessor
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    tokenizer, vision = AutoTokenizer.from_pretrained(folder), LlavaConfig.from_pretrained(folder).vision_config
    side = vision.image_size
    images = LlavaImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )  # fmt: skip
    LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=vision.patch_size,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)  # fmt: skip
