"""COVID-CT: an axial slice of each volume in a lung window. The phantom has no COVID-19: consolidation stands in.

Traps: names with %, one of which would become another if it were decoded; blanks in names, PNG and JPEG, carriage
returns and blank lines in a list, pictures in no list, a table of patients for one class only, with other suffixes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantom.layouts.case import Case, write_csv
from data_modules.phantom.layouts.ct_rate import hounsfield

CENTRE, WIDTH = -600, 1500


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one picture."""
    lists: dict[str, dict[str, list[str]]] = {kind: {} for kind in ("COVID", "NonCOVID")}
    patients: list[list[object]] = []
    for case in cases:
        kind = "COVID" if case.has("covid_ct", "CT_COVID") or "consolidation" in case.findings else "NonCOVID"
        name = _name(case, kind)
        place = out / "Images-processed" / f"CT_{kind}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_slice(case)).save(place, quality=95)
        lists[kind].setdefault(case.split, []).append(name)
        if kind == "NonCOVID":
            patients.append([name.replace(".jpg", ".png"), f"Patient {case.patient}"])
    for kind, splits in lists.items():
        for split in ("train", "val", "test"):
            path = out / "Data-split" / kind / f"{split}CT_{kind}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            end = "\r\n" if split == "test" else "\n"
            path.write_bytes((end.join(splits.get(split, [])) + 2 * end).encode())
        folder = out / "Images-processed" / f"CT_{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 64)).save(folder / "in no list.png")
    write_csv(out / "NonCOVID-CT-MetaInfo.csv", ["image name", "patient id"], patients)


def _name(case: Case, kind: str) -> str:
    if kind == "NonCOVID":
        return f"{case.number}%2.jpg"
    if case.number % 4 < 2:
        return f"a paper{'%20' if case.number % 2 else ' '}p{case.number // 4}.png"
    return (
        f"2020.02.{10 + case.number % 19}.2002{case.number:04d}-p{case.number % 30}-{case.number}%{case.number % 4}.png"
    )


def _slice(case: Case) -> np.ndarray:
    """uint8 [H, W]: the middle slice, front up, the patient's right on the left."""
    hu, _ = hounsfield(case)
    plane = hu[::-1, ::-1, hu.shape[2] // 2].T.astype(np.float64)
    return np.rint(np.clip((plane - CENTRE) / WIDTH + 0.5, 0, 1) * 255).astype(np.uint8)
