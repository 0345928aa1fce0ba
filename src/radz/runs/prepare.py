"""What a run is made of before it trains or scores: data, what training knows, module, bank of anchors."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from radz.config.schema import Experiment
from radz.distributed import is_main_process
from radz.methods import registry
from radz.methods.base import Task
from radz.methods.export_folder import is_export
from radz.methods.report_rewriting import reword
from radz.methods.trained import knowledge
from radz.models.encoder import Encoder
from radz.runs import task
from radz.training.checkpoint_io import load_weights
from radz.training.environment import set_threads
from radz.training.run_folder import read_environment

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a run is made of before it trains."""

    data: StudyDataModule
    findings: list[str]
    known: dict[str, Any]
    """what training knows: `findings` (its label columns) and `seen` (`task.seen_findings`)"""
    module: Any

    @property
    def inputs(self) -> dict[str, Any]:
        """What environment.json notes of the data, and the digests of the anchors and of the weights that the module
        began as, where it has them."""
        anchors = {"anchors_digest": self.module.bank.digest()} if self.module.bank else {}
        base = {"base_digest": self.module.base_digest} if self.module.base_digest else {}
        return {**self.data.environment(), **anchors, **base}

    @property
    def seen(self) -> dict[str, str]:
        """`label`, `text` or `none` for each finding that is scored."""
        return task.seen_groups(self.findings, self.known["seen"])


def prepare(experiment: Experiment, folder: Path | None, trained: bool = False) -> Parts:
    """Data and module. With a `folder`, its bank is reused, or written there when missing.

    `trained`: the folder is that of a trained run, whose weights the module has then, and the data are only scored:
    they need a test split alone.
    """
    pl.seed_everything(experiment.seed, verbose=False)
    asked = registry.has_backbone(experiment.method, experiment.supervised)
    set_threads(asked and experiment.backbone.path is None)
    data = task.data_module(experiment)
    learns = not trained and registry.needs_training_data(experiment.method, experiment.clip)
    data.setup(None if learns else "test")
    if learns:  # here, before the processes are started, each of which would say it
        data.check_batches(experiment.trainer.processes)
    findings = task.scored_findings(experiment, data)
    known = knowledge(folder) if trained and folder else {}
    words = {} if trained else _reworded(experiment, data, folder)
    module: Any = registry.build(Task(experiment, data, tuple(findings), known, folder))
    if not known:
        read = task.training_texts(experiment, data) if registry.reads_text(experiment.method) else []
        if module.bank:
            read += [*module.bank.descriptions, *(text for one in module.extras.values() for text in one.reads(read))]
        known = {"findings": list(data.findings), "seen": task.seen_findings(data, read), **words}
    if module.bank:
        known = {**known, "texts_cut": _texts_cut(experiment, data, module.encoder, trained)}
    if trained and folder and not is_export(folder) and not registry.asks(experiment.method):
        load_weights(module, folder / "checkpoints" / "best.ckpt")
    parts = Parts(data, findings, known, module)
    module.metrics.primary = experiment.scoring.of_macro(parts.seen)
    return parts


def _reworded(experiment: Experiment, data: StudyDataModule, folder: Path | None) -> dict[str, str]:
    """Rewritten reports in the place of the training texts, where they are asked for; what environment.json notes."""
    reads = registry.reads_text(experiment.method) and registry.needs_training_data(experiment.method, experiment.clip)
    if experiment.dfat.text_source != "rewrite" or not reads:
        return {}
    if folder is None:
        log.info("dfat.text_source=rewrite: nothing is written now; the reports themselves stand in")
        return {}
    found = reword(
        data, experiment.backbone, experiment.dfat, experiment.seed, experiment.cache_dir,
        experiment.trainer.accelerator,
    )  # fmt: skip
    before = read_environment(folder).get("rewritten_digest", found)
    if before != found:
        raise InputError(
            f"dfat.text_source=rewrite: the rewritten reports are others than {folder} was begun with; put them back "
            "or start a new run"
        )
    return {"rewritten_digest": found}


def _texts_cut(experiment: Experiment, data: StudyDataModule, encoder: Encoder, trained: bool) -> dict[str, Any]:
    """Say how many texts of each corpus are too long, of the splits whose texts are read; {corpus/split: counts}."""
    splits = ["test"] if experiment.scoring.retrieval else []
    if not trained and experiment.dfat.text_source != "labels":
        splits = ["train", *splits]
    counts = {}
    for corpus in data.table.corpora if is_main_process() else []:
        for split in splits:
            texts = [text for row in data.table.rows(split, corpus) if (text := data.texts[row])]
            cut = encoder.cut(texts)
            cut.tell(f"{corpus}, {split}: texts", "dfat.max_text_tokens")
            counts[f"{corpus}/{split}"] = cut._asdict()
    return counts
