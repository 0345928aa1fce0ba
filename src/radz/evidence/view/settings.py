"""Keys of `radz view`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_modules.config import SPLITS
from data_modules.corpus_config import one_of
from data_modules.errors import InputError
from data_modules.keys import Reader, folder, names, read_keys, whole

OF_FOLDER, OF_RUN = ("findings", "studies", "corpus"), ("split",)
"""keys that mean something only with `input`, and only without it"""
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class ViewSettings:
    """Keys of `radz view RUN key=value ..`."""

    input: Path | None = None
    """folder of images; None: the studies of the run itself"""
    split: str = "test"
    """studies of the run that are shown"""
    findings: list[str] = field(default_factory=list)
    """to score in `input`; empty: those of the bank"""
    studies: str | None = None
    """which files of `input` are one study, as for `radz predict`"""
    corpus: str | None = None
    """whose validation gives the thresholds for `input`, where the run has several of a modality"""
    port: int = 0
    """0: any that is free"""
    device: str | None = None


def read_settings(items: Sequence[str]) -> tuple[ViewSettings, list[str]]:
    """Settings from key=value items, and those items that say where the run's data lie (`data.`, `cache_dir`).

    Raises:
        InputError: an unknown key, a value of another kind, or keys that do not go together.
    """
    readers: dict[str, Reader] = {
        "input": folder, "split": str, "findings": names, "studies": str, "corpus": str, "port": whole(0),
        "device": str,
    }  # fmt: skip
    keys, overrides = read_keys(items, readers, overrides=("data", "cache_dir"))
    settings = ViewSettings(**keys)
    one_of("split", settings.split, SPLITS)
    if settings.port > HIGHEST_PORT:
        raise InputError(f"port: {settings.port} is no port; give one up to {HIGHEST_PORT}, or 0 for any that is free")
    for key in OF_FOLDER if settings.input is None else OF_RUN:
        if key in keys:
            raise InputError(f"{key}: is read only {'with' if settings.input is None else 'without'} input=FOLDER")
    if settings.input is not None and overrides:
        raise InputError(f"{overrides[0]}: is read only without input=FOLDER, which has no corpus")
    return settings, overrides
