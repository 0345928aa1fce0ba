"""Salted hashes in place of corpus identifiers, wherever a text may leave the machine."""

from __future__ import annotations

import csv
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from data_modules.files import replacing
from data_modules.lock import locked

SALT_BYTES = 32


def salt(cache_dir: Path) -> bytes:
    """Return the user's salt from ``cache_dir/salt`` (mode 0600), made on first use.

    It lies in the cache folder so that hashes of different runs compare. Raises InputError when the file is damaged.
    """
    path = cache_dir / "salt"
    try:
        if not path.exists():
            _make_salt(path)
        value = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made or read ({error.strerror}); set cache_dir to a folder of your own"
        ) from None
    if len(value) != SALT_BYTES:
        raise InputError(f"{path}: holds {len(value)} bytes instead of {SALT_BYTES}; delete it (hashes will change)")
    return value


def _make_salt(path: Path) -> None:
    private_folder(path.parent)
    with locked(path.with_suffix(".lock")):
        if path.exists():  # made by a process that started together with this one
            return
        with replacing(path, SALT_BYTES) as draft:
            private_file(draft)
            draft.write_bytes(secrets.token_bytes(SALT_BYTES))


def private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter (0700); one that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> None:
    """Make an empty file that only its owner may read (0600); one that is there stays as it is."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def write_private(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """CSV that only its owner may read (0600), in a folder that only its owner may enter; atomic."""
    private_folder(path.parent)
    write_private_rows(path, rows)


def write_private_rows(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """CSV that only its owner may read (0600), in a folder that is there; atomic."""
    with replacing(path) as draft:
        private_file(draft)
        with draft.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def pseudonym(corpus: str, identifier: str, salt: bytes) -> str:
    """Return what stands for a patient, study or image of a corpus: the same in errors, tables and report.

    The corpus is part of it, since patient 1 of one corpus is not patient 1 of another.
    """
    return hashed(f"{corpus}/{identifier}", salt)


def hashed(identifier: str, salt: bytes) -> str:
    """Return 12 hexadecimal digits of the keyed BLAKE2b of `identifier`."""
    return hashlib.blake2b(identifier.encode(), key=salt, digest_size=6).hexdigest()
