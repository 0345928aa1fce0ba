"""Which words of each corpus became which finding, and how near they are: what a reader of a result has to know."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from data_modules.corpora import PUBLISHED
from data_modules.corpus_config import SPLITS
from data_modules.datamodule import StudyDataModule
from data_modules.findings import ABSENT, PRESENT, SPACES

OWN, IMPLIED, UNLABELLED, READ = "own rule", "implied", "not labelled", "from report"


def label_map(data: StudyDataModule, seen: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per corpus, finding and label of the corpus.

    Columns: corpus; finding; label, in the corpus' words; relation (exact; child: the label is narrower; parent or
    loose: it is wider or related, and published protocols take it for the finding; `own rule` of the user's table;
    `from report`: read by rules from the text;
    `implied`: from the labels of narrower findings or from no_finding; `not labelled`); training (label, text or none:
    what the model had read of the finding, from `seen`); present_<split> studies.
    """
    table, rows = data.table, []
    for c, (corpus, config) in enumerate(zip(table.corpora, data.config.corpora, strict=True)):
        here = table.corpus == c
        for k, finding in enumerate(table.findings):
            states = table.states[:, k]
            if finding in table.coded[c]:
                rule = config.labels.get(finding)
                read = config.reads_reports and (rule is None or rule.from_report is not None)
                labels = {"": READ} if read else _labels(data, config.reader, finding)
            else:
                known = np.isin(states[here], (ABSENT, PRESENT)).any()
                labels = {"": IMPLIED if known else UNLABELLED}
            counts = {
                f"present_{split}": int((here & (table.split == split) & (states == PRESENT)).sum()) for split in SPLITS
            }
            rows += [
                {"corpus": corpus, "finding": finding, "label": label, "relation": relation,
                 "training": seen.get(finding, ""), **counts}
                for label, relation in labels.items()
            ]  # fmt: skip
    return pd.DataFrame(rows)


def _labels(data: StudyDataModule, reader: str, finding: str) -> dict[str, str]:
    labels = data.ontology.labels(SPACES.get(reader, reader)) if reader in PUBLISHED else {}
    return labels.get(finding) or {"": OWN}
