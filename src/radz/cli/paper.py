"""`make paper`: python -m radz.cli.paper [PRESET] [out=DIR] [base=EXPERIMENT] [root.<corpus>=DIR ..] [key=value ..]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from data_modules.keys import folder, read_keys
from radz.cli.command_line import guarded


def main(arguments: Sequence[str]) -> int:
    """Run a preset and write its page; returns the exit code of `radz` (2 also where a part failed)."""

    def work() -> int:
        preset, *words = arguments or ["quick"]
        page, failed = paper(preset, words)
        sys.stdout.write(f"{page}\n")
        return 2 if failed else 0

    return guarded(work)


def paper(preset: str, words: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Run the sections of a preset in this process and write the page.

    Returns:
        The page, and {part: why it could not be run}.
    """
    from radz.multirun.paper.page import write_page
    from radz.multirun.paper.plan import read_plan
    from radz.multirun.paper.sections import run
    from radz.training.run_folder import working_in
    from radz.training.trainer import quiet

    quiet()
    plan = read_plan(preset)
    keys, rest = read_keys(words, {"out": folder, "base": str}, overrides=None)
    out, plan.base = keys.get("out", Path("runs") / "paper" / preset), keys.get("base", plan.base)
    roots = dict(word.removeprefix("root.").split("=", 1) for word in rest if word.startswith("root.") and "=" in word)
    overrides = [word for word in rest if not word.startswith("root.")]
    with working_in(out, "out"):
        results = run(plan, out, roots, overrides)
        return write_page(preset, plan, results, out), results.failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
