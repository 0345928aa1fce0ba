"""Domain knowledge anchoring module: write descriptions, encode them into the bank of anchors (docs/method.md 3)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.corpus_config import FROM_REPORT
from data_modules.counting import counted
from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.findings import NO_FINDING, ontology
from radz.backbones.generation import write
from radz.config.checks import known_findings
from radz.config.dkam import DkamConfig
from radz.config.files import find_resource
from radz.distributed import is_main_process
from radz.methods.base import Task
from radz.models import factory
from radz.models.anchor_bank import AnchorBank, BankInfo, known_anchors
from radz.models.descriptions import (
    Description,
    finding_name,
    load_descriptions,
    parse_answer,
    save_descriptions,
    writing_prompt,
)
from radz.models.encoder import Encoder
from radz.models.geometry import geometry
from radz.models.labels import finding_texts
from radz.models.zero_shot import ClassTexts
from radz.training.run_folder import DESCRIPTIONS, keep_descriptions
from radz.training.trainer import lone_trainer

log = logging.getLogger(__name__)
DECODING = "greedy"
ROUNDING = 1e-4
"""Share of an anchor's length by which one that is encoded anew may be off; on two processors it was 1e-7."""
DESCRIBED = ("anchor", "local", "description")
"""scorers that need a description of each finding"""
FUSED_ANCHORS = 3
"""Similarities to fewer anchors, less their mean, hold no direction."""


class DKAM(LightningModule):
    """Builds the anchor bank through `trainer.predict`: one description per item in, one raw vector per item out."""

    def __init__(self, encoder: Encoder, config: DkamConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config

    def write(self, findings: Mapping[str, str], trainer: Any) -> dict[str, Description]:
        """Let the backbone's language model describe each finding, on the trainer's device.

        Args:
            findings: {name: text}, such as {"pleural_effusion": "pleural effusion"}.
            trainer: the Lightning trainer that runs it.

        Raises:
            InputError: an answer without the structure that was asked for; nothing is replaced by the shipped text.
        """
        prompts = [writing_prompt(text) for text in findings.values()]
        writer = Writer(self.encoder, self.config.max_new_tokens)
        loader: DataLoader[str] = DataLoader(prompts, batch_size=1, collate_fn=list)  # type: ignore[arg-type]
        answers = [answer for part in trainer.predict(writer, loader, return_predictions=True) for answer in part]
        return {name: parse_answer(name, answer) for name, answer in zip(findings, answers, strict=True)}

    def predict_dataloader_for(self, texts: Sequence[str]) -> DataLoader[str]:
        """Loader over descriptions, in order; the encoder makes groups of like length of them."""
        return DataLoader(list(texts), batch_size=1024, collate_fn=list)  # type: ignore[arg-type]

    def predict_step(self, batch: list[str], batch_idx: int) -> Tensor:
        """Raw vectors fp32 [n, d] of n descriptions."""
        return self.encoder.encode_descriptions(batch, self.config.anchor_encoder).float().cpu()


class Writer(LightningModule):
    """Prompts in, answers out, through `trainer.predict`: the trainer alone knows the device."""

    def __init__(self, encoder: Encoder, max_new_tokens: int, together: int = 1) -> None:
        """`together`: see `write`."""
        super().__init__()
        self.encoder, self.max_new_tokens, self.together = encoder, max_new_tokens, together

    def predict_step(self, batch: list[str], batch_idx: int) -> list[str]:
        """The answers to a batch of prompts, in order."""
        return write(self.encoder.backbone, batch, self.max_new_tokens, self.together)


@torch.no_grad()
def encode_now(encoder: Encoder, descriptions: Sequence[str], kind: str) -> Tensor:
    """Raw vectors fp32 [K, d] of descriptions under the encoder's present weights, without dropout; NaN rows for ''.

    Args:
        kind: `decoder` or `embedding`, see `Encoder.encode_descriptions`.
    """
    described = list(dict.fromkeys(text for text in descriptions if text))
    training = encoder.training
    encoder.eval()
    # As a bank is encoded before training: not in the reduced precision of the step around.
    with torch.autocast(encoder.backbone.device.type, enabled=False):
        vectors = encoder.encode_descriptions(described, kind).float()
    encoder.train(training)
    place = {text: i for i, text in enumerate(described)}
    unknown = vectors.new_full((1, vectors.shape[1]), float("nan"))
    return torch.cat([vectors, unknown])[[place.get(text, len(described)) for text in descriptions]]


def build_bank(
    encoder: Encoder,
    config: DkamConfig,
    findings: Mapping[str, str],
    descriptions_file: Path,
    base_digest: str,
    trainer: Any,
) -> AnchorBank:
    """Write (when asked) and encode the descriptions of `findings` {name: text}.

    Written descriptions are saved to `descriptions_file`, which a user may edit and bring back as
    `dkam.descriptions`; otherwise they are read from there.

    Raises:
        InputError: no description for a finding, a finding under a short name, or a rejected answer.
    """
    for name in findings:
        if (other := finding_name(name, ontology())) != name:
            raise InputError(f"dkam.findings: {name!r} is called {other} here; rename it to {other}")
    module = DKAM(encoder, config)
    prompt = decoding = ""
    if config.write:
        prompt, decoding = writing_prompt(next(iter(findings.values()))), DECODING
        written = module.write(findings, trainer)
        save_descriptions(
            descriptions_file, written, f"Written by the backbone, {DECODING} decoding. Review, then edit."
        )
        log.info("descriptions written to %s", descriptions_file)
    sets = description_sets(config, list(findings), descriptions_file)
    every = [text for texts in sets for text in texts]
    if config.anchor_encoder == "decoder":
        encoder.cut(every).tell("descriptions of the anchors", "dfat.max_text_tokens")
    parts = trainer.predict(module, module.predict_dataloader_for(every), return_predictions=True)
    vectors = torch.cat(parts).split([len(texts) for texts in sets])
    source = ", ".join([descriptions_file.name, *(Path(name).name for name in config.sources)])
    info = BankInfo(config.anchor_encoder, tuple(config.aspects), source, prompt, decoding, base_digest, "", 0)
    each = torch.stack(vectors)
    texts = tuple("\n".join(one) for one in sets)
    bank = AnchorBank(tuple(findings), texts, each.mean(1) if config.combine == "mean" else each, info)
    log.info(
        "anchor bank: %s, digest %s, mean cosine %.3f, effective rank %.2f",
        *(counted(len(bank.names), "finding"), bank.digest(), *[*geometry(bank.vectors).values()][1:]),
    )
    return bank


def description_sets(config: DkamConfig, findings: Sequence[str], descriptions_file: Path) -> list[list[str]]:
    """The texts of each finding, equally many: one of each file, or of each aspect of each file.

    Raises:
        InputError: a file without one of the findings.
    """
    files = {"dkam.descriptions": descriptions_file}
    files |= {(key := f"dkam.sources.{n}"): find_resource(name, key) for n, name in enumerate(config.sources)}
    sets: list[list[str]] = [[] for _ in findings]
    groups = [config.aspects] if config.sets == "whole" else [[aspect] for aspect in config.aspects]
    for key, file in files.items():
        known = load_descriptions(file)
        for name, texts in zip(findings, sets, strict=True):
            if name not in known:
                raise InputError(f"{key}: {file} has no {name}; add it or write with dkam.write")
            texts += [known[name].text(group) for group in groups]
    return sets


@dataclass
class AnchoredEncoder:
    """An encoder, the anchor bank of its training, and where further anchors come from."""

    encoder: Encoder
    bank: AnchorBank
    base_digest: str
    file: Path
    """descriptions"""
    others: AnchorBank | None = None
    """anchors beyond the training bank, where the base weights that encode them are not at hand"""

    def class_anchors(self, texts: ClassTexts, config: DkamConfig, accelerator: str) -> Tensor:
        """Raw anchors [C, d], or sets [C, S, d], of the findings to be scored, NaN rows where nothing describes one.

        Those of the training bank are taken from it. The others were not there in training; unless `others` has them
        they are encoded now, so the encoder must have the weights that encoded the bank.
        """
        others = self.others
        if others is None:
            if config.anchor_refresh == "every_n_steps":
                return encode_now(self.encoder, texts.descriptions, config.anchor_encoder).cpu()
            others = self.more_anchors(texts, config, accelerator)
        return known_anchors(self.bank if others is None else self.bank.extended(others), texts)

    def more_anchors(self, texts: ClassTexts, config: DkamConfig, accelerator: str) -> AnchorBank | None:
        """What is described beyond the training bank, encoded by the weights of now; None where nothing is."""
        described = zip(texts.findings, texts.names, texts.descriptions, strict=True)
        words = {name: word for name, word, text in described if text and name not in self.bank.names}
        if not words:
            return None
        plain = replace(config, write=False)
        return build_bank(self.encoder, plain, words, self.file, self.base_digest, lone_trainer(accelerator))


def bank_findings(config: DkamConfig, data: StudyDataModule) -> list[str]:
    """Findings of the training bank: as configured, else no_finding and all with a positive training label.

    Those of `undescribed` are left out of the latter, which is said.
    """
    if config.findings:
        return list(config.findings)
    positive = data.trained_findings()
    lost = undescribed(config, data)
    if left := [name for name in positive if name in lost]:
        log.warning("%s", told_of_undescribed(config, left))
    return [NO_FINDING, *(name for name in positive if name != NO_FINDING and name not in lost)]


def undescribed(config: DkamConfig, data: StudyDataModule) -> set[str]:
    """Findings that label rules alone found in reports, so that nobody named them, and that have no description."""
    if config.write:
        return set()
    unasked, named = set[str](), set[str]()
    for corpus, coded in zip(data.config.corpora, data.table.coded, strict=True):
        own = {data.ontology[name].name for name in corpus.labels if name != FROM_REPORT}
        by_rules = set(coded) - own if FROM_REPORT in corpus.labels else set()
        unasked |= by_rules
        named |= set(coded) - by_rules
    files = {name: "dkam.sources" for name in config.sources} | {config.descriptions: "dkam.descriptions"}
    described = [load_descriptions(find_resource(name, key)) for name, key in files.items()]
    return {name for name in unasked - named if not all(name in known for known in described)}


def told_of_undescribed(config: DkamConfig, findings: Sequence[str]) -> str:
    """The line that names findings of `undescribed`."""
    return (
        f"{', '.join(findings)}: found in reports by rules and not described in {config.descriptions}, so without an "
        "anchor and a score by it; add them to a file of your own (dkam.descriptions) to have them"
    )


def descriptions_file(config: DkamConfig, folder: Path) -> Path:
    """Where a run's descriptions stand: written ones in the run folder, else the configured file."""
    return folder / DESCRIPTIONS if config.write else find_resource(config.descriptions, "dkam.descriptions")


def check_described(config: DkamConfig, findings: Sequence[str], known: Collection[str]) -> None:
    """InputError that names the findings without description."""
    if missing := [name for name in findings if name not in known]:
        raise InputError(
            f"dkam.descriptions: {config.descriptions} has no {', '.join(missing)}; add it, leave it out of "
            "dkam.findings, or write with dkam.write"
        )


def check_scorable(config: DkamConfig, headline: str, scored: Sequence[str], anchored: Collection[str]) -> None:
    """InputError that names the findings that the headline scorer cannot score.

    Args:
        anchored: those with an anchor of the bank or a description.
    """
    if headline in DESCRIBED and (lacking := [name for name in scored if name not in anchored]):
        told = f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no description"
        raise InputError(
            f"scoring.headline={headline}: {told}; add it to {config.descriptions}, leave it out of scoring.findings, "
            "or choose headline prompt or fused"
        )


def check_anchors(
    config: DkamConfig, headline: str, scored: Sequence[str], bank: Sequence[str], bank_is_there: bool
) -> None:
    """InputError when the anchors or the headline scorer will lack something.

    Args:
        scored: findings to be scored.
        bank: findings of the training bank, which `bank_is_there` says is built already.
    """
    # The backbone describes the findings of the bank and no others.
    known: Collection[str] = (
        bank if config.write else load_descriptions(find_resource(config.descriptions, "dkam.descriptions"))
    )
    if not bank_is_there:
        check_described(config, bank, known)
    check_scorable(config, headline, scored, {*known, *(bank if headline != "description" else ())})
    if headline == "fused" and len(bank) < FUSED_ANCHORS:
        raise InputError(
            f"scoring.headline=fused: needs {FUSED_ANCHORS} anchors or more, the bank has {len(bank)} "
            f"({', '.join(bank)}); name more in dkam.findings or choose headline prompt"
        )
    if len(bank) < FUSED_ANCHORS and not bank_is_there:
        log.warning(
            "dkam.findings: the bank has %s (%s); of fewer than %d there is no scorer fused, and one alone teaches "
            "nothing by dkam.category=softmax", counted(len(bank), "anchor"), ", ".join(bank), FUSED_ANCHORS,
        )  # fmt: skip


def base_encoder(task: Task, bank: AnchorBank | None, names: Sequence[str]) -> AnchoredEncoder:
    """The encoder with base weights, and its bank: the one given, else that of `names`, kept in the folder of the run.

    Raises:
        InputError: the bank is of another backbone, or a description is missing.
    """
    settings, accelerator = task.experiment, task.experiment.trainer.accelerator
    encoder, digest = factory.encoder(settings.backbone, settings.dfat, settings.seed, settings.cache_dir, accelerator)
    encoder.eval()
    file = descriptions_file(settings.dkam, task.folder or Path())
    if bank is None:
        words = finding_texts(known_findings(settings.data), names)
        bank = build_bank(encoder, settings.dkam, words, file, digest, lone_trainer(accelerator))
        if task.folder is not None and is_main_process():
            bank.replace_in(task.folder)
    if task.folder is not None and not task.known and is_main_process():
        keep_descriptions(settings.dkam, file, task.folder)
    return AnchoredEncoder(encoder, bank, checked_base(bank, encoder, digest, settings.backbone.path is None), file)


def checked_base(bank: AnchorBank, encoder: Encoder, digest: str, tiny: bool) -> str:
    """The digest of a bank's base; InputError where that is not this encoder's, of `digest`.

    A `tiny` backbone is made from its seed on every machine, and processors round its random weights differently: it is
    the bank's where it encodes the descriptions alike, and nothing but the weights has another digest.
    """
    told = bank.info
    if tiny and digest != told.base_digest and digest.split("-")[1:] == told.base_digest.split("-")[1:] != []:
        texts = [line for description in bank.descriptions for line in description.split("\n")]
        again = encode_now(encoder, texts, told.encoder).unflatten(0, (len(bank.names), -1)).cpu()
        again = again.mean(1) if bank.vectors.dim() == 2 else again
        apart = (again - bank.vectors).norm(dim=-1) if again.shape == bank.vectors.shape else torch.tensor(torch.inf)
        if not told.adapter_digest and (apart <= ROUNDING * bank.vectors.norm(dim=-1)).all():
            log.info("this processor rounds the tiny backbone differently from the one that made the run")
            digest = told.base_digest
    bank.check_base(digest, encoder.backbone.hidden_size)
    return digest
