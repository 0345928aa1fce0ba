"""The language model of a backbone in words: chat template, writing, and what it expects next."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError


class Worded(nn.Module, abc.ABC):
    """The half of `Backbone` that speaks; it needs depth full, but for the chat template."""

    model: Any
    tokenizer: Any
    depth: str
    image_ids: list[int]
    text_ids: list[int]
    _image_text: str

    @property
    @abc.abstractmethod
    def core(self) -> Any:
        """The transformers model without peft's wrapper."""

    @property
    @abc.abstractmethod
    def decoder(self) -> Any:
        """The decoder's stack of layers."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @abc.abstractmethod
    def word_embeddings(self, ids: Tensor) -> Tensor:
        """Input embeddings [B, T, d] of token ids."""

    @abc.abstractmethod
    def decoded(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, wanted: dict[str, Any]) -> Any:
        """The decoder's output for embeddings; see `Backbone`."""

    @abc.abstractmethod
    def run_decoder(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, arguments: dict[str, Any]) -> Any:
        """One pass through the decoder; see `Backbone`."""

    def text_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The language model's logits [B, T, vocabulary] of texts [B, T] (depth full only); mask as for `decode`."""
        head = self.core.get_output_embeddings()
        states = self.decoded(self.word_embeddings(ids), mask, None, {}).last_hidden_state
        logits: Tensor = head(states.to(head.weight.dtype))
        return logits

    @torch.no_grad()
    def logits(self, embeddings: Tensor, patches: Tensor, last: int = 1) -> Tensor:
        """What follows each of the `last` positions of sequences of one length: float32 [B, last, V] (depth full only).

        Args:
            embeddings: [B, T, d]; patches: bool [B, T], true at image tokens.

        Modality tokens are -inf: they are no words, and the table as it was released does not hold them.
        """
        if self.depth != "full":
            raise InputError("backbone.depth: feature conflicts with asking in words, which needs depth full")
        embeddings = embeddings.to(self.decoder.layers[0].input_layernorm.weight.dtype)
        output = self.run_decoder(embeddings, torch.ones_like(patches), patches, {"use_cache": False})
        head = self.core.get_output_embeddings()
        found = head(output.last_hidden_state[:, -last:].to(head.weight.dtype)).float()
        found[..., self.image_ids + self.text_ids] = -torch.inf
        return found

    @torch.no_grad()
    def write(self, prompts: list[str], max_new_tokens: int, together: int = 1) -> list[str]:
        """Greedy answers to text-only chats (depth full only), in the order of the prompts.

        Args:
            together: prompts of equal length answered at a time at most; no padding can touch any of them.
        """
        if self.depth != "full":
            raise InputError("backbone.depth: feature conflicts with writing in words, which needs depth full")
        asked = [self.tokenizer(self.chat(prompt, 0)).input_ids for prompt in prompts]
        answers = [""] * len(prompts)
        for places in equal_lengths(asked, together):
            ids = torch.tensor([asked[place] for place in places], device=self.device)
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            for place, row in zip(places, out, strict=True):
                answers[place] = self.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True).strip()
        return answers

    def chat(self, instruction: str, images: int) -> str:
        """One user turn in the folder's chat template, `images` placeholders and generation prompt included."""
        return self._chat(instruction, images, self._image_text)

    def _chat(self, instruction: str, images: int, mark: str) -> str:
        """The turn, checked to show `mark` once for each image."""
        content = [{"type": "image"}] * images + [{"type": "text", "text": instruction}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        # The tokenizer adds BOS by itself; templates that spell it out would double it.
        bos = self.tokenizer.bos_token
        text = text.removeprefix(bos) if bos else text
        found = text.count(mark)
        if found != images:
            raise InputError(f"backbone.path: the chat template shows {found} image placeholders for {images} images")
        return text


def equal_lengths(sequences: Sequence[Sequence[Any]], most: int) -> Iterator[list[int]]:
    """Places of sequences in groups of one length, at most `most` in each, the shortest first."""
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    for _, group in itertools.groupby(order, key=lambda place: len(sequences[place])):
        places = list(group)
        yield from (places[start : start + most] for start in range(0, len(places), most))
