"""The section `cnn` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass

from data_modules.corpus_config import in_range
from radz.config_checks import share


@dataclass
class CnnConfig:
    """The supervised reference network of `method: cnn`."""

    width: int = 32
    """channels of the first stage; the last has 8 times as many"""
    learning_rate: float = 2e-3
    """highest rate of AdamW"""
    weight_decay: float = 0.05
    dropout: float = 0.2
    """before the last layer"""
    warmup: float = 0.1
    """share of the steps over which the rate rises; then it falls to 0 as a cosine"""

    def __post_init__(self) -> None:
        in_range("cnn.width", self.width, 1)
        for key in ("learning_rate", "weight_decay"):
            in_range(f"cnn.{key}", getattr(self, key), 0)
        for key in ("dropout", "warmup"):
            share(f"cnn.{key}", getattr(self, key))
