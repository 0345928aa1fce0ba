"""Label lists: the terms of one cell -> one column for every finding that a corpus can label with them.

A finding is absent only where every term of the study is known and none of them proves it or leaves it open.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

import pandas as pd

from data_modules.corpus_config import LabelRule
from data_modules.findings import NO_FINDING, Ontology, vocabulary

log = logging.getLogger(__name__)
MALFORMED = "cannot be read"
"""What stands in the columns of a cell that does not parse: a value outside the coding."""
CODING = {1: "present", 0: "absent", "blank": "unmentioned"}
_WORD = re.compile(r"[^\W\d_]{4,}")


def plain(term: str) -> str:
    """Return a term without regard to case, spacing, hyphens and plural, each word by itself."""
    words = " ".join(re.sub(r"[-_\u2010\u2011]", " ", term.casefold()).split())
    return _WORD.sub(lambda match: _singular(match[0]), words)


def _singular(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word if word.endswith(("ss", "is", "us")) else word.removesuffix("s")


@dataclass(frozen=True)
class _Terms:
    """What the terms of a corpus, as of `plain`, say of each finding that it labels."""

    proving: dict[str, set[str]]
    disputed: dict[str, set[str]]
    abnormal: set[str]
    """Those that prove a pathology, or may."""
    known: set[str]
    silent: set[str]

    @classmethod
    def of(cls, corpus: str, ontology: Ontology, silent: Collection[str]) -> _Terms:
        proving = {name: {plain(term) for term in labels} for name, labels in ontology.labels(corpus).items()}
        disputed = {name: {plain(term) for term in found} for name, found in ontology.disputed(corpus).items()}
        either = {name: terms | disputed[name] for name, terms in proving.items()}
        abnormal = set().union(*(terms for name, terms in either.items() if ontology[name].pathology))
        if NO_FINDING in proving:  # a device is no disease, and no sign of health
            devices = (terms for name, terms in either.items() if not ontology[name].pathology and name != NO_FINDING)
            disputed[NO_FINDING] |= set().union(*devices)
        known = {term.partition("/")[0] for labels in either.values() for term in labels}
        known |= {plain(term) for term in (*vocabulary(corpus), *silent)}
        for finding in ontology:  # those of findings that the corpus does not label
            known |= {plain(label).partition("/")[0] for label in finding.aliases.get(corpus, {})}
        return cls(proving, disputed, abnormal, known, {plain(term) for term in silent})

    def word(self, finding: str, there: set[str] | None) -> str:
        """The cell of a finding's column, where the study has these terms."""
        if there is None:
            return MALFORMED
        proven = bool(there & self.proving[finding])
        if finding == NO_FINDING and there & self.abnormal:  # both at once is no statement
            return "" if proven else "0"
        if proven:
            return "1"
        unclear = there & (self.silent | self.disputed[finding]) or self.unknown(there)
        return "" if unclear or not there else "0"

    def unknown(self, there: set[str]) -> set[str]:
        """The terms that are not in the vocabulary."""
        return {term for term in there if "/" not in term} - self.known


def coded(
    cells: pd.Series, read: Callable[[str], Collection[str]], silent: Collection[str], corpus: str, ontology: Ontology
) -> tuple[pd.DataFrame, dict[str, LabelRule]]:
    """Return a column of 1, 0 and blank per finding, with the rows of `cells`, and the rules that read them.

    A finding without its term is absent, but unmentioned where the cell holds no term at all, one of `silent`, one that
    may mean the finding (a wider or a loose alias) or one that is not in the vocabulary, of which a warning tells.

    Args:
        cells: named strings.
        read: cell -> its terms, with qualifiers behind a slash; ValueError for a cell that does not parse.
    """
    codes, distinct = pd.factorize(cells)
    terms: list[set[str] | None] = []
    for cell in distinct:
        try:
            terms.append({plain(term) for term in read(cell)})
        except ValueError:
            terms.append(None)
    meaning = _Terms.of(corpus, ontology, silent)
    odd = pd.Series([bool(there and meaning.unknown(there)) for there in terms], dtype=bool).to_numpy()[codes]
    if odd.any():
        log.warning(
            "%s: %d row(s), the first row %s, hold a term of '%s' that is not in the vocabulary of the corpus; what "
            "their other terms do not prove is unmentioned there, not absent",
            corpus, int(odd.sum()), cells.index[odd][0], cells.name,
        )  # fmt: skip
    columns, rules = {}, {}
    for finding in meaning.proving:
        name = f"{cells.name}: {finding}"
        words = [meaning.word(finding, there) for there in terms]
        columns[name] = pd.Series(words, dtype=object).to_numpy()[codes]
        rules[finding] = LabelRule(name, numeric=dict(CODING))
    return pd.DataFrame(columns, index=cells.index), rules
