"""`make ablate`: python -m radz.suite GROUP [seeds=0,1,2] [base=EXPERIMENT] [scorer=NAME] [key=value ..]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from data_modules.errors import InputError
from radz.cli import guarded


def main(arguments: Sequence[str]) -> int:
    """Run a group of ablations and write its page; returns the exit code of `radz` (2 also where an arm failed)."""

    def work() -> int:
        group, *words = arguments or [""]
        return 2 if ablate(group, words) else 0

    return guarded(work)


def ablate(group: str, words: Sequence[str]) -> dict[str, str]:
    """Train the arms of a group and their base, write the page and name it on stdout.

    Returns:
        {arm: why it could not be run}.
    """
    own = {"seeds": "0", "base": "", "scorer": ""}
    overrides = []
    for word in words:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = value
        else:
            overrides.append(word)
    seeds = own["seeds"].split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={own['seeds']}: must be different whole numbers, such as seeds=0,1,2")
    from radz.suite.arms import group_arms, train_arms, with_base
    from radz.suite.page import write_page
    from radz.trainer import quiet

    quiet()
    base = own["base"] or None
    arms = with_base(group_arms(group), base)
    failed = train_arms(arms, [int(seed) for seed in seeds], base, overrides)
    settings = arms[0].experiment(None, overrides).scoring
    folder = Path("runs") / "ablations" / (f"{group}-{Path(base).name}" if base else group)
    page = write_page(
        f"Ablations: {group}", "", arms, failed, folder, own["scorer"] or None, settings.replicates, settings.seed
    )
    sys.stdout.write(f"{page}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
