"""What a run is made of before it trains or scores: data, what training knows, module, bank of anchors."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from data_modules.base import StudyDataModule
from data_modules.errors import InputError
from radz import build, checks
from radz.anchors import AnchorBank
from radz.backbones.adapt import log_trainable
from radz.baselines import READS_TEXT, build_baseline, needs_training_data
from radz.config import Experiment
from radz.distributed import is_main_process
from radz.exporting.load import Trained, is_export, knowledge, load_export
from radz.rewrite import reword
from radz.run_folder import read_environment

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a run is made of before it trains."""

    data: StudyDataModule
    findings: list[str]
    known: dict[str, Any]
    """what training knows: `findings` (its label columns) and `seen` (`build.seen_findings`)"""
    module: Any
    bank: AnchorBank | None

    @property
    def seen(self) -> dict[str, str]:
        """`label`, `text` or `none` for each finding that is scored."""
        return build.seen_groups(self.findings, self.known["seen"])


def prepare(experiment: Experiment, folder: Path | None, trained: bool = False) -> Parts:
    """Data, bank and module. With a `folder`, its bank is reused, or written there when missing.

    `trained`: the folder is that of a trained run, and the data are only scored: they need a test split alone.
    """
    pl.seed_everything(experiment.seed, verbose=False)
    data = build.data_module(experiment)
    data.setup(None if not trained and needs_training_data(experiment) else "test")
    findings = build.scored_findings(experiment, data)
    known = knowledge(folder) if trained and folder else {}
    words = {} if trained else _reworded(experiment, data, folder)
    if experiment.method != "dfat":
        baseline = build_baseline(experiment, data, findings, known, folder if trained else None)
        read = build.training_texts(experiment, data) if experiment.method in READS_TEXT else []
        return Parts(data, findings, known or _knowledge(data, read) | words, baseline, None)
    stored = _stored_bank(folder)
    names = list(stored.names) if stored else build.bank_findings(experiment, data)
    checks.before_model(experiment, findings, names, stored is not None)
    view = build.label_view(data)
    if folder is not None and is_export(folder):
        model = load_export(folder)[1]
    else:
        model = _base_model(experiment, folder, stored, names)
    base, bank = model.encoder, model.bank
    texts = build.class_texts(experiment, findings, model.file)
    anchors = model.class_anchors(experiment, texts, base)
    base.check_images(data.most_images(), experiment.data.image_size)
    module = build.module(experiment, base, bank, view, texts, anchors, data.modalities)
    module.train()
    log_trainable(module)
    known = known or _knowledge(data, build.training_texts(experiment, data)) | words
    return Parts(data, findings, known, module, bank)


def _base_model(experiment: Experiment, folder: Path | None, bank: AnchorBank | None, names: list[str]) -> Trained:
    """The encoder with base weights, and its bank, which is built unless it is given."""
    base, base_digest = build.encoder(experiment)
    file = build.descriptions_file(experiment, folder or Path())
    base.eval()
    if bank is None:
        bank = build.bank(experiment, base, base_digest, names, file)
        if folder is not None and is_main_process():
            save_bank(bank, folder)
    bank.check_base(base_digest, base.backbone.hidden_size)
    return Trained(base, bank, base_digest, file)


def _reworded(experiment: Experiment, data: StudyDataModule, folder: Path | None) -> dict[str, str]:
    """Rewritten reports in the place of the training texts, where they are asked for; what environment.json notes."""
    reads = experiment.method == "dfat" or (experiment.method in READS_TEXT and needs_training_data(experiment))
    if experiment.dfat.text_source != "rewrite" or not reads:
        return {}
    if folder is None:
        log.info("dfat.text_source=rewrite: nothing is written now; the reports themselves stand in")
        return {}
    found = reword(experiment, data)
    before = read_environment(folder).get("rewritten_digest", found)
    if before != found:
        raise InputError(
            f"dfat.text_source=rewrite: the rewritten reports are others than {folder} was begun with; put them back "
            "or start a new run"
        )
    return {"rewritten_digest": found}


def _knowledge(data: StudyDataModule, texts: list[str]) -> dict[str, Any]:
    return {"findings": list(data.findings), "seen": build.seen_findings(data, texts)}


def _stored_bank(folder: Path | None) -> AnchorBank | None:
    if folder is None or not (folder / "anchors" / "anchors.json").is_file():
        return None
    return AnchorBank.load(folder / "anchors")


def save_bank(bank: AnchorBank, folder: Path) -> None:
    """The bank as folder/anchors; the old one stays until the new one is whole."""
    draft = folder / f".anchors.{os.getpid()}"
    bank.save(draft)
    shutil.rmtree(folder / "anchors", ignore_errors=True)
    draft.rename(folder / "anchors")
