"""How a sentence is spelt: contractions written out before phrases are looked for, and the answers of forms."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from data_modules.labelling.phrases import Match

_MARKS = "'\u2018\u2019\u02bc`\u00b4"
_CONTRACTED = re.compile(
    rf"\b(is|are|was|were|do|does|did|has|have|had|could|would|should|might|must|ca|wo)n([{_MARKS}]?)t\b", re.IGNORECASE
)
_FULL = {"ca": "can", "wo": "will"}
_DIAMETER = re.compile(r"[\u00d8\u00f8](?=\s*[\d.,])")
NUMBER = re.compile(r"\d++(?![.,]?\d*\s*(?:mm|cm|x)\b)", re.IGNORECASE)
"""that counts and does not measure"""
_COUNT = re.compile(
    rf"(?<=[^\s:=\u2013\u2014-])(\s+|\s*[(,]\s*)n[o\u00ba\u00b0]\.(?=\s*{NUMBER.pattern})", re.IGNORECASE
)
"""nodule no. 1"""
_NOTHING = str.maketrans({0x2205: "\u00d8", 0x2300: "\u00d8"})
"""Signs that stand for none, as one."""

ANSWERS = {
    "answer_no": "denied_after", "answer_none": "denied_after", "answer_maybe": "doubt_after",
    "answer_likely": "doubt_after", "answer_yes": "end",
    "answer_nothing": "unassessed",
}  # fmt: skip
"""What the answer of a form does, where it is one."""
_LED = re.compile(r"(?:[:=(]|\s[-\u2013\u2014])\s*$")
_MARKED = re.compile(r"[:=]\s*$")
_CHOICE = re.compile(r"\s*[/|]\s*")
"""between two answers of which none is chosen: yes / no"""
_CLOSED = re.compile(r"\s*\)?\s*(?:$|[.,;|/!(]|[-\u2013\u2014]\s|[A-Z\u00c0-\u00de][^.:;,]{1,40}:)")
_ENDED = re.compile(r"\s*(?:$|[.,;|])")
_SIGN = re.compile(
    r"(?:[:=]\s*\(?|\()\s*(?:(?P<no>[-\u2013\u2014\u2212]+|0(?:[.,]0+)?(?:\s*(?:mm|cm|ml|%))?)|(?P<yes>\++|1)|(?P<maybe>\?))"
    r"\s*\)?(?=\s*(?:$|[;|/]|[.,](?!\d)))"  # but 0.8 cm
)
LABEL = 4
"""words of a label before a box that stands alone, at most"""
_BOX = re.compile(r"\[\s*\]|\(\s+\)|\u2610|(?P<ticked>\[\s*[xX\u2713\u2714]\s*\]|\(\s*[xX]\s*\)|[\u2611\u2612])")


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
        text = _without_boxes("".join((*parts, sentence[done:])))
        self.text = _DIAMETER.sub(" ", without_counts(text).translate(_NOTHING))

    def written(self, place: int) -> int:
        """The place in the sentence of one in `text`; contractions stay whole."""
        return place - self._shifts[bisect_right(self._ends, place) - 1]


def answered(text: str, cues: Sequence[Match]) -> list[Match]:
    """The cues of a text with the answers of forms that it holds: Pneumothorax: no; Cardiomegaly (+); Effusion: 0.

    An answer stands behind a mark, a plain no or likely also behind a blank, and nothing follows it in its item. It
    ends a clause; other cues of the same words go.
    """
    found = [
        Match(cue.start, cue.end, ANSWERS[cue.what]) for cue in cues
        if cue.what in ANSWERS and _answers(text, cue, cues)
    ]  # fmt: skip
    for sign in _SIGN.finditer(text):
        kind = "answer_no" if sign["no"] else "answer_yes" if sign["yes"] else "answer_maybe"
        found.append(Match(sign.start() + 1, sign.end(), ANSWERS[kind]))
    for one, other in pairwise(sorted(found)):
        if _CHOICE.fullmatch(text, one.end, other.start):
            found = [cue for cue in found if cue not in (one, other)] + [Match(one.start, other.end, "unassessed")]
    if not found:
        return [cue for cue in cues if cue.what not in ANSWERS]
    others = [
        cue for cue in cues
        if cue.what not in ANSWERS and all(cue.end <= one.start or one.end <= cue.start for one in found)
    ]  # fmt: skip
    return [*others, *found, *(Match(one.end, one.end, "end") for one in found)]


def without_counts(text: str) -> str:
    """The text, of the same length, with blanks for a "no." that stands for number."""
    return _COUNT.sub(lambda count: count[1].ljust(len(count[0])), text)


def _answers(text: str, cue: Match, cues: Sequence[Match]) -> bool:
    if cue.end - cue.start == 1:  # Pneumothorax: N; but nodulo(s)
        return _MARKED.search(text, 0, cue.start) is not None and _CLOSED.match(text, cue.end) is not None
    before = len(text[: cue.start].rstrip())
    if _LED.search(text, max(0, before - 2), cue.start):
        return _CLOSED.match(text, cue.end) is not None
    if cue.what not in ("answer_no", "answer_likely") or not _ENDED.match(text, cue.end):
        return False
    return not any(one.start < cue.start and cue.end <= one.end for one in cues)  # if possible; not likely


def _is_lone_box(box: re.Match[str], text: str) -> bool:
    """Whether brackets in a text without a tick are a box; else a word may have been removed: since [ ], a scan ( )."""
    before, behind = text[: box.start()].strip(" -*\u2022"), text[box.end() :].strip()
    of_item = not before or before.endswith((":", "]")) or (not behind and len(before.split()) <= LABEL)
    return box[0] == "\u2610" or (box[0][0] == "[" and of_item)


def _without_boxes(text: str) -> str:
    """The text, of the same length, with blanks for boxes and for all that belongs to one that is not ticked.

    A box stands before what it belongs to where the text or an item begins with one ([x] effusion, [ ] edema; effusion:
    [ ] yes [x] no), else behind it (effusion: [ ]).
    """
    boxes = list(_BOX.finditer(text))
    if not any(box["ticked"] for box in boxes):
        boxes = [box for box in boxes if _is_lone_box(box, text)]
    if not boxes:
        return text
    starts, ends = [0, *(box.end() for box in boxes)], [*(box.start() for box in boxes), len(text)]
    before, behind = text[: ends[0]].rstrip(), text[starts[1] : ends[1]]
    ahead = (not before or before.endswith(":")) and behind.strip() and ":" not in behind
    for number, box in enumerate(boxes):
        start, end = box.span()
        answer = ""
        if not box["ticked"]:
            told = text[starts[number] : start].rstrip()
            asked = 0 if told.endswith(":") else told.rfind(":") + 1  # pneumothorax: yes [ ] no [x]
            start, end = (start, ends[number + 1]) if ahead else (starts[number] + asked, end)
        elif not ahead and text[:start].rstrip().endswith(":"):
            answer = "+"
        text = text[:start] + answer.ljust(end - start) + text[end:]
    return text
