"""Label lists: the terms of one cell -> one column for every finding that a corpus can label with them."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pandas as pd

from data_modules.corpus_config import LabelRule
from data_modules.findings import Ontology

MALFORMED = "cannot be read"
"""What stands in the columns of a cell that does not parse: a value outside the coding."""
CODING = {1: "present", 0: "absent", "blank": "unmentioned"}


def proving(corpus: str, ontology: Ontology) -> dict[str, set[str]]:
    """Return finding -> case-folded terms of `corpus` that prove it.

    These are its exact and narrower aliases and those of the findings below it; a loose alias proves nothing. Findings
    without an alias of their own are left out: the corpus does not label them.
    """
    own = {
        finding.name: {
            term.casefold()
            for term, relation in finding.aliases.get(corpus, {}).items()
            if relation in ("exact", "child")
        }
        for finding in ontology
    }
    found = {name: set(terms) for name, terms in own.items() if terms}
    for name, terms in own.items():
        for ancestor in ontology.ancestors(name) & found.keys():
            found[ancestor] |= terms
    return found


def coded(
    cells: pd.Series, read: Callable[[str], Collection[str]], silent: Collection[str], corpus: str, ontology: Ontology
) -> tuple[pd.DataFrame, dict[str, LabelRule]]:
    """Return a column of 1, 0 and blank per finding, with the rows of `cells`, and the rules that read them.

    A finding without its term is absent, but unmentioned where a cell holds no term at all or one of `silent`.

    Args:
        cells: named strings.
        read: cell -> its case-folded terms; ValueError for a cell that does not parse.
    """
    codes, distinct = pd.factorize(cells)
    terms: list[set[str] | None] = []
    for cell in distinct:
        try:
            terms.append(set(read(cell)))
        except ValueError:
            terms.append(None)
    columns, rules = {}, {}
    for finding, wanted in proving(corpus, ontology).items():
        name = f"{cells.name}: {finding}"
        words = [_word(there, wanted, silent) for there in terms]
        columns[name] = pd.Series(words, dtype=object).to_numpy()[codes]
        rules[finding] = LabelRule(name, numeric=dict(CODING))
    return pd.DataFrame(columns, index=cells.index), rules


def _word(there: set[str] | None, wanted: set[str], silent: Collection[str]) -> str:
    if there is None:
        return MALFORMED
    if there & wanted:
        return "1"
    return "" if not there or there & set(silent) else "0"
