"""The folder of a run: where it lies, whose it is, and what of it may be replaced."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from data_modules.files import replacing
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.experiment import digest, load_experiment, to_yaml

log = logging.getLogger(__name__)

WRITTEN = {
    "config.yaml", "environment.json", "label_mapping.csv", "descriptions.yaml", "anchors", "checkpoints",
    "metrics.csv", "metrics.json", "predictions", "private", "figures", "report.html", "eval", "wandb", "audit",
    "profile", "evidence", "compare",
}  # fmt: skip
"""All that radz writes into a run folder, but for drafts (`.<name>.<process>.part`)."""


def run_folder(experiment: Experiment) -> Path:
    """`run_dir`, else runs/<experiment>/seed<seed>-<digest>."""
    if experiment.run_dir is not None:
        return Path(experiment.run_dir).expanduser()
    return Path("runs") / experiment.name / f"seed{experiment.seed}-{digest(experiment)}"


def load_run(folder: Path) -> Experiment:
    """The resolved experiment of a run folder."""
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder (no config.yaml)")
    return load_experiment(str(folder / "config.yaml"))


def make_folder(folder: Path, key: str) -> None:
    """Make a folder, or InputError naming `key` when it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{key}: {folder}: not a folder to write to ({error.strerror}); choose another") from None


def is_finished(experiment: Experiment, run_dir: Path) -> bool:
    """Whether the folder holds the results of this experiment; InputError when they are of another one."""
    if not (run_dir / "metrics.json").is_file() or experiment.overwrite:
        return False
    _check_same(experiment, run_dir)
    return True


def open_folder(experiment: Experiment, run_dir: Path) -> None:
    """Make the run folder, or check that the one that is there belongs to this experiment (rank 0 only)."""
    if not is_main_process():
        return
    if experiment.overwrite and (run_dir / "config.yaml").is_file():
        clear(run_dir)
    if (run_dir / "config.yaml").is_file():
        _check_same(experiment, run_dir)
    else:
        check_empty(run_dir)
    make_folder(run_dir, "run_dir")
    with replacing(run_dir / "config.yaml") as draft:
        draft.write_text(to_yaml(experiment), encoding="utf-8")
    if not (run_dir / "environment.json").is_file():
        write_json(run_dir / "environment.json", {"config_digest": digest(experiment)})


def check_empty(run_dir: Path) -> None:
    """InputError when a folder that is to become a run folder holds something else than the audit of its data."""
    if run_dir.is_dir() and any(entry.name != "audit" for entry in run_dir.iterdir()):
        raise InputError(f"run_dir: {run_dir} is not empty and not a run folder; choose another")


def clear(run_dir: Path) -> None:
    """Delete what radz wrote into a run folder.

    Raises:
        InputError: its config.yaml is no experiment, or something lies there that radz did not write; nothing is
            deleted then.
    """
    try:
        load_run(run_dir)
    except InputError as error:
        raise InputError(
            f"overwrite: {run_dir} is not a run folder of radz ({error}); choose another run_dir"
        ) from None
    entries = sorted(run_dir.iterdir())
    foreign = [entry.name for entry in entries if entry.name not in WRITTEN and not _is_draft(entry.name)]
    if foreign:
        raise InputError(
            f"overwrite: {run_dir} holds {foreign[0]}, which radz did not write ({len(foreign)} such entries); "
            "move it away or choose another run_dir"
        )
    log.info("overwrite=true: %s starts anew", run_dir)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def read_environment(run_dir: Path) -> dict[str, Any]:
    """environment.json of a run folder; {} without one."""
    path = run_dir / "environment.json"
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it and repeat the train command") from None
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Atomic, without NaN."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _is_draft(name: str) -> bool:
    return name.startswith(".") and (name.endswith(".part") or name.startswith(".anchors."))


def _check_same(experiment: Experiment, run_dir: Path) -> None:
    """The digest noted when the run began counts: it also covers files that the experiment only names."""
    wanted = digest(experiment)
    found = read_environment(run_dir).get("config_digest") or digest(load_run(run_dir))
    if found != wanted:
        raise InputError(
            f"run_dir: {run_dir} holds another experiment ({found} is not {wanted}; the descriptions file counts too); "
            "choose another run_dir, or give overwrite=true"
        )
