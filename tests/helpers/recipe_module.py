"""radz's module and the same weights for `recipe.Plain`, with eight studies that differ in every way that counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import recipe
import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.findings import ontology
from radz.backbones import load_backbone
from radz.config.schema import BackboneConfig, DfatConfig, DkamConfig
from radz.config.scoring import ScoringConfig
from radz.methods.dfat import DFAT
from radz.models.anchor_bank import AnchorBank, BankInfo
from radz.models.encoder import Encoder
from radz.models.extra_losses import extra_losses
from radz.models.labels import LabelView
from radz.models.zero_shot import ClassTexts

NAN = float("nan")
FINDINGS = ("no_finding", "edema", "nodule", "mass")
DESCRIBED = (
    "Clear lungs.", "Fluid in the lungs, ill defined.", "A rounded opacity.", "A large opacity, well defined.",
    "A pacemaker.",
)  # fmt: skip
Policy = Mapping[int, float | None]
POLICY: Policy = {recipe.ABSENT: 0.0, recipe.PRESENT: 1.0, recipe.UNCERTAIN: None, recipe.UNMENTIONED: None}
REPORTS = [
    "There is a small left pleural effusion with a meniscus.", "Normal chest radiograph.", "",
    "A pacemaker lies over the left chest wall.", "Normal chest radiograph.", "The heart is enlarged.",
    "Patchy opacity in the right lower zone, ill defined.", "No pneumothorax is seen.",
]  # fmt: skip
SHARPNESS = 0.1
"""default of dfat.local_temperature"""
COUNTS = [1, 2, 1, 1, 1, 1, 1, 2]
# Columns as FINDINGS. Two findings; healthy as said and as follows; one column; nothing known; an explicit absent.
STATES = [
    [3, 1, 1, 0], [1, 0, 0, 0], [3, 0, 1, 0], [3, 0, 0, 0], [3, 3, 3, 3], [3, 1, 2, 3], [0, 1, 0, 3], [3, 0, 1, 0],
]  # fmt: skip


class Quiet(DFAT):
    """Without a trainer there is nowhere to log to."""

    def _log_step(self, *values: Any) -> None:
        self.logged = values


def make(
    folder: Path, kind: type[DFAT] = Quiet, backbone: dict[str, Any] | None = None, dkam: dict[str, Any] | None = None,
    scoring: dict[str, Any] | None = None, findings: Sequence[str] = FINDINGS, policy: Policy = POLICY, **dfat: Any,
) -> DFAT:  # fmt: skip
    """float64, with heads, LoRA and modality rows away from where they start."""
    settings = DfatConfig(image_tokens=2, text_tokens=3, **dfat)
    config = BackboneConfig(path=str(folder), **{"lora_rank": 4, "lora_alpha": 8, **(backbone or {})})
    torch.manual_seed(0)
    encoder = Encoder(load_backbone(config, folder, 2, 3), settings)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad and any(part in name for part in ("lora_B", "heads.", "tokens_delta")):
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    names, described = tuple(findings), DESCRIBED[: len(findings)]
    vectors = torch.randn(len(names), encoder.backbone.hidden_size, generator=generator)
    bank = AnchorBank(names, described, vectors, BankInfo("decoder", (), "", "", "", "base", "", 0))
    row = [NAN if value is None else value for _, value in sorted(policy.items())]
    values = torch.tensor(row).expand(1, len(names), 4)
    view, texts = LabelView(names, names, values, values), ClassTexts(names, names, described)
    score = ScoringConfig(**(scoring or {}))
    extras = extra_losses(settings, encoder, bank, ontology(), ["chest_xray"])
    module = kind(
        encoder, bank, view, texts, texts, vectors, settings, DkamConfig(**(dkam or {})), score, ["chest_xray"],
        extras,
    )  # fmt: skip
    return module.double().train()


def studies(seed: int = 2, rows: Sequence[int] = range(8), told: Sequence[str] = REPORTS) -> StudyBatch:
    """The eight studies or some of them; `seed` is of their pixels, `told` their reports."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (sum(COUNTS), 1, 64, 64), generator=generator, dtype=torch.uint8).split(COUNTS)
    reports, counts = [told[row] for row in rows], torch.tensor([COUNTS[row] for row in rows])
    return StudyBatch(
        torch.cat([pixels[row] for row in rows]), counts, reports,
        torch.tensor([told.index(report) for report in reports]),
        torch.tensor([STATES[row] for row in rows], dtype=torch.int8), torch.zeros_like(counts), torch.tensor(rows),
        torch.zeros_like(counts),
    )  # fmt: skip


def leaves(module: DFAT) -> dict[str, Tensor]:
    """Copies of what trains, by name."""
    return {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters() if p.requires_grad}


def plain(folder: Path, module: DFAT, **settings: Any) -> recipe.Plain:
    """The same weights, computed anew."""
    model = recipe.Plain(folder, leaves(module), (2, 3), **settings)
    with torch.no_grad():  # frozen; where its rows of the modality tokens start is no part of the method
        model.model.lm_head.weight.copy_(module.encoder.backbone.core.lm_head.weight)
    return model


def total(
    model: recipe.Plain, batch: StudyBatch, anchors: Tensor, *, weight: float, tau: float | None, kind: str,
    w: float = 0.5, positives: str = "same_text", language: float = 0.0, findings: Sequence[str] = FINDINGS,
    policy: Policy = POLICY, located: float = 0.0, stated: float = 0.0,
    statements: tuple[Sequence[str], Sequence[str]] = ((), ()), sentenced: float = 0.0, by: str = "trained",
    drawn: Sequence[Sequence[tuple[str, Sequence[str], str]]] = (),
) -> Tensor:  # fmt: skip
    """docs/method.md 3.5 of a batch; `tau` None is the learned one; a leaf category_bias makes the loss sigmoid.

    `stated`: weight of `statements`, those said and those denied. `located`: of the loss of single image tokens.
    `sentenced`: weight of the sentences `drawn` of each study, (text, findings it asserts, twin), compared `by`.
    """
    model.merge()
    temperature = tau if tau is not None else torch.exp(-model.leaves["log_scale"])
    images = [model.image(one) for one in batch.pixels.split(batch.image_counts.tolist())]
    told = [n for n, report in enumerate(batch.reports) if report]
    texts = {n: model.text(batch.reports[n]) for n in told}
    known = [recipe.target(row, findings, policy) for row in batch.label_states.tolist()]
    match = [[float(i == j or alike(batch, known, positives, len(findings), i, j)) for j in told] for i in told]
    sides = [images[n] for n in told], [texts[n] for n in told]
    aligned = recipe.aligned(*sides, match, temperature, kind, w, model.leaves.get("alignment_bias"))
    heads = {name: model.head("anchor", raw) for name, raw in zip(findings, anchors, strict=True)}
    bias = model.leaves.get("category_bias")
    of_images = recipe.guided([one[0] for one in images], heads, known, temperature, bias)
    of_texts = recipe.guided([texts[n][0] for n in told], heads, [known[n] for n in told], temperature, bias)
    loss = weight * aligned + (1 - weight) * (of_images + of_texts) / 2
    if located:
        tokens = [model.image_tokens(one) for one in batch.pixels.split(batch.image_counts.tolist())]
        of_tokens = recipe.located(tokens, heads, known, temperature, SHARPNESS, model.leaves["local_bias"])
        loss = loss + located * of_tokens
    if stated:
        said, denied = ([model.text(text) for text in side] for side in statements)
        biases = model.leaves["statement_bias"], bias
        loss = loss + stated * recipe.stated(images, said, denied, heads, known, temperature, kind, w, *biases)
    if sentenced:
        vectors = {
            text: model.text(text) for one in drawn for text in (*(s[0] for s in one), *(s[2] for s in one)) if text
        }

        def near(study: int, text: str) -> Tensor:
            if by == "tokens":
                tokens = model.image_tokens(batch.pixels.split(batch.image_counts.tolist())[study])
                return recipe.found_by(tokens, vectors[text][0], SHARPNESS)
            return recipe.near(images[study], vectors[text], kind, w)

        loss = loss + sentenced * recipe.sentenced(near, batch.reports, drawn, known, temperature)
    return loss + language * model.language(batch.reports) if language else loss


def compare(module: DFAT, model: recipe.Plain, batch: StudyBatch, expected: Tensor) -> None:
    """The loss of a step, and the gradient of every weight, are those of `expected`."""
    found = module.training_step(batch, 0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-7)
    found.backward()
    expected.backward()
    ours = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    assert ours.keys() == model.leaves.keys() and len(ours) > 30
    for name, leaf in model.leaves.items():
        theirs = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        found = torch.zeros_like(leaf) if ours[name] is None else ours[name]
        assert (found - theirs).norm() <= 1e-6 * theirs.norm() + 1e-9, name


def alike(batch: StudyBatch, known: list[dict[str, float]], positives: str, findings: int, i: int, j: int) -> float:
    """Whether two studies match by their texts, or by their labels: fully known, equal, with a positive; or how far, by
    the findings present in both of those in either."""
    if positives == "overlap":
        one, other = ({name for name, value in known[n].items() if value == 1} for n in (i, j))
        return len(one & other) / len(one | other) if one | other else 0.0
    if positives != "same_labels":
        return positives == "same_text" and batch.reports[i] == batch.reports[j]
    return known[i] == known[j] and len(known[i]) == findings and 1 in known[i].values()
