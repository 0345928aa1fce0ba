"""A small experiment file, and the one line that a fault of one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data_modules.errors import InputError
from radz.config.files import load_experiment

Write = Callable[..., str]
MINIMAL = """
backbone: {tiny: {image_size: 128}}
data: {image_size: 128, corpora: [{reader: phantom}]}
trainer: {max_epochs: 1}
"""


def fault(name: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_experiment(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)
