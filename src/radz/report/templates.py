"""What all pages share: the template environment, numbers as words, files of a run folder."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radz.report import figures

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image

METRIC_TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity_90": "sensitivity at 90 % specificity",
    "brier": "Brier",
}


def metric(name: str) -> str:
    """A metric as read aloud, its threshold rule behind it."""
    first, _, rule = name.partition("_")
    words = {"f1": "F1", "mcc": "MCC", "accuracy": "accuracy"}
    return f"{words[first]}, {rule} threshold" if first in words else METRIC_TITLES.get(name, figures.plain(name))


def environment(*folders: Path) -> Environment:
    """Templates of these folders, then of this one, with every word escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    loader = FileSystemLoader([*folders, Path(__file__).parent])
    templates = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters |= {
        "number": number, "plain": figures.plain, "scalar": scalar, "svg": Markup, "p": p_value, "metric": metric,
    }  # fmt: skip
    return templates


def embedded(picture: Image, within: tuple[int, int], **encoding: Any) -> str:
    """A picture, no larger than `within` (width and height), in base64 for a page; `encoding`: of Pillow's `save`."""
    picture.thumbnail(within)
    buffer = io.BytesIO()
    picture.save(buffer, optimize=True, **encoding)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested maps as dotted keys; lists as one line."""
    lines: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", scalar(value)))
    return lines


def scalar(value: Any) -> str:
    """A value as words."""
    if value is None:
        return "not recorded"
    if isinstance(value, list | tuple):
        return ", ".join(map(scalar, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def number(value: float | None, digits: int = 3) -> str:
    """Fixed decimals, a true minus sign, and a dash for what is undefined."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """Two significant digits, never 0."""
    if value is None:
        return "\N{EN DASH}"
    return "<.0001" if value < 1e-4 else f"{value:.2g}"
