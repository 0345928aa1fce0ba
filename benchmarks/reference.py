"""The same step and features in plain transformers and PEFT: what the benchmarks compare radz with.

Written as a competent user would from the documentation of both: `LlavaForConditionalGeneration` with LoRA on the
decoder, one full forward per side with `output_hidden_states=True`, reports padded to the longest of the batch. It
imports nothing of radz, and a test holds its features and its loss equal to radz's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TARGETS = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
MEAN, STD = 0.5, 0.25


class Reference(nn.Module):
    """LLaVA with LoRA, modality tokens and three linear heads.

    Args:
        model: a `LlavaForConditionalGeneration`; tokenizer: its tokenizer (it is given the modality tokens).
        tokens: modality tokens of an image and of a text.
        rank, alpha: of LoRA.
        layer: index into `hidden_states` that the features are read from.
        checkpointing: recompute every decoder layer in the backward pass.
        longest: reports are cut to this many tokens.
    """

    def __init__(
        self, model: Any, tokenizer: Any, tokens: tuple[int, int] = (4, 8), rank: int = 16, alpha: int = 32,
        layer: int = -2, checkpointing: bool = False, longest: int = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        from peft import LoraConfig, get_peft_model

        self.tokenizer, self.layer, self.longest = tokenizer, layer, longest
        tokenizer.padding_side = "right"
        names = [f"<ImgCls_{i}>" for i in range(tokens[0])], [f"<TxtCls_{i}>" for i in range(tokens[1])]
        tokenizer.add_tokens([*names[0], *names[1]], special_tokens=True)
        model.resize_token_embeddings(max(len(tokenizer), model.get_input_embeddings().num_embeddings))
        self.image_ids, self.text_ids = (tokenizer.convert_tokens_to_ids(part) for part in names)
        new = [*self.image_ids, *self.text_ids]
        settings = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=TARGETS, trainable_token_indices={"embed_tokens": new}
        )
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model = get_peft_model(model, settings)
        core = self.model.get_base_model()
        core.model.multi_modal_projector.requires_grad_(True)
        self.image_token = core.config.image_token_id
        self.patches = core.config.image_seq_length
        width = core.config.text_config.hidden_size
        self.heads = nn.ModuleDict({side: nn.Linear(width, width) for side in ("image", "text", "anchor")})
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    @staticmethod
    def load(folder: Path, **settings: Any) -> Reference:
        """From a Hugging Face folder."""
        from transformers import AutoTokenizer, LlavaForConditionalGeneration

        model = LlavaForConditionalGeneration.from_pretrained(folder)
        return Reference(model, AutoTokenizer.from_pretrained(folder), **settings)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Hidden states [B, T, d] of the feature layer; the logits are computed as they are by default."""
        out = self.model(**inputs, output_hidden_states=True, use_cache=False)
        return out.hidden_states[self.layer].float()

    def image_features(self, pixels: Tensor, instruction: str) -> tuple[Tensor, Tensor]:
        """Global and local features [B, e] of images uint8 [B, 1, S, S], one a study."""
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        prompt = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        image = self.tokenizer.convert_ids_to_tokens(self.image_token)
        ids = self.tokenizer(prompt.replace(image, image * self.patches)).input_ids + self.image_ids
        inputs = torch.tensor(ids, device=pixels.device).repeat(len(pixels), 1)
        values = (pixels.float() / 255 - MEAN) / STD
        states = self(
            input_ids=inputs, attention_mask=torch.ones_like(inputs), pixel_values=values.expand(-1, 3, -1, -1)
        )
        states = self.heads["image"](states)
        return _mean(states, _is_in(inputs, self.image_ids)), _mean(states, inputs == self.image_token)

    def text_features(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Global and local features [B, e] of texts, padded to the longest."""
        states, tokens, words = self._text_states(texts)
        states = self.heads["text"](states)
        return _mean(states, tokens), _mean(states, words)

    def anchors(self, texts: Sequence[str]) -> Tensor:
        """Raw anchors [B, d] of descriptions: the mean state of the modality tokens."""
        states, tokens, _ = self._text_states(texts)
        return _mean(states, tokens)

    def _text_states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.tokenizer(list(texts), add_special_tokens=False).input_ids
        rows = [[self.tokenizer.bos_token_id, *words[: self.longest], *self.text_ids] for words in rows]
        device = self.heads["text"].weight.device
        padded = self.tokenizer.pad({"input_ids": rows}, padding="longest", return_tensors="pt").to(device)
        ids, mask = padded["input_ids"], padded["attention_mask"]
        states = self(input_ids=ids, attention_mask=mask)
        tokens = _is_in(ids, self.text_ids)
        words = mask.bool() & ~tokens
        words[:, 0] = False  # BOS
        return states, tokens, words

    def loss(
        self, pixels: Tensor, texts: Sequence[str], labels: Tensor, anchors: Tensor, instruction: str,
        temperature: float = 0.05, weight: float = 0.5,
    ) -> Tensor:  # fmt: skip
        """Alignment (`cross`, equal texts count as matches) and category loss of a batch.

        Args:
            labels: [B, K], 1 present, 0 absent, NaN unknown. anchors: raw [K, d].
        """
        image, text = self.image_features(pixels, instruction), self.text_features(texts)
        same = torch.tensor([[a == b for b in texts] for a in texts], device=anchors.device)
        aligned = (_nce(image[0], text[1], same, temperature) + _nce(image[1], text[0], same, temperature)) / 2
        heads = F.normalize(self.heads["anchor"](anchors), dim=-1)
        known, present = ~labels.isnan(), labels == 1
        used = (known.sum(1) >= 2) & present.any(1)
        target = present / present.sum(1, keepdim=True).clamp(min=1)
        guided = []
        for features in (image[0], text[0]):
            logits = F.normalize(features, dim=-1) @ heads.T / temperature
            log_p = logits[used].masked_fill(~known[used], -1e9).log_softmax(1)
            guided.append(-(target[used] * log_p).sum(1).mean())
        return weight * aligned + (1 - weight) * (guided[0] + guided[1]) / 2

    def optimizer(self, rate: float = 1e-4) -> torch.optim.Optimizer:
        """AdamW over what trains."""
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)


def train_step(model: Reference, optimizer: torch.optim.Optimizer, *batch: Any, clip: float = 1.0) -> Tensor:
    """Forward, backward, clip, update; returns the loss. `batch` are the arguments of `Reference.loss`."""
    loss = model.loss(*batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def embed(model: Reference, texts: Sequence[str], size: int = 32) -> Tensor:
    """Global features [N, e] of texts in batches as they come."""
    with torch.no_grad():
        return torch.cat([model.text_features(part)[0] for part in _parts(texts, size)])


def anchors_by_class(model: Reference, descriptions: Sequence[str]) -> Tensor:
    """Raw anchors [K, d], one class after the other, as the zero-shot classifiers of CLIP and CheXzero are built."""
    with torch.no_grad():
        return torch.cat([model.anchors([text]) for text in descriptions])


def _parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _is_in(ids: Tensor, wanted: list[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(wanted, device=ids.device))


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _nce(first: Tensor, second: Tensor, same: Tensor, temperature: float) -> Tensor:
    logits = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / temperature
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
