"""What an item of evidence leaves behind: RUN/evidence/NAME.json, which the report reads, and its pictures with CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_modules.files import replacing, write_json, write_rows
from radz.evidence.config import EvidenceConfig
from radz.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "evidence"


@dataclass
class Item:
    """One item of evidence."""

    name: str
    title: str
    says: list[str]
    """sentences for the report, the result first"""
    numbers: dict[str, Any]
    header: Sequence[str] = ()
    rows: list[list[Any]] = field(default_factory=list)
    """a table for the report; a cell is a word, a number, or value, low and high"""
    pictures: list[tuple[str, Figure, figures.CsvRows, str]] = field(default_factory=list)
    """name, figure, its data, caption"""
    tables: dict[str, figures.CsvRows] = field(default_factory=dict)
    """further CSV files by name"""


def write_item(item: Item, run_dir: Path, settings: EvidenceConfig, dpi: int = 150) -> Path:
    """Write an item into the folder of a run; returns its JSON file."""
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure, rows, _ in item.pictures:
        with replacing(folder / f"{name}.png") as draft:
            figure.savefig(draft, dpi=dpi, format="png")
        write_rows(folder / f"{name}.csv", rows, end="\n")
    for name, rows in item.tables.items():
        write_rows(folder / f"{name}.csv", rows, end="\n")
    content = {
        "title": item.title,
        "says": item.says,
        "pictures": [{"name": name, "caption": caption} for name, _, _, caption in item.pictures],
        "files": [f"{name}.csv" for name in item.tables],
        "table": {"header": list(item.header), "rows": item.rows},
        "numbers": item.numbers,
        "settings": asdict(settings),
    }
    path = folder / f"{item.name}.json"
    write_json(path, content)
    return path
