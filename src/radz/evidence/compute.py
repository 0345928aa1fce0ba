"""`radz evidence RUN`: compute the items that are asked for, write them, and renew the report's section."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import rc_context

from data_modules.errors import InputError
from radz.evidence import (
    attention,
    feature_map,
    few_shot,
    heatmap_quality,
    layer_probes,
    phrase_grounding,
    robustness,
    true_sentences,
    words_by_layer,
)
from radz.evidence.config import FITTED, read_settings
from radz.evidence.items import FOLDER, Item, write_item
from radz.evidence.open_run import Opened, check_run, open_run
from radz.report import evidence_section, figures
from radz.report.wandb_results import log_evidence
from radz.runs.wandb_run import logger_of
from radz.training.run_folder import load_run, working_in

log = logging.getLogger(__name__)
COMPUTE: Mapping[str, Callable[[Opened], Item]] = {
    "heatmaps": heatmap_quality.compute,
    "phrases": phrase_grounding.compute,
    "layers": layer_probes.compute,
    "words": words_by_layer.compute,
    "sentences": true_sentences.compute,
    "robustness": robustness.compute,
    "features": feature_map.compute,
    "attention": attention.compute,
    "fewshot": few_shot.compute,
}


def evidence(folder: Path, items: list[str]) -> Path:
    """Compute and write; returns RUN/evidence.

    Args:
        folder: a finished run, or one of its evaluations. items: key=value, see `EvidenceConfig`.
    """
    settings, overrides = read_settings(items)
    check_run(folder)
    if settings.split == "train" and not settings.only:
        log.warning("evidence: %s are left out: they are fitted on the training studies", " and ".join(FITTED))
    if "phrases" in settings.items:
        phrase_grounding.listed(settings)  # faults of the file are told before anything is computed
    with working_in(folder, "RUN"):
        run = open_run(folder, settings, overrides)
        made: list[str] = []
        for name in settings.items:
            try:
                with rc_context(figures.STYLE):
                    item = COMPUTE[name](run)
                    path = write_item(item, folder, settings)
            except InputError as error:
                if settings.only or (name == settings.items[-1] and not made):
                    raise
                log.warning("%s; the other items go on", error)
                continue
            made.append(name)
            for sentence in item.says:
                log.info("%s: %s", name, sentence)
            log.info("written: %s", path)
        evidence_section.renew(folder)
        written = [item for item in evidence_section.items(folder) if item["name"] in made]
        experiment = load_run(folder)
        if logger := logger_of(experiment, folder):
            log_evidence(logger, folder, written, experiment.wandb.images)
    return folder / FOLDER
