"""Every number of an experiment is finite, whatever rule its key has."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from data_modules.errors import InputError
from radz.config.files import from_plain, load_experiment
from radz.config.overrides import _bare
from radz.config.schema import Experiment


def float_keys(section: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all numbers that need not be whole; a place in each list and map of them."""
    for name, kind in typing.get_type_hints(section).items():
        kind, key = _bare(kind), f"{prefix}{name}"
        inner = typing.get_args(kind)
        if dataclasses.is_dataclass(kind):
            yield from float_keys(kind, f"{key}.")
        elif typing.get_origin(kind) is list and dataclasses.is_dataclass(inner[0]):
            yield from float_keys(inner[0], f"{key}.0.")
        elif kind is float or (typing.get_origin(kind) is list and inner[0] is float):
            yield key if kind is float else f"{key}.0"
        elif typing.get_origin(kind) is dict and inner[1] is float:
            yield f"{key}.edema"


KEYS = list(float_keys(Experiment))


@pytest.mark.parametrize(
    "value", [".nan", *(pytest.param(one, marks=pytest.mark.slow) for one in ("inf", "-.inf", "1e999"))]
)
@pytest.mark.parametrize("key", KEYS)
def test_a_number_that_is_not_finite_is_one_line(key: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        whole = key.removesuffix(".0")
        load_experiment("demo", [f"{whole}={value}" if key == whole else f"{whole}=[{value}]"])
    told = str(caught.value)
    assert told.startswith(f"{key}=") and told.endswith(": must be a finite number (in the command line)")


def test_the_keys_are_found() -> None:
    assert {"dfat.sentences_weight", "dfat.learning_rate", "data.augment.scale.0", "scoring.frequency_limits.0",
            "data.corpora.0.split_fractions.train", "data.corpora.0.phantom.rare.edema"} <= {*KEYS}  # fmt: skip


def test_a_number_of_plain_values_too() -> None:
    with pytest.raises(InputError, match=r"dfat\.keep_weight=nan: must be a finite number \(in there\)"):
        from_plain({"dfat": {"keep_weight": float("nan")}, "data": {"corpora": [{"reader": "phantom"}]}}, "there")
