"""A batch, or that of one process of two, may lack texts, sentences or labels: the step goes on, with every loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import in_processes
from recipe_module import FINDINGS, Quiet, make, studies
from test_gradient_cache import gradients
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from data_modules.reports import digest64

UNKNOWN, ABSENT = 3, 0
ASSERTS, DENIES = "Small left edema.", "No pneumothorax is seen."
TOLD = [ASSERTS, "Large nodule.", DENIES, "Mass."]
LACKS: dict[str, tuple[Sequence[str], int | None]] = {
    "no text": ([""] * 8, None),
    "no sentence": ([DENIES, "No effusion."] * 4, None),
    "one sentence": ([ASSERTS, *[DENIES] * 7], None),
    "no label": (TOLD * 2, UNKNOWN),
    "no positive": (TOLD * 2, ABSENT),
    "texts in one half": ([*TOLD, *[""] * 4], None),
    "sentences in one half": ([*[DENIES] * 4, *TOLD], None),
    "nothing": ([""] * 8, UNKNOWN),
    "two sentences": ([ASSERTS, "Large nodule.", *[""] * 6], None),
    "one text": ([ASSERTS] * 8, None),
}
"""What a batch of eight lacks: their reports, and the state of every label where it is one."""
SHARED = ["no sentence", "texts in one half", "sentences in one half", "nothing"]
"""those of two processes"""
EVERY = {
    "statements_weight": 0.3, "local_weight": 0.3, "sentences_weight": 0.3, "lm_weight": 0.3, "keep_weight": 0.3,
    "reconstruction_weight": 0.3,
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {"centre": "batch", "gradient_cache": 3},
    {"centre": "whiten", "sentences_by": "tokens", "dkam": {"category": "sigmoid"}, "backbone": {"train": "full"}},
]


class Step(Quiet):
    def forward(self, batch: StudyBatch) -> Tensor:
        return self.training_step(batch, 0)


def lacking(what: str, part: slice = slice(None)) -> StudyBatch:
    reports, state = LACKS[what]
    reports, batch = list(reports)[part], studies(rows=range(8)[part])
    states = batch.label_states if state is None else torch.full_like(batch.label_states, state)
    return replace(
        batch, reports=reports, label_states=states, text_digest=torch.tensor([digest64(one) for one in reports])
    )


def module(folder: Path, case: dict[str, Any]) -> Step:
    backbone = {"depth": "full", **case.get("backbone", {})}
    return make(folder, Step, **EVERY, **{**case, "backbone": backbone})  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize(("centre", "findings"), [("none", FINDINGS), ("batch", FINDINGS[:2]), ("whiten", FINDINGS)])
def test_a_step_goes_on_without(tiny_path: Path, centre: str, findings: Sequence[str]) -> None:
    """Whatever is lacking, loss and gradients are numbers."""
    for what in LACKS:
        step = module(tiny_path, {"centre": centre, "findings": findings})
        batch = lacking(what)
        value, found = gradients(step, replace(batch, label_states=batch.label_states[:, : len(findings)]))
        assert torch.tensor(value).isfinite() and found.isfinite().all(), what


def member(rank: int, world: int, folder: Path, tiny: Path, number: int) -> None:
    for what in SHARED:
        step = module(tiny, CASES[number])
        wrapped = nn.parallel.DistributedDataParallel(step)
        loss = wrapped(lacking(what, slice(4 * rank, 4 * rank + 4)))
        loss.backward()
        value = loss.detach().clone()
        dist.all_reduce(value)
        if rank == 0:
            found = torch.cat([p.grad.flatten() for p in step.parameters() if p.requires_grad])
            torch.save({"loss": value / world, "gradients": found}, folder / f"{what}.pt")


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_so_do_two_processes_as_one(number: int, tiny_path: Path, tmp_path: Path) -> None:
    """Where one lacks what the other has, they still meet in every exchange, and every weight has a gradient."""
    in_processes(member, 2, tmp_path, tiny_path, number)
    for what in SHARED:
        found = torch.load(tmp_path / f"{what}.pt", weights_only=True)
        value, expected = gradients(module(tiny_path, {**CASES[number], "gradient_cache": 0}), lacking(what))
        assert found["loss"].item() == pytest.approx(value, rel=1e-6), what
        assert (found["gradients"] - expected).norm() <= 1e-6 * expected.norm() + 1e-9, what
