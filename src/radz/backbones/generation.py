"""The language model of a backbone in words: writing, and what it expects next. All need depth full.

Shapes: B sequences of T tokens, d hidden size of the decoder, V rows of the vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data_modules.errors import InputError
from radz.backbones.base import Backbone
from radz.backbones.layers import at_least_fp32

VOCABULARY_PART = 16384


def text_logits(backbone: Backbone, ids: Tensor, mask: Tensor) -> Tensor:
    """The language model's logits [B, T, V] of texts [B, T]; mask as for `Backbone.decode`."""
    head = backbone.core.get_output_embeddings()
    states = backbone.decoded(backbone.word_embeddings(ids), mask, None, {}).last_hidden_state
    logits: Tensor = head(states.to(head.weight.dtype))
    return logits


@torch.no_grad()
def next_logits(
    backbone: Backbone, embeddings: Tensor, patches: Tensor | None, last: int = 1, cache: Any = None
) -> Tensor:
    """What follows each of the `last` positions of sequences of one length: float32 [B, last, V].

    Args:
        embeddings: [B, T, d]; patches: bool [B, T], true at image tokens, None for sequences of text.
        cache: keys and values of what came before, of transformers, which is added to; embeddings are then those of
            the last tokens alone, patches of all.

    What is no word is -inf, see `_first_unspoken`.
    """
    if backbone.depth != "full":
        raise InputError("backbone.depth: feature conflicts with asking in words, which needs depth full")
    embeddings = embeddings.to(backbone.decoder.layers[0].input_layernorm.weight.dtype)
    arguments = {"use_cache": cache is not None, "past_key_values": cache}
    mask = torch.ones((embeddings if patches is None else patches).shape[:2], dtype=torch.bool, device=backbone.device)
    output = backbone.run_decoder(embeddings, mask, patches, arguments)
    logits = whole_logits(backbone.core.get_output_embeddings(), output.last_hidden_state[:, -last:])
    logits[..., _first_unspoken(backbone) :] = -torch.inf
    return logits


def _first_unspoken(backbone: Backbone) -> int:
    """Row of the table from which on there are no words: modality tokens, the tokenizer's last, which the table as it
    was released does not hold, and then rows without a token, to which vocabularies are padded.
    """
    return min(backbone.image_ids + backbone.text_ids)


@torch.no_grad()
def write(backbone: Backbone, prompts: list[str], max_new_tokens: int, together: int = 1) -> list[str]:
    """Greedy answers to text-only chats, in the order of the prompts.

    Args:
        together: prompts of equal length answered at a time at most; no padding can touch any of them.
    """
    if backbone.depth != "full":
        raise InputError("backbone.depth: feature conflicts with writing in words, which needs depth full")
    tokenizer = backbone.tokenizer
    asked = [backbone.ids(backbone.chat(prompt, 0)) for prompt in prompts]
    answers = [""] * len(prompts)
    rows_of_table = backbone.core.get_input_embeddings().weight.shape[0]
    unspoken = list(range(_first_unspoken(backbone), rows_of_table))
    for places in equal_lengths(asked, together):
        ids = torch.tensor([asked[place] for place in places], device=backbone.device)
        rows = backbone.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            suppress_tokens=unspoken,
        )
        for place, row in zip(places, rows, strict=True):
            answers[place] = tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True).strip()
    return answers


def whole_logits(head: Any, states: Tensor) -> Tensor:
    """Logits [.., V] of states [.., d] in float32, whatever the type of the weights and around: bf16 keeps 8 bits of a
    logit, and would tie studies. Parts of the vocabulary are converted one after the other.
    """
    with torch.autocast(states.device.type, enabled=False):
        states = at_least_fp32(states)
        parts = [F.linear(states, rows.to(states.dtype)) for rows in head.weight.split(VOCABULARY_PART)]
        logits = torch.cat(parts, dim=-1)
        bias = getattr(head, "bias", None)
        return logits if bias is None else logits + bias.to(states.dtype)


def equal_lengths(sequences: Sequence[Sequence[Any]], most: int) -> Iterator[list[int]]:
    """Places of sequences in groups of one length, at most `most` in each, the shortest first."""
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    for _, group in itertools.groupby(order, key=lambda place: len(sequences[place])):
        places = list(group)
        yield from (places[start : start + most] for start in range(0, len(places), most))
