"""radz's labeller beside medspaCy's ConText (Eyre et al., arXiv 2106.07799) on one table: F1 of present, speed.

    pip install medspacy    (an environment of its own: it pins old versions)
    python -m benchmarks.labels TABLE.csv TEXT_COLUMN chest_ct|chest_xray FINDING=COLUMN ..

Both find the words that radz's ontology and rules name as plain words; medspaCy's own rules of negation, doubt, history
and family decide what is present, in sentences of its own splitter. One process each, on the same reports.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.findings import ontology
from data_modules.labelling.labeller import Labeller
from data_modules.labelling.rules import _file, readable

Label = Callable[[str], set[str]]
"""A report to the findings that it calls present."""


def keywords(findings: Sequence[str]) -> dict[str, list[str]]:
    """Plain words of each finding: its name, and every phrase of the English rules that is nothing but words."""
    known, rules = readable(ontology()), _file("en_findings.yaml")["findings"]
    found = {}
    for finding in findings:
        phrases = [finding.replace("_", " "), known[finding].text, *rules[finding].get("terms", ())]
        for pair in rules[finding].get("near", ()):
            phrases += pair["words"]
        plain = [word for phrase in phrases for word in _alternatives(phrase)]
        found[finding] = list(dict.fromkeys(plain))
    return found


def _alternatives(phrase: str) -> list[str]:
    """`(a|b) c` as [a c, b c]; nothing of a phrase with a stem, an optional word or a gap."""
    if any(sign in phrase for sign in "*<") or ".." in phrase:
        return []
    parts = [""]
    for part in re.findall(r"\([^)]*\)|[^\s()]+", phrase):
        parts = [f"{begun} {word}".strip() for begun in parts for word in part.strip("()").split("|")]
    return parts


def of_medspacy(words: Mapping[str, Sequence[str]]) -> Label:
    """medspaCy's default pipeline with these words as targets, and their English plurals."""
    import medspacy
    from loguru import logger
    from medspacy.ner import TargetRule

    logger.remove()  # its sentence splitter logs every token, which would be most of its time
    nlp = medspacy.load()
    matcher = nlp.get_pipe("medspacy_target_matcher")
    matcher.add([TargetRule(form, finding) for finding, some in words.items() for word in some
                 for form in (word, f"{word}s")])  # fmt: skip

    def label(report: str) -> set[str]:
        marks = ("is_negated", "is_uncertain", "is_historical", "is_hypothetical", "is_family")
        return {one.label_ for one in nlp(report).ents if not any(getattr(one._, mark) for mark in marks)}

    return label


def of_radz(modality: str) -> Label:
    """The labeller, doubt counted as not present."""
    labeller = Labeller(modality)
    return lambda report: {name for name, proof in labeller.label(report).items() if proof.state == "present"}


def compare(table: Path, text: str, modality: str, columns: Mapping[str, str]) -> None:
    """Print F1 per finding and the time of each."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    truth = {finding: (frame[column] == "1").to_numpy() for finding, column in columns.items()}
    scores, rates = {}, {}
    for name, label in (("radz", of_radz(modality)), ("medspaCy", of_medspacy(keywords(list(columns))))):
        begun = time.process_time()
        found = [label(report) for report in frame[text]]
        rates[name] = len(frame) / (time.process_time() - begun)
        said = {finding: np.array([finding in one for one in found]) for finding in columns}
        scores[name] = {k: 2 * (said[k] & truth[k]).sum() / max(1, said[k].sum() + truth[k].sum()) for k in columns}
    print(pd.DataFrame(scores).round(3).to_string())
    print("macro", {name: round(float(np.mean(list(of.values()))), 3) for name, of in scores.items()})
    print("reports per processor second", {name: round(rate, 1) for name, rate in rates.items()},
          "ratio", round(rates["radz"] / rates["medspaCy"], 1))  # fmt: skip


if __name__ == "__main__":
    compare(Path(sys.argv[1]), sys.argv[2], sys.argv[3], dict(word.split("=", 1) for word in sys.argv[4:]))
