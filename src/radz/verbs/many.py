"""The verbs that run many trainings or measurements: sweep, bench."""

from __future__ import annotations

import argparse
import sys

from radz.verbs.keys import pairs, run_module


def sweep(options: argparse.Namespace) -> None:
    """`radz sweep SWEEP count=N workers=1 out=DIR search_seed=0 key=value ..`."""
    from pathlib import Path

    from data_modules.errors import InputError

    own = {"count": None, "workers": 1, "search_seed": 0}
    numbers: dict[str, int | None] = dict(own)
    overrides, out = [], None
    for item in options.keys:
        key, _, value = item.partition("=")
        if key == "out":
            out = Path(value).expanduser()
        elif key not in own:
            overrides.append(item)
        elif not value.isdecimal() or (key != "search_seed" and int(value) < 1):
            raise InputError(f"{item}: must be a whole number from {0 if key == 'search_seed' else 1}")
        else:
            numbers[key] = int(value)
    from radz.sweep.file import read_sweep

    sweep = read_sweep(options.sweep)
    run_module()
    from radz.sweep.search import Search

    search = Search(sweep, out or Path("runs") / "sweeps" / sweep.name, overrides, numbers["search_seed"] or 0)
    sys.stdout.write(f"{search.run(numbers['count'], numbers['workers'] or 1)}\n")


def bench(options: argparse.Namespace) -> None:
    """`radz bench only=P1,P4 device=gpu`."""
    from pathlib import Path

    import data_modules
    from data_modules.errors import InputError

    keys = pairs(options.keys, {"only", "device"}, set())
    checkout = Path(data_modules.__file__).resolve().parents[1]
    if not (checkout / "benchmarks/run.py").is_file():
        raise InputError("bench: benchmarks/ is not part of the wheel; run it from a checkout, after make setup")
    sys.path.insert(0, str(checkout))
    run_module()
    from benchmarks.run import bench

    only = [name.strip() for name in keys.get("only", "").strip("[]").split(",") if name.strip()]
    sys.stdout.write("\n".join(bench(only, keys.get("device", "cpu"))) + "\n")
