"""A trainer of Lightning that writes and shows nothing."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def plain_trainer(**settings: Any) -> Trainer:
    """On the CPU, unless `settings` say otherwise."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(**{"accelerator": "cpu", **quiet, **settings})
