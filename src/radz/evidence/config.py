"""Settings of `radz evidence`; numbers of studies bound time and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from data_modules.corpus_config import SPLITS, in_range, one_of
from data_modules.errors import InputError
from data_modules.keys import Reader, names, read_keys
from radz.config.checks import seed_range
from radz.config.reasons import place

ITEMS = ("heatmaps", "phrases", "layers", "words", "sentences", "robustness", "features", "attention", "fewshot")
FITTED = ("layers", "fewshot")
"""items that are fitted on training studies, and so say nothing of those"""


@dataclass
class EvidenceConfig:
    """Keys of `radz evidence RUN key=value ...`."""

    only: list[str] = field(default_factory=list)
    """items to compute; empty: all of ITEMS, phrases only where their file is given, FITTED not of split=train"""
    split: str = "test"
    """studies that are looked at"""
    studies: int = 400
    """studies of the split for probes, feature maps and few shots, drawn by the seed"""
    train_studies: int = 1000
    """training studies that linear probes are fitted on and shots are drawn from"""
    draws: int = 5
    """draws of the shots of each finding"""
    heatmap_studies: int = 120
    """studies of each modality whose heat-maps are measured against marks, and studies whose phrases are"""
    phrases: str = ""
    """your copy of the list of MS-CXR (.csv or .json) or PadChest-GR (.json): phrases with boxes"""
    robustness_studies: int = 200
    """studies that are scored anew under every fault of the image (29 times in all)"""
    attention_studies: int = 64
    """studies whose attention is averaged"""
    batch_size: int = 8
    """studies together; attention matrices of all layers are kept for so many"""
    overlays: int = 3
    """pictures of each finding"""
    dicom: bool = True
    """write the overlays also as DICOM secondary captures"""
    target: str = "headline"
    """what patches are compared with: anchor, prompt, or headline (anchor under that scorer, else prompt)"""
    probe_strength: float = 0.01
    """inverse regularisation C of the probes and of regressions on few shots, on standardised features"""
    paraphrases: str = "prompts/paraphrases.yaml"
    """file of prompts in other words: a path, or a path below the experiments folder"""
    replicates: int = 1000
    """bootstrap replicates, by patient"""
    seed: int = 0
    """of every draw"""

    def __post_init__(self) -> None:
        for item in self.only:
            one_of("only", item, ITEMS)
        if "phrases" in self.only and not self.phrases:
            raise InputError(
                "phrases: only=phrases needs phrases=FILE, your copy of the list of MS-CXR (.csv or .json) or of "
                "PadChest-GR (.json)"
            )
        one_of("split", self.split, SPLITS)
        if self.split == "train" and (fitted := [item for item in self.only if item in FITTED]):
            raise InputError(
                f"split: {' and '.join(fitted)} would be scored on the training studies that they are fitted on; "
                "give split=val or test, or leave them out of only="
            )
        one_of("target", self.target, ("headline", "anchor", "prompt"))
        studies = ("studies", "train_studies", "heatmap_studies", "robustness_studies", "attention_studies")
        lowest = {**dict.fromkeys(studies, 4), "batch_size": 1, "overlays": 1, "draws": 1, "replicates": 100}
        for key, low in lowest.items():
            in_range(key, getattr(self, key), low)
        if not 0 < self.probe_strength < math.inf:
            raise InputError(f"probe_strength: {self.probe_strength} must be a finite number above 0")
        seed_range("seed", self.seed)

    @property
    def items(self) -> list[str]:
        """What is computed, in order."""
        out = {*(FITTED if self.split == "train" else ()), *(() if self.phrases else ("phrases",))}
        return self.only or [item for item in ITEMS if item not in out]


def read_settings(items: Sequence[str]) -> tuple[EvidenceConfig, list[str]]:
    """Settings from key=value items, and those items that are overrides of the experiment (`data.`, `cache_dir`, ..).

    Raises:
        InputError: a key that is neither, or a value of another kind.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    readers: dict[str, Reader] = dict.fromkeys((key.name for key in fields(EvidenceConfig)), str)
    of_experiment = ("data", "cache_dir", "backbone", "scoring")
    own, overrides = read_keys(items, {**readers, "only": names}, overrides=of_experiment)
    try:
        merged: Any = OmegaConf.merge(OmegaConf.structured(EvidenceConfig), own)
        return OmegaConf.to_object(merged), overrides  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        key, reason = place(error)
        raise InputError(f"{key}: {reason}") from None
