"""The one exception for faults that a user can cause, and the hint that names the nearest known word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input is at fault. The text is one line: what, where (file, row, key), what to do.

    `help`: further lines for those who begin; empty where the line says all.
    """

    def __init__(self, text: str, help: str = "") -> None:
        super().__init__(text)
        self.help = help


class MissingCorpus(InputError):
    """The data of a corpus are not where the experiment says (or no place was given).

    `help` tells where the corpus is had and how its folder looks; empty where nothing is known of it.
    """


class OtherKind(InputError):
    """A file says of itself that it is of another kind than what was asked for.

    `reason`: what it says, without its name.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


def nearest(word: str, known: Iterable[object]) -> str:
    """Return ``"; nearest is 'x'"`` for the known name most like `word`, or the known names when none is alike."""
    names = [str(name) for name in known]
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.5)
    if close:
        return f"; nearest is '{folded[close[0]]}'"
    return f"; known are {', '.join(sorted(names)[:20])}" if names else ""
