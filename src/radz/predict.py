"""`radz predict`: a folder of images to a CSV of scores. Nothing is skipped silently."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import InputError
from radz.engine import BATCH, Radz

log = logging.getLogger(__name__)
SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", "")


def predict_folder(run: str, source: str, out: str, findings: list[str]) -> Path:
    """Score every image below `source` with the headline scorer and write `out`.

    Columns: file (relative to `source`), error (why a file has no scores), then one column per finding. `findings`
    empty means those of the run's bank, without no_finding.

    Raises:
        InputError: no images, or none of them readable.
    """
    folder, target = Path(source).expanduser(), Path(out).expanduser()
    if not folder.is_dir():
        raise InputError(f"input: {source}: no such folder")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"input: {source}: no DICOM, PNG or JPEG files below it")
    model = Radz.from_pretrained(run)
    findings = findings or [name for name in model.bank.names if name != "no_finding"]
    rows, faults = [], 0
    for start in tqdm(range(0, len(files), BATCH), desc="predict", unit="batch"):
        readable, errors = [], {}
        for file in files[start : start + BATCH]:
            try:
                model.pixels([file])
                readable.append(file)
            except InputError as error:
                errors[file] = str(error)
        scores = model.score(readable, findings) if readable else None
        for file in files[start : start + BATCH]:
            name = str(file.relative_to(folder))
            values = [] if scores is None or file in errors else scores.loc[str(file)].to_numpy().tolist()
            rows.append([name, errors.get(file, ""), *(values or [""] * len(findings))])
        faults += len(errors)
    if faults == len(files):
        raise InputError(f"input: none of {len(files)} files in {source} could be read; first: {rows[0][1]}")
    _write(target, ["file", "error", *findings], rows)
    log.info("%d of %d files scored, %d unreadable (column error)", len(files) - faults, len(files), faults)
    return target


def _write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(draft, path)
