"""`radz evidence RUN`: compute the items that are asked for, write them, and renew the report's section."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import rc_context

from radz.callbacks.wandb_log import log_evidence
from radz.evidence import attention, features, heatmaps, layers, robustness
from radz.evidence.config import ITEMS, read_keys
from radz.evidence.opened import Opened, open_run
from radz.evidence.writing import FOLDER, Item, write_item
from radz.report import figures
from radz.report.evidence import items as evidence_items
from radz.report.evidence import renew
from radz.run_folder import load_run

log = logging.getLogger(__name__)
COMPUTE: Mapping[str, Callable[[Opened], Item]] = {
    "heatmaps": heatmaps.compute,
    "layers": layers.compute,
    "robustness": robustness.compute,
    "features": features.compute,
    "attention": attention.compute,
}


def evidence(folder: Path, items: list[str]) -> Path:
    """Compute and write; returns RUN/evidence.

    Args:
        folder: a finished run, or one of its evaluations. items: key=value, see `EvidenceConfig`.
    """
    settings, overrides = read_keys(items)
    run = open_run(folder, settings, overrides)
    for name in settings.only or ITEMS:
        with rc_context(figures.STYLE):
            item = COMPUTE[name](run)
            path = write_item(item, folder, settings)
        for sentence in item.says:
            log.info("%s: %s", name, sentence)
        log.info("written: %s", path)
    renew(folder)
    fresh = [item for item in evidence_items(folder) if item["name"] in (settings.only or ITEMS)]
    log_evidence(load_run(folder), folder, fresh)
    return folder / FOLDER
