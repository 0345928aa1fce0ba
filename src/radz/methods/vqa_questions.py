"""Questions about images put to a backbone in its chat template: probabilities of given answers, and free ones.

Shapes: B studies of the same number of images and one modality, so that no sequence needs padding; P image tokens of a
study, A answers, T tokens, d hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data_modules.errors import InputError
from radz.backbones import Backbone
from radz.backbones.generation import equal_lengths, next_logits
from radz.backbones.layers import at_least_fp32

TOGETHER = 32
"""questions about one report that are put at a time"""


@dataclass(frozen=True)
class Question:
    """One question and the answers whose probability is wanted, as token ids; image placeholders are not repeated."""

    asked: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...] = ()


def question(backbone: Backbone, text: str, images: int, answers: Sequence[str] = ()) -> Question:
    """Tokenise a question with its answers.

    Where the template ends in a word, as in `ASSISTANT:`, a blank comes before the answer. Question and answer are
    tokenised together, since tokens may reach over the seam: what all answers begin with counts as asked.
    """
    chat = backbone.chat(text, images)
    begun = backbone.ids(chat)
    blank = "" if chat[-1:].isspace() else " "
    whole = [backbone.ids(f"{chat}{blank}{answer}") for answer in answers]
    if not whole:
        return Question(tuple(begun))
    shared = min(_common(begun, ids) for ids in whole)
    return Question(tuple(begun[:shared]), tuple(tuple(ids[shared:]) for ids in whole))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


@torch.no_grad()
def vectors(backbone: Backbone, images: Tensor, instruction: str, text: str, count: int) -> Tensor:
    """Vectors [B, d] of unit length that an embedding model gives studies of `count` images, or with 0 a text.

    The state behind the last layer at the last token of the chat, generation prompt and what the tokenizer puts behind
    it included, with an instruction as the system's turn, as Qwen3-VL-Embedding has it (Li et al. 2026).

    Args:
        images: [B, P, e], projected tokens of the images of each study; of a text [1, 0, e].
    """
    if backbone.depth != "full":
        raise InputError("backbone.depth: feature conflicts with the model's own vector, which needs depth full")
    ids = backbone.tokenizer(backbone.chat(text, count, instruction)).input_ids
    embeddings, patches = _sequence(backbone, images, ids)
    output = backbone.decoded(embeddings, torch.ones_like(patches), patches if count else None, {})
    return F.normalize(at_least_fp32(output.last_hidden_state[:, -1]), dim=-1)


def log_probabilities(backbone: Backbone, images: Tensor, asked: Question) -> Tensor:
    """Log-probability of every answer after the question, summed over its tokens: float32 [B, A].

    Args:
        images: [B, P, d], projected tokens of the images of each study.
    """
    totals = torch.zeros(len(images), len(asked.answers), device=images.device)
    # Answers that differ in their last token only share a pass.
    for before in dict.fromkeys(answer[:-1] for answer in asked.answers):
        sequence = _sequence(backbone, images, (*asked.asked, *before))
        words = next_logits(backbone, *sequence, 1 + len(before)).log_softmax(-1)
        for column, answer in enumerate(asked.answers):
            if answer[:-1] == before:
                place = torch.arange(len(answer), device=images.device)
                totals[:, column] = words[:, place, torch.tensor(answer, device=images.device)].sum(1)
    return totals


@torch.no_grad()
def text_log_probabilities(backbone: Backbone, asked: Sequence[Question]) -> Tensor:
    """Log-probability of every answer after each of Q questions without images: float32 [Q, A].

    What all questions begin with, such as the report that they are about, is read once.
    """
    from transformers import DynamicCache

    # Answers that differ in their last token only share a row.
    rows = [(place, before) for place, one in enumerate(asked) for before in {a[:-1]: None for a in one.answers}]
    sequences = [(*asked[place].asked, *before) for place, before in rows]
    _check_length(backbone, max(len(ids) for ids in sequences))
    last = 1 + max(len(before) for _, before in rows)
    shared = max(0, min(min(_common(sequences[0], ids), len(ids) - last) for ids in sequences))

    def words(ids: list[tuple[int, ...]]) -> Tensor:
        return backbone.word_embeddings(torch.tensor(ids, device=backbone.device))

    begun = DynamicCache(config=backbone.core.config.text_config)
    if shared:
        next_logits(backbone, words([sequences[0][:shared]]), None, cache=begun)
    totals = torch.zeros(len(asked), len(asked[0].answers), device=backbone.device)
    for group in equal_lengths(sequences, TOGETHER):
        cache = copy.deepcopy(begun)
        cache.batch_repeat_interleave(len(group))
        embeddings = words([sequences[row][shared:] for row in group])
        following = next_logits(backbone, embeddings, None, last, cache).log_softmax(-1)
        for row, said in zip(group, following, strict=True):
            place, before = rows[row]
            for column, answer in enumerate(asked[place].answers):
                if answer[:-1] == before:
                    tokens = torch.tensor(answer, device=said.device)[:, None]
                    totals[place, column] = said[last - len(answer) :].gather(1, tokens).sum()
    return totals


def scores(totals: Tensor) -> Tensor:
    """Log-probabilities [B, A] of answers that exclude each other as scores in [0, 1], .5 where P(answer) is a half.

    A fixed increasing map of the log-odds x against all other answers, (1 + x / (1 + |x|)) / 2: the probability itself
    is 1 in fp32 for every study of which a model is sure, and would tie them.
    """
    odds = []
    for column in range(totals.shape[1]):
        others = [other for other in range(totals.shape[1]) if other != column]
        odds.append(totals[:, column] - totals[:, others].logsumexp(1))
    odds_of = torch.stack(odds, dim=1)
    return (1 + odds_of / (1 + odds_of.abs())) / 2


def written(backbone: Backbone, images: Tensor, asked: Question, most: int) -> list[str]:
    """Greedy answers of at most so many tokens, one for each study; images and question are read once."""
    from transformers import DynamicCache

    ended = _ends(backbone)
    tokens: list[list[int]] = [[] for _ in images]
    embeddings, patches = _sequence(backbone, images, asked.asked)
    cache = DynamicCache(config=backbone.core.config.text_config)
    for _ in range(most):
        _check_length(backbone, patches.shape[1])
        chosen = next_logits(backbone, embeddings, patches, cache=cache).argmax(-1)
        for said, token in zip(tokens, chosen[:, 0].tolist(), strict=True):
            if not said or said[-1] not in ended:
                said.append(token)
        if all(said[-1] in ended for said in tokens):
            break
        # An answer may hold the image token as a word; no image belongs to it.
        patches = torch.cat([patches, torch.zeros_like(chosen, dtype=torch.bool)], dim=1)
        embeddings = backbone.word_embeddings(chosen)
    return [backbone.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]


def _ends(backbone: Backbone) -> set[int]:
    """Tokens that end an answer: the tokenizer's, and those of the folder's generation settings."""
    settings = getattr(backbone.core.generation_config, "eos_token_id", None)
    every = settings if isinstance(settings, list) else [settings]
    return {token for token in (backbone.tokenizer.eos_token_id, *every) if token is not None}


def _sequence(backbone: Backbone, images: Tensor, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Embeddings [B, T, d] of the same question `ids` to every study, and bool [B, T], true at image tokens."""
    mark = backbone.image_token
    count = list(ids).count(mark)
    each = images.shape[1] // max(count, 1)
    if count * each != images.shape[1]:
        raise InputError(
            f"vqa: {count} image placeholders for {images.shape[1]} image features; the questions must not hold the "
            "backbone's image token"
        )
    row = [token for one in ids for token in ([one] * each if one == mark else [one])]
    _check_length(backbone, len(row))
    return backbone.embedded(torch.tensor(row, device=images.device).expand(len(images), -1), images)


def _check_length(backbone: Backbone, length: int) -> None:
    if length > backbone.context:
        raise InputError(
            f"vqa: a question of {length} tokens, images included, exceeds the backbone's context of "
            f"{backbone.context}; shorten it, score fewer findings or show fewer images"
        )
