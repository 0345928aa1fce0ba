"""Both sides on one random model: radz's module and the reference, with equal trainable weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.reference import Reference
from benchmarks.shapes import FINDINGS, LORA
from data_modules.batch import StudyBatch
from data_modules.corpus_config import LabelPolicy
from data_modules.findings import policy_table
from radz.backbones import load_backbone
from radz.config.files import load_experiment
from radz.config.schema import BackboneConfig, DfatConfig, Experiment
from radz.methods.dfat import DFAT
from radz.models.anchor_bank import AnchorBank, BankInfo
from radz.models.encoder import Encoder
from radz.models.labels import MODALITY_TEXT, LabelView
from radz.models.zero_shot import ClassTexts

MODALITY = "chest_xray"
INSTRUCTION = DfatConfig().instruction.format(modality=MODALITY_TEXT[MODALITY])
PRINCIPAL = ("lora_A", "lora_B", "multi_modal_projector", "trainable_tokens_delta", "heads.")


def experiment(*overrides: str) -> Experiment:
    """The settings of base.yaml: cross loss, softmax category loss, linear heads, LoRA."""
    return load_experiment("base", ["data.corpora=[{reader: phantom}]", "data.image_size=128", *overrides])


def encoder(folder: Path, settings: Experiment, **backbone: Any) -> Encoder:
    """radz's encoder of a backbone folder."""
    config = BackboneConfig(path=str(folder), **{**LORA, **backbone})
    torch.manual_seed(0)
    one = load_backbone(config, folder, settings.dfat.image_tokens, settings.dfat.text_tokens)
    return Encoder(one, settings.dfat)


def module(one: Encoder, settings: Experiment) -> DFAT:
    """The LightningModule around an encoder, with random anchors for FINDINGS."""
    view = label_view()
    vectors = torch.randn(len(FINDINGS), one.backbone.hidden_size, generator=torch.Generator().manual_seed(1))
    info = BankInfo("decoder", ("definition",), "random", "", "", "0", "", 0)
    bank = AnchorBank(FINDINGS, FINDINGS, vectors, info)
    texts = ClassTexts(FINDINGS, view.names, FINDINGS)
    return DFAT(one, bank, view, texts, texts, vectors, settings.dfat, settings.dkam, settings.scoring, (MODALITY,))


def label_view() -> LabelView:
    """Unmentioned and uncertain are unknown."""
    policy = LabelPolicy()
    policy.unmentioned.loss = "unknown"
    tables = [torch.from_numpy(policy_table([policy], FINDINGS, use)) for use in ("loss", "metrics")]
    return LabelView(FINDINGS, tuple(name.replace("_", " ") for name in FINDINGS), tables[0], tables[1])


def reference(folder: Path, dfat: DfatConfig, **settings: Any) -> Reference:
    """The reference with the settings of radz."""
    tokens = dfat.image_tokens, dfat.text_tokens
    rank, alpha = LORA["lora_rank"], LORA["lora_alpha"]
    return Reference.load(folder, tokens=tokens, rank=rank, alpha=alpha, longest=dfat.max_text_tokens, **settings)


def reference_of(model: Any, folder: Path, dfat: DfatConfig, checkpointing: bool) -> Reference:
    """The reference around a model that is there already."""
    from transformers import AutoTokenizer

    return Reference(
        model, AutoTokenizer.from_pretrained(folder), (dfat.image_tokens, dfat.text_tokens), LORA["lora_rank"],
        LORA["lora_alpha"], checkpointing=checkpointing, longest=dfat.max_text_tokens,
    )  # fmt: skip


def plain_inputs(batch: StudyBatch, width: int) -> tuple[Any, ...]:
    """Arguments of `Reference.loss` without a module of radz: its labels, and random anchors of this width."""
    anchors = torch.randn(len(FINDINGS), width, generator=torch.Generator().manual_seed(1)).to(batch.pixels.device)
    return batch.pixels, batch.reports, label_view().loss(batch), anchors, INSTRUCTION


def copy_trained(source: Encoder, target: Reference) -> None:
    """Give the reference the trainable weights of radz; its last layer, which radz has not, keeps its own."""
    weights = {name.removeprefix("backbone."): value for name, value in source.state_dict().items()}
    known = target.state_dict()
    shared = {name: value for name, value in weights.items() if name in known and any(p in name for p in PRINCIPAL)}
    lacking = [name for name, p in source.named_parameters() if p.requires_grad and _bare(name) not in shared]
    assert not lacking, lacking
    with torch.no_grad():
        for name, value in shared.items():
            known[name].copy_(value)
        # The rows of the new tokens in the table itself, which trainable_tokens_delta adds to or replaces.
        ours, theirs = (m.get_input_embeddings() for m in (source.backbone.model, target.model))
        theirs.original_module.weight.copy_(ours.original_module.weight)


def _bare(name: str) -> str:
    return name.removeprefix("backbone.")


@dataclass
class Inputs:
    """A batch as either side takes it."""

    batch: StudyBatch
    labels: Tensor
    anchors: Tensor
    instruction: str

    @staticmethod
    def of(batch: StudyBatch, dfat: DFAT) -> Inputs:
        """What the module sees of a batch, as arguments of the reference."""
        words = dfat.dfat.instruction.format(modality=MODALITY_TEXT[MODALITY])
        return Inputs(batch, dfat.label_view.loss(batch), dfat.anchors, words)

    def plain(self) -> tuple[Any, ...]:
        """Arguments of `Reference.loss`."""
        return self.batch.pixels, self.batch.reports, self.labels, self.anchors, self.instruction


def loss(module: DFAT, batch: StudyBatch) -> Tensor:
    """The loss of radz's training step, without a Trainer that logs it."""
    module._log_step = lambda *_, **__: None  # type: ignore[method-assign]
    return module.training_step(batch, 0)
