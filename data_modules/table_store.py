"""Read once: the finished study table of a large corpus, kept below ``cache_dir/tables`` for the next run.

A kept table is opened only while all of this is as it was; else the corpus is read anew and the table replaced:

- the config of the corpus, its place in the experiment and the ontology: they name the file;
- the code and the data files of this package;
- size, modification time and status change time of every file and folder that the reader looked at, or that it looked
  for in vain, which readers tell by `watched`. A change that leaves all three as they were is not noticed;
- that every image is there. What is in it is for the pixel cache to check.

The file carries a CRC-32 of its content. It holds identifiers and reports, so only its owner may read it. Deleting the
folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from functools import cache
from itertools import islice, repeat
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_modules.corpus_config import CorpusConfig
from data_modules.disk import CannotWrite, writing
from data_modules.files import replacing
from data_modules.findings import Ontology
from data_modules.listing import listed
from data_modules.lock import locked
from data_modules.parsing import parse_json
from data_modules.privacy import private_file, private_folder
from data_modules.study import Coverage, Note, StudyTable

log = logging.getLogger(__name__)
WORTHWHILE = 4_000_000
"""Bytes of tables and reports from which it pays to keep what was read: about a second of reading."""
SOURCE, START = 16, 20
"""A file is: digest of the package (SOURCE bytes), CRC-32 of all from START on, a line of JSON, arrays."""
BLOCK = 1000
"""Texts that are decoded together: few, since one Greek letter among them doubles the memory of all."""
UTF8 = ("utf-8", "surrogatepass")
"""A path that is no UTF-8 has lone surrogates in Python."""

_Stamp = tuple[int, int, int]
"""Size (-1: nothing there, -2: a folder), modification time, status change time."""
_Place = TypeVar("_Place", str, Path)
_Read = Callable[[CorpusConfig, Ontology, bytes, Path, str], StudyTable]
_record: ContextVar[dict[str, _Stamp] | None] = ContextVar("record", default=None)


def watched(path: _Place) -> _Place:
    """Return `path`, noting how it is now: a table made from it is stale once it changes, appears or vanishes.

    Of a folder, the list of its names counts. Readers call it before they open or look for anything but an image.
    """
    record = _record.get()
    if record is not None and (name := os.fspath(path)) not in record:
        record[name] = _stamp(name)
    return path


def watched_glob(folder: Path, pattern: str) -> list[Path]:
    """Return ``listed(folder, pattern)`` with every folder that it looks into `watched`; errors as there."""
    return listed(folder, pattern, watched)


def open_or_read(
    read: _Read, config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str
) -> StudyTable:
    """Return the kept table of a corpus, or what `read` makes of the other arguments, which is then kept.

    Small tables are read each time (WORTHWHILE). What the reader logged is logged again when its table is opened.
    """
    # The root is part of it, since the config's may be relative; the key too, since it stands in the coverage.
    root = os.path.realpath(os.path.expanduser(config.root or ""))
    recipe = json.dumps([repr(config), root, key, repr(list(ontology))]).encode()
    path = cache_dir / "tables" / (hashlib.blake2b(recipe, key=salt, digest_size=8).hexdigest() + ".table")
    kept = _opened(path, config.name or config.reader)
    if kept is not None:
        return kept
    with _recorded() as (record, said):
        table = read(config, ontology, salt, cache_dir, key)
    if sum(size for size, *_ in record.values() if size > 0) >= WORTHWHILE:
        try:
            _keep(path, table, record, said)
        except CannotWrite as error:
            log.warning("the study table of %s cannot be kept: %s", config.name or config.reader, error)
    return table


@cache
def _source() -> bytes:
    package, hasher = Path(__file__).parent, hashlib.blake2b(digest_size=SOURCE)
    for file in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".yaml")):
        hasher.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return hasher.digest()


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return -1, 0, 0
    size = -2 if stat.S_ISDIR(found.st_mode) else found.st_size
    return size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def _recorded() -> Iterator[tuple[dict[str, _Stamp], list[logging.LogRecord]]]:
    """What readers watch and log inside the block."""
    record: dict[str, _Stamp] = {}
    listener, readers = BufferingHandler(sys.maxsize), logging.getLogger("data_modules.corpora")
    token = _record.set(record)
    readers.addHandler(listener)
    try:
        yield record, listener.buffer
    finally:
        readers.removeHandler(listener)
        _record.reset(token)


def _keep(path: Path, table: StudyTable, record: dict[str, _Stamp], said: list[logging.LogRecord]) -> None:
    arrays: list[NDArray[Any]] = []
    header: dict[str, Any] = {
        "said": [(line.name, line.levelno, line.getMessage()) for line in said],
        "watched": _pack(list(record), arrays),
        "stamps": _pack(np.array(list(record.values()), dtype=np.int64), arrays),
        "table": {field.name: _pack(getattr(table, field.name), arrays) for field in fields(table)},
        "arrays": [(array.dtype.str, array.shape, array.nbytes) for array in arrays],  # all of them: this comes last
    }
    parts = [json.dumps(header).encode() + b"\n", *(array.tobytes() for array in arrays)]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    with writing(path):
        private_folder(path.parent)
    with locked(path.with_suffix(".lock")), replacing(path, START + sum(map(len, parts))) as draft:
        private_file(draft)
        with open(draft, "wb") as handle:
            handle.writelines([_source(), checksum.to_bytes(START - SOURCE), *parts])
    log.info("study table kept in %s", path)


def _opened(path: Path, corpus: str) -> StudyTable | None:
    """The kept table; None where there is none that may be served, and the log says why."""
    try:
        with open(path, "rb") as file:
            return _checked(file, path, corpus)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s: cannot be read (%s), reading %s anew", path, error.strerror, corpus)
        return None


def _checked(file: BinaryIO, path: Path, corpus: str) -> StudyTable | None:
    if file.read(SOURCE) != _source():
        log.info("%s: is not of this version of radz, reading %s anew", path, corpus)
        return None
    wanted, checksum = int.from_bytes(file.read(START - SOURCE)), 0
    while part := file.read(1 << 20):  # twice over the file is cheaper than all of it in memory
        checksum = zlib.crc32(part, checksum)
    if checksum != wanted:
        log.warning("%s: is damaged, reading %s anew", path, corpus)
        return None
    file.seek(START)
    header = parse_json(file.readline())
    arrays = (np.frombuffer(file.read(size), kind).reshape(shape) for kind, shape, size in header["arrays"])
    places, stamps = _unpack(header["watched"], arrays), _unpack(header["stamps"], arrays)
    changed = sum(_stamp(place) != tuple(stamp) for place, stamp in zip(places, stamps.tolist(), strict=True))
    if not changed:
        table = StudyTable(**{name: _unpack(plain, arrays) for name, plain in header["table"].items()})
        changed = len(table.image_paths) - sum(map(os.access, table.image_paths, repeat(os.F_OK)))
    if changed:  # not named: a path may hold an identifier
        log.info("%s: %d file(s) or folder(s) of %s changed since, reading it anew", path, changed, corpus)
        return None
    for name, level, message in header["said"]:
        logging.getLogger(name).log(level, "%s", message)
    log.info("study table of %s opened from %s", corpus, path)
    return table


def _pack(value: object, arrays: list[NDArray[Any]]) -> Any:
    """Plain values for JSON, from which `_unpack` makes `value` again; what is bulky is appended to `arrays`."""
    match value:
        case np.ndarray() if value.dtype == object:
            return {"texts": _pack_texts(value.tolist(), arrays)}
        case np.ndarray():
            arrays.append(value)
            return {"array": None}
        case list():
            return {"list": _pack_texts(value, arrays)}
        case tuple():
            return {"tuple": [item if isinstance(item, str) else _pack(item, arrays) for item in value]}
        case dict():
            return {"dict": {name: _pack(item, arrays) for name, item in value.items()}}
        case Coverage():
            return {"coverage": {**vars(value), "notes": [list(vars(note).values()) for note in value.notes]}}
    raise TypeError(f"a study table with a {type(value).__name__} in it cannot be kept: teach _pack and _unpack")


def _unpack(plain: Any, arrays: Iterator[NDArray[Any]]) -> Any:
    """What `_pack` was given; `arrays` must come in the same order."""
    ((kind, content),) = plain.items()
    match kind:
        case "texts":
            return np.array(_unpack_texts(arrays, *content), dtype=object)
        case "array":
            return next(arrays).copy()  # read-only as it comes
        case "list":
            return _unpack_texts(arrays, *content)
        case "tuple":
            return tuple(item if isinstance(item, str) else _unpack(item, arrays) for item in content)
        case "dict":
            return {name: _unpack(item, arrays) for name, item in content.items()}
    return Coverage(**{**content, "notes": [Note(*note) for note in content["notes"]]})


def _pack_texts(values: Sequence[str], arrays: list[NDArray[Any]]) -> tuple[str, int]:
    """Append the distinct values, in blocks, and the codes [N]; return what separates them and how many blocks."""
    known: dict[str, int] = {}
    codes = [known.setdefault(value, len(known)) for value in values]
    distinct, used = list(known), set().union(*known)
    separator = next(mark for mark in map(chr, range(sys.maxunicode)) if mark not in used)
    blocks = [separator.join(distinct[start : start + BLOCK]) for start in range(0, len(distinct), BLOCK)]
    arrays += [np.frombuffer(block.encode(*UTF8), dtype=np.uint8) for block in blocks]
    arrays.append(np.array(codes, dtype=np.int32))
    return separator, len(blocks)


def _unpack_texts(arrays: Iterator[NDArray[Any]], separator: str, blocks: int) -> list[str]:
    """The values; equal ones are one object."""
    distinct = [text for block in islice(arrays, blocks) for text in str(block.data, *UTF8).split(separator)]
    codes = next(arrays)
    return distinct if len(distinct) == len(codes) else [distinct[code] for code in codes.tolist()]
