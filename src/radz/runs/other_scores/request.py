"""What the user of `radz score` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_modules.corpus_config import one_of
from radz.runs.other_scores.sheet import Named


@dataclass(frozen=True)
class Request:
    """What is to be scored. None leaves a choice to the files and the protocol."""

    scores: Path
    out: Path
    labels: Path | None = None
    """None: the labels of the prediction file itself"""
    val: Path | None = None
    """scores of validation, for thresholds and calibration"""
    val_labels: Path | None = None
    protocol: str | None = None
    scorer: str | None = None
    """name of the model; where the table names several, the headline"""
    corpus: str | None = None
    """name in results, by which `radz compare` finds the same studies in runs"""
    primary: Sequence[str] = ()
    """findings of the macro"""
    named: Named = field(default_factory=Named)
    unmatched: str = "error"
    """error or skip: scores without labels, and labels without scores"""
    replicates: int | None = None
    seed: int | None = None
    cache_dir: Path = Path(".cache/radz")
    """holds the salt of hashed patients"""

    def __post_init__(self) -> None:
        one_of("unmatched", self.unmatched, ("error", "skip"))
