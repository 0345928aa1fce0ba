"""Sentences of reports as what images match: each that asserts a finding, its negatives, and its false twins.

A report is one text of many sentences, and one vector for all of them says little of each. Here images are compared
with single sentences, several of them true of a study (RadZero, arXiv 2504.07416). Sentences that only deny are kept
apart: they are true of most studies. Where a label says that a study has what a sentence of another study asserts, the
two are no negatives of each other. A false twin is the sentence with its side or its severity turned round.

Shapes: B studies and N = B * S drawn sentences of this rank, W ranks, d feature width.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from data_modules.errors import InputError
from data_modules.findings import NO_FINDING, Ontology
from data_modules.labelling.labeller import Labeller
from data_modules.parsing import parse_yaml
from data_modules.reports import digest64
from radz.config.dfat import DfatConfig
from radz.config.files import find_resource
from radz.distributed import gather, world
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, Given
from radz.models.gradient_cache import cached_texts
from radz.models.local_similarity import local_similarity
from radz.models.losses import Features, cosine, global_mean, trained_pairs

REMEMBERED = 100_000
"""reports whose sentences are kept: every epoch reads them again"""


class Asserted(NamedTuple):
    """A sentence of a report that asserts something."""

    text: str
    findings: frozenset[str]
    """asserted as present, or in doubt"""
    twins: tuple[tuple[str, str], ...]
    """(kind, the same with side or severity turned round, false of the study)"""


class Drawn(NamedTuple):
    """Sentences of the studies of a step, S each; empty texts where a report has fewer."""

    sentences: list[Asserted]
    twins: list[str]
    """N, empty where a sentence has none"""
    features: Features
    """[2N, d], raw: sentences, then twins; [N, d] where no twins are made"""


NONE = Asserted("", frozenset(), ())


class Turns:
    """Words that turn a sentence round, such as left and right, from a file (`dfat.twins`)."""

    def __init__(self, file: Path) -> None:
        """Read them.

        Raises:
            InputError: another form.
        """
        try:
            content: Any = parse_yaml(file.read_text(encoding="utf-8"))
            self._kinds = {str(kind): _kind(**words) for kind, words in content.items()}
            if not self._kinds:
                raise ValueError
        except (yaml.YAMLError, UnicodeDecodeError, OSError, LookupError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"dfat.twins: {file}: must hold kinds, such as side, each with `pairs`, a list of [word, word] in "
                "which no word stands twice, and maybe `both`, a list of words"
            ) from None

    def twins(self, sentence: str, others: Sequence[str]) -> dict[str, str]:
        """{kind: the sentence with the words of that kind turned round}, of the kinds where this makes it false.

        None where the sentence holds words of both sides of a pair, or one of `others`, the sentences of the report on
        the same findings, says what the twin would.
        """
        found = {}
        for kind, (turned, both) in self._kinds.items():
            held = _words_of(sentence, turned)
            opposite = {turned[word] for word in held}
            barred = _words_of(" ".join((sentence, *others)), [*opposite, *both])
            if held and not barred:
                found[kind] = _turned(sentence, turned)
        return found

    def all_turned(self, texts: Iterable[str]) -> list[str]:
        """Texts with every word of a kind turned, where they hold one: all that twins of their sentences may say."""
        kinds = [turned for turned, _ in self._kinds.values()]
        return [_turned(text, turned) for turned in kinds for text in texts if _words_of(text, turned)]


def _kind(pairs: list[Any], both: Sequence[Any] = ()) -> tuple[dict[str, str], list[str]]:
    """{word: what it is turned to} and the words that bar it, of a kind as the file has it; ValueError else."""
    entries = [[_word(one) for one in pair] for pair in pairs if isinstance(pair, list)]
    words = [word for pair in entries for word in pair]
    whole = len(entries) == len(pairs) > 0 and all(len(pair) == 2 for pair in entries)
    if not whole or len(set(words)) < len(words) or isinstance(both, str):
        raise ValueError
    return {one: other for pair in entries for one, other in (pair, pair[::-1])}, [_word(one) for one in both]


def _word(entry: Any) -> str:
    """In small letters; whole words are looked for, so that it begins and ends with a letter or digit."""
    if not isinstance(entry, str) or not re.fullmatch(r"\w(?:.*\w)?", entry):
        raise ValueError
    return entry.lower()


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or r"(?!)"
    return re.compile(rf"\b(?:{listed})\b", re.IGNORECASE)


def _words_of(text: str, words: Sequence[str] | Mapping[str, str]) -> set[str]:
    return {match.lower() for match in _pattern(tuple(words)).findall(text)}


def _turned(sentence: str, turned: Mapping[str, str]) -> str:
    def other(match: re.Match[str]) -> str:
        found, word = match[0], turned[match[0].lower()]
        if found.isupper() and len(found) > 1:
            return word.upper()
        return word.capitalize() if found[0].isupper() else word

    return _pattern(tuple(turned)).sub(other, sentence)


class Sentences:
    """The loss of images against the sentences of reports (docs/method.md 2.10)."""

    def __init__(
        self, config: DfatConfig, findings: Sequence[str], known: Ontology, modalities: Sequence[str]
    ) -> None:  # fmt: skip
        """See `extra_losses`.

        Raises:
            InputError: a file of twins of another form.
        """
        self.weight, self.count, self.by = config.sentences_weight, config.sentences, config.sentences_by
        self.findings, self._ontology = tuple(findings), known
        self._turns = Turns(find_resource(config.twins, "dfat.twins")) if config.twins else None
        self._labellers = {modality: Labeller(modality, known) for modality in modalities}
        self._asserted = lru_cache(REMEMBERED)(self._read)

    def reads(self, texts: Sequence[str]) -> list[str]:
        """False twins."""
        return self._turns.all_turned(dict.fromkeys(texts)) if self._turns else []

    def asserted(self, report: str, modality: str) -> tuple[Asserted, ...]:
        """The sentences of a report that assert a finding, in order."""
        return self._asserted(report, modality)

    def _read(self, report: str, modality: str) -> tuple[Asserted, ...]:
        named: list[tuple[str, frozenset[str]]] = []
        for text, states in self._labellers[modality].by_sentence(report) if report else ():
            diseases = (name for name in states if name in self._ontology and name != NO_FINDING)
            if asserted := frozenset(name for name in diseases if states[name] != "absent"):
                named.append((text, asserted))
        return tuple(Asserted(text, names, self._twins(text, names, named)) for text, names in named)

    def _twins(
        self, text: str, names: frozenset[str], report: Sequence[tuple[str, frozenset[str]]]
    ) -> tuple[tuple[str, str], ...]:  # fmt: skip
        if self._turns is None:
            return ()
        return tuple(self._turns.twins(text, [one for one, of_it in report if one != text and of_it & names]).items())

    def draw(self, given: Given) -> tuple[list[Asserted], list[str]]:
        """S sentences of each study, in order and filled up with empty ones, and a twin of each or an empty text.

        The same for the same seed, step and study, whatever rank it is on.
        """
        drawn: list[Asserted] = []
        twins: list[str] = []
        for text, modality, row in zip(given.texts, given.modalities, given.batch.rows.tolist(), strict=True):
            rng = random.Random(f"{given.draw} {row}")
            every = list(dict.fromkeys(self.asserted(text, modality)))
            chosen = rng.sample(every, min(self.count, len(every)))
            twins += [rng.choice(one.twins)[1] if one.twins else "" for one in chosen] + [""] * (
                self.count - len(chosen)
            )
            drawn += chosen + [NONE] * (self.count - len(chosen))
        return drawn, twins

    def encode(self, encoder: Encoder, given: Given) -> Drawn:
        """The drawn sentences and, where twins are made, these; see `ExtraLoss`."""
        drawn, twins = self.draw(given)
        texts = [one.text for one in drawn] + (twins if self._turns else [])
        if size := encoder.config.gradient_cache:
            return Drawn(drawn, twins, cached_texts(encoder, texts, size))
        return Drawn(drawn, twins, encoder.encode_texts(texts, raw=True, groups=1))

    def loss(self, encoder: Encoder, given: Given, encoded: Encoded, own: Drawn, bias: Tensor) -> Tensor:
        """See `ExtraLoss`: of what matches (`sentence_loss`), and the mean of it and of twins where they are made."""
        device, count = encoded.usable.device, len(own.sentences)
        usable = torch.tensor([bool(one.text) for one in own.sentences], device=device)
        everyone = gather(usable)
        overall, local = gather(own.features.overall[:count]), gather(own.features.local[:count])
        shared = encoder.of_texts(overall[everyone], local[everyone], int(everyone.sum()))
        sentences = replace(
            own.features, overall=shared[0].taken_from(overall), local=shared[1].taken_from(local), tokens=None
        )
        match, negative = self._pairs(given, encoded.labels, own.sentences)
        temperature = encoded.settings["temperature"]
        cosines = self.cosines(encoder, encoded.image, sentences)
        contrast = sentence_loss(cosines, match & everyone, negative & everyone, temperature)
        if self._turns is None:
            return contrast
        twins = own.features.rows(torch.arange(count, 2 * count, device=device))
        twins = replace(twins, overall=shared[0].taken_from(twins.overall), local=shared[1].taken_from(twins.local))
        study = torch.arange(count, device=device) // self.count
        true = cosines[study, world()[0] * count + torch.arange(count, device=device)]
        false = self.cosines(encoder, encoded.image, twins)[study, torch.arange(count, device=device)]
        has = torch.tensor([bool(text) for text in own.twins], device=device)
        return (contrast + global_mean(F.softplus((false - true) / temperature), has)) / 2

    def cosines(self, encoder: Encoder, image: Features, text: Features) -> Tensor:
        """[B, K] of B images and K sentences, less what either side shares: what the loss compares."""
        dfat = encoder.config
        if self.by == "tokens":
            assert image.tokens is not None
            return local_similarity(image.tokens, text.overall, dfat.local_temperature)
        return trained_pairs(cosine, image, text, dfat.loss, dfat.global_weight)

    def _pairs(self, given: Given, labels: Tensor, sentences: Sequence[Asserted]) -> tuple[Tensor, Tensor]:
        """bool [B, W * N]: sentences that are of a study, and those that are false of it.

        A sentence is false of a study that lacks one of the findings which it asserts; where it asserts none of the
        bank, of every study that does not have the very sentence.
        """
        device = labels.device
        ours = [{digest64(one.text) for one in self.asserted(*pair)} for pair in
                zip(given.texts, given.modalities, strict=True)]  # fmt: skip
        digests = gather(torch.tensor([digest64(one.text) for one in sentences], device=device))
        match = torch.tensor([[digest in of_it for digest in digests.tolist()] for of_it in ours], device=device)
        says = [[name in one.findings for name in self.findings] for one in sentences]
        asserts = gather(torch.tensor(says, device=device).reshape(len(sentences), len(self.findings)))
        lacks = (labels == 0).float() @ asserts.float().T > 0
        return match, (lacks | ~asserts.any(1)[None, :]) & ~match


def sentence_loss(cosines: Tensor, match: Tensor, negative: Tensor, temperature: float | Tensor) -> Tensor:
    """InfoNCE of studies and sentences with several positives, in both directions (scalar, nats).

    Pairs that neither match nor are known to be false take no part.

    Args:
        cosines: [B, W * N] of the studies of this rank and the sentences of all.
        match, negative: bool, likewise.
    """
    rank, size = world()
    own = cosines.shape[1] // size
    columns = slice(rank * own, (rank + 1) * own)
    logits = cosines / temperature
    of_studies = _picked(logits, match, negative)
    turned = (gather(part)[:, columns].T for part in (logits, match, negative))
    return (of_studies + _picked(*turned)) / 2


def _picked(logits: Tensor, match: Tensor, negative: Tensor) -> Tensor:
    """Mean over the rows of all ranks that have a match: the mean of minus the log probabilities of its matches."""
    used = match.any(1)
    # A row without a match still needs finite columns, or its softmax is NaN and poisons the gradient.
    log_p = logits.masked_fill(~(match | negative | ~used[:, None]), float("-inf")).log_softmax(1)
    weights = match.to(logits.dtype) / match.sum(1, keepdim=True).clamp(min=1)
    return global_mean(-(weights * torch.where(match, log_p, torch.zeros_like(log_p))).sum(1), used)
