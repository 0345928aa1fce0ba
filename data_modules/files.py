"""Files that appear as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_modules.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a draft beside `path` to write to; it takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, key: str) -> Iterator[Path]:
    """Give a draft folder beside `path`; it becomes `path` when the block ends without an error.

    Raises:
        InputError: naming `key`, where `path` holds something already or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{key}: {path} is there and not empty; choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"{key}: {path}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield draft
        draft.chmod(0o777 & ~_umask())
        os.replace(draft, path)  # an empty folder gives way
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _umask() -> int:
    """The mask of the process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
