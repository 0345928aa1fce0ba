"""The verbs that train, score and show runs."""

from __future__ import annotations

import argparse
import sys

from radz.verbs.keys import check_out, pairs, resolved, run_module


def train(options: argparse.Namespace) -> None:
    """`radz train EXPERIMENT`, with --print-config or --dry-run."""
    experiment = resolved(options)
    if experiment is None:
        return
    run = run_module()
    if options.dry_run:
        from radz.dry_run import dry_run

        sys.stdout.write("\n".join(dry_run(experiment)) + "\n")
    else:
        folder = run.train(experiment)
        sys.stdout.write("nothing kept\n" if experiment.trainer.fast_dev_run else f"{folder}\n")


def anchors(options: argparse.Namespace) -> None:
    """`radz anchors EXPERIMENT write=true`."""
    options.keys = [f"dkam.{key}" if key.startswith("write=") else key for key in options.keys]
    if (experiment := resolved(options)) is not None:
        sys.stdout.write(f"{run_module().anchors(experiment)}\n")


def eval(options: argparse.Namespace) -> None:
    """`radz eval EXPERIMENT run=RUN`."""
    if (experiment := resolved(options)) is not None:
        sys.stdout.write(f"{run_module().evaluate_run(experiment)}\n")


def predict(options: argparse.Namespace) -> None:
    """`radz predict RUN input=FOLDER out=CSV findings=[a,b] heatmaps=DIR`."""
    keys = pairs(options.keys, {"input", "out", "findings", "heatmaps"}, required={"input", "out"})
    check_out(keys["out"])
    run_module()
    from radz.predict import predict_folder

    findings = [name.strip() for name in keys.get("findings", "").strip("[]").split(",") if name.strip()]
    done = predict_folder(options.run, keys["input"], keys["out"], findings, keys.get("heatmaps"))
    sys.stdout.write(f"{done}\n")


def report(options: argparse.Namespace) -> None:
    """`radz report RUN`."""
    pairs(options.keys, set(), set())
    from pathlib import Path

    sys.stdout.write(f"{run_module().report(Path(options.run))}\n")


def evidence(options: argparse.Namespace) -> None:
    """`radz evidence RUN only=heatmaps,layers key=value ..`."""
    from pathlib import Path

    run_module()
    from radz.evidence.verb import evidence as compute

    sys.stdout.write(f"{compute(Path(options.run).expanduser(), options.keys)}\n")


def rerun(options: argparse.Namespace) -> None:
    """`radz rerun RUN run_dir=DIR tolerance=0.005`."""
    from pathlib import Path

    from data_modules.errors import InputError

    keys = pairs(options.keys, {"run_dir", "tolerance"}, set())
    try:
        tolerance = float(keys["tolerance"]) if "tolerance" in keys else None
    except ValueError:
        raise InputError(f"tolerance={keys['tolerance']}: must be a number from 0, such as 0.001") from None
    run_module()
    from radz.rerun import rerun

    folder = Path(keys["run_dir"]).expanduser() if "run_dir" in keys else None
    out, told = rerun(Path(options.run).expanduser(), folder, tolerance)
    sys.stdout.write(f"{told}\n{out}\n")


def compare(options: argparse.Namespace) -> None:
    """`radz compare RUN RUN .. out=DIR scorer=NAME`."""
    from pathlib import Path

    more = [item for item in options.keys if "=" not in item]
    keys = pairs([item for item in options.keys if "=" in item], {"out", "scorer"}, set())
    from radz.report.compare import compare

    out = Path(keys["out"]).expanduser() if "out" in keys else None
    page = compare([Path(run).expanduser() for run in (options.run, *more)], out, keys.get("scorer"))
    sys.stdout.write(f"{page}\n")
