"""The verbs export and import, behind `radz.cli`."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from data_modules.errors import InputError


def export(run: str, keys: Mapping[str, str]) -> None:
    """`radz export RUN out=DIR merge=true dtype=auto`."""
    if (merge := keys.get("merge", "true")) not in ("true", "false"):
        raise InputError(f"merge={merge}: must be true or false")
    from radz.exporting.folder import export_run
    from radz.trainer import quiet

    quiet()
    sys.stdout.write(f"{export_run(run, keys['out'], merge == 'true', keys.get('dtype', 'auto'))}\n")


def import_(source: str, keys: Mapping[str, str]) -> None:
    """`radz import SRC out=DIR tower=DIR conversation=v1`."""
    from radz.importing.convert import import_checkpoint
    from radz.trainer import quiet

    quiet()
    sys.stdout.write(f"{import_checkpoint(source, keys['out'], keys.get('tower'), keys.get('conversation'))}\n")
