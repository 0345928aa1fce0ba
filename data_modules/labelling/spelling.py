"""How a sentence is spelt: contractions written out before phrases are looked for, and the answers of forms."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from data_modules.labelling.phrases import Match

_MARKS = "'\u2018\u2019\u02bc`\u00b4"
_CONTRACTED = re.compile(
    rf"\b(is|are|was|were|do|does|did|has|have|had|could|would|should|might|must|ca|wo)n([{_MARKS}]?)t\b", re.IGNORECASE
)
_FULL = {"ca": "can", "wo": "will"}
_DIAMETER = re.compile(r"[\u00d8\u00f8](?=\s*[\d.,])")
_NOTHING = str.maketrans({0x2205: "\u00d8", 0x2300: "\u00d8"})
"""Signs that stand for none, as one."""

ANSWERS = {
    "answer_no": "denied_after", "answer_none": "denied_after", "answer_maybe": "doubt_after", "answer_yes": "end",
}  # fmt: skip
"""What the answer of a form does, where it is one."""
_LED = re.compile(r"(?:[:=(]|\s[-\u2013\u2014])\s*$")
_CLOSED = re.compile(r"\s*\)?\s*(?:$|[.,;|/!(]|[-\u2013\u2014]\s|[A-Z\u00c0-\u00de][^.:;,]{1,40}:)")
_ENDED = re.compile(r"\s*(?:$|[.,;|])")
_SIGN = re.compile(r"(?:[:=]\s*\(?|\()\s*(?:(?P<no>[-\u2013\u2014\u2212]+|0)|(?P<yes>\++|1))\s*\)?(?=\s*(?:$|[.,;|/]))")


class Spelt:
    """A sentence as its phrases are looked for, and the places of the sentence as it is written."""

    def __init__(self, sentence: str, loose: bool = False) -> None:
        """`loose`: it is English, so that contractions may lack their apostrophe."""
        parts, self._ends, self._shifts, done, shift = [], [0], [0], 0, 0
        for match in _CONTRACTED.finditer(sentence):
            verb, mark = match.groups()
            if not mark and (not loose or verb.casefold() == "wo"):
                continue  # dont is French, wont a custom
            full = f"{_FULL.get(verb.casefold(), verb)} not"
            parts += [sentence[done : match.start()], full]
            done = match.end()
            shift += len(full) - len(match[0])
            self._ends.append(done + shift)
            self._shifts.append(shift)
        text = "".join((*parts, sentence[done:]))
        self.text = _DIAMETER.sub(" ", text.translate(_NOTHING))

    def written(self, place: int) -> int:
        """The place in the sentence of one in `text`; contractions stay whole."""
        return place - self._shifts[bisect_right(self._ends, place) - 1]


def answered(text: str, cues: Sequence[Match]) -> list[Match]:
    """The cues of a text with the answers of forms that it holds: Pneumothorax: no; Cardiomegaly (+); Effusion: 0.

    An answer stands behind a mark, a plain no also behind a blank, and nothing follows it in its item. It ends a
    clause; other cues of the same words go.
    """
    found = [
        Match(cue.start, cue.end, ANSWERS[cue.what]) for cue in cues
        if cue.what in ANSWERS and _answers(text, cue)
    ]  # fmt: skip
    for sign in _SIGN.finditer(text):
        kind = "answer_no" if sign["no"] else "answer_yes"
        found.append(Match(sign.start() + 1, sign.end(), ANSWERS[kind]))
    if not found:
        return [cue for cue in cues if cue.what not in ANSWERS]
    others = [
        cue for cue in cues
        if cue.what not in ANSWERS and all(cue.end <= one.start or one.end <= cue.start for one in found)
    ]  # fmt: skip
    return [*others, *found, *(Match(one.end, one.end, "end") for one in found)]


def _answers(text: str, cue: Match) -> bool:
    if _LED.search(text, max(0, cue.start - 4), cue.start):
        return _CLOSED.match(text, cue.end) is not None
    return cue.what == "answer_no" and _ENDED.match(text, cue.end) is not None
