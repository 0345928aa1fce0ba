"""What the tests of official layouts share: the phantom in a layout, small images, and reading with few words."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules import corpora
from data_modules.corpus_config import CorpusConfig, PhantomConfig, SplitCounts
from data_modules.errors import InputError, MissingCorpus
from data_modules.findings import STATE_NAMES, ontology
from data_modules.phantom.layouts import write_layout
from data_modules.study import StudyTable

SALT = b"s" * 32
COUNTS = SplitCounts(train=20, val=5, test=9)
KEY = "data.corpora.0"


def phantoms(out: Path) -> Path:
    """The cache that the tests of all files share: beside the temporary folder in which `out` lies."""
    return out.parent.parent / "phantoms"


def phantom(corpus: str, out: Path) -> Path:
    """The phantom of COUNTS in the layout of a corpus: a copy, which a test may change, of what is written once."""
    once = phantoms(out) / f"layout-{corpus}"
    if not once.exists():
        write_layout(corpus, once, PhantomConfig(COUNTS, image_px=64, voxels=48, seed=1), phantoms(out))
    return Path(shutil.copytree(once, out))


def laid_out(corpus: str) -> Any:
    """A fixture of a test file: the folder of `phantom`."""

    @pytest.fixture(scope="module")
    def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return phantom(corpus, tmp_path_factory.mktemp("layout") / corpus)

    return root


def read(reader: str, root: Path | str, **changes: Any) -> StudyTable:
    """The table of a corpus; `changes` are fields of CorpusConfig."""
    config = CorpusConfig(reader=reader, root=str(root), **changes)
    return corpora.read(config, ontology(), SALT, Path("unused"), KEY)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], separator: str = ",") -> None:
    """A table as typed, so that a test sees every character of it. Cells are not quoted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(str(cell) for cell in row) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def picture(path: Path, shade: int = 90) -> None:
    """A small gray image, PNG or JPEG by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = np.full((12, 10), shade, dtype=np.uint8)
    gray[:6] = 255 - shade // 2
    Image.fromarray(gray).save(path)


def states(table: StudyTable, study: str) -> Mapping[str, str]:
    """Finding -> state word of one study."""
    row = table.study_id.tolist().index(study)
    return {name: STATE_NAMES[state] for name, state in table.study(row).states.items()}


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    """Put `new` in the place of the first `old` of a file, which must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def refused(said: str, reader: str, root: Path, *hidden: str, **changes: Any) -> None:
    """Reading ends with one line that says so and holds nothing of what is hidden."""
    with pytest.raises(InputError, match=said) as fault:
        read(reader, root, **changes)
    assert not [part for part in ("\n", *hidden) if part in str(fault.value)]


def missing(reader: str, tree: str, root: Path | str) -> None:
    """Reading ends with the key of the root, and a help that shows the tree."""
    with pytest.raises(MissingCorpus, match=f"{KEY}.root") as fault:
        read(reader, root)
    assert tree in fault.value.help and f"radz data phantom corpus={reader}" in fault.value.help
