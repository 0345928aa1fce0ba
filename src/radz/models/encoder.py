"""Pixels or text in, `Features` out: sequences, modality tokens, padding-proof pooling, heads.

Source: docs/method.md 2.1 to 2.5.
Shapes: B studies, M images of all studies, T tokens, d hidden size, e feature width after the head.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_modules.errors import InputError
from radz.backbones import Backbone
from radz.backbones.generation import text_logits
from radz.config.schema import DfatConfig
from radz.models.centre import FEWEST, Centre, Shared
from radz.models.labels import MODALITY_TEXT
from radz.models.length_groups import like_lengths
from radz.models.losses import Features, at_least_fp32
from radz.models.pooling import _masked_mean

log = logging.getLogger(__name__)
DESCRIPTIONS = 32
"""descriptions that are encoded together at most"""


class Cut(NamedTuple):
    """Texts that are longer than a limit, in tokens."""

    texts: int
    cut: int
    longest: int
    limit: int

    @staticmethod
    def of(lengths: Iterable[int], limit: int) -> Cut:
        """Count lengths above `limit`."""
        every = list(lengths)
        return Cut(len(every), sum(length > limit for length in every), max(every, default=0), limit)

    def tell(self, what: str, key: str) -> None:
        """Say it in one sentence, where there is any: `what` they are, and the `key` of the limit."""
        if self.cut:
            log.warning(
                "%s: %d of %d are longer than %s=%d tokens (the longest has %d); they lose their middle, and keep "
                "beginning and end", what, self.cut, self.texts, key, self.limit, self.longest,
            )  # fmt: skip


def shortened(words: list[int], limit: int) -> list[int]:
    """At most `limit` tokens of a text: half of its beginning, half of its end, where a report has its impression."""
    kept = limit // 2
    return words if len(words) <= limit else [*words[:kept], *words[kept - limit :]]


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
    """[B, T, d], or with more channels where the backbone's images have them"""
    mask: Tensor
    """bool [B, T], true at real tokens"""
    tokens: Tensor
    """bool [B, T], true at modality tokens"""
    content: Tensor
    """bool [B, T], true at image tokens, those of all images in order, or at the words of a text"""


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
        self.centre = Centre(self.width, config.centre == "whiten") if config.centre != "none" else None
        self._image_sequence = lru_cache(maxsize=None)(self._build_image_sequence)
        self.text_groups = config.text_groups

    def encode_images(
        self, pixels: Tensor, counts: Tensor, modalities: Sequence[str], raw: bool = False
    ) -> Features:  # fmt: skip
        """Features of studies of one or several images, less their mean in training (`dfat.centre`) unless `raw`.

        Args:
            pixels: uint8 [M, C, H, W], the images of all studies in order.
            counts: int64 [B], images of each study; they sum to M.
            modalities: B keys of MODALITY_TEXT.
        """
        given = self.image_sequences(pixels, counts, modalities)
        states = self.backbone.decode(given.embeddings, given.mask, given.content)
        return self.image_features(states, given, raw)

    def image_sequences(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Sequences:
        """What the decoder is given for studies; arguments as in `encode_images`."""
        images = self.backbone.image_embeddings(self.backbone.prepare(pixels))
        studies, side = zip(counts.tolist(), modalities, strict=True), pixels.shape[-1]
        sequences = [self._image_sequence(count, modality, side) for count, modality in studies]
        self._check_placeholders(sequences, images)
        ids, mask = self._pad(sequences)
        embeddings, patches = self.backbone.embedded(ids, images)
        return Sequences(embeddings, mask, self._is_in(ids, self.backbone.image_ids), patches)

    def image_features(self, states: Tensor, given: Sequences, raw: bool = False) -> Features:
        """`encode_images` from the states [B, T, d] of its sequences."""
        pooled = self._pool(states, given.tokens, given.content, given.mask, self.heads["image"])
        if self.config.token_features:
            pooled = replace(pooled, tokens=self._image_tokens(states, given.content))
        return pooled if raw or self.centre is None else self.centre(pooled, "image")

    def _image_tokens(self, states: Tensor, content: Tensor) -> Tensor:
        """Features [B, P, e] of the image tokens of each study, in order, zero behind its last one."""
        counts = content.sum(1)
        with torch.autocast(states.device.type, enabled=False):
            features = self.heads["image"](self._token_states(states[content]))
        rows = features.new_zeros(len(states), int(counts.max()), features.shape[-1])
        rows[torch.arange(rows.shape[1], device=rows.device) < counts[:, None]] = features
        return rows

    def patch_features(self, states: Tensor) -> Tensor:
        """Features [..., e] of single image tokens from their states [..., d], comparable with those of texts."""
        tokens = self.heads["image"](self._token_states(states))
        return tokens if self.centre is None else self.centre.shared("image_local").taken_from(tokens)

    def encode_texts(
        self, texts: list[str], most: int | None = None, raw: bool = False, groups: int | None = None
    ) -> Features:  # fmt: skip
        """Features [N, e] of reports, captions, prompts or descriptions, less the mean of reports unless `raw`.

        Each distinct text is computed once, in `text_groups` groups of like length (or `groups`), so that few tokens
        are padding; with `most`, in more groups where one would hold more texts.
        """
        distinct = list(dict.fromkeys(texts))
        words = self._words(distinct)
        alike = like_lengths(list(map(len, words)), groups or self.text_groups, most)
        parts = [self._pool(*self._text_states([words[i] for i in group]), self.heads["text"]) for group in alike]
        place = {distinct[i]: n for n, i in enumerate(i for group in alike for i in group)}
        joined = Features.join(parts)  # in the order of the groups
        pooled = joined.rows(torch.tensor([place[text] for text in texts], device=joined.overall.device))
        return pooled if raw or self.centre is None else self.centre(pooled, "text")

    def language_loss(self, texts: Sequence[str], most: int | None = None) -> tuple[Tensor, int]:
        """How well the language model foretells texts and their end: summed cross-entropy [] in nats, and its tokens.

        Of a text that is too long, only the beginning is foretold: it does not end where it is cut.

        Args:
            texts: each distinct one is computed once and counts as often as it stands there; empty ones do not.
            most: texts that are computed together at most; their graph is then made again in the backward pass.
        """
        # Of no text a stand-in that counts nothing: DDP waits for a gradient of every weight, such as the output layer.
        times, limit = Counter(filter(None, texts)) or Counter({".": 0}), self.config.max_text_tokens
        words, last = self._tokens(list(times)), self.backbone.tokenizer.eos_token_id
        end = [] if last is None else [last]
        rows = [[*self.backbone.start, *row[:limit], *(end if len(row) <= limit else [])] for row in words]
        weights, loss = list(times.values()), torch.zeros((), device=self.backbone.device)
        for group in like_lengths(list(map(len, rows)), self.text_groups, most):
            part = [rows[i] for i in group], [weights[i] for i in group]
            one = self._foretold(*part) if most is None else checkpoint(self._foretold, *part, use_reentrant=False)
            loss = loss + one
        return loss, sum((len(row) - 1) * weight for row, weight in zip(rows, weights, strict=True))

    def _foretold(self, rows: list[list[int]], weights: list[int]) -> Tensor:
        ids, mask = self._pad(rows)
        logits = text_logits(self.backbone, ids, mask)
        with torch.autocast(ids.device.type, enabled=False):
            terms = F.cross_entropy(at_least_fp32(logits[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none")
            # A padded row has no next token, and on the left none before its first one.
            real = terms * (mask[:, :-1] & mask[:, 1:])
            return (real.sum(1) * torch.tensor(weights, device=ids.device)).sum()

    def encode_descriptions(self, texts: list[str], encoder: str) -> Tensor:
        """Raw anchors [K, d], before the anchor head.

        Args:
            texts: K descriptions.
            encoder: `decoder` (mean state of the modality tokens) or `embedding` (mean input embedding of the words).
        """
        if encoder == "embedding":
            ids = [torch.tensor(row, device=self.backbone.device) for row in self._tokens(texts)]
            return torch.stack([at_least_fp32(self.backbone.word_embeddings(row)).mean(0) for row in ids])
        return self._by_length(texts, lambda words: self._tokens_mean(*self._text_states(words)[:2]))

    def encode_depths(self, texts: list[str]) -> Tensor:
        """Raw means [L, K, d] at the modality tokens behind each of the L layers, of K texts; the last is an anchor."""

        def of_group(words: list[list[int]]) -> Tensor:
            given = self._text_sequences(words)
            layers = self.backbone.decode_all(given.embeddings, given.mask, None, attention=False)
            # The first states are the embeddings, which no layer has made.
            return torch.stack([self._tokens_mean(states, given.tokens) for states in layers.states[1:]], dim=1)

        return self._by_length(texts, of_group).transpose(0, 1)

    def _by_length(self, texts: list[str], encode: Callable[[list[list[int]]], Tensor]) -> Tensor:
        """What `encode` makes of the words of texts [k, ..] in groups of like length, in the order of the texts."""
        words = self._words(texts)
        groups = like_lengths(list(map(len, words)), self.text_groups, DESCRIPTIONS)
        parts = [encode([words[i] for i in group]) for group in groups]
        order = torch.tensor([i for group in groups for i in group], device=parts[0].device)
        return torch.cat(parts)[order.argsort()]

    def _tokens_mean(self, states: Tensor, tokens: Tensor) -> Tensor:
        return _masked_mean(self._token_states(states), tokens)

    def anchor_features(self, vectors: Tensor) -> Tensor:
        """Raw anchors [K, d] through the anchor head: [K, e]; sets likewise."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.heads["anchor"](vectors)

    def of_bank(self, features: Tensor) -> Shared:
        """What features [K, e] of the training bank share, anchors or class texts, and lose with `dfat.centre`."""
        if self.centre is None:
            return Shared(features.new_zeros(()))
        return Shared.of(features, self.centre.whiten)

    def of_texts(self, overall: Tensor, local: Tensor, count: int) -> list[Shared]:
        """What global and local features [K, e] of sentences of one make share, on `count` things; of few, as reports.

        Sentences of one make share a direction that reports do not have, so that the mean of reports is not theirs.
        """
        if self.centre is not None and count < FEWEST:
            return [self.centre.shared(f"text_{part}") for part in ("overall", "local")]
        return [self.of_bank(part) for part in (overall, local)]

    def cut(self, texts: list[str]) -> Cut:
        """How many of the texts are longer than `max_text_tokens`; equal ones count once."""
        return Cut.of(map(len, self._tokens(list(dict.fromkeys(texts)))), self.config.max_text_tokens)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return self.backbone.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids if texts else []

    def _words(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, cut to `max_text_tokens`."""
        return [shortened(row, self.config.max_text_tokens) for row in self._tokens(texts)]

    def _text_states(self, texts: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States [B, T, d], and bool [B, T] of modality tokens, words and all real tokens."""
        given = self._text_sequences(texts)
        return self.backbone.decode(given.embeddings, given.mask), given.tokens, given.content, given.mask

    def _text_sequences(self, texts: list[list[int]]) -> Sequences:
        start = self.backbone.start
        question = self._tokens([self.config.text_prompt])[0] if self.config.text_prompt else []
        sequences, kinds = [], []
        for words in texts:
            sequences.append([*start, *words, *question, *self.backbone.text_ids])
            kinds.append([0] * len(start) + [1] * len(words) + [0] * (len(question) + len(self.backbone.text_ids)))
        self._check_length(max(map(len, sequences)), "dfat.max_text_tokens")
        ids, mask = self._pad(sequences)
        content, _ = self._pad(kinds, 0)
        tokens = self._is_in(ids, self.backbone.text_ids)
        return Sequences(self.backbone.word_embeddings(ids), mask, tokens, content.bool() & mask)

    def check_images(self, most: Mapping[str, int], side: int) -> None:
        """InputError where images of `side` pixels do not fit the tower, or the study of most images
        ({modality: images}) the context.
        """
        for modality, images in most.items():
            self._image_sequence(images, modality, side)

    def _check_placeholders(self, sequences: list[list[int]], images: Tensor) -> None:
        places, features = sum(row.count(self.backbone.image_token) for row in sequences), images.shape[:2].numel()
        if places != features:
            raise InputError(
                f"image sequences: {places} image placeholders for {features} image features; the images of all "
                "studies must add up to those given, and dfat.instruction must not hold the backbone's image token"
            )

    def _build_image_sequence(self, images: int, modality: str, side: int) -> list[int]:
        each = self.backbone.tokens_per_image(side)
        instruction = self.config.instruction.format(modality=MODALITY_TEXT[modality])
        ids = self.backbone.ids(self.backbone.chat(instruction, images))
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
            states = self._token_states(states)
            # Few positions whose states are far longer than the rest would be the mean by themselves.
            power = (states.detach().square().sum(-1) * local).sort(1, descending=True).values.cumsum(1)
            few = torch.stack([torch.zeros_like(local[:, 0], dtype=torch.long), (local.sum(1) - 1).clamp(min=0) // 100])
            share = (power.gather(1, few.T) / power[:, -1:].clamp(min=1e-12)).mean(0)
            if self.config.head_order == "head_then_mean":
                states = head(states)
                return Features(_masked_mean(states, tokens), _masked_mean(states, local), share)
            return Features(head(_masked_mean(states, tokens)), head(_masked_mean(states, local)), share)

    def _token_states(self, states: Tensor) -> Tensor:
        """States [..., d] in at least fp32, of the length that `dfat.token_norm` says.

        A sink, such as the first word where there is no BOS, is tens of times as long as the rest: a mean of states as
        they are is that one position, the same for every text (docs/method.md 2.4).
        """
        states, kind = at_least_fp32(states), self.config.token_norm
        if kind == "none":
            return states
        return F.normalize(states, dim=-1) * (1 if kind == "unit" else math.sqrt(states.shape[-1]))
