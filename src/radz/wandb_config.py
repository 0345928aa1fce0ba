"""The W&B section of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.corpus_config import one_of


@dataclass
class WandbConfig:
    """Weights & Biases; metrics.csv is written whatever is chosen here."""

    mode: str = "auto"
    """auto (online when an account is configured, else offline) | online | offline | disabled"""
    project: str = "radz"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    images: bool = False
    """send pictures of single cases; radiographs leave the machine then"""
    artifacts: bool = False
    """send the trained weights (never the frozen backbone) and the anchor bank; mind the terms of the corpora"""

    def __post_init__(self) -> None:
        one_of("wandb.mode", self.mode, ("auto", "online", "offline", "disabled"))
