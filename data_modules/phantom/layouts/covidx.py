"""COVIDx CXR-4 with labels of form B.

Traps: no header, a misspelt source, brackets and dots in file names, suffixes in capitals, several images of a patient,
an empty last line. The phantom has no COVID-19: consolidation stands in for it.
"""

from __future__ import annotations

from pathlib import Path

from data_modules.phantom.layouts.case import Case

SOURCES = ("rsna", "rnsa", "ricord", "bimcv", "cohen")
SUFFIXES = (".png", ".jpg", ".PNG", ".jpeg")


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image."""
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for case in cases:
        name = f"COVID({case.number}).{case.number}-0{SUFFIXES[case.number % len(SUFFIXES)]}"
        case.picture(out / case.split / name)
        word = "positive" if "consolidation" in case.findings else "negative"
        lines[case.split].append(f"SITE2-{case.patient:06d} {name} {word} {SOURCES[case.number % len(SOURCES)]}\n")
    for split, found in lines.items():
        (out / f"{split}.txt").write_text("".join(found) + "\n", encoding="utf-8")
