"""From an experiment to its parts: data, backbone, encoder, anchor bank, module."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data_modules.base import StudyDataModule
from data_modules.chest_xray import ChestXrayDataModule
from data_modules.ct import CTDataModule, MixedDataModule
from data_modules.errors import InputError
from data_modules.findings import Finding, Ontology
from radz.anchors import AnchorBank
from radz.backbones import load_backbone
from radz.backbones.hub import resolve
from radz.checkpoints import check_weights, content_digest, read_checkpoint
from radz.config import Experiment
from radz.config_checks import known_findings
from radz.descriptions import load_descriptions
from radz.dfat import DFAT
from radz.distributed import own_device
from radz.dkam import build_bank
from radz.encode import Encoder
from radz.environment import folder_digest
from radz.experiment import find_resource
from radz.labels import LabelView
from radz.scoring.statistics import undefined_reason
from radz.scoring.zero_shot import ClassTexts
from radz.sharding import load_trained

if TYPE_CHECKING:
    from radz.baselines.scored import Scored

log = logging.getLogger(__name__)
TINY_TEXTS = 2000
"""phantom reports that the tiny backbone's tokenizer learns from"""
NO_PATHOLOGY = ("no_finding",)
NO_LABEL = undefined_reason([])
UNREACHABLE = "no label of these data maps to it"


def data_module(experiment: Experiment, sample: int | None = None) -> StudyDataModule:
    """The DataModule of the modalities that the experiment's corpora have; `sample` is for an audit."""
    wanted = {corpus.modality for corpus in experiment.data.corpora}
    kinds = {frozenset({"chest_xray"}): ChestXrayDataModule, frozenset({"chest_ct"}): CTDataModule}
    kind = kinds.get(frozenset(wanted), MixedDataModule)
    module = kind(experiment.data, Path(experiment.cache_dir), experiment.seed, sample, experiment.scoring.unit)
    module.overfit_batches = experiment.trainer.overfit_batches
    module.even_ranks = experiment.trainer.strategy == "fsdp"
    return module


def backbone_folder(experiment: Experiment) -> Path:
    """The configured folder, the local copy of a hub id, or the tiny backbone's folder, written when missing."""
    if experiment.backbone.path is not None:
        return resolve(experiment.backbone.path)
    from radz.backbones.tiny import tiny_folder

    texts = [*tiny_texts(), *[experiment.dfat.instruction] * TINY_TEXTS]
    return tiny_folder(experiment.backbone.tiny, texts, Path(experiment.cache_dir))


def tiny_texts() -> list[str]:
    """Reports of the phantom, which the tokenizers of tiny models learn from."""
    from data_modules.phantom.report import training_reports

    return list(training_reports(TINY_TEXTS, seed=0))


def encoder(experiment: Experiment) -> tuple[Encoder, str]:
    """The encoder with base weights and fresh heads, seeded, and the digest of its base."""
    folder = backbone_folder(experiment)
    state = torch.random.get_rng_state()
    torch.manual_seed(experiment.seed)
    backbone = load_backbone(experiment.backbone, folder, experiment.dfat.image_tokens, experiment.dfat.text_tokens)
    module = Encoder(backbone, experiment.dfat)
    torch.random.set_rng_state(state)
    return module, folder_digest(folder, backbone.image_ids + backbone.text_ids)


def total_steps(experiment: Experiment, data: StudyDataModule) -> int:
    """Optimizer steps of a whole run."""
    epoch = len(data.table.rows("train")) // (experiment.data.batch_size * experiment.trainer.processes)
    return experiment.trainer.max_steps or epoch * (experiment.trainer.max_epochs or 1)


def label_view(data: StudyDataModule) -> LabelView:
    """Label columns and policies of the data."""
    names = tuple(finding_text(data.ontology, name) for name in data.findings)
    return LabelView(data.findings, names, data.policy_loss, data.policy_metrics)


def finding_text(known: Ontology, name: str) -> str:
    """A finding as words; names outside the ontology become words at their underscores."""
    return known[name].text if name in known else name.replace("_", " ")


def seen_findings(data: StudyDataModule, training_texts: Iterable[str]) -> dict[str, list[str]]:
    """What training knows: findings with a positive training label (`label`), and findings named in a text (`text`).

    Under `text` stand all findings of the ontology, labelled or not, so that a later test on other data can be told
    what this run had read. A finding is named by its name, its text or an exact alias, as whole words in any case.
    """
    labels = data.loss_labels(data.table.rows("train"))
    positive = [name for column, name in enumerate(data.findings) if (labels[:, column] == 1).any()]
    everything = "\n".join(dict.fromkeys(training_texts)).lower()
    return {"label": positive, "text": [finding.name for finding in data.ontology if _is_named(finding, everything)]}


def seen_groups(findings: Iterable[str], seen: Mapping[str, Collection[str]]) -> dict[str, str]:
    """`label`, `text` or `none` for each finding, from `seen_findings` of the training data."""
    return {name: next((group for group in ("label", "text") if name in seen[group]), "none") for name in findings}


def _is_named(finding: Finding, lower_text: str) -> bool:
    exact = [label for labels in finding.aliases.values() for label, how in labels.items() if how == "exact"]
    terms = {" ".join(term.lower().replace("_", " ").split()) for term in (finding.name, finding.text, *exact)}
    # The plain search is a hundred times faster than the pattern and settles most terms.
    return any(term in lower_text and re.search(rf"(?<!\w){re.escape(term)}(?!\w)", lower_text) for term in terms)


def training_texts(experiment: Experiment, data: StudyDataModule) -> list[str]:
    """All sentences that training reads: reports, or the names in its label sentences."""
    rows = data.table.rows("train")
    if experiment.dfat.text_source != "labels":
        return [data.texts[row] for row in rows]
    labels = data.loss_labels(rows)
    names = [name for column, name in enumerate(data.findings) if (labels[:, column] == 1).any()]
    return [finding_text(data.ontology, name) for name in names]


def bank_findings(experiment: Experiment, data: StudyDataModule) -> list[str]:
    """Findings of the training bank: as configured, else no_finding and all with a positive training label."""
    if experiment.dkam.findings:
        return list(experiment.dkam.findings)
    labels = data.loss_labels(data.table.rows("train"))
    positive = [name for column, name in enumerate(data.findings) if (labels[:, column] == 1).any()]
    return ["no_finding", *(name for name in positive if name != "no_finding")]


def scored_findings(experiment: Experiment, data: StudyDataModule) -> list[str]:
    """Findings scored at test: as configured, else all with a known test label, without no_finding.

    A configured finding that no label maps to is said here, and listed as excluded in the results.

    Raises:
        InputError: none is both present and absent in the test split.
    """
    labels = data.metric_labels(data.table.rows("test"))
    reasons = {name: undefined_reason(labels[:, column]) for column, name in enumerate(data.findings)}
    chosen = list(experiment.scoring.findings)
    reasons |= {name: UNREACHABLE for name in chosen if name not in data.findings}
    if lost := [name for name in chosen if name not in data.findings]:
        log.warning("scoring.findings: %s: %s; not scored", ", ".join(lost), UNREACHABLE)
        if len(lost) < len(chosen):
            chosen = [name for name in chosen if name not in lost]
    chosen = chosen or [name for name in data.findings if name not in NO_PATHOLOGY and reasons[name] != NO_LABEL]
    if all(reasons[name] for name in chosen):
        why = "; ".join(f"{name}: {reasons[name]}" for name in chosen[:5]) or "no finding has a known label"
        raise InputError(f"scoring.findings: nothing can be scored in the test split ({why}); add labelled studies")
    return chosen


def bank(
    experiment: Experiment, base: Encoder, base_digest: str, findings: list[str], descriptions: Path
) -> AnchorBank:
    """Encode a bank with base weights (`base` must not have been trained), in every process by itself."""
    trainer = lone_trainer(experiment)
    known = known_findings(experiment.data)
    texts = {name: finding_text(known, name) for name in findings}
    return build_bank(base, experiment.dkam, texts, descriptions, base_digest, trainer)


def lone_trainer(experiment: Experiment) -> Any:
    """A Trainer for `predict` in this process alone, on its own device, whatever launcher started it."""
    import lightning.pytorch as pl
    from lightning.pytorch.plugins.environments import LightningEnvironment

    where = experiment.trainer.accelerator
    return pl.Trainer(
        accelerator=where, devices=own_device(where), plugins=[LightningEnvironment()], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def descriptions_file(experiment: Experiment, folder: Path) -> Path:
    """Where this run's descriptions stand: written ones in the run folder, else the configured file."""
    return folder / "descriptions.yaml" if experiment.dkam.write else find_resource(experiment.dkam.descriptions)


def stored_descriptions(experiment: Experiment, folder: Path) -> Path:
    """The descriptions of a trained run: those kept in its folder come first, since the configured file may change."""
    stored = folder / "descriptions.yaml"
    return stored if stored.is_file() else descriptions_file(experiment, folder)


def restore(experiment: Experiment, encoder: Encoder, bank: AnchorBank, file: Path, checkpoint: Path) -> DFAT:
    """Put the trained weights of a checkpoint into an encoder that has the base weights.

    A temperature that was learned takes the place of the first one in `experiment`.

    Args:
        bank: the run's anchor bank; file: its descriptions.

    Returns:
        The module around `encoder`.
    """
    view = LabelView((), (), torch.zeros(1, 0, 4), torch.zeros(1, 0, 4))
    texts = class_texts(experiment, list(bank.names), file)
    modalities = [corpus.modality for corpus in experiment.data.corpora]
    found = module(experiment, encoder, bank, view, texts, bank.vectors, modalities)
    load_weights(found, checkpoint)
    if found.log_scale is not None:
        experiment.dfat.temperature = round(math.exp(-found.log_scale.item()), 6)
    return found


def class_texts(experiment: Experiment, findings: list[str], file: Path) -> ClassTexts:
    """Names and descriptions of the findings to be scored."""
    words, known = known_findings(experiment.data), load_descriptions(file)
    described = [known[name].text(experiment.dkam.aspects) if name in known else "" for name in findings]
    return ClassTexts(tuple(findings), tuple(finding_text(words, name) for name in findings), tuple(described))


def class_anchors(
    experiment: Experiment, training: AnchorBank, base_digest: str, texts: ClassTexts, file: Path, base: Encoder | None
) -> torch.Tensor:
    """Raw anchors [C, d] of the findings to be scored.

    Those of the training bank are taken from it. The others were not there in training; they are encoded now, by the
    same base weights as the bank, so `base` is loaded anew unless given.
    """
    extra = [n for n, d in zip(texts.findings, texts.descriptions, strict=True) if d and n not in training.names]
    full = training
    if extra:
        if base is None:
            base, _ = encoder(experiment)
        settings = replace(experiment, dkam=replace(experiment.dkam, write=False))
        full = training.extended(bank(settings, base, base_digest, extra, file))
    return known_anchors(full, texts)


def known_anchors(bank: AnchorBank, texts: ClassTexts) -> torch.Tensor:
    """Raw anchors [C, d], or sets [C, S, d], of findings; NaN where the bank has none."""
    place = {name: i for i, name in enumerate(bank.names)}
    missing = torch.full(bank.vectors.shape[1:], float("nan"))
    return torch.stack([bank.vectors[place[n]] if n in place else missing for n in texts.findings])


def module(
    experiment: Experiment, encoder: Encoder, training: AnchorBank, view: LabelView, texts: ClassTexts,
    anchors: torch.Tensor, modalities: Sequence[str],
) -> DFAT:  # fmt: skip
    """The DFAT LightningModule; `modalities` are those of the corpora, in their order."""
    settings = experiment.dfat, experiment.dkam, experiment.scoring
    return DFAT(encoder, training, view, texts, anchors, *settings, modalities)


def trained_bank(module: DFAT, checkpoint: Mapping[str, Any]) -> AnchorBank:
    """The bank with the anchors of a checkpoint, which `module` holds, and a note of what encoded them."""
    bank = module.bank
    if not module.refreshes:
        return bank
    weights = {name: value for name, value in checkpoint["state_dict"].items() if name != "anchors"}
    info = replace(bank.info, adapter_digest=content_digest(weights), step=checkpoint["global_step"])
    return replace(bank, vectors=module.anchors.detach().cpu().clone(), info=info)


def load_weights(module: DFAT | Scored, checkpoint: Path) -> dict[str, Any]:
    """Put the trainable weights of a checkpoint into a module.

    Returns:
        The content of the checkpoint.

    Raises:
        InputError: unreadable, or of another backbone, bank or network.
    """
    content = read_checkpoint(checkpoint)
    module.on_load_checkpoint(content)
    check_weights(content["state_dict"], module.state_dict(), module.strict_loading)
    load_trained(module, content["state_dict"], module.strict_loading)
    return content
