"""The command line: one verb, its positionals, and key=value. Heavy imports happen inside a verb (contract.md)."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from radz.verbs import data, many, models, runs

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

    def work() -> int:
        VERBS[options.verb].function(options)
        return 0

    return guarded(work, options.verb)


def guarded(work: Callable[[], int], verb: str = "train") -> int:
    """The exit code of `work`, or that of what it raises, said in one line; our own defects are raised."""
    # data_modules.errors imports nothing heavy.
    from data_modules.errors import InputError

    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    for name in ("radz", "data_modules"):
        logging.getLogger(name).setLevel(logging.INFO)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work()
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
            sys.stderr.write(f"radz: {advice(verb)}\n")
            return 2
        if type(error).__name__ != "Stopped":
            raise
        return _stopped(error)
    finally:
        signal.signal(signal.SIGTERM, before)


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
    "train": Verb(
        ("EXPERIMENT",), "build anchors if missing, fit, test the best checkpoint, write the report", runs.train
    ),
    "anchors": Verb(("EXPERIMENT",), "write (write=true) and encode the bank of anchors", runs.anchors),
    "eval": Verb(("EXPERIMENT",), "score the experiment's data with a trained run (run=RUN)", runs.eval),
    "predict": Verb(("RUN",), "score a folder of DICOM, PNG and JPEG images with a run or an export", runs.predict),
    "data": Verb(("ACTION",), DATA, data.data),
    "export": Verb(("RUN",), "a run to a Hugging Face folder, with heads, anchors and model card", models.export),
    "import": Verb(("SRC",), "an original LLaVA or LLaVA-Med v1.5 checkpoint to a Hugging Face folder", models.import_),
    "report": Verb(("RUN",), "write report.html of a finished run anew", runs.report),
    "evidence": Verb(
        ("RUN",), "heat-maps, probes by layer, robustness, feature maps and attention of a run", runs.evidence
    ),
    "rerun": Verb(("RUN",), "train a finished run again from its folder and compare the numbers", runs.rerun),
    "compare": Verb(("RUN",), "set runs side by side on the same studies, with paired tests", runs.compare),
    "sweep": Verb(("SWEEP",), "search the keys of a W&B sweep file on this machine, without an account", many.sweep),
    "bench": Verb((), "measure radz beside plain implementations (from a checkout; all, or only=IDS)", many.bench),
}
