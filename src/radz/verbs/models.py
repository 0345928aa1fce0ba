"""The verbs export and import: between a run folder, a Hugging Face folder and LLaVA's own format."""

from __future__ import annotations

import argparse
import sys

from data_modules.errors import InputError
from radz.verbs.keys import pairs, run_module


def export(options: argparse.Namespace) -> None:
    """`radz export RUN out=DIR merge=true dtype=auto`."""
    keys = pairs(options.keys, {"out", "merge", "dtype"}, required={"out"})
    if (merge := keys.get("merge", "true")) not in ("true", "false"):
        raise InputError(f"merge={merge}: must be true or false")
    run_module()
    from radz.exporting.folder import export_run

    sys.stdout.write(f"{export_run(options.run, keys['out'], merge == 'true', keys.get('dtype', 'auto'))}\n")


def import_(options: argparse.Namespace) -> None:
    """`radz import SRC out=DIR tower=DIR conversation=v1`."""
    keys = pairs(options.keys, {"out", "tower", "conversation"}, required={"out"})
    run_module()
    from radz.importing.convert import import_checkpoint

    sys.stdout.write(f"{import_checkpoint(options.src, keys['out'], keys.get('tower'), keys.get('conversation'))}\n")
