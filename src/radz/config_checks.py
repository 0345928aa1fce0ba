"""Checks that several sections of the schema share; each raises InputError naming the key."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Collection

from data_modules.config import DataConfig
from data_modules.corpus_config import in_range
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology, ontology


def above_zero(key: str, value: float) -> None:
    """A finite number greater than 0."""
    if not 0 < value < math.inf:
        raise InputError(f"{key}={value}: must be above 0")


def share(key: str, value: float) -> None:
    """A number of at least 0 and below 1."""
    if not 0 <= value < 1:
        raise InputError(f"{key}={value}: must be at least 0 and below 1")


def seed_range(key: str, value: int) -> None:
    """A seed that all generators take."""
    in_range(key, value, 0, 2**32 - 1)


def placeholders(key: str, text: str, known: Collection[str]) -> None:
    """Only {placeholders} that will be filled."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise InputError(f"{key}: {text!r}: {error}; write {{{{ for a brace") from None
    for name in names:
        if name not in known:
            allowed = ", ".join(f"{{{one}}}" for one in known)
            raise InputError(f"{key}: {text!r}: unknown placeholder {{{name}}}; allowed: {allowed}")


def sentences(key: str, prompts: Collection[str]) -> None:
    """Prompts that are not empty, with placeholders that will be filled."""
    for prompt in prompts:
        placeholders(key, prompt, ("finding", "Finding", "modality"))
        if not prompt.strip():
            raise InputError(f"{key}: an empty prompt; write a sentence or leave it out")


def known_findings(data: DataConfig) -> Ontology:
    """The ontology with the findings that the corpora add."""
    known = ontology()
    for number, corpus in enumerate(data.corpora):
        known = known.extended(corpus.findings, f"data.corpora.{number}.findings", corpus.reader)
    return known


def canonical(key: str, names: Collection[str], known: Ontology) -> list[str]:
    """Short names as canonical ones; InputError for an unknown name or one that stands twice."""
    for name in names:
        if name not in known:
            raise InputError(f"{key}: unknown finding '{name}'{nearest(name, known.names)}")
    found = [known[name].name for name in names]
    for name, times in Counter(found).items():
        if times > 1:
            raise InputError(f"{key}: {times} entries are the same finding, {name}; keep one")
    return found
