"""The verb data: check, cache, phantom."""

from __future__ import annotations

import argparse
import sys

from radz.verbs.keys import pairs, run_module


def data(options: argparse.Namespace) -> None:
    """`radz data check|cache EXPERIMENT`, `radz data phantom`."""
    from data_modules.errors import InputError, nearest

    actions = {"check": of_experiment, "cache": of_experiment, "phantom": phantom}
    if options.action not in actions:
        raise InputError(f"data {options.action}: no such action{nearest(options.action, actions)}")
    actions[options.action](options)


def of_experiment(options: argparse.Namespace) -> None:
    """`radz data check EXPERIMENT images=100`, `radz data cache EXPERIMENT`."""
    from data_modules.errors import InputError

    action = options.action
    if not options.keys or "=" in options.keys[0]:
        raise InputError(f"data {action}: name the experiment behind the action, such as radz data {action} demo")
    run_module()
    from radz import data_verb
    from radz.experiment import load_experiment

    name, *keys = options.keys
    wanted = next((key for key in keys if key.startswith("images=")), None) if action == "check" else None
    experiment = load_experiment(name, [key for key in keys if key != wanted])
    images = (wanted or f"images={data_verb.SAMPLE}").removeprefix("images=")
    if images != "all" and (not images.isdecimal() or int(images) < 1):
        raise InputError(f"{wanted}: must be a whole number from 1, or all")
    most = None if images == "all" else int(images)
    told = data_verb.check(experiment, most) if action == "check" else data_verb.cache(experiment)
    sys.stdout.write("\n".join(told) + "\n")


def phantom(options: argparse.Namespace) -> None:
    """`radz data phantom corpus=NAME out=DIR train=80 ..`."""
    from pathlib import Path

    from data_modules.corpus_config import PhantomConfig, SplitCounts
    from data_modules.errors import InputError

    counts = {"train": 80, "val": 16, "test": 40}
    numbers = {**counts, "image_px": 256, "voxels": 96, "seed": 0}
    keys = pairs(options.keys, {"corpus", "out", "cache_dir", *numbers}, required={"corpus", "out"})
    for name in numbers:
        if name in keys and not keys[name].isdecimal():
            raise InputError(f"{name}={keys[name]}: must be a whole number from 0")
        numbers[name] = int(keys.get(name, numbers[name]))
    from data_modules.phantom.layouts import write_layout

    studies = SplitCounts(**{name: numbers.pop(name) for name in counts})
    config = PhantomConfig(studies, **numbers)
    out = Path(keys["out"]).expanduser()
    write_layout(keys["corpus"], out, config, Path(keys.get("cache_dir", ".cache/radz")).expanduser())
    sys.stdout.write(f"{out}\n")
