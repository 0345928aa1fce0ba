"""A report with the words marked that prove its labels."""

from __future__ import annotations

import itertools
import re
from typing import Any

from data_modules.labelling.labeller import Labeller, Proof
from radz.report.figures import plain


def marked_report(report: str, labeller: Labeller) -> dict[str, Any]:
    """For JSON: the parts of a report in order, with what is said where, and every finding that it speaks of.

    `parts` joined are the report. A part within a sentence that proves has `sentence`; one of its words that prove has
    the findings too.
    """
    proofs = list(labeller.label(report).values())
    spans: list[tuple[int, int, Proof]] = []
    sentences: list[tuple[int, int]] = []
    for proof in proofs:
        if (sentence := _place(proof.sentence, report, 0)) is not None:
            sentences.append(sentence)
            words = _place(proof.words, report[: sentence[1]], sentence[0])
            spans += [(*words, proof)] if words is not None else []
    cuts = sorted({0, len(report), *(end for span in [*sentences, *(span[:2] for span in spans)] for end in span)})
    parts = []
    for start, end in itertools.pairwise(cuts):
        of = [proof for first, last, proof in spans if first <= start and end <= last]
        parts.append({
            "text": report[start:end],
            "sentence": any(first <= start and end <= last for first, last in sentences),
            "says": [{"finding": proof.finding, "state": proof.state} for proof in of],
        })  # fmt: skip
    found = [
        {"finding": proof.finding, "text": plain(proof.finding), "state": proof.state, "sentence": proof.sentence}
        for proof in proofs
    ]
    return {"parts": parts, "proofs": found}


def _place(words: str, text: str, start: int) -> tuple[int, int] | None:
    """Where words stand in a text from `start` on, whatever blanks are between them."""
    if not words.split():
        return None
    match = re.compile(r"\s+".join(map(re.escape, words.split()))).search(text, start)
    return match.span() if match else None
