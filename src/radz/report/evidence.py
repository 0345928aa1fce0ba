"""The section of a report on where a score comes from: RUN/evidence/*.json with their pictures."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

from data_modules.files import replacing
from radz.report.page import environment, read_json

ORDER = ("heatmaps", "layers", "robustness", "features", "attention")
BEGIN, END = "<!-- evidence -->", "<!-- end of evidence -->"
"""What the section stands between, so that it can be renewed alone."""
WIDEST = 1500


def sections(run_dir: Path) -> list[dict[str, Any]]:
    """What the template needs of each item that has been computed; [] without any."""
    found = items(run_dir)
    for item in found:
        for picture in item["pictures"]:
            picture["image"] = _embedded(run_dir / "evidence" / f"{picture['name']}.png")
    return found


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
    with replacing(page) as draft:
        draft.write_text(text, encoding="utf-8")


def _embedded(path: Path) -> str | None:
    """A picture for the page, as base64 of a JPEG; None where it is gone."""
    from PIL import Image

    if not path.is_file():
        return None
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((WIDEST, 10 * WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
