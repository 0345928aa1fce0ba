"""The section of a report on where a score comes from: RUN/evidence/*.json with their pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from data_modules.files import read_json, write_text
from radz.report.templates import embedded, environment

ORDER = ("heatmaps", "phrases", "layers", "words", "sentences", "robustness", "features", "attention", "fewshot")
BEGIN, END = "<!-- evidence -->", "<!-- end of evidence -->"
"""What the section stands between, so that it can be renewed alone."""
WIDEST = 1500


def sections(run_dir: Path) -> list[dict[str, Any]]:
    """What the template needs of each item that has been computed; [] without any."""
    computed = items(run_dir)
    for item in computed:
        for picture in item["pictures"]:
            picture["image"] = _embedded(run_dir / "evidence" / f"{picture['name']}.png")
    return computed


def items(run_dir: Path) -> list[dict[str, Any]]:
    """The items of evidence that have been computed, each with its `name`."""
    read = {name: read_json(run_dir / "evidence" / f"{name}.json") for name in ORDER}
    return [{"name": name, **item} for name, item in read.items() if item]


def renew(run_dir: Path) -> None:
    """Put the section into report.html as it now is; the rest of the page stays. Nothing without a page."""
    page = run_dir / "report.html"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text:
        return
    rendered = environment().get_template("evidence.html.jinja").render(evidence=sections(run_dir))
    # A function, since the page may hold backslashes.
    text = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{rendered}\n{END}", text, flags=re.DOTALL)
    write_text(page, text)


def _embedded(path: Path) -> str | None:
    """A picture for the page, as base64 of a JPEG; None where it is gone."""
    from PIL import Image

    if not path.is_file():
        return None
    return embedded(Image.open(path).convert("RGB"), (WIDEST, 10 * WIDEST), format="JPEG", quality=88)
