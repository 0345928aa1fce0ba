"""Two and four gloo processes give the numbers of one process on the joint batch, also with uneven labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import in_processes
from torch import nn

from radz.distributed import over_ranks
from radz.models.centre import Centre
from radz.models.first_loss import FirstPairs
from radz.models.local_similarity import local_similarity
from radz.models.losses import Features, alignment, category, known_cross_entropy, positive_pairs
from radz.models.reconstruction import reconstruction

NAN = float("nan")
ROWS, WIDTH, ANCHORS = 20, 6, 5
STEPS = 2
"""the second step reads the running means of the first"""
Case = tuple[str, str, torch.dtype, str]
"""loss, positives, type and `dfat.centre`"""


def data(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = (torch.rand(ROWS, ANCHORS, generator=generator) < 0.4).to(dtype)
    # Of two ranks, eight labelled studies on the first, two on the second; of four, none on the last.
    labels[8:10] = NAN
    labels[12:] = NAN
    usable = torch.ones(ROWS, dtype=torch.bool)
    usable[[1, 12, 13, 14]] = False
    return {
        "pixels": torch.randn(ROWS, 8, generator=generator, dtype=dtype),
        "words": torch.randn(ROWS, 8, generator=generator, dtype=dtype),
        "anchors": torch.randn(ANCHORS, WIDTH, generator=generator, dtype=dtype),
        "sets": torch.randn(ANCHORS, 2, WIDTH, generator=generator, dtype=dtype),
        "study": torch.arange(ROWS) % (ROWS - 3),  # three are drawn twice
        "digest": torch.randint(0, 12, (ROWS,), generator=generator),
        "labels": labels,
        "usable": usable,
    }


class Toy(nn.Module):
    def __init__(self, loss: str, positives: str, centre: str) -> None:
        super().__init__()
        self.centre, self.of_batch = Centre(WIDTH) if centre != "none" else None, centre == "batch"
        self.image, self.text = nn.Linear(8, 2 * WIDTH), nn.Linear(8, 2 * WIDTH)
        self.anchor, self.tokens = nn.Linear(WIDTH, WIDTH), nn.Linear(8, 3 * WIDTH)
        self.first_pairs = FirstPairs()
        self.bias, self.log_scale = nn.Parameter(torch.tensor([-1.0])), nn.Parameter(torch.tensor([3.0]))
        self.loss, self.positives = loss, positives

    def forward(self, part: dict[str, torch.Tensor]) -> torch.Tensor:
        share = torch.tensor(0.0)
        tokens = self.tokens(part["pixels"]).unflatten(1, (3, WIDTH))
        some = tokens * (torch.arange(3) < 2 + part["usable"][:, None])[..., None]  # studies of two tokens and of three
        image = Features(*self.image(part["pixels"]).chunk(2, dim=1), share, some)
        text = Features(*self.text(part["words"]).chunk(2, dim=1), share)
        if self.centre:
            image = self.centre.training_step(image, "image", torch.ones_like(part["usable"]), self.of_batch)
            text = self.centre.training_step(text, "text", part["usable"], self.of_batch)
        pairs = positive_pairs(part["study"], part["digest"], self.positives, part["labels"])
        tau = (-self.log_scale).exp()
        start = self.first_pairs.measure(image, text, pairs, part["usable"], self.loss, 0.4)
        shift = self.bias + start - self.first_pairs.level / tau
        kind: dict[str, Any] = {"loss": self.loss, "temperature": tau, "global_weight": 0.4}
        aligned = alignment(image, text, pairs, part["usable"], **kind)
        each = alignment(image, text, pairs, part["usable"], **kind, bias=shift)
        # 5 fill no rank evenly
        anchors, sets = (over_ranks(self.anchor, part[key], ANCHORS) for key in ("anchors", "sets"))
        guided, _ = category(image.overall, anchors, part["labels"], part["usable"] | True, temperature=0.05)
        texts, _ = category(text.overall, anchors, part["labels"], part["usable"], temperature=0.05)
        alone, _ = category(image.overall, sets, part["labels"], part["usable"], temperature=0.05, bias=self.bias)
        assert image.tokens is not None
        found = local_similarity(image.tokens, anchors, 0.1)
        located = known_cross_entropy(found / tau + self.bias, part["labels"])
        # As many masked tokens as a study has of its own: 3 of some, 2 of others.
        hidden = reconstruction(some[some.any(-1)], part["words"].repeat_interleave(2 + part["usable"], 0)[:, :WIDTH])
        return 0.5 * aligned + 0.25 * (guided + texts) + 0.2 * alone + 0.3 * located + 0.1 * each + 0.2 * hidden


def model(case: Case) -> Toy:
    torch.manual_seed(0)
    loss, positives, dtype, centre = case
    return Toy(loss, positives, centre).to(dtype)


def steps(toy: nn.Module, part: dict[str, torch.Tensor]) -> torch.Tensor:
    """Loss of the last of STEPS steps, whose gradients add up."""
    for _ in range(STEPS):
        value = toy(part)
        value.backward()
    return value.detach()


def vector(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors] or [torch.zeros(0)])


def run_cases(rank: int, world: int, folder: Path, cases: list[Case]) -> None:
    for number, case in enumerate(cases):
        # Buffers as they are: sent from the first rank, they would be equal also where ranks count them wrongly.
        wrapped = nn.parallel.DistributedDataParallel(model(case), broadcast_buffers=False)
        part = {k: v if k in ("anchors", "sets") else v.chunk(world)[rank] for k, v in data(case[2]).items()}
        mean = steps(wrapped, part).clone()
        dist.all_reduce(mean)
        if rank == world - 1:
            found = {
                "loss": mean / world,
                "gradients": vector(p.grad for p in wrapped.parameters()),
                "means": vector(wrapped.buffers()),
            }
            torch.save(found, folder / f"{number}.pt")


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_loss_gradients_and_means_equal_one_process(tmp_path: Path, world: int) -> None:
    cases: list[Case] = [
        (loss, positives, dtype, "none")
        for loss in ("cross", "global", "global_local")
        for positives in ("same_text", "diagonal", "same_labels", "overlap")
        for dtype in (torch.float64, torch.float32)
    ]
    cases += [("cross", "same_text", torch.float64, centre) for centre in ("running", "batch")]
    whole = data(torch.float64)
    for kind in ("same_text", "same_labels"):
        assert positive_pairs(whole["study"], whole["digest"], kind, whole["labels"]).sum() > ROWS + 6
    in_processes(run_cases, world, tmp_path, cases)
    for number, case in enumerate(cases):
        single = model(case)
        value = steps(single, data(case[2]))
        expected, means = vector(p.grad for p in single.parameters()), vector(single.buffers())
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        tolerance = 1e-9 if case[2] == torch.float64 else 1e-5
        error = (found["gradients"] - expected).norm() / expected.norm()
        assert error < tolerance, (case, error)
        assert found["loss"].item() == pytest.approx(value.item(), rel=tolerance)
        assert expected.norm() > 1e-3
        torch.testing.assert_close(found["means"], means, rtol=tolerance, atol=tolerance)
        assert (len(means) > 1 and means.abs().min() > 0) == (case[3] != "none")
