"""Options of a multiple choice, and free answers read as scores: 1 named, 0 not named, .5 where none can be read."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import InputError
from data_modules.labelling.phrases import Phrases
from data_modules.labelling.rules import Rules, Term, read_cues
from data_modules.labelling.scopes import said
from data_modules.labelling.sentences import split

UNREAD = 0.5
"""score of an answer that cannot be parsed; nothing else gives it"""
WRITTEN = "_written"
"""how the names of scorers end that are parsed from free answers"""
STAND_IN = "zzz"
BARE = 3
"""words of a sentence that denies what was named before: No. Not seen."""
_LETTERS = re.compile(
    r"\W*(?P<lead>(?:(?i:the|my|would|think|believe|say|choose|pick|it|is|are|be|correct|right|best|final|answers?|"
    r"options?|choices?|letters?)\b\W*|I\b(?= [a-z])\W*)*)(?P<letters>[A-Z](?!\w)(?:\W+(?:and\W+)?[A-Z](?!\w))*)"
)
_BESIDE = re.compile(
    r"\b(?:no|nothing|without)\s+(?:other|further|additional|else|more)\b.*|\b(?:with no|without)\b.*"
    r"|(?:\b(?:cannot|can not|could not|not)|n['\u2019]t)\s+(?:be\s+)?(?:excluded|ruled out)\b"
)
"""what denies nothing that is named: no other lesion, with no consolidation, cannot be excluded"""
_DENIAL = re.compile(r"\b(no|not|none|nothing|never|neither|nor|without|cannot|absen(ce|t)|exclud\w+)\b|n['\u2019]t\b")


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

    Named are options whose letters the answer begins with (`B`, `A, C.`, `The answer is B`) and those whose words it
    holds, but for what it denies. It cannot be read where neither is there, or where it may deny what it names: `Not
    nodule`, `B is not seen`. What it denies besides, as in `B. No other abnormality`, counts for nothing.
    """
    options = [*names, *([none] if none else [])]
    chosen, rest = _begun(answer, marks)
    for place in sorted(range(len(options)), key=lambda place: -len(options[place])):
        rest = re.sub(rf"(?<!\w){re.escape(options[place])}(?!\w)", _stand_in(place), rest, flags=re.IGNORECASE)
    stated: dict[int, bool] = {}
    for number, sentence in enumerate(split(rest)):
        found = {int(one.finding): one.state != "absent" for one in said(sentence, _rules(len(options)))}
        if all(found.values()) and _DENIAL.search(_BESIDE.sub(" ", sentence.lower())):
            begun = number == 0 and any(place < len(names) for place in chosen)
            again = (chosen or stated) and (len(sentence.split()) <= BARE or re.search(r"\b[A-Z]\b", sentence))
            if found or begun or again:
                return [UNREAD] * len(names)
        stated |= {place: there or stated.get(place, False) for place, there in found.items()}
    read = dict.fromkeys(chosen, True) | stated
    return [float(read.get(place, False)) if read else UNREAD for place in range(len(names))]


def _begun(answer: str, marks: Sequence[str]) -> tuple[list[int], str]:
    """Places of the letters that an answer begins with and what stands behind them; none and all of it, else."""
    begun = _LETTERS.match(answer) if marks else None
    if begun is None:
        return [], answer
    letters_of, rest = begun["letters"], answer[begun.end() :]
    # "A small effusion." and "I see one." begin with words.
    if letters_of in ("A", "I") and not begun["lead"] and re.match(r" \w", rest):
        return [], answer
    return [marks.index(letter) for letter in re.findall(r"\b[A-Z]\b", letters_of) if letter in marks], rest


def _stand_in(place: int) -> str:
    """A word that no text holds, for the option there: the words of options may hold those that deny."""
    return STAND_IN + "".join(chr(ord("a") + int(digit)) for digit in str(place))


@cache
def _rules(count: int) -> Rules:
    """What English reports deny with, and so many options as what they speak of."""
    terms = ((_stand_in(place), Term(str(place), "terms", _stand_in(place))) for place in range(count))
    return Rules("en", read_cues("en"), Phrases(terms, "options"))


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
