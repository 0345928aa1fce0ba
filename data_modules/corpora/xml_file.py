"""XML files of a corpus; entities, which may grow at will or lead out of the file, are refused by its reader."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from data_modules.errors import InputError
from data_modules.table_store import watched


def read_xml(path: Path, where: str, refused: str, what: str) -> ElementTree.Element:
    """Return the root of an XML file; InputError for one that does not parse or holds what is `refused`.

    Args:
        refused: the handler of `expat` that is called for it. what: what the error then says of the file.
    """

    def refuse(*declared: object) -> None:
        raise InputError(f"{where}: {what}; remove the file")

    guard = expat.ParserCreate()
    setattr(guard, refused, refuse)
    try:
        data = watched(path).read_bytes()
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except InputError:
        raise
    except (OSError, expat.ExpatError, ElementTree.ParseError, LookupError, ValueError):
        raise InputError(f"{where}: cannot be read as XML; fetch it again") from None
