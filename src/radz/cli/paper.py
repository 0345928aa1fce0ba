"""`make paper`: python -m radz.cli.paper [PRESET] [--dry-run] [out=DIR] [base=EXPERIMENT] [root.<corpus>=DIR ..]
[with=RECIPE] [key=value ..]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.keys import folder, read_keys
from radz.cli.command_line import guarded

if TYPE_CHECKING:
    from radz.multirun.paper.plan import Plan

DRY_RUN = "--dry-run"


def main(arguments: Sequence[str]) -> int:
    """Run a preset and write its page; returns the exit code of `radz` (2 also where a part failed)."""

    def work() -> int:
        preset, *words = [word for word in arguments if word != DRY_RUN] or ["quick"]
        if DRY_RUN in arguments:
            sys.stdout.write("\n".join(dry_run(preset, words)) + "\n")
            return 0
        page, failed = paper(preset, words)
        sys.stdout.write(f"{page}\n")
        return 2 if failed else 0

    return guarded(work)


def dry_run(preset: str, words: Sequence[str]) -> list[str]:
    """What the command would run, one line each, and what is still to be named for it."""
    from radz.multirun.paper.sections import planned

    plan, _, roots, overrides = _read(preset, words)
    return planned(plan, roots, overrides)


def paper(preset: str, words: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Run the sections of a preset in this process and write the page.

    Returns:
        The page, and {part: why it could not be run}.
    """
    from radz.multirun.paper.page import write_page
    from radz.multirun.paper.sections import run
    from radz.training.run_folder import working_in
    from radz.training.trainer import quiet

    quiet()
    plan, out, roots, overrides = _read(preset, words)
    with working_in(out, "out"):
        results = run(plan, out, roots, overrides)
        return write_page(preset, plan, results, out), results.failed


def _read(preset: str, words: Sequence[str]) -> tuple[Plan, Path, dict[str, str], list[str]]:
    """The plan, the folder of the page, corpus -> root, and the keys of every training."""
    from radz.multirun.paper.plan import read_plan

    plan = read_plan(preset)
    keys, rest = read_keys(words, {"out": folder, "base": str}, overrides=None)
    plan.base = keys.get("base", plan.base)
    places = [word for word in rest if word.startswith("root.")]
    given, _ = read_keys(places, {word.partition("=")[0]: str for word in places if "=" in word})
    roots = {key.removeprefix("root."): place for key, place in given.items()}
    overrides = [word for word in rest if word not in places]
    return plan, keys.get("out", Path("runs") / "paper" / preset), roots, overrides


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
