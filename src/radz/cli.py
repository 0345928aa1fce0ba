"""The command line: one verb, its positionals, and key=value. Heavy imports happen inside a verb (contract.md)."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType, ModuleType

EPILOG = """\
key=value sets any key of the experiment, such as seed=1 or data.corpora.0.root=/data/ours; --print-config shows them.
Exit codes: 0 done, 2 the input is at fault (one line says what), 3 stopped by a signal and resumable, 1 our defect."""


@dataclass(frozen=True)
class Verb:
    """One verb: its positional arguments, what it does, and the function that does it."""

    positional: tuple[str, ...]
    does: str
    function: Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    top = parser()
    try:
        # argparse takes positionals in one run only, so key=value behind an option comes back as the rest.
        options, rest = top.parse_known_args(arguments)
        if unknown := [item for item in rest if item.startswith("-")]:
            top.error(f"unrecognized arguments: {' '.join(unknown)}")
        options.keys += rest
    except SystemExit as stop:
        return int(stop.code or 0)
    return run(options)


def run(options: argparse.Namespace) -> int:
    """The verb of parsed options, its faults as exit codes."""
    # data_modules.errors imports nothing heavy.
    from data_modules.errors import InputError

    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    for name in ("radz", "data_modules"):
        logging.getLogger(name).setLevel(logging.INFO)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        VERBS[options.verb].function(options)
    except InputError as error:
        sys.stderr.write(f"radz: {error}\n")
        if help := getattr(error, "help", ""):
            sys.stderr.write(f"\n{help}")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("radz: stopped; repeat the command\n")
        return 3
    except Exception as error:
        from radz.memory import advice, is_out_of_memory

        if is_out_of_memory(error):
            sys.stderr.write(f"radz: {advice(options.verb)}\n")
            return 2
        if type(error).__name__ != "Stopped":
            raise
        return _stopped(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A scheduler's signal where nothing handles it better."""
    raise KeyboardInterrupt


def _stopped(error: Exception) -> int:
    """3. Processes that the first one has started say nothing and end with 0: else it would be killed in its turn."""
    from radz.distributed import is_main_process

    if not is_main_process():
        return 0
    sys.stderr.write(f"radz: {error}\n")
    return 3


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="radz",
        description="Zero-shot recognition of disease in chest radiographs with multimodal language models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=_version())
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        one = verbs.add_parser(
            name, help=verb.does, description=verb.does, epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        for positional in verb.positional:
            one.add_argument(positional.lower(), metavar=positional)
        one.add_argument("keys", nargs="*", metavar="key=value", help=KEYS.get(name, "override of the experiment"))
        if "EXPERIMENT" in verb.positional:
            one.add_argument("--print-config", action="store_true", help="print the resolved experiment and stop")
        if name == "train":
            one.add_argument(
                "--dry-run", action="store_true", help="build data and model, print counts and costs, keep nothing"
            )
    return top


def _version() -> str:
    from radz import __version__

    return f"radz {__version__}"


def _train(options: argparse.Namespace) -> None:
    experiment = _experiment(options)
    if experiment is None:
        return
    runs = _runs()
    if options.dry_run:
        from radz.dry_run import dry_run

        sys.stdout.write("\n".join(dry_run(experiment)) + "\n")
    else:
        sys.stdout.write(f"{runs.train(experiment)}\n")


def _anchors(options: argparse.Namespace) -> None:
    options.keys = [f"dkam.{key}" if key.startswith("write=") else key for key in options.keys]
    if (experiment := _experiment(options)) is not None:
        sys.stdout.write(f"{_runs().anchors(experiment)}\n")


def _eval(options: argparse.Namespace) -> None:
    if (experiment := _experiment(options)) is not None:
        sys.stdout.write(f"{_runs().evaluate_run(experiment)}\n")


def _predict(options: argparse.Namespace) -> None:
    keys = _pairs(options.keys, {"input", "out", "findings", "heatmaps"}, required={"input", "out"})
    _check_out(keys["out"])
    _runs()
    from radz.predict import predict_folder

    findings = [name.strip() for name in keys.get("findings", "").strip("[]").split(",") if name.strip()]
    done = predict_folder(options.run, keys["input"], keys["out"], findings, keys.get("heatmaps"))
    sys.stdout.write(f"{done}\n")


def _data(options: argparse.Namespace) -> None:
    from data_modules.errors import InputError, nearest

    actions = {"check": _data_of_experiment, "cache": _data_of_experiment, "phantom": _phantom}
    if options.action not in actions:
        raise InputError(f"data {options.action}: no such action{nearest(options.action, actions)}")
    actions[options.action](options)


def _data_of_experiment(options: argparse.Namespace) -> None:
    from data_modules.errors import InputError

    action = options.action
    if not options.keys or "=" in options.keys[0]:
        raise InputError(f"data {action}: name the experiment behind the action, such as radz data {action} demo")
    _runs()
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


def _phantom(options: argparse.Namespace) -> None:
    from pathlib import Path

    from data_modules.corpus_config import PhantomConfig, SplitCounts
    from data_modules.errors import InputError

    counts = {"train": 80, "val": 16, "test": 40}
    numbers = {**counts, "image_px": 256, "voxels": 96, "seed": 0}
    keys = _pairs(options.keys, {"corpus", "out", "cache_dir", *numbers}, required={"corpus", "out"})
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


def _bench(options: argparse.Namespace) -> None:
    from pathlib import Path

    import data_modules
    from data_modules.errors import InputError

    keys = _pairs(options.keys, {"only", "device"}, set())
    checkout = Path(data_modules.__file__).resolve().parents[1]
    if not (checkout / "benchmarks/run.py").is_file():
        raise InputError("bench: benchmarks/ is not part of the wheel; run it from a checkout, after make setup")
    sys.path.insert(0, str(checkout))
    _runs()
    from benchmarks.run import bench

    only = [name.strip() for name in keys.get("only", "").strip("[]").split(",") if name.strip()]
    sys.stdout.write("\n".join(bench(only, keys.get("device", "cpu"))) + "\n")


def _sweep(options: argparse.Namespace) -> None:
    from pathlib import Path

    from data_modules.errors import InputError

    own = {"count": None, "workers": 1, "search_seed": 0}
    numbers: dict[str, int | None] = dict(own)
    overrides, out = [], None
    for item in options.keys:
        key, _, value = item.partition("=")
        if key == "out":
            out = Path(value).expanduser()
        elif key not in own:
            overrides.append(item)
        elif not value.isdecimal() or (key != "search_seed" and int(value) < 1):
            raise InputError(f"{item}: must be a whole number from {0 if key == 'search_seed' else 1}")
        else:
            numbers[key] = int(value)
    from radz.sweep.file import read_sweep

    sweep = read_sweep(options.sweep)
    _runs()
    from radz.sweep.search import Search

    search = Search(sweep, out or Path("runs") / "sweeps" / sweep.name, overrides, numbers["search_seed"] or 0)
    sys.stdout.write(f"{search.run(numbers['count'], numbers['workers'] or 1)}\n")


def _rerun(options: argparse.Namespace) -> None:
    from pathlib import Path

    from data_modules.errors import InputError

    keys = _pairs(options.keys, {"run_dir", "tolerance"}, set())
    try:
        tolerance = float(keys["tolerance"]) if "tolerance" in keys else None
    except ValueError:
        raise InputError(f"tolerance={keys['tolerance']}: must be a number from 0, such as 0.001") from None
    _runs()
    from radz.rerun import rerun

    folder = Path(keys["run_dir"]).expanduser() if "run_dir" in keys else None
    out, told = rerun(Path(options.run).expanduser(), folder, tolerance)
    sys.stdout.write(f"{told}\n{out}\n")


def _report(options: argparse.Namespace) -> None:
    _pairs(options.keys, set(), set())
    from pathlib import Path

    sys.stdout.write(f"{_runs().report(Path(options.run))}\n")


def _compare(options: argparse.Namespace) -> None:
    from pathlib import Path

    more = [item for item in options.keys if "=" not in item]
    keys = _pairs([item for item in options.keys if "=" in item], {"out", "scorer"}, set())
    from radz.report.compare import compare

    out = Path(keys["out"]).expanduser() if "out" in keys else None
    page = compare([Path(run).expanduser() for run in (options.run, *more)], out, keys.get("scorer"))
    sys.stdout.write(f"{page}\n")


def _evidence(options: argparse.Namespace) -> None:
    from radz.cli_evidence import evidence

    evidence(options.run, options.keys)


def _export(options: argparse.Namespace) -> None:
    from radz.cli_models import export

    export(options.run, _pairs(options.keys, {"out", "merge", "dtype"}, required={"out"}))


def _import(options: argparse.Namespace) -> None:
    from radz.cli_models import import_

    import_(options.src, _pairs(options.keys, {"out", "tower", "conversation"}, required={"out"}))


def _runs() -> ModuleType:
    """The module of the verbs, imported when a verb runs, with the libraries below it kept quiet."""
    from radz import run
    from radz.trainer import quiet

    quiet()
    return run


def _check_out(out: str) -> None:
    """InputError for a file that could not be written after all has been scored."""
    from pathlib import Path

    from data_modules.errors import InputError
    from radz.run_folder import make_folder

    path = Path(out).expanduser()
    if path.is_dir():
        raise InputError(f"out: {out} is a folder; name a file, such as out={path / 'scores.csv'}")
    make_folder(path.parent, "out")


def _experiment(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The resolved experiment; None when it was only to be printed."""
    from radz.experiment import load_experiment, to_yaml

    experiment = load_experiment(options.experiment, options.keys)
    if options.print_config:
        sys.stdout.write(to_yaml(experiment))
        return None
    return experiment


def _pairs(items: Sequence[str], known: set[str], required: set[str]) -> dict[str, str]:
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


KEYS = {
    "predict": "input=FOLDER out=CSV findings=[a,b] heatmaps=DIR",
    "export": "out=DIR merge=true (false: LoRA stays a PEFT adapter) dtype=auto (that of the backbone; float32, "
    "float16, bfloat16)",
    "import": "out=DIR tower=DIR (CLIP, where the checkpoint has none) conversation=v1 | mistral_instruct | plain",
    "report": "takes none",
    "rerun": "run_dir=DIR (RUN-rerun) tolerance=0.005 (0: bit for bit, the default on the same machine without a GPU)",
    "compare": "RUN ... (one or more further runs) out=DIR (default: compare/ in the first) scorer=NAME (default: the "
    "headline of each)",
    "evidence": "only=heatmaps,layers,robustness,features,attention (all without it) studies=400 split=test seed=0 and "
    "further keys of docs/evidence.md; data.* and cache_dir as in training",
    "bench": "only=P1,P4 (all without it) device=gpu (P1, P2, P4 at 7B shapes on one GPU)",
    "sweep": "count=N (runs in all) workers=1 (at once) out=DIR (runs/sweeps/<name>) search_seed=0, and overrides "
    "of the experiment",
    "data": "check, cache: EXPERIMENT and overrides of it; check: images=100 (looked at, of each corpus and split) or "
    "images=all; phantom: corpus=NAME out=DIR, and train=80 val=16 test=40 "
    "(studies) image_px=256 (of a CT voxels=96) seed=0 cache_dir=DIR",
    "eval": "run=RUN and overrides of the experiment",
    "anchors": "write=true (let the model write the descriptions) and overrides of the experiment",
}
DATA = (
    "check EXPERIMENT: audit its data; cache EXPERIMENT: build its pixel cache; "
    "phantom: write the phantom in the official layout of a published corpus"
)
VERBS = {
    "train": Verb(("EXPERIMENT",), "build anchors if missing, fit, test the best checkpoint, write the report", _train),
    "anchors": Verb(("EXPERIMENT",), "write (write=true) and encode the bank of anchors", _anchors),
    "eval": Verb(("EXPERIMENT",), "score the experiment's data with a trained run (run=RUN)", _eval),
    "predict": Verb(("RUN",), "score a folder of DICOM, PNG and JPEG images with a trained run or an export", _predict),
    "data": Verb(("ACTION",), DATA, _data),
    "export": Verb(("RUN",), "a trained run to a Hugging Face folder, with heads, anchors and model card", _export),
    "import": Verb(("SRC",), "an original LLaVA or LLaVA-Med v1.5 checkpoint to a Hugging Face folder", _import),
    "report": Verb(("RUN",), "write report.html of a finished run anew", _report),
    "evidence": Verb(
        ("RUN",), "heat-maps, probes by layer, robustness, feature maps and attention of a run", _evidence
    ),
    "rerun": Verb(("RUN",), "train a finished run again from its folder and compare the numbers", _rerun),
    "compare": Verb(("RUN",), "set runs side by side on the same studies, with paired tests", _compare),
    "sweep": Verb(("SWEEP",), "search the keys of a W&B sweep file on this machine, without an account", _sweep),
    "bench": Verb((), "measure radz beside plain implementations (from a checkout; all, or only=IDS)", _bench),
}
