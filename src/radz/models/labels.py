"""Label columns as the upper floor sees them: policies applied to a batch, and sentences made of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.datamodule import StudyDataModule
from data_modules.findings import NO_FINDING, UNCERTAIN, Ontology, ontology
from data_modules.reports import digest64
from radz.config.schema import DfatConfig
from radz.models.losses import category_targets

MODALITY_TEXT = {"chest_xray": "chest X-ray", "chest_ct": "chest CT"}
"""the modalities, in words of a prompt"""
FIXED_POINT = 100
"""steps towards it; one where all labels are known"""


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
        return _apply(self.policy_loss, batch.label_states, batch.corpus)

    def for_losses(self, batch: StudyBatch, findings: Sequence[str]) -> Tensor:
        """[B, len(findings)]: `loss` of these findings, of no_finding what `with_no_finding` makes of it."""
        return self.of_states(batch.label_states, batch.corpus, findings)

    def of_states(self, states: Tensor, corpus: Tensor, findings: Sequence[str]) -> Tensor:
        """`for_losses` of label states [B, K] of studies of these corpora, int64 [B]."""
        labels, columns = _apply(self.policy_loss, states, corpus), self.columns(findings)
        stated = labels.masked_fill(states >= UNCERTAIN, float("nan"))
        return with_no_finding(pick(labels, columns), pick(stated, columns), findings)

    def metrics(self, batch: StudyBatch) -> Tensor:
        """[B, K]: 1, 0 or NaN under the metrics policy."""
        return _apply(self.policy_metrics, batch.label_states, batch.corpus)


def pick(labels: Tensor, columns: Sequence[int]) -> Tensor:
    """Columns [B, len(columns)] of labels [B, K]; column -1 is unknown (NaN) in every study."""
    unknown = labels.new_full((len(labels), 1), float("nan"))
    return torch.cat([labels, unknown], dim=1)[:, list(columns)]


def with_no_finding(labels: Tensor, stated: Tensor, findings: Sequence[str]) -> Tensor:
    """Labels [B, K] with no_finding as the losses take it (docs/method.md 3.4).

    A stated value is never overruled. Where none is, no_finding is present if it is unknown and every pathology is
    stated to be absent, absent if one is present, else unknown: a value of a policy, which makes absence of silence,
    does not say that a study is healthy or is not. What is no pathology, such as a support device, says nothing of it.

    Args:
        labels: 1 present, 0 absent, NaN unknown, under the loss policy.
        stated: likewise, and NaN where only a policy gave the value.
        findings: the K columns.
    """
    if NO_FINDING not in findings:
        return labels
    column, diseases = list(findings).index(NO_FINDING), pathologies(findings)
    unknown = labels[:, column].isnan() & bool(diseases)
    healthy = unknown & (stated[:, diseases] == 0).all(1)
    diseased = (labels[:, diseases] == 1).any(1)
    implied = torch.where(healthy, 1.0, torch.where(diseased, 0.0, torch.nan))
    completed = labels.clone()
    completed[:, column] = torch.where(stated[:, column].isnan(), implied.to(labels.dtype), stated[:, column])
    return completed


def pathologies(findings: Sequence[str]) -> list[int]:
    """Places of those that no_finding excludes; what an experiment adds to the ontology is one."""
    known = ontology()
    return [k for k, name in enumerate(findings) if name not in known or known[name].pathology]


def _apply(policy: Tensor, states: Tensor, corpus: Tensor) -> Tensor:
    table = policy.to(states.device)
    columns = torch.arange(table.shape[1], device=table.device)
    return table[corpus[:, None], columns, states.long()]


def training_prior(view: LabelView, data: StudyDataModule, findings: Sequence[str], category: str) -> Tensor:
    """What common findings have ahead in the logits [K] of the category loss, as training draws its studies.

    Added to the logits, it makes equal similarities the best that features can have which say nothing: for the
    sigmoid the log-odds among known labels; for the softmax the logs of the shares of the mass, which unknown labels
    turn from means into the fixed point of hidden columns (Hunter 2004, MM for Bradley-Terry models). Half a study of
    each kind is added.

    Args:
        category: `dkam.category`.
    """
    rows = data.table.rows("train")
    states, corpus = (torch.from_numpy(np.asarray(part)[rows]) for part in (data.table.states, data.table.corpus))
    labels = view.of_states(states, corpus.long(), findings)
    draws = torch.from_numpy(data.training_draws()).to(labels.dtype)
    if category == "sigmoid":
        present, absent = (draws @ (labels == value).to(draws.dtype) + 0.5 for value in (1, 0))
        return torch.log(present / absent)
    target, known, used = category_targets(labels)
    mass, seen, draws = draws[used] @ target[used] + 0.5, known[used].to(draws.dtype), draws[used]
    shares = torch.ones_like(mass)
    for _ in range(FIXED_POINT):
        shares = mass / ((draws / (seen @ shares)) @ seen + 0.5 * len(mass) / shares.sum())
    return torch.log(shares / shares.sum())


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
    """Caption of a study from its labels (docs/method.md 2.2); empty when no finding is known to be present.

    Args:
        row: K values, 1, 0 or NaN. template: holds {finding}, may hold {modality}.
    """
    present = [name for name, value in zip(labels.names, row, strict=True) if value == 1]
    if not present:
        return ""
    listed = present[0] if len(present) == 1 else f"{', '.join(present[:-1])} and {present[-1]}"
    return template.format(finding=listed, modality=modality)


def label_view(data: StudyDataModule) -> LabelView:
    """Label columns and policies of the data."""
    names = tuple(finding_text(data.ontology, name) for name in data.findings)
    return LabelView(data.findings, names, data.policy_loss, data.policy_metrics)


def finding_texts(known: Ontology, names: Iterable[str]) -> dict[str, str]:
    """{name: as words}."""
    return {name: finding_text(known, name) for name in names}


def finding_text(known: Ontology, name: str) -> str:
    """A finding as words; names outside the ontology become words at their underscores."""
    return known[name].text if name in known else name.replace("_", " ")
