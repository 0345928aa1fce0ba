"""Label rules: the cells of one column -> the four states of one finding."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.cells import folded, number, stripped
from data_modules.corpus_config import LabelRule
from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, STATE_NAMES
from data_modules.labelling.phrases import Phrases, flat
from data_modules.labelling.rules import CUES, Rules, Term, languages, read_cues
from data_modules.labelling.scopes import said
from data_modules.labelling.spelling import without_counts
from data_modules.study import Text

OUTSIDE = -1
"""Not a state: the cell is outside the coding."""
BEFORE = re.compile(
    r"\b(no|not|non|without|w/o|den(ies|ied|ying)|neg|negative|free of|absen(ce|t)|never|neither|nor|"
    r"rule[ds]? out|r/o|exclud(e[sd]?|ing)|resolved|kein\w*|ohne|nicht|pas|sans|sin|sem|senza|nessun\w*|"
    r"geen|niet|zonder)\b|"
    r"(?<![^\W_])(h/o|s/p|f/u|hx|ddx?|susp|poss|prob|fragl|prior|previous|suspe[ck]t\w*)[\s:.]*$"
)
AFTER = re.compile(
    r"\b(negative|excluded|absent|ruled out|not|unlikely|resolved|ausgeschlossen|nicht|afwezig)\b|"
    r"^ ?[:=] ?(n|f|false)\b|^\W*ddx?\b|^[^\w,]*(susp|poss|prob|fragl)\b"
)
"""Words of a sentence that negate or doubt what stands after or before them; rather too many, since their cells are
refused.

What else does in the languages of `labelling/rules` is known from there.
"""
MENTION = "zzz"
"""stands for the text of a rule where those rules look at its sentence"""
FORE = ("denied_after", "doubt_after", "gone_after")
"""Kinds of cues that stand before a finding in a list, though behind it in a sentence."""
OF_CELLS = tuple(kind for kind in CUES if kind != "nothing")
"""Kinds that turn a cell: in a list of terms, "other lesion" is one."""
SENTENCE = re.compile(r"[.;|\n]|(?<=\w\?)\s")
SHORT = re.compile(r"(?<![^\W_])([^\W\d_]|dd|evtl|susp|poss|prob|fragl|st|zust|verd)\.")
"""An abbreviation, whose stop ends no sentence: V.a., Z. n., evtl."""
ALIKE = 0.85
"""Likeness from which on a cell may be a misspelt rule."""
TOLD = 3
"""Distinct cells that a line on them shows."""
OPEN = ("doubt", "doubt_after", "either", "unassessed", "answer_maybe", "answer_nothing")
"""Kinds of cues that leave a finding open where the whole cell is one: fraglich, possible, nicht beurteilbar."""
UNCLEAR = frozenset({"maybe", "unclear", "unsure", "unklar", "unsicher", "dudoso", "incierto", "incerto", "incertain"})
"""Words of tables for the same that reports have not."""
WORDS = 3
"""Words of the longest of these cells."""
SHOWN = 20
"""Distinct cells of a column up to which they are shown; more may be identifiers."""


def state_of(rule: LabelRule, cell: str) -> int:
    """Return the state of one stripped cell, or OUTSIDE. Case, blanks and kinds of hyphen do not count.

    Numbers compare as numbers, also with a decimal comma: 1, 1.0, 1,0 and 01 are the same. OUTSIDE under `contains` is
    a cell whose sentence does not call the text present.
    """
    if rule.numeric is not None:
        for value, state in rule.numeric.items():
            if isinstance(value, str | float) and folded(str(value)) == folded(cell):  # such as nan
                return STATE_NAMES.index(state)
        if cell == "":
            return _code(rule.numeric.get("blank"))
        states = {float(value): state for value, state in rule.numeric.items() if value != "blank"}
        found = number(cell)
        return OUTSIDE if found is None else _code(states.get(found))
    if cell == "":
        return _code(rule.blank)
    if rule.equals is not None:
        return PRESENT if same(cell, rule.equals) else ABSENT
    if rule.contains is not None:
        return _contains(rule.contains, cell)
    assert rule.token is not None, "LabelRule.check lets exactly one kind through"
    token = rule.token
    return PRESENT if any(same(part, token) for part in cell.split(rule.separator)) else ABSENT


def same(cell: str, wanted: str) -> bool:
    """Whether a cell is a rule's text, or the same number."""
    if folded(cell) == folded(wanted):
        return True
    value = number(wanted)
    return value is not None and number(cell) == value


def _contains(wanted: str, cell: str) -> int:
    text, state = without_counts(folded(cell)), ABSENT
    plain, words = _words(wanted)
    cuts = list(SENTENCE.finditer(SHORT.sub(r"\1 ", text)))
    for found in words.finditer(text) if plain in text else ():
        start = max((cut.end() for cut in cuts if cut.end() <= found.start()), default=0)
        end = min((cut.start() for cut in cuts if cut.start() >= found.end()), default=len(text))
        before, after = text[start : found.start()], text[found.end() : end]
        # What is denied may be a list; a doubt, or another time, is of its own item: possible pneumonia, effusion.
        item = before.rpartition(",")[2], after.partition(",")[0]
        if BEFORE.search(before) or AFTER.search(after):
            return OUTSIDE
        if any("absent" in _states(before, after, rules) or _unsure(*item, rules) for rules in _languages()):
            return OUTSIDE
        state = PRESENT
    return state


def _states(before: str, after: str, rules: Rules) -> list[str]:
    return [one.state for one in said(f"{before} {MENTION} {after}", rules)]


def _unsure(before: str, after: str, rules: Rules) -> bool:
    """Whether what stands between two parts of a sentence is in a language not called present.

    It is denied, doubted, asked, or told of another time or person: Erguss: nein; V.a. Pneumonie; history of pneumonia.
    """
    if _states(before, after, rules) != ["present"]:
        return True
    # A report says that a finding is unlikely; a list may have it in front: unlikely effusion.
    backward = (cue for cue in rules.cues.found(flat(before)) if cue.what in FORE)
    return any(not before[cue.end :].strip(" :") for cue in backward)


@cache
def _languages() -> list[Rules]:
    """Of every language its cues, and MENTION as the one term; the terms of findings, which take long, are not read."""
    mention = Phrases([(MENTION, Term(MENTION, "terms", MENTION))], MENTION)
    return [Rules(code, read_cues(code, OF_CELLS, both=False), mention) for code in languages()]


@cache
def _words(wanted: str) -> tuple[str, re.Pattern[str]]:
    """A text, and what finds it where it begins and ends a word, or is its plural; some scripts have no words."""
    text = folded(wanted)
    spaced = all(unicodedata.category(letter) != "Lo" for letter in text)
    start = r"(?<![^\W_])" if spaced and text[0].isalnum() else ""
    end = r"(?:e?s)?(?![^\W\d_])" if spaced and text[-1].isalpha() else r"(?![0-9])" if text[-1].isdigit() else ""
    return text, re.compile(start + re.escape(text) + end)


def _code(word: str | None) -> int:
    return OUTSIDE if word is None else STATE_NAMES.index(word)


def states_of(rule: LabelRule, cells: Text) -> NDArray[np.int8]:
    """Return int8 [N] with the state of every cell, or OUTSIDE; each distinct cell is judged once."""
    codes, distinct = pd.factorize(cells)
    return np.array([state_of(rule, cell) for cell in distinct], dtype=np.int8)[codes]


def remarks(rule: LabelRule, cells: Text, key: str, quoted: Callable[[str], str]) -> list[str]:
    """Return lines on what a rule of text made of the cells of its column, where that may not be what was meant.

    Args:
        quoted: a cell as it may be shown.

    Raises:
        InputError: the rule matches no cell, and one is so like it that one of the two must be misspelt.
    """
    kind = next((kind for kind in ("equals", "contains", "token") if getattr(rule, kind) is not None), None)
    if kind is None:
        return []
    wanted, lines = getattr(rule, kind), []
    parts: dict[str, int] = {}
    for cell, count in pd.Series(cells).value_counts().items():
        for part in str(cell).split(rule.separator) if kind == "token" else [str(cell)]:
            parts[stripped(part)] = parts.get(stripped(part), 0) + int(count)
    parts.pop("", None)
    inside = [part for part in parts if kind != "contains" or folded(wanted) in folded(part)]
    matched = {part for part in inside if state_of(rule, part) != ABSENT}
    rest = [part for part in inside if part not in matched]

    def tell(some: list[str], what: str) -> None:
        if some:
            shown = ", ".join(dict.fromkeys(map(quoted, some[:TOLD])))
            lines.append(f"{key}: {sum(parts[part] for part in some)} cell(s), such as {shown}, {what}")

    if kind == "contains":
        tell(rest, f"hold '{wanted}' only inside a longer word and count as absent")
    else:
        like = [part for part in rest if _like(part, wanted)]
        if like and not matched:
            raise InputError(
                f"{key}.{kind}: no cell of column '{rule.column}' is '{wanted}'; nearest is {quoted(like[0])}"
            )
        tell([part for part in matched if part != wanted], f"are written otherwise and count as '{wanted}'")
        tell(like, f"are not '{wanted}', though like it, and count as absent")
        others = [part for part in rest if part not in like and number(part) is None]
        longer = dict.fromkeys(part for part in others if _words(wanted)[1].search(folded(part)))
        tell(list(longer), f"hold '{wanted}' beside other text and count as absent")
        unsettled = [part for part in others if kind == "equals" and part not in longer and _leaves_open(part)]
        tell(unsettled, "leave the finding open and count as absent")
    if parts and not matched:
        shown = ", ".join(dict.fromkeys(map(quoted, parts))) if len(parts) <= SHOWN else "many values"
        lines.append(f"{key}.{kind}: no cell of column '{rule.column}' has '{wanted}' (it holds {shown})")
    return lines


def _leaves_open(cell: str) -> bool:
    """Whether a cell says nothing but that the finding is in doubt or was not judged, in some language."""
    text = flat(cell).strip(" ().:?")
    return text in UNCLEAR or any(
        cue.end - cue.start == len(text)
        for cues in (_open_cues() if 0 < len(text.split()) <= WORDS else ()) for cue in cues.found(text)
    )  # fmt: skip


@cache
def _open_cues() -> list[Phrases]:
    return [read_cues(code, OPEN) for code in languages()]


def _like(cell: str, wanted: str) -> bool:
    """Whether one may be the other misspelt: other numbers are meant to differ."""
    if abs(len(cell) - len(wanted)) > 5 or re.findall(r"[0-9]+", cell) != re.findall(r"[0-9]+", wanted):
        return False
    one, other = (re.sub(r"[\W_]+", "", folded(text)) for text in (cell, wanted))
    return difflib.SequenceMatcher(None, one, other).ratio() >= ALIKE
