"""`radz bench`: runs the benchmarks that were asked for, prints a table and writes benchmarks/results.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import checkpoints, contrast, embed, gpu, gradient_cache, pixels, startup, statistics, tables, train
from benchmarks.common import Result
from data_modules.corpus_config import one_of
from data_modules.errors import InputError, nearest
from data_modules.files import replacing

BENCHMARKS: dict[str, Callable[[], Iterator[Result]]] = {
    "P1": train.speed,
    "P2": train.memory,
    "P3": train.larger,
    "P4": embed.images,
    "P5": embed.texts,
    "P6": embed.anchors,
    "P7": pixels.run,
    "P8": tables.run,
    **statistics.RUNS,
    "P12": startup.run,
    "P13": contrast.run,
    "P14": gradient_cache.run,
    "P15": checkpoints.run,
    "P16": partial(train.speed, "P16", train.SMOLLM2),
    "P17": partial(train.memory, "P17", train.SMOLLM2),
    "P18": train.beside_sentence_transformers,
}
PAGE = Path(__file__).with_name("RESULTS.md")
START, END = "<!-- table: written by radz bench -->", "<!-- end -->"
RESULTS = Path(__file__).with_name("results.json")


def bench(only: list[str], device: str = "cpu") -> Iterator[str]:
    """Run the benchmarks `only` (all when empty) on a device; yields the lines of the table as they come.

    results.json and RESULTS.md receive each as well, so that a run that is cut off still counts; what was not run, or
    ran on another device, stays there.
    """
    one_of("device", device, ("cpu", "gpu"))
    known = list(BENCHMARKS) if device == "cpu" else list(gpu.IDS)
    for name in only:
        if name not in known:
            raise InputError(f"only: there is no benchmark '{name}' for device={device}{nearest(name, known)}")
    if device == "gpu":
        results = (result for result in gpu.run() if not only or result.id in only)
    else:
        results = (result for name in only or BENCHMARKS for result in BENCHMARKS[name]())
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    found: list[Result] = []
    for r in results:
        if not found:
            yield f"{'id':4} {'radz':>10} {'reference':>10} {'ratio':>8} {'range':>16}  what"
        found.append(r)
        _write(before, found)
        spread = f"{r.low:.2f} to {r.high:.2f}"
        values = f"{_short(r.radz):>10} {_short(r.reference):>10} {r.ratio:8.2f} {spread:>16}"
        yield f"{r.id:4} {values}  {r.what} ({r.unit})"


def _write(before: list[dict[str, Any]], found: list[Result]) -> None:
    """Put new results in the place of those of the same id and device."""
    fresh = {(result.id, result.device) for result in found}
    content = [entry for entry in before if (entry["id"], entry["device"]) not in fresh] + list(map(asdict, found))
    content.sort(key=lambda entry: (int(entry["id"][1:]), entry["device"]))
    with replacing(RESULTS) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    with replacing(PAGE) as draft:
        draft.write_text(_with_table(page, content), encoding="utf-8")


def _short(value: float) -> str:
    """Three digits that tell something."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _with_table(page: str, content: list[dict[str, Any]]) -> str:
    """The page with the table between its two marks made of `content`."""
    rows = [
        "| id | what | radz | reference | ratio | range | device, threads | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in content:
        values = [r["what"], f"{_short(r['radz'])} {r['unit']}", _short(r["reference"]), f"{r['ratio']:.2f}"]
        values += [f"{r['low']:.2f} to {r['high']:.2f}", f"{r['device']}, {r['threads']}", r["date"]]
        rows.append(f"| {r['id']} | {' | '.join(values)} |")
    before, after = page.split(START)[0], page.split(END)[1]
    return f"{before}{START}\n" + "\n".join(rows) + f"\n{END}{after}"
