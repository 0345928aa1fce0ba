"""`radz bench`: runs the benchmarks that were asked for, prints a table and writes benchmarks/results.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import pixels, statistics, tables
from benchmarks.common import Result
from data_modules.errors import InputError, nearest
from data_modules.files import replacing

BENCHMARKS: dict[str, Callable[[], Iterator[Result]]] = {"P7": pixels.run, "P8": tables.run, **statistics.RUNS}
RESULTS = Path(__file__).with_name("results.json")


def bench(only: list[str]) -> list[str]:
    """Run the benchmarks `only` (all when empty); returns the lines of the table, written to results.json as well.

    Results of benchmarks that were not run stay in the file.
    """
    for name in only:
        if name not in BENCHMARKS:
            raise InputError(f"only: there is no benchmark '{name}'{nearest(name, BENCHMARKS)}")
    wanted = only or list(BENCHMARKS)
    found = [result for name in wanted for result in BENCHMARKS[name]()]
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    content = [entry for entry in before if entry["id"] not in wanted] + [asdict(result) for result in found]
    with replacing(RESULTS) as draft:
        draft.write_text(json.dumps(sorted(content, key=lambda entry: entry["id"]), indent=1) + "\n", encoding="utf-8")
    lines = [f"{'id':4} {'radz':>10} {'reference':>10} {'ratio':>8} {'range':>16}  what"]
    for r in found:
        spread = f"{r.low:.1f} to {r.high:.1f}"
        lines.append(f"{r.id:4} {r.radz:10.1f} {r.reference:10.1f} {r.ratio:8.1f} {spread:>16}  {r.what} ({r.unit})")
    return lines
