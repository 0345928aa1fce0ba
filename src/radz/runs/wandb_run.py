"""Weights & Biases: one run per run folder, resumed with it; results as tables and curves; alerts.

What leaves the machine holds no place, no report, no study and no patient; pictures only with `wandb.images`, weights
and anchors only with `wandb.artifacts`.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import asdict
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from data_modules.errors import InputError
from data_modules.files import write_text
from radz.config.files import digest
from radz.config.schema import Experiment
from radz.distributed import is_main_process
from radz.training.callbacks.csv_logger import CsvLog

log = logging.getLogger(__name__)
_STAGES_ANYWHERE = "WANDB_DATA_DIR" not in os.environ


def wandb_mode(wanted: str) -> str:
    """`auto` follows WANDB_MODE, else is online exactly when an account is configured."""
    if wanted != "auto":
        return wanted
    if mode := os.environ.get("WANDB_MODE"):
        if mode not in ("online", "offline", "disabled"):
            raise InputError(f"WANDB_MODE: {mode!r} is not allowed; use online, offline or disabled")
        return mode
    try:
        known = netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        known = False
    return "online" if known or os.environ.get("WANDB_API_KEY") else "offline"


def wandb_logger(experiment: Experiment, run_dir: Path) -> WandbLogger | None:
    """The logger of a run folder; None when W&B is disabled. A resumed folder continues its W&B run."""
    mode = wandb_mode(experiment.wandb.mode)
    if mode == "disabled":
        return None
    import wandb

    settings = experiment.wandb
    os.environ.setdefault("WANDB_SILENT", "true")
    if _STAGES_ANYWHERE:  # files on their way to W&B wait below the home folder otherwise
        os.environ["WANDB_DATA_DIR"] = str((run_dir / "wandb").resolve())
    log.info("W&B is %s; files in %s", mode, run_dir / "wandb")
    logger = WandbLogger(
        project=settings.project,
        entity=settings.entity,
        group=settings.group or experiment.name,
        tags=settings.tags,
        name=f"{experiment.name}-seed{experiment.seed}-{digest(experiment)}",
        id=_run_id(run_dir),
        save_dir=run_dir,
        mode=mode,  # Lightning's `offline` would set WANDB_MODE for all that comes after
        config=shared_config(experiment),
        # The console, the command with its paths, the host and the git remote may say what must not leave the machine;
        # code is not W&B's to keep. Versions and hardware stand in the config.
        settings=wandb.Settings(
            console="off", disable_code=True, save_code=False, disable_git=True, host="", x_disable_meta=True,
            x_save_requirements=False,
        ),
    )  # fmt: skip
    logger._wandb_init.pop("anonymous", None)  # Lightning always gives it, and W&B warns of it
    return logger


def logger_of(experiment: Experiment, run_dir: Path) -> WandbLogger | None:
    """The logger of a folder that was logged before, to add to its W&B run; None for another."""
    return wandb_logger(experiment, run_dir) if (run_dir / "wandb" / "run_id").is_file() else None


def run_loggers(experiment: Experiment, run_dir: Path, csv: CsvLog) -> list[Logger]:
    """metrics.csv always; W&B unless disabled."""
    logger = wandb_logger(experiment, run_dir)
    return [csv] if logger is None else [csv, logger]


def shared_config(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment without places and without what only names files of this machine."""
    plain = asdict(experiment)
    for key in ("run_dir", "cache_dir", "run", "overwrite", "wandb"):
        plain.pop(key)
    for section, key in (("backbone", "path"), ("clip", "path"), ("supervised", "run")):
        plain[section].pop(key)
    plain["dfat"]["rewrite"].pop("file")
    plain["dkam"]["descriptions"] = Path(plain["dkam"]["descriptions"]).name
    plain["dkam"]["sources"] = [Path(name).name for name in plain["dkam"]["sources"]]
    for corpus in plain["data"]["corpora"]:
        for key in ("root", "csv", "split_csv", "image_folder", "keep"):
            corpus.pop(key)
    return plain


def _run_id(run_dir: Path) -> str:
    """That of the agent that started us, else that of the folder, else a new one, kept in the folder."""
    file = run_dir / "wandb" / "run_id"
    if given := os.environ.get("WANDB_RUN_ID"):
        return given
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    new_id = secrets.token_hex(6)
    if is_main_process():
        write_text(file, new_id + "\n")
    return new_id
