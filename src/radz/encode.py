"""Pixels or text in, `Features` out: sequences, modality tokens, padding-proof pooling, heads (method.md 2.1 to 2.5).

Shapes: B studies, M images of all studies, T tokens, d hidden size, e feature width after the head.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_modules.errors import InputError
from radz.backbones import Backbone
from radz.config import DfatConfig
from radz.grouping import like_lengths
from radz.losses import Features, at_least_fp32

log = logging.getLogger(__name__)
DESCRIPTIONS = 32
"""descriptions that are encoded together at most"""
MODALITY_TEXT = {"chest_xray": "chest X-ray", "chest_ct": "chest CT"}


def make_head(kind: str, width: int, out: int) -> nn.Module:
    """identity, linear (starts as the identity when widths agree), or mlp (LayerNorm, Linear, GELU, Linear)."""
    if kind == "identity":
        return nn.Identity()
    if kind == "linear":
        head = nn.Linear(width, out)
        nn.init.eye_(head.weight) if width == out else nn.init.orthogonal_(head.weight)
        nn.init.zeros_(head.bias)
        return head
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, out))


class Sequences(NamedTuple):
    """What the decoder is given for B studies."""

    embeddings: Tensor
    """[B, T, d]"""
    mask: Tensor
    """bool [B, T], true at real tokens"""
    tokens: Tensor
    """bool [B, T], true at modality tokens"""
    patches: Tensor
    """bool [B, T], true at image tokens: those of all images in order"""


class Encoder(nn.Module):
    """A backbone, its sequences and the three heads."""

    def __init__(self, backbone: Backbone, config: DfatConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.width = config.head_width or backbone.hidden_size
        self.heads = nn.ModuleDict(
            {side: make_head(config.head, backbone.hidden_size, self.width) for side in ("image", "text", "anchor")}
        )
        self._image_sequence = lru_cache(maxsize=None)(self._build_image_sequence)
        self.text_groups = config.text_groups
        self.texts_cut = 0

    def encode_images(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Features:
        """Features of studies of one or several images.

        Args:
            pixels: uint8 [M, C, H, W], the images of all studies in order.
            counts: int64 [B], images of each study; they sum to M.
            modalities: B keys of MODALITY_TEXT.
        """
        given = self.image_sequences(pixels, counts, modalities)
        states = self.backbone.decode(given.embeddings, given.mask, given.patches)
        return self.image_features(states, given)

    def image_sequences(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Sequences:
        """What the decoder is given for studies; arguments as in `encode_images`."""
        images = self.backbone.image_embeddings(self.backbone.prepare(pixels))
        studies, side = zip(counts.tolist(), modalities, strict=True), pixels.shape[-1]
        sequences = [self._image_sequence(count, modality, side) for count, modality in studies]
        self._check_placeholders(sequences, images)
        ids, mask = self._pad(sequences)
        embeddings = self.backbone.word_embeddings(ids)
        patches = ids == self.backbone.image_token
        embeddings = embeddings.masked_scatter(patches[..., None], images.to(embeddings.dtype))
        return Sequences(embeddings, mask, self._is_in(ids, self.backbone.image_ids), patches)

    def image_features(self, states: Tensor, given: Sequences) -> Features:
        """`encode_images` from the states [B, T, d] of its sequences."""
        return self._pool(states, given.tokens, given.patches, given.mask, self.heads["image"])

    def encode_texts(self, texts: list[str], most: int | None = None) -> Features:
        """Features [N, e] of reports, captions, prompts or descriptions.

        Each distinct text is computed once, in `text_groups` groups of like length, so that few tokens are padding;
        with `most`, in more groups where one would hold more texts.
        """
        distinct = list(dict.fromkeys(texts))
        words = self._words(distinct)
        groups = like_lengths(list(map(len, words)), self.text_groups, most)
        parts = [self._pool(*self._text_states([words[i] for i in group]), self.heads["text"]) for group in groups]
        place = {distinct[i]: n for n, i in enumerate(i for group in groups for i in group)}
        joined = Features.join(parts)
        return joined.rows(torch.tensor([place[text] for text in texts], device=joined.overall.device))

    def language_loss(self, texts: Sequence[str], most: int | None = None) -> tuple[Tensor, int]:
        """How well the language model foretells texts and their end: summed cross-entropy [] in nats, and its tokens.

        Args:
            texts: each distinct one is computed once and counts as often as it stands there; empty ones do not.
            most: texts that are computed together at most; their graph is then made again in the backward pass.
        """
        times, cut = Counter(text for text in texts if text), self.texts_cut
        words = self._words(list(times)) if times else []
        self.texts_cut = cut  # counted where they are encoded
        rows = [[*self._start, *row, self.backbone.tokenizer.eos_token_id] for row in words]
        weights, loss = list(times.values()), torch.zeros((), device=self.backbone.device)
        for group in like_lengths(list(map(len, rows)), self.text_groups, most) if rows else []:
            part = [rows[i] for i in group], [weights[i] for i in group]
            one = self._foretold(*part) if most is None else checkpoint(self._foretold, *part, use_reentrant=False)
            loss = loss + one
        return loss, sum((len(row) - 1) * weight for row, weight in zip(rows, weights, strict=True))

    def _foretold(self, rows: list[list[int]], weights: list[int]) -> Tensor:
        ids, mask = self._pad(rows)
        logits = self.backbone.text_logits(ids, mask)
        with torch.autocast(ids.device.type, enabled=False):
            terms = F.cross_entropy(at_least_fp32(logits[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none")
            told = terms * (mask[:, :-1] & mask[:, 1:])
            return (told.sum(1) * torch.tensor(weights, device=ids.device)).sum()

    @property
    def _start(self) -> list[int]:
        """What a text begins with."""
        first = self.backbone.tokenizer.bos_token_id
        return [] if first is None else [first]

    def encode_descriptions(self, texts: list[str], encoder: str) -> Tensor:
        """Raw anchors [K, d], before the anchor head.

        Args:
            texts: K descriptions.
            encoder: `decoder` (mean state of the modality tokens) or `embedding` (mean input embedding of the words).
        """
        if encoder == "embedding":
            ids = [torch.tensor(self.backbone.tokenizer(t, add_special_tokens=False).input_ids) for t in texts]
            return torch.stack(
                [at_least_fp32(self.backbone.word_embeddings(row.to(self.backbone.device))).mean(0) for row in ids]
            )
        words = self._words(texts)
        groups = like_lengths(list(map(len, words)), self.text_groups, DESCRIPTIONS)
        parts = []
        for group in groups:
            states, tokens, _, _ = self._text_states([words[i] for i in group])
            parts.append(_masked_mean(at_least_fp32(states), tokens))
        order = torch.tensor([i for group in groups for i in group], device=parts[0].device)
        return torch.cat(parts)[order.argsort()]

    def anchor_features(self, vectors: Tensor) -> Tensor:
        """Raw anchors [K, d] through the anchor head: [K, e]; sets likewise."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.heads["anchor"](vectors)

    def _words(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, cut to `max_text_tokens`."""
        words, limit = self.backbone.tokenizer(texts, add_special_tokens=False).input_ids, self.config.max_text_tokens
        self.texts_cut += sum(len(row) > limit for row in words)
        return [row[:limit] for row in words]

    def _text_states(self, texts: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokenizer = self.backbone.tokenizer
        start = self._start
        question = (
            tokenizer(self.config.text_prompt, add_special_tokens=False).input_ids if self.config.text_prompt else []
        )
        sequences, kinds = [], []
        for words in texts:
            sequences.append([*start, *words, *question, *self.backbone.text_ids])
            kinds.append([0] * len(start) + [1] * len(words) + [0] * (len(question) + len(self.backbone.text_ids)))
        self._check_length(max(map(len, sequences)), "dfat.max_text_tokens")
        ids, mask = self._pad(sequences)
        content, _ = self._pad(kinds, 0)
        states = self.backbone.decode(self.backbone.word_embeddings(ids), mask)
        return states, self._is_in(ids, self.backbone.text_ids), content.bool() & mask, mask

    def check_images(self, most: Mapping[str, int], side: int) -> None:
        """InputError where images of `side` pixels do not fit the tower, or the study of most images
        ({modality: images}) the context.
        """
        for modality, images in most.items():
            self._image_sequence(images, modality, side)

    def _check_placeholders(self, sequences: list[list[int]], images: Tensor) -> None:
        found, features = sum(row.count(self.backbone.image_token) for row in sequences), images.shape[:2].numel()
        if found != features:
            raise InputError(
                f"image sequences: {found} image placeholders for {features} image features; the images of all studies "
                "must add up to those given, and dfat.instruction must not hold the backbone's image token"
            )

    def _build_image_sequence(self, images: int, modality: str, side: int) -> list[int]:
        each = self.backbone.tokens_per_image(side)
        instruction = self.config.instruction.format(modality=MODALITY_TEXT[modality])
        ids = self.backbone.tokenizer(self.backbone.chat(instruction, images)).input_ids
        sequence: list[int] = []
        for token in ids:
            sequence += [token] * (each if token == self.backbone.image_token else 1)
        sequence += self.backbone.image_ids
        remedy = "show fewer images of a study or raise backbone.image_pool"
        if modality == "chest_ct":
            remedy = "lower data.ct.slices (or raise data.ct.every_mm) or raise backbone.image_pool"
        other = len(sequence) - images * each
        self._check_length(
            len(sequence), f"a study of {images} {MODALITY_TEXT[modality]} image(s)", f" ({images} x {each} + {other})",
            remedy,
        )  # fmt: skip
        return sequence

    def _check_length(self, length: int, cause: str, total: str = "", remedy: str = "lower it") -> None:
        if length > self.backbone.context:
            raise InputError(
                f"{cause}: a sequence of {length} tokens{total} exceeds the backbone's context of "
                f"{self.backbone.context}; {remedy}"
            )

    def _pad(self, sequences: list[list[int]], value: int | None = None) -> tuple[Tensor, Tensor]:
        """Ids int64 [B, T] and mask bool [B, T], padded on the backbone's side."""
        value = self.backbone.tokenizer.pad_token_id if value is None else value
        longest = max(map(len, sequences))
        left = self.backbone.tokenizer.padding_side == "left"
        ids, mask = [], []
        for row in sequences:
            gap = longest - len(row)
            ids.append([value] * gap + row if left else row + [value] * gap)
            mask.append([False] * gap + [True] * len(row) if left else [True] * len(row) + [False] * gap)
        device = self.backbone.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    @staticmethod
    def _is_in(ids: Tensor, wanted: list[int]) -> Tensor:
        return torch.isin(ids, torch.tensor(wanted, device=ids.device))

    def _pool(self, states: Tensor, tokens: Tensor, content: Tensor, mask: Tensor, head: nn.Module) -> Features:
        """Global feature from the modality tokens, local from content or from all other real positions."""
        local = content if self.config.local_pool == "content" else mask & ~tokens
        with torch.autocast(states.device.type, enabled=False):
            states = at_least_fp32(states)
            power = states.detach().square().sum(-1) * local
            share = (power.amax(1) / power.sum(1).clamp(min=1e-12)).mean()
            if self.config.head_order == "head_then_mean":
                states = head(states)
                return Features(_masked_mean(states, tokens), _masked_mean(states, local), share)
            return Features(head(_masked_mean(states, tokens)), head(_masked_mean(states, local)), share)


def _masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over T of [B, T, d] where bool [B, T] says so; zero where it never does."""
    weights = mask.to(states.dtype)
    return torch.einsum("btd,bt->bd", states, weights) / weights.sum(1, keepdim=True).clamp(min=1)
