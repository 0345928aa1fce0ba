"""Scores of a folder, kept beside its table while it is scored: a command that was cut off goes on behind them."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, TextIO

import torch

from data_modules.counting import counted
from data_modules.disk import CannotWrite, writing
from data_modules.errors import InputError
from data_modules.files import behind
from data_modules.lock import locked
from data_modules.parsing import parse_json
from radz.inference.engine import BATCH, Radz
from radz.inference.scope import Verdict
from radz.inference.studies import Study, batches
from radz.methods.trained import run_digest
from radz.version import __version__

log = logging.getLogger(__name__)
Row = tuple[Study, str, Verdict, list[float]]
"""as of `predict.scored`"""


class Kept:
    """A line of JSON for each study in their order, under one that says of what they are; see `kept_rows`."""

    def __init__(self, path: Path, studies: Sequence[Study], stream: TextIO) -> None:
        self._path, self._studies, self._stream = path, studies, stream

    def add(self, error: str, verdict: Verdict, scores: list[float]) -> None:
        """The row of the next study."""
        self._stream.write(json.dumps([error, astuple(verdict), scores]) + "\n")

    def __iter__(self) -> Iterator[Row]:
        """The rows so far."""
        with self._path.open(encoding="utf-8") as lines:
            next(lines)
            for study, line in zip(self._studies, lines, strict=False):
                error, verdict, scores = parse_json(line)
                yield study, error, Verdict(*verdict), scores


@contextmanager
def kept_rows(table: Path, about: str, studies: Sequence[Study]) -> Iterator[tuple[Kept, list[Study]]]:
    """Rows of studies beside a table that is to be made, and the studies that have none yet.

    Rows of an earlier command stay where `about` is the same, as far as they are whole batches: what else is in a batch
    may touch the last digits of a score. They are removed when the block ends, and stay when it is cut off.

    Raises:
        InputError: another command makes the table.
    """
    table = behind(table)
    path = table.with_name(f".{table.name}.part")
    with writing(table), locked(path.with_name(f"{path.name}.lock"), wait=False):
        old = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        lines = old[1:] if old and old[0] == f"{about}\n" else []
        known = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("[") and line.endswith("]\n"), lines))
        done = 0
        for part in batches(studies, BATCH):
            if done + len(part) > known:
                break
            done += len(part)
        if done:
            log.info("%s scored by a command that was cut off; it goes on behind them", counted(done, "study"))
        try:
            with path.open("w", encoding="utf-8", buffering=1) as stream:
                stream.writelines([f"{about}\n", *lines[:done]])
                yield Kept(path, studies, stream), list(studies[done:])
        except InputError as error:
            if not isinstance(error, CannotWrite):
                path.unlink()
            raise
        path.unlink()


def digest_of(model: Radz, run: str, names: Sequence[str], studies: Sequence[Study], *more: Any) -> str:
    """Of all that scores depend on: the run, its weights and device, findings, and the files by size and time."""
    folder = Path(run).expanduser()
    weights = sorted(path for path in folder.rglob("*") if path.suffix in (".ckpt", ".safetensors"))
    scoring = model.experiment.scoring
    about = [
        __version__, torch.__version__, model.device, run_digest(folder), scoring.headline, scoring.aggregate,
        [_stamp(path) for path in weights], names,
        [(study.name, [_stamp(path) for path in study.files]) for study in studies], more,
    ]  # fmt: skip
    return hashlib.blake2b(json.dumps(about, default=str).encode(), digest_size=16).hexdigest()


def _stamp(path: Path) -> list[Any]:
    """Name, size and times of a file (of its rights too); of a series those of its files."""
    try:
        found = path.stat()
        inside = sorted(os.listdir(path)) if path.is_dir() else []
    except OSError:
        return [str(path)]  # its error is its row
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return [str(path.resolve()), found.st_size, times, [_stamp(path / name) for name in inside]]
