"""The verbs, one function each: from options to a call, and what is printed. Heavy imports happen inside a verb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from data_modules.keys import Reader, flag, folder, names, number, numbers, read_keys, shares, whole


def quiet() -> None:
    """Keep the libraries quiet; called once a verb's own keys are known to be right, since it imports torch."""
    from radz.training import trainer

    trainer.quiet()


def train(options: argparse.Namespace) -> None:
    """`radz train EXPERIMENT`, with --print-config or --dry-run."""
    experiment = _resolved(options)
    if experiment is None:
        return
    quiet()
    if options.dry_run:
        from radz.runs.dry_run import dry_run

        sys.stdout.write("\n".join(dry_run(experiment)) + "\n")
    else:
        from radz.runs.train import train

        run = train(experiment)
        sys.stdout.write("nothing kept\n" if experiment.trainer.fast_dev_run else f"{run}\n")


def anchors(options: argparse.Namespace) -> None:
    """`radz anchors EXPERIMENT write=true`."""
    options.keys = [f"dkam.{key}" if key.startswith("write=") else key for key in options.keys]
    if (experiment := _resolved(options)) is not None:
        quiet()
        from radz.runs.train import anchors

        sys.stdout.write(f"{anchors(experiment)}\n")


def eval(options: argparse.Namespace) -> None:
    """`radz eval EXPERIMENT run=RUN`."""
    if (experiment := _resolved(options)) is not None:
        quiet()
        from radz.runs.evaluate import evaluate_run

        sys.stdout.write(f"{evaluate_run(experiment)}\n")


def predict(options: argparse.Namespace) -> None:
    """`radz predict RUN input=FOLDER out=CSV findings=[a,b] studies=TABLE prevalence=0.02 heatmaps=DIR ..`."""
    from data_modules.files import file_to_write

    readers: dict[str, Reader] = dict.fromkeys(("input", "out", "heatmaps", "sr", "device", "studies", "corpus"), str)
    readers |= {"findings": names, "prevalence": shares}
    keys, _ = read_keys(options.keys, readers, required=["input", "out"])
    file_to_write(keys["out"], "out")
    quiet()
    from radz.inference.predict import predict_folder

    source, out, findings = keys.pop("input"), keys.pop("out"), keys.pop("findings", [])
    sys.stdout.write(f"{predict_folder(options.run, source, out, findings, **keys)}\n")


def export(options: argparse.Namespace) -> None:
    """`radz export RUN out=DIR merge=true dtype=auto`."""
    keys, _ = read_keys(options.keys, {"out": str, "merge": flag, "dtype": str}, required=["out"])
    quiet()
    from radz.inference.export import export_run

    sys.stdout.write(f"{export_run(options.run, **keys)}\n")


def import_(options: argparse.Namespace) -> None:
    """`radz import SRC out=DIR tower=DIR conversation=v1`."""
    keys, _ = read_keys(options.keys, {"out": str, "tower": str, "conversation": str}, required=["out"])
    quiet()
    from radz.backbones.original_llava.convert import import_checkpoint

    sys.stdout.write(f"{import_checkpoint(options.src, **keys)}\n")


SHAPE = ("image_size", "patch_size", "width", "layers", "heads")
"""keys of `radz assemble tower=new`"""


def assemble(options: argparse.Namespace) -> None:
    """`radz assemble decoder=SRC tower=SRC out=DIR tower_layers=[-2] dtype=auto seed=0`, and SHAPE of a new tower."""
    required = ["decoder", "tower", "out"]
    readers: dict[str, Reader] = dict.fromkeys([*required, "dtype"], str)
    readers |= {"seed": whole(0), "tower_layers": numbers, **dict.fromkeys(SHAPE, whole(1))}
    keys, _ = read_keys(options.keys, readers, required)
    quiet()
    from radz.backbones.assembly.assemble import assemble
    from radz.backbones.assembly.tower import TowerShape
    from radz.inference.export import backbone_of

    shape = {key: keys.pop(key) for key in SHAPE if key in keys}
    with backbone_of(keys.pop("tower")) as tower:
        folder = assemble(tower=tower, shape=TowerShape(**shape) if shape else None, **keys)
    sys.stdout.write(f"{folder}\n")


def report(options: argparse.Namespace) -> None:
    """`radz report RUN`."""
    read_keys(options.keys, {})
    quiet()
    from radz.runs.train import report

    sys.stdout.write(f"{report(Path(options.run))}\n")


def evidence(options: argparse.Namespace) -> None:
    """`radz evidence RUN only=heatmaps,layers key=value ..`."""
    quiet()
    from radz.evidence.compute import evidence

    sys.stdout.write(f"{evidence(folder(options.run), options.keys)}\n")


def view(options: argparse.Namespace) -> None:
    """`radz view RUN input=FOLDER split=test port=N ..`."""
    quiet()
    from radz.evidence.view.view import view

    def tell(address: str) -> None:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()

    view(folder(options.run), options.keys, tell)


def rerun(options: argparse.Namespace) -> None:
    """`radz rerun RUN run_dir=DIR tolerance=0.005`."""
    keys, _ = read_keys(options.keys, {"run_dir": folder, "tolerance": number})
    quiet()
    from radz.runs.rerun import rerun

    out, verdict = rerun(folder(options.run), **keys)
    sys.stdout.write(f"{verdict}\n{out}\n")


def compare(options: argparse.Namespace) -> None:
    """`radz compare RUN RUN .. out=DIR scorer=NAME`."""
    more = [item for item in options.keys if "=" not in item]
    keys, _ = read_keys([item for item in options.keys if "=" in item], {"out": folder, "scorer": str})
    from radz.report.compare import compare

    sys.stdout.write(f"{compare([folder(run) for run in (options.run, *more)], **keys)}\n")


def score(options: argparse.Namespace) -> None:
    """`radz score SCORES labels=FILE out=DIR protocol=NAME patient=COLUMN ..`; torch stays unloaded."""
    readers: dict[str, Reader] = dict.fromkeys(("labels", "val", "val_labels", "out", "cache_dir"), folder)
    readers |= dict.fromkeys(("protocol", "scorer", "corpus", "unmatched", "study", "image", "patient"), str)
    readers |= dict.fromkeys(("primary", "ignore", "subgroups"), names)
    keys, _ = read_keys(options.keys, readers | {"replicates": whole(100), "seed": whole(0)}, required=["out"])
    from radz.runs.other_scores.request import Request
    from radz.runs.other_scores.score import score_given
    from radz.runs.other_scores.sheet import Named

    named = Named(**{key: keys.pop(key) for key in ("study", "image", "patient", "ignore", "subgroups") if key in keys})
    sys.stdout.write(f"{score_given(Request(folder(options.scores), named=named, **keys))}\n")


def sweep(options: argparse.Namespace) -> None:
    """`radz sweep SWEEP count=N workers=1 out=DIR search_seed=0 key=value ..`."""
    readers = {"count": whole(1), "workers": whole(1), "search_seed": whole(0), "out": folder}
    keys, overrides = read_keys(options.keys, readers, overrides=None)
    from radz.multirun.sweep.file import read_sweep

    sweep = read_sweep(options.sweep)
    quiet()
    from radz.multirun.sweep.search import Search

    out = keys.get("out", Path("runs") / "sweeps" / sweep.name)
    search = Search(sweep, out, overrides, keys.get("search_seed", 0))
    sys.stdout.write(f"{search.run(keys.get('count'), keys.get('workers', 1))}\n")


def bench(options: argparse.Namespace) -> None:
    """`radz bench only=P1,P4 device=gpu`."""
    import data_modules
    from data_modules.errors import InputError

    keys, _ = read_keys(options.keys, {"only": names, "device": str})
    checkout = Path(data_modules.__file__).resolve().parents[1]
    if not (checkout / "benchmarks/run.py").is_file():
        raise InputError("bench: benchmarks/ is not part of the wheel; run it from a checkout, after make setup")
    sys.path.insert(0, str(checkout))
    quiet()
    from benchmarks.run import bench

    for line in bench(keys.pop("only", []), **keys):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def data(options: argparse.Namespace) -> None:
    """`radz data check|cache EXPERIMENT`, `radz data phantom|label`, `radz data denoise RUN`."""
    from data_modules.errors import InputError, nearest

    actions = {
        "check": _of_experiment,
        "cache": _of_experiment,
        "phantom": _phantom,
        "label": _label,
        "denoise": _denoise,
    }
    if options.action not in actions:
        raise InputError(f"data {options.action}: no such action{nearest(options.action, actions)}")
    actions[options.action](options)


def _resolved(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The resolved experiment; None when it was only to be printed."""
    from radz.config.files import load_experiment, to_yaml

    experiment = load_experiment(options.experiment, options.keys)
    if options.print_config:
        sys.stdout.write(to_yaml(experiment))
        return None
    return experiment


def _of_experiment(options: argparse.Namespace) -> None:
    """`radz data check EXPERIMENT images=100`, `radz data cache EXPERIMENT`."""
    from data_modules.errors import InputError

    action = options.action
    if not options.keys or "=" in options.keys[0]:
        raise InputError(f"data {action}: name the experiment behind the action, such as radz data {action} demo")
    quiet()
    from radz.config.files import load_experiment
    from radz.runs import audit

    name, *keys = options.keys
    own, overrides = read_keys(keys, {"images": _images} if action == "check" else {}, overrides=None)
    experiment = load_experiment(name, overrides)
    lines = audit.check(experiment, own.get("images", audit.SAMPLE)) if action == "check" else audit.cache(experiment)
    sys.stdout.write("\n".join(lines) + "\n")


def _images(text: str) -> int | None:
    """How many image files are opened; None: all."""
    try:
        return None if text == "all" else whole(1)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or all") from None


def _phantom(options: argparse.Namespace) -> None:
    """`radz data phantom corpus=NAME out=DIR train=80 ..`."""
    from data_modules.corpus_config import PhantomConfig, SplitCounts

    counts = {"train": 80, "val": 16, "test": 40}
    numbers: dict[str, Any] = {**counts, "image_px": 256, "voxels": 96, "seed": 0}
    readers: dict[str, Reader] = {"corpus": str, "out": folder, "cache_dir": folder}
    readers |= dict.fromkeys(numbers, whole(0))
    keys, _ = read_keys(options.keys, readers, required=["corpus", "out"])
    numbers = {name: keys.get(name, default) for name, default in numbers.items()}
    from data_modules.phantom.layouts import write_layout

    studies = SplitCounts(**{name: numbers.pop(name) for name in counts})
    config = PhantomConfig(studies, **numbers)
    write_layout(keys["corpus"], keys["out"], config, keys.get("cache_dir", Path(".cache/radz")))
    sys.stdout.write(f"{keys['out']}\n")


def _label(options: argparse.Namespace) -> None:
    """`radz data label csv=FILE text=COLUMN out=labels.csv modality=chest_ct findings=[a,b] labeller=backbone ..`."""
    from data_modules.errors import InputError, nearest

    # of one labeller, beside those of both
    own: dict[str, dict[str, Reader]] = {
        "rules": {"processes": whole(0)},
        "backbone": {"backbone": str, "examples": str, "device": str, "cache_dir": folder},
    }
    readers: dict[str, Reader] = {
        "csv": str, "text": str, "out": str, "modality": str, "findings": names, "labeller": str,
    }  # fmt: skip
    keys, _ = read_keys(options.keys, readers | own["rules"] | own["backbone"], required=["csv", "text", "out"])
    labeller = keys.get("labeller", "rules")
    if labeller not in own:
        raise InputError(f"labeller: '{labeller}' is not one of {', '.join(own)}{nearest(labeller, own)}")
    if strange := [name for other, its in own.items() if other != labeller for name in its if name in keys]:
        raise InputError(f"{strange[0]}: labeller={labeller} does not read it; leave it out, or choose the other one")
    if labeller == "backbone" and "backbone" not in keys:
        raise InputError("backbone: labeller=backbone needs it, such as backbone=/models/llava-med")
    from data_modules.files import file_to_write
    from data_modules.labelling.table import label_table, read_reports

    out = file_to_write(keys["out"], "out")

    source, text = Path(keys["csv"]).expanduser(), keys["text"]
    modality, beside = keys.get("modality", "chest_xray"), "proofs" if labeller == "rules" else "scores"
    table = read_reports(source, text, out, beside, modality, keys.get("findings", ()))
    if labeller == "rules":
        lines = label_table(table, modality, keys.get("processes"))
    else:
        quiet()
        from radz.config.backbone import BackboneConfig
        from radz.runs.backbone_labels import label_by_backbone

        examples = Path(keys["examples"]).expanduser() if "examples" in keys else None
        backbone, cache_dir = BackboneConfig(path=keys["backbone"]), keys.get("cache_dir", Path(".cache/radz"))
        lines = label_by_backbone(table, text, modality, backbone, examples, cache_dir, keys.get("device"))
    sys.stdout.write("\n".join(lines) + "\n")


def _denoise(options: argparse.Namespace) -> None:
    """`radz data denoise RUN out=FILE ask=N device=cuda`."""
    from data_modules.errors import InputError

    if not options.keys or "=" in options.keys[0]:
        raise InputError("data denoise: name the run behind the action, such as radz data denoise runs/demo/seed0-..")
    run, *rest = options.keys
    keys, _ = read_keys(rest, {"out": str, "device": str, "ask": whole(0)})
    from data_modules.files import file_to_write

    named = keys.get("out")
    out = file_to_write(named, "out") if named else Path(run).expanduser() / "audit" / "label_suspects.csv"
    quiet()
    from radz.runs.denoise import denoise

    sys.stdout.write("\n".join(denoise(Path(run), out, keys.get("device"), keys.get("ask", 0))) + "\n")
