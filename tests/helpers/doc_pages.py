"""The pages of the repository, and what their Markdown holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BY_NAME = [pytest.param(page, id=page.name) for page in PAGES]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)


def spans(page: Path) -> list[str]:
    """The spans of code in the text of a page, also those that go over the end of a line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, content, the text before) of each block of code, without its indent."""
    found, text = [], page.read_text()
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```", text, re.M | re.S):
        content = re.sub(rf"^{match[1]}", "", match[3], flags=re.M)
        found.append((match[2], content, text[: match.start()]))
    return found
