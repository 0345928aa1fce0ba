"""Label rules: the cells of one column -> the four states of one finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.corpus_config import LabelRule
from data_modules.findings import ABSENT, PRESENT, STATE_NAMES
from data_modules.study import Text

OUTSIDE = -1
"""Not a state: the cell is outside the coding."""


def state_of(rule: LabelRule, cell: str) -> int:
    """Return the state of one stripped cell, or OUTSIDE. Numbers compare as numbers: 1, 1.0 and 01 are the same."""
    if rule.numeric is not None:
        if cell == "":
            return _code(rule.numeric.get("blank"))
        try:
            number = float(cell)
        except ValueError:
            return OUTSIDE
        states = {float(value): state for value, state in rule.numeric.items() if value != "blank"}
        return _code(states.get(number))
    if cell == "":
        return _code(rule.blank)
    if rule.equals is not None:
        return PRESENT if cell == rule.equals.strip() else ABSENT
    if rule.contains is not None:
        return PRESENT if rule.contains in cell else ABSENT
    assert rule.token is not None, "LabelRule.check lets exactly one kind through"
    return PRESENT if rule.token.strip() in [part.strip() for part in cell.split(rule.separator)] else ABSENT


def _code(word: str | None) -> int:
    return OUTSIDE if word is None else STATE_NAMES.index(word)


def states_of(rule: LabelRule, cells: Text) -> NDArray[np.int8]:
    """Return int8 [N] with the state of every cell, or OUTSIDE; each distinct cell is judged once."""
    codes, distinct = pd.factorize(cells)
    return np.array([state_of(rule, cell) for cell in distinct], dtype=np.int8)[codes]
