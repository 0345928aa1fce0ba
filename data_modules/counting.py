"""Counts in words."""

from __future__ import annotations

import re


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 study`, `2 studies`; `plural` where neither rule makes it: -y becomes -ies, others have an s."""
    many = plural or re.sub(r"(?<=[^aeiou])y$", "ie", noun) + "s"
    return f"{count:,} {noun if count == 1 else many}"
