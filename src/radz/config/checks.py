"""Checks that the sections of the schema share, most of them named in the type of a field: `Annotated[int, check]`."""

from __future__ import annotations

import math
import string
import typing
from collections import Counter
from collections.abc import Callable, Collection
from typing import Annotated, Any

from data_modules.config import DataConfig
from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology, ontology

Check = Callable[[str, Any], None]
"""takes the key and its value; InputError naming the key where the value cannot be used"""


def above_zero(key: str, value: float) -> None:
    """A finite number greater than 0."""
    if not 0 < value < math.inf:
        raise InputError(f"{key}={value}: must be above 0")


def below_one(key: str, value: float) -> None:
    """A number of at least 0 and below 1."""
    if not 0 <= value < 1:
        raise InputError(f"{key}={value}: must be at least 0 and below 1")


def up_to_one(key: str, value: float) -> None:
    """A number from 0 to 1."""
    if not 0 <= value <= 1:
        raise InputError(f"{key}: {value} must lie between 0 and 1")


def seed_range(key: str, value: int) -> None:
    """A seed that all generators take."""
    in_range(key, value, 0, 2**32 - 1)


def at_least(low: int) -> Check:
    """A number from `low`."""
    return lambda key, value: in_range(key, value, low)


def words(*allowed: str) -> Check:
    """One of these words."""
    return lambda key, value: one_of(key, value, allowed)


def template(*known: str, needs: str = "") -> Check:
    """Only {placeholders} that will be filled, and the one that it `needs`."""

    def check(key: str, text: str) -> None:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        except ValueError as error:
            raise InputError(f"{key}: {text!r}: {error}; write {{{{ for a brace") from None
        for name in names:
            if name not in known:
                allowed = ", ".join(f"{{{placeholder}}}" for placeholder in known)
                raise InputError(f"{key}: {text!r}: unknown placeholder {{{name}}}; allowed: {allowed}")
        if needs and f"{{{needs}}}" not in text:
            raise InputError(f"{key}: must contain {{{needs}}}")

    return check


def prompt(key: str, text: str) -> None:
    """A prompt of a finding: not empty, with placeholders that will be filled."""
    template("finding", "Finding", "modality")(key, text)
    if not text.strip():
        raise InputError(f"{key}: an empty prompt; write a sentence or leave it out")


Count = Annotated[int, at_least(1)]
NotNegative = Annotated[float, at_least(0)]
Positive = Annotated[float, above_zero]
Share = Annotated[float, below_one]
Seed = Annotated[int, seed_range]


def check_fields(prefix: str, section: object) -> None:
    """What the types of a section's fields ask of their values, of a list's one by one; None passes.

    Args:
        prefix: where the section stands, such as `dfat.`; "" at the top.
    """
    for name, kind in typing.get_type_hints(type(section), include_extras=True).items():
        value, in_list = getattr(section, name), typing.get_origin(kind) is list
        item_kind = typing.get_args(kind)[0] if in_list else kind
        for check in getattr(item_kind, "__metadata__", ()):
            for item in value if in_list else [value]:
                if item is not None:
                    check(prefix + name, item)


def check_heads(prefix: str, tiny: Any) -> None:
    """Hidden sizes of a tiny model that its heads share evenly; rotary positions need an even size of each head."""
    for key in ("vision_width", "width"):
        if getattr(tiny, key) % (2 * tiny.heads):
            raise InputError(f"{prefix}{key}: must be a multiple of {2 * tiny.heads} (twice the heads)")


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
    full = [known[name].name for name in names]
    for name, times in Counter(full).items():
        if times > 1:
            raise InputError(f"{key}: {times} entries are the same finding, {name}; keep one")
    return full
