"""`make ablate`: python -m radz.cli.ablate GROUP [--dry-run] [seeds=0,1,2] [base=EXPERIMENT] [scorer=NAME]
[key=value ..]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_modules.keys import read_keys
from radz.cli.command_line import guarded

DRY_RUN = "--dry-run"


def main(arguments: Sequence[str]) -> int:
    """Run a group of ablations and write its page; returns the exit code of `radz` (2 also where an arm failed)."""
    group, *words = [word for word in arguments if word != DRY_RUN] or [""]

    def work() -> int:
        if DRY_RUN in arguments:
            sys.stdout.write("\n".join(dry_run(group, words)) + "\n")
            return 0
        return 2 if ablate(group, words) else 0

    return guarded(work)


def dry_run(group: str, words: Sequence[str]) -> list[str]:
    """The arms of a group and which of their runs are done, one line each; nothing is opened."""
    keys, overrides = _read(words)
    from radz.multirun.ablation.arms import group_arms, planned, with_base

    base = keys.get("base") or None
    return planned(with_base(group_arms(group), base), keys.get("seeds", [0]), base, overrides)


def ablate(group: str, words: Sequence[str]) -> dict[str, str]:
    """Train the arms of a group and their base, write the page and name it on stdout.

    Returns:
        {arm: why it could not be run}.
    """
    keys, overrides = _read(words)
    from radz.multirun.ablation.arms import group_arms, train_arms, with_base
    from radz.multirun.ablation.page import write_page
    from radz.training.run_folder import working_in
    from radz.training.trainer import quiet

    quiet()
    base = keys.get("base") or None
    arms = with_base(group_arms(group), base)
    folder = Path("runs") / "ablations" / (f"{group}-{Path(base).name}" if base else group)
    with working_in(folder, "out"):
        failed = train_arms(arms, keys.get("seeds", [0]), base, overrides)
        page = write_page(f"Ablations: {group}", "", arms, failed, folder, keys.get("scorer") or None)
    sys.stdout.write(f"{page}\n")
    return failed


def _read(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The keys of the command, and those of every training."""
    return read_keys(words, {"seeds": _seeds, "base": str, "scorer": str}, overrides=None)


def _seeds(text: str) -> list[int]:
    seeds = text.split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError("must be different whole numbers, such as seeds=0,1,2")
    return [int(seed) for seed in seeds]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
