"""The command line: one verb, its positionals, and key=value. Heavy imports happen inside a verb."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from radz.cli import verbs
from radz.stopping import LAST_SECONDS, Signals, is_first_process
from radz.version import __version__

EPILOG = """\
key=value sets any key of the experiment, such as seed=1 or data.corpora.0.root=/data/mine; --print-config shows them.
with=recipes/NAME[,NAME] lays files of experiments/recipes/ between the experiment and its key=value.
Exit codes: 0 done, 2 the input is at fault (one line says what), 3 stopped (signal, full disk) and resumable, 1 our
defect."""

STDOUT = Path("standard output")


@dataclass(frozen=True)
class Verb:
    """One verb: its positional arguments, what it does, the function that does it, and what its help says of keys."""

    positional: tuple[str, ...]
    does: str
    function: Callable[[argparse.Namespace], None]
    keys: str = "override of the experiment"


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
    from data_modules.workers import follow_parent

    # A sweep waits for the step that each of its runs is in.
    with Signals(None if verb == "sweep" else LAST_SECONDS) as signals:
        try:
            follow_parent()
            logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
            for name in ("radz", "data_modules"):
                logging.getLogger(name).setLevel(logging.INFO)
            done = work()
            _printed()
            return done
        except BaseException as error:
            signals.ending = True
            if (code := _exit_code(error, signals, verb)) is None:
                raise
            return code


def _exit_code(error: BaseException, signals: Signals, verb: str) -> int | None:
    """The exit code of an error, which is told in one line; None for our own defects.

    Processes that the first one has started say nothing of a stop and end with 0: else it would be killed in its turn.
    """
    from data_modules.disk import CannotWrite, cannot_open, cannot_write
    from data_modules.errors import InputError
    from data_modules.workers import death
    from radz.training.out_of_memory import advice, is_out_of_memory

    stopped = type(error).__name__ == "Stopped"
    if stopped or signals.seen or isinstance(error, KeyboardInterrupt):
        if not is_first_process():
            return 0
        sys.stderr.write(signals.message(str(error)) if stopped else signals.message())
        return 3
    place = STDOUT if _of_print(error) else None
    error = cannot_write(error, place) or cannot_open(error) or error
    if place is not None and isinstance(error, CannotWrite):
        _let_go()
    if isinstance(error, InputError):
        sys.stderr.write(f"radz: {error}\n")
        if help := getattr(error, "help", ""):
            sys.stderr.write(f"\n{help}")
        return 3 if getattr(error, "resumable", False) else 2
    if is_out_of_memory(error):
        sys.stderr.write(f"radz: {advice(verb)}\n")
        return 2
    if died := death(error):
        sys.stderr.write(f"radz: {died}\n")
        return 2
    if ranks := sys.modules.get("radz.training.ranks"):  # heavy, and loaded with the trainer
        ranks.verdict()
        if lost := ranks.lost(error):
            sys.stderr.write(f"radz: {lost}\n")
            return 2
    return None


def _printed() -> None:
    """See that what was printed has arrived; without this Python ends with 120 and words of its own."""
    from data_modules.disk import writing

    try:
        with writing(STDOUT):
            sys.stdout.flush()
    except Exception as error:
        _let_go()
        if not isinstance(error, BrokenPipeError):  # of a reader who has seen enough
            raise


def _let_go() -> None:
    """Let what is not printed yet go nowhere; else Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_print(error: BaseException) -> bool:
    """Whether an error of the system that names no file was raised by a line of this room, which only prints."""
    steps = list(traceback.walk_tb(error.__traceback__))
    of_system = isinstance(error, OSError) and error.filename is None
    return of_system and bool(steps) and Path(steps[-1][0].f_code.co_filename).parent == Path(__file__).parent


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="radz",
        description="Zero-shot recognition of disease in chest radiographs and CT with multimodal language models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"radz {__version__}")
    commands = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        command = commands.add_parser(
            name, help=verb.does, description=verb.does, epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        for positional in verb.positional:
            command.add_argument(positional.lower(), metavar=positional)
        command.add_argument("keys", nargs="*", metavar="key=value", help=verb.keys)
        if "EXPERIMENT" in verb.positional:
            command.add_argument("--print-config", action="store_true", help="print the resolved experiment and stop")
        if name == "train":
            command.add_argument(
                "--dry-run", action="store_true", help="build data and model, print counts and costs, keep nothing"
            )
    return top


VERBS = {
    "train": Verb(
        ("EXPERIMENT",), "build anchors if missing, fit, test the best checkpoint, write the report", verbs.train
    ),
    "anchors": Verb(
        ("EXPERIMENT",), "write (write=true) and encode the bank of anchors", verbs.anchors,
        "write=true (let the model write the descriptions) and overrides of the experiment",
    ),
    "eval": Verb(
        ("EXPERIMENT",), "score the experiment's data with a trained run (run=RUN)", verbs.eval,
        "run=RUN and overrides of the experiment",
    ),
    "predict": Verb(
        ("RUN",), "score a folder of radiographs (DICOM, PNG, JPEG) or CT volumes with a run or an export",
        verbs.predict,
        "input=FOLDER out=CSV (in_scope and reason: whether a study is of what was trained on; and a .json beside it) "
        "findings=[a,b] studies=FILE (columns file, study; or "
        "studies=folder: the pictures of each folder are one study) prevalence=0.02 (of the probabilities; or "
        "by finding, [edema=0.1,mass=0.01]; default: that of validation) corpus=NAME (whose validation, where the run "
        "has several) heatmaps=DIR sr=DIR (DICOM Structured Reports and their JSON; extra sr) device=cpu (default: the "
        "GPU if there is one)",
    ),
    "data": Verb(
        ("ACTION",),
        "check EXPERIMENT: audit its data; cache EXPERIMENT: build its pixel cache; phantom: write the phantom in the "
        "official layout of a published corpus; label: read labels out of reports; denoise RUN: rank labels that its "
        "features, the reports or its backbone speak against",
        verbs.data,
        "check, cache: EXPERIMENT and overrides of it; check: images=100 (looked at, of each corpus and split) or "
        "images=all; phantom: corpus=NAME out=DIR, and train=80 val=16 test=40 "
        "(studies) image_px=256 (of a CT voxels=96) seed=0 cache_dir=DIR; label: csv=FILE text=COLUMN out=FILE "
        "modality=chest_xray (or chest_ct) findings=[a,b] (default: all) processes=2 (default: by the machine), or "
        "labeller=backbone backbone=SRC (folder or hub id) examples=FILE (reports labelled by hand) device=cpu "
        "cache_dir=DIR (keeps the answers); "
        "denoise: out=FILE (default: audit/label_suspects.csv of the run) ask=0 (so many of the most suspicious cells "
        "are put to the run's backbone, beside a study that has the finding and one that lacks it) device=cpu",
    ),
    "export": Verb(
        ("RUN",), "a run to a Hugging Face folder, with heads, anchors and model card", verbs.export,
        "out=DIR merge=true (false: LoRA stays a PEFT adapter) dtype=auto (that of the backbone; float32, "
        "float16, bfloat16)",
    ),
    "import": Verb(
        ("SRC",), "an original LLaVA or LLaVA-Med v1.5 checkpoint to a Hugging Face folder", verbs.import_,
        "out=DIR tower=DIR (CLIP, where the checkpoint has none) conversation=v1 | mistral_instruct | plain",
    ),
    "assemble": Verb(
        (), "a language model and a vision tower to one LLaVA folder", verbs.assemble,
        "decoder=SRC (Hugging Face folder, hub id or .gguf file) tower=SRC (folder, hub id or RUN) or tower=new "
        "(image_size=112 patch_size=16 width=256 layers=6 heads=4) out=DIR tower_layers=-2 (several: [4,-2]) "
        "dtype=auto (that of the decoder; float32, float16, bfloat16) seed=0",
    ),
    "report": Verb(("RUN",), "write report.html of a finished run anew", verbs.report, "takes none"),
    "evidence": Verb(
        ("RUN",), "heat-maps, probes and words by layer, robustness, feature maps, attention, few shots of a run",
        verbs.evidence,
        "only=heatmaps,layers,words,sentences,robustness,features,attention,fewshot (all without it) studies=400 "
        "split=test phrases=FILE (the list of MS-CXR or PadChest-GR, for item phrases) seed=0 and further keys of "
        "docs/evidence.md; data.* and cache_dir as in training",
    ),
    "view": Verb(
        ("RUN",), "a page to look with, for the browser of this machine: studies, scores, thresholds, heat-maps",
        verbs.view,
        "split=test (of the run), or input=FOLDER (scored by a run or an export) findings=[a,b] studies=FILE "
        "corpus=NAME as for predict; port=N (default: a free one) device=cpu; data.* and cache_dir as in training",
    ),
    "rerun": Verb(
        ("RUN",), "train a finished run again from its folder and compare the numbers", verbs.rerun,
        "run_dir=DIR (RUN-rerun) tolerance=0.005 (0: bit for bit, the default on the same machine without a GPU)",
    ),
    "compare": Verb(
        ("RUN",), "set runs side by side on the same studies, with paired tests", verbs.compare,
        "RUN ... (one or more further runs) out=DIR (default: compare/ in the first) scorer=NAME (default: the "
        "headline of each)",
    ),
    "score": Verb(
        ("SCORES",), "give the scores of any other model, a CSV, the statistics and the page of a run", verbs.score,
        "labels=FILE (not needed where SCORES is a prediction file of radz) out=DIR val=FILE (scores of validation, "
        "for thresholds and calibration) val_labels=FILE (default: labels) protocol=NAME (findings, policy, macro) "
        "patient=COLUMN (or none: one patient a study) study=COLUMN image=COLUMN scorer=NAME (of the model; default: "
        "the file's) corpus=NAME (in results; as in the runs to compare with) primary=[a,b] (findings of the macro) "
        "subgroups=[COLUMN] ignore=[COLUMN] unmatched=error (or skip: leave out studies without scores or labels) "
        "replicates=2000 seed=0 cache_dir=DIR",
    ),
    "sweep": Verb(
        ("SWEEP",), "search the keys of a W&B sweep file on this machine, without an account", verbs.sweep,
        "count=N (runs in all) workers=1 (at once) out=DIR (runs/sweeps/<name>) search_seed=0, and overrides "
        "of the experiment",
    ),
    "bench": Verb(
        (), "measure radz beside plain implementations (from a checkout; all, or only=IDS)", verbs.bench,
        "only=P1,P4 (all without it) device=gpu (at 7B shapes on one GPU, in eight minutes)",
    ),
}  # fmt: skip
