"""`make paper`: python -m radz.paper [PRESET] [out=DIR] [base=EXPERIMENT] [root.<corpus>=DIR ..] [key=value ..]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from radz.cli import guarded


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
    from radz.paper.page import write_page
    from radz.paper.plan import read_plan
    from radz.paper.sections import run
    from radz.trainer import quiet

    quiet()
    plan = read_plan(preset)
    out, roots, overrides = Path("runs") / "paper" / preset, {}, []
    for word in words:
        key, _, value = word.partition("=")
        if key == "out":
            out = Path(value).expanduser()
        elif key == "base":
            plan.base = value
        elif key.startswith("root."):
            roots[key.removeprefix("root.")] = value
        else:
            overrides.append(word)
    results = run(plan, out, roots, overrides)
    return write_page(preset, plan, results, out), results.failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
