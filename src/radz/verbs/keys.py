"""What the verbs share: pairs of key and value, the experiment, libraries kept quiet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType


def resolved(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The resolved experiment; None when it was only to be printed."""
    from radz.experiment import load_experiment, to_yaml

    experiment = load_experiment(options.experiment, options.keys)
    if options.print_config:
        sys.stdout.write(to_yaml(experiment))
        return None
    return experiment


def pairs(items: Sequence[str], known: set[str], required: set[str]) -> dict[str, str]:
    """key=value pairs of a verb that takes no experiment."""
    from data_modules.errors import InputError

    found = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or key not in known:
            raise InputError(f"{item}: unknown here; known: {', '.join(sorted(known)) or 'nothing'}")
        found[key] = value
    for key in sorted(required - set(found)):
        raise InputError(f"{key}: missing; give {key}=...")
    return found


def run_module() -> ModuleType:
    """The module of the verbs, imported when a verb runs, with the libraries below it kept quiet."""
    from radz import run
    from radz.trainer import quiet

    quiet()
    return run


def check_out(out: str) -> None:
    """InputError for a file that could not be written after all has been scored."""
    from pathlib import Path

    from data_modules.errors import InputError
    from radz.run_folder import make_folder

    path = Path(out).expanduser()
    if path.is_dir():
        raise InputError(f"out: {out} is a folder; name a file, such as out={path / 'scores.csv'}")
    make_folder(path.parent, "out")
