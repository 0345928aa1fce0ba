"""Domain knowledge anchoring module: write descriptions, encode them into a bank (method.md 3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.errors import InputError
from data_modules.findings import ontology
from radz.anchors import AnchorBank, BankInfo, geometry
from radz.config import DkamConfig
from radz.descriptions import (
    Description,
    finding_name,
    load_descriptions,
    parse_answer,
    save_descriptions,
    writing_prompt,
)
from radz.encode import Encoder
from radz.experiment import find_resource

log = logging.getLogger(__name__)
DECODING = "greedy"


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
        writer = _Writer(self.encoder, self.config.max_new_tokens)
        loader: DataLoader[str] = DataLoader(prompts, batch_size=1, collate_fn=list)  # type: ignore[arg-type]
        answers = [answer for part in trainer.predict(writer, loader, return_predictions=True) for answer in part]
        return {name: parse_answer(name, answer) for name, answer in zip(findings, answers, strict=True)}

    def predict_dataloader_for(self, texts: Sequence[str]) -> DataLoader[str]:
        """Loader over descriptions, in order; the encoder makes groups of like length of them."""
        return DataLoader(list(texts), batch_size=1024, collate_fn=list)  # type: ignore[arg-type]

    def predict_step(self, batch: list[str], batch_idx: int) -> Tensor:
        """Raw vectors fp32 [n, d] of n descriptions."""
        return self.encoder.encode_descriptions(batch, self.config.anchor_encoder).float().cpu()


class _Writer(LightningModule):
    """Prompts in, answers out, through `trainer.predict`: the trainer alone knows the device."""

    def __init__(self, encoder: Encoder, max_new_tokens: int) -> None:
        super().__init__()
        self.encoder, self.max_new_tokens = encoder, max_new_tokens

    def predict_step(self, batch: list[str], batch_idx: int) -> list[str]:
        return self.encoder.backbone.write(batch, self.max_new_tokens)


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
    parts = trainer.predict(module, module.predict_dataloader_for(every), return_predictions=True)
    vectors = torch.cat(parts).split([len(texts) for texts in sets])
    source = ", ".join([descriptions_file.name, *(Path(name).name for name in config.sources)])
    info = BankInfo(config.anchor_encoder, tuple(config.aspects), source, prompt, decoding, base_digest, "", 0)
    each = torch.stack(vectors)
    texts = tuple("\n".join(one) for one in sets)
    bank = AnchorBank(tuple(findings), texts, each.mean(1) if config.combine == "mean" else each, info)
    log.info("anchor bank: %d findings, digest %s, %s", len(bank.names), bank.digest(), geometry(bank.vectors))
    return bank


def description_sets(config: DkamConfig, findings: Sequence[str], descriptions_file: Path) -> list[list[str]]:
    """The texts of each finding, equally many: one of each file, or of each aspect of each file.

    Raises:
        InputError: a file without one of the findings.
    """
    files = {"dkam.descriptions": descriptions_file}
    files |= {f"dkam.sources.{n}": find_resource(name) for n, name in enumerate(config.sources)}
    sets: list[list[str]] = [[] for _ in findings]
    groups = [config.aspects] if config.sets == "whole" else [[aspect] for aspect in config.aspects]
    for key, file in files.items():
        known = load_descriptions(file)
        for name, texts in zip(findings, sets, strict=True):
            if name not in known:
                raise InputError(f"{key}: {file} has no {name}; add it or write with dkam.write")
            texts += [known[name].text(group) for group in groups]
    return sets
