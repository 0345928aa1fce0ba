"""Options of a multiple choice, and free answers read as scores: 1 named, 0 not named, .5 where none can be read."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import InputError

UNREAD = 0.5
"""score of an answer that cannot be parsed; nothing else gives it"""
WRITTEN = "_written"
"""how the names of scorers end that are parsed from free answers"""
_LETTERS = re.compile(r"\W*[A-Z](?!\w)(?:\W+(?:and\W+)?[A-Z](?!\w))*")


def letters(count: int) -> list[str]:
    """A, B, .. for `count` options.

    Raises:
        InputError: more options than letters.
    """
    if count > len(string.ascii_uppercase):
        raise InputError(
            f"vqa.answers: letters end before {count} options; use names, or score fewer findings (scoring.findings)"
        )
    return list(string.ascii_uppercase[:count])


def read_yes_no(answer: str, yes: str, no: str) -> float:
    """1, 0, or UNREAD. The answer must begin with one of the words, or hold one of them and not the other."""
    words = {1.0: yes.strip(), 0.0: no.strip()}
    for value, word in words.items():
        if re.match(rf"\W*{re.escape(word)}(?!\w)", answer, re.IGNORECASE):
            return value
    held = [value for value, word in words.items() if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.I)]
    return held[0] if len(held) == 1 else UNREAD


def read_choice(answer: str, names: Sequence[str], marks: Sequence[str], none: str) -> list[float]:
    """A score for each of the C names.

    Args:
        marks: the letters of the names, then that of `none` where there is one; empty where names are the answers.
        none: the last option, '' where there is none.

    An answer that begins with letters (`B`, `A, C.`) names those; one that does not names the options whose words it
    holds. It cannot be read when neither is there.
    """
    options = [*names, *([none] if none else [])]
    chosen: set[int] = set()
    begun = _LETTERS.match(answer) if marks else None
    # "A small effusion." begins with an article: a word in small letters follows.
    if begun and not re.match(r" [a-z]", answer[begun.end() :]):
        chosen = {marks.index(letter) for letter in re.findall(r"(?<!\w)[A-Z](?!\w)", begun[0]) if letter in marks}
    if not chosen:
        rest = answer.lower()
        for place in sorted(range(len(options)), key=lambda place: -len(options[place])):
            pattern = rf"(?<!\w){re.escape(options[place].lower())}(?!\w)"
            if re.search(pattern, rest):
                chosen.add(place)
                rest = re.sub(pattern, " ", rest)
    if not chosen:
        return [UNREAD] * len(names)
    return [float(place in chosen) for place in range(len(names))]


def over_read_images(values: Tensor, counts: Tensor, how: str) -> Tensor:
    """Answers [M, C] about all images of B studies, in order, as one score [B, C] of each study, of those read.

    UNREAD stands where none was. The mean of as many "yes" as "no" is moved by its last bit, so that it is not taken
    for that.

    Args:
        counts: int64 [B], images of each study; they sum to M. how: `mean` or `max`.
    """
    known = values != UNREAD
    least = torch.where(known, values, -torch.inf)
    above = torch.nextafter(values.new_tensor(UNREAD), values.new_tensor(1.0))
    found = []
    for part, there, best in zip(*(x.split(counts.tolist()) for x in (values, known, least)), strict=True):
        number = there.sum(0)
        mean = (part * there).sum(0) / number.clamp(min=1)
        one = torch.where(mean == UNREAD, above, mean) if how == "mean" else best.amax(0)
        found.append(torch.where(number > 0, one, torch.full_like(mean, UNREAD)))
    return torch.stack(found)


def unread(scores: Mapping[str, NDArray[np.float32]]) -> dict[str, dict[str, int]]:
    """{scorer: {"answers", "unread"}} over the scores [N, C] of those that are parsed from free answers."""
    parsed = {name: values for name, values in scores.items() if name.endswith(WRITTEN)}
    return {name: {"answers": values.size, "unread": int((values == UNREAD).sum())} for name, values in parsed.items()}
