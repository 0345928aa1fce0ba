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
from data_modules.labelling.rules import Rules, Term, languages, read_cues
from data_modules.labelling.scopes import said
from data_modules.labelling.spelling import without_counts
from data_modules.study import Text

OUTSIDE = -1
"""Not a state: the cell is outside the coding."""
BEFORE = re.compile(
    r"\b(no|not|non|without|w/o|den(ies|ied|ying)|neg|negative|free of|absen(ce|t)|never|neither|nor|"
    r"rule[ds]? out|r/o|exclud(e[sd]?|ing)|resolved|kein\w*|ohne|nicht|pas|sans|sin|sem|senza|nessun\w*|"
    r"geen|niet|zonder)\b"
)
AFTER = re.compile(
    r"\b(negative|excluded|absent|ruled out|not|unlikely|resolved|ausgeschlossen|nicht|afwezig)\b|"
    r"^ ?[:=] ?(n|f|false)\b"
)
"""Words of a sentence that negate what stands after or before them; rather too many, since their cells are refused.

What else denies in the languages of `labelling/rules` is known from there.
"""
MENTION = "zzz"
"""stands for the text of a rule where those rules look at its sentence"""
SENTENCE = re.compile(r"[.;|\n]")
ALIKE = 0.85
"""Likeness from which on a cell may be a misspelt rule."""
SHOWN = 20
"""Distinct cells of a column up to which they are shown; more may be identifiers."""


def state_of(rule: LabelRule, cell: str) -> int:
    """Return the state of one stripped cell, or OUTSIDE. Case, blanks and kinds of hyphen do not count.

    Numbers compare as numbers, also with a decimal comma: 1, 1.0, 1,0 and 01 are the same. OUTSIDE under `contains` is
    a cell whose sentence negates the text.
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
    for found in words.finditer(text) if plain in text else ():
        before, after = SENTENCE.split(text[: found.start()])[-1], SENTENCE.split(text[found.end() :])[0]
        if BEFORE.search(before) or AFTER.search(after) or any(_denied(before, after, rules) for rules in _languages()):
            return OUTSIDE
        state = PRESENT
    return state


def _denied(before: str, after: str, rules: Rules) -> bool:
    """Whether what stands between two parts of a sentence is denied in a language: Erguss: nein; aucun épanchement."""
    if any(one.state == "absent" for one in said(f"{before} {MENTION} {after}", rules)):
        return True
    # A report says that a finding is unlikely; a list may have it in front: unlikely effusion.
    backward = (cue for cue in rules.cues.found(flat(before)) if cue.what in ("denied_after", "gone_after"))
    return any(not before[cue.end :].strip(" :") for cue in backward)


@cache
def _languages() -> list[Rules]:
    """Of every language its cues, and MENTION as the one term; the terms of findings, which take long, are not read."""
    mention = Phrases([(MENTION, Term(MENTION, "terms", MENTION))], MENTION)
    return [Rules(code, read_cues(code), mention) for code in languages()]


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
            lines.append(f"{key}: {sum(parts[part] for part in some)} cell(s), such as {quoted(some[0])}, {what}")

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
    if parts and not matched:
        shown = ", ".join(dict.fromkeys(map(quoted, parts))) if len(parts) <= SHOWN else "many values"
        lines.append(f"{key}.{kind}: no cell of column '{rule.column}' has '{wanted}' (it holds {shown})")
    return lines


def _like(cell: str, wanted: str) -> bool:
    """Whether one may be the other misspelt: other numbers are meant to differ."""
    if abs(len(cell) - len(wanted)) > 5 or re.findall(r"[0-9]+", cell) != re.findall(r"[0-9]+", wanted):
        return False
    one, other = (re.sub(r"[\W_]+", "", folded(text)) for text in (cell, wanted))
    return difflib.SequenceMatcher(None, one, other).ratio() >= ALIKE
