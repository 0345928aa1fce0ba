"""Whether a study is of what the run was trained on: by the words of its headers and the looks of its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from data_modules.counting import counted
from data_modules.dicom_words import Words, view_kind, words_of
from data_modules.errors import InputError, OtherKind
from radz.methods.training_scope import Scope
from radz.models.appearance import PERCENT, Pictures

COLUMNS = ("in_scope", "reason")
YES, NO, UNKNOWN = "yes", "no", ""
NOT_MEASURED = "not measured: the run does not say what its images look like"
TURNED = "PatientOrientation is {}, that of a mirrored or turned picture"


@dataclass(frozen=True)
class Verdict:
    """Of one study."""

    in_scope: str
    """yes, no, or empty where nobody can tell"""
    reason: str
    """why not yes; empty with yes"""
    distance: float | None = None
    """of `Appearance`, at most `limit` where the study looks as those of training; None where it was not measured"""

    @property
    def cells(self) -> list[str]:
        """As COLUMNS has them."""
        return [self.in_scope, self.reason]


def judge(scope: Scope | None, modality: str, files: Sequence[str | Path], images: Tensor | InputError) -> Verdict:
    """Whether a study is in scope.

    Args:
        scope: of the modality; None where an earlier radz kept none.
        images: uint8 [M, C, S, S], prepared as in training; or why they could not be read.
    """
    headers = [words_of(Path(file)) for file in files]
    reasons = [why for words in headers if (why := _by_words(scope, modality, words))]
    if isinstance(images, InputError):
        if isinstance(images, OtherKind) and not reasons:
            reasons = [images.reason]
        return Verdict(NO if reasons else UNKNOWN, "; ".join(dict.fromkeys(reasons)) or "not read, see error")
    appearance = scope.appearance if scope else None
    distance = None
    if appearance is not None:
        distance, name = appearance.farthest(pictures_of(images, modality))
        if distance > appearance.limit:
            reasons.append(f"{name} farther from training than {appearance.beyond}")
    if reasons:
        return Verdict(NO, "; ".join(dict.fromkeys(reasons)), distance)
    turned = dict.fromkeys(words.orientation for words in headers if words.turned and modality == "chest_xray")
    doubts = [*([NOT_MEASURED] if distance is None else []), *(TURNED.format(words) for words in turned)]
    return Verdict(UNKNOWN if doubts else YES, "; ".join(doubts), distance)


def pictures_of(images: Tensor, modality: str) -> Pictures:
    """uint8 [N, S, S], what was measured of images [M, C, S, S]: each radiograph, or the middle slice of a CT."""
    middle = len(images) // 2
    chosen = images[middle : middle + 1] if modality == "chest_ct" else images
    pictures: Pictures = chosen[:, 0].numpy()
    return pictures


def summary(verdicts: Iterable[Verdict]) -> list[str]:
    """Lines that count the studies that are out of scope by their reasons, and those of which nobody can tell."""
    every = list(verdicts)
    lines = []
    for answer, told in ((NO, "out of scope, where scores mean nothing"), (UNKNOWN, "not known to be in scope")):
        counts = Counter(verdict.reason for verdict in every if verdict.in_scope == answer)
        if counts:
            named = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common(3))
            more = f"; {counted(len(counts) - 3, 'other reason')}" if len(counts) > 3 else ""
            lines.append(
                f"{sum(counts.values())} of {counted(len(every), 'study')} {told} (column reason: {named}{more})"
            )
    return lines


def plain(scopes: Mapping[str, Scope], verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """For JSON: by what, and how many."""
    counts = Counter(verdict.in_scope for verdict in verdicts)
    return {
        "percent": PERCENT,
        "modalities": {modality: scope.plain() for modality, scope in scopes.items()},
        "studies": {"yes": counts[YES], "no": counts[NO], "unknown": counts[UNKNOWN]},
    }


def _by_words(scope: Scope | None, modality: str, words: Words) -> str:
    """Why an object says that it is out of scope; empty where it does not."""
    if words.modality_elsewhere(modality):
        return f"Modality is {words.modality}"
    if words.body_elsewhere:
        return f"BodyPartExamined is {words.body_part}"
    if scope is not None and scope.is_new(kind := view_kind(words.view)):
        return f"ViewPosition is {words.view}, and training had no {kind} view"
    return ""
