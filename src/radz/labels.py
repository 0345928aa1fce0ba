"""Label columns as the upper floor sees them: policies applied to a batch, and sentences made of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.reports import digest64
from radz.config import DfatConfig
from radz.encode import MODALITY_TEXT


@dataclass
class LabelView:
    """K label columns and the two policies, float32 [corpora, K, 4] (see `data_modules.findings.policy_table`)."""

    findings: tuple[str, ...]
    names: tuple[str, ...]
    """as words, such as `pleural effusion`"""
    policy_loss: Tensor
    policy_metrics: Tensor

    def columns(self, findings: Sequence[str]) -> list[int]:
        """Column of each finding; -1 for one that no corpus labels (see `pick`)."""
        return [self.findings.index(name) if name in self.findings else -1 for name in findings]

    def loss(self, batch: StudyBatch) -> Tensor:
        """[B, K]: 1, 0 or NaN under the loss policy."""
        return _apply(self.policy_loss, batch)

    def metrics(self, batch: StudyBatch) -> Tensor:
        """[B, K]: 1, 0 or NaN under the metrics policy."""
        return _apply(self.policy_metrics, batch)


def pick(labels: Tensor, columns: Sequence[int]) -> Tensor:
    """Columns [B, len(columns)] of labels [B, K]; column -1 is unknown (NaN) in every study."""
    unknown = labels.new_full((len(labels), 1), float("nan"))
    return torch.cat([labels, unknown], dim=1)[:, list(columns)]


def _apply(policy: Tensor, batch: StudyBatch) -> Tensor:
    table = policy.to(batch.label_states.device)
    columns = torch.arange(table.shape[1], device=table.device)
    return table[batch.corpus[:, None], columns, batch.label_states.long()]


def batch_texts(
    batch: StudyBatch, labels: LabelView, dfat: DfatConfig, modalities: Sequence[str]
) -> tuple[list[str], Tensor]:
    """What training reads of B studies (`dfat.text_source`), empty where there is nothing, and int64 [B] digests.

    Args:
        modalities: one for each corpus.
    """
    if dfat.text_source != "labels":
        return batch.reports, batch.text_digest
    rows = zip(labels.loss(batch).tolist(), batch.corpus.tolist(), strict=True)
    texts = [label_sentence(row, labels, dfat.label_sentence, MODALITY_TEXT[modalities[c]]) for row, c in rows]
    return texts, torch.tensor([digest64(text) for text in texts], device=batch.text_digest.device)


def label_sentence(row: Sequence[float], labels: LabelView, template: str, modality: str) -> str:
    """Caption of a study from its labels (method.md 2.2); empty when no finding is known to be present.

    Args:
        row: K values, 1, 0 or NaN. template: holds {finding}, may hold {modality}.
    """
    present = [name for name, value in zip(labels.names, row, strict=True) if value == 1]
    if not present:
        return ""
    listed = present[0] if len(present) == 1 else f"{', '.join(present[:-1])} and {present[-1]}"
    return template.format(finding=listed, modality=modality)
