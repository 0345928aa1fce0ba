"""The training text of a report: the wanted sections on one line, in which each statement ends as a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from data_modules.labelling.labeller import Labeller
from data_modules.labelling.sentences import closed
from data_modules.reports import FINDINGS, clean, lines, sections, without_heading


def select(text: str, wanted: list[str]) -> str:
    """Return the cleaned text of the wanted sections, joined in that order; an addendum follows the impression.

    A report without headings is used whole. One with headings but none of the wanted sections gives its findings, its
    impression, an addendum, a wet read or its last paragraph, whichever is there first: never empty because of a
    missing heading alone. A line that ends a statement gets a stop, and so does a section before the next, so that
    the text has the sentences that labels are read from.
    """
    found = sections(text)
    late = ["addendum"] if "impression" in wanted else []
    chosen = [found[name] for name in dict.fromkeys([*wanted, *late]) if name in found]
    for name in (FINDINGS, "impression", "addendum", "wet read"):
        if not chosen and name in found:
            chosen = [found[name]]
    if not chosen:
        text = lines(text)
        last = [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()][-1:]
        chosen = [text] if found.keys() <= {""} else [without_heading(part) for part in last]
    return _on_one_line(chosen, text)


def _on_one_line(bodies: Iterable[str], text: str) -> str:
    cleaned = (clean(closed(body, lambda: _labeller().language(text) == "de")) for body in bodies)
    parts = [part for part in cleaned if part]  # placeholders alone, such as "none", leave nothing
    ended = (part if part.endswith((".", "!", "?", ":", ";")) else f"{part}." for part in parts[:-1])
    return " ".join([*ended, *parts[-1:]])


@cache
def _labeller() -> Labeller:
    return Labeller("chest_xray")
