"""Gradient caching gives the gradients of the plain big batch: with dropout, under Lightning, on two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import recipe_module
import torch
import torch.distributed as dist
from plain_trainer import plain_trainer
from processes import in_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from data_modules.reports import digest64
from radz.config.files import load_experiment
from radz.methods.dfat import DFAT
from radz.models.losses import Features

REPORTS = [
    "There is a small left pleural effusion with a meniscus.", "Normal chest radiograph.", "",
    "A pacemaker lies over the left chest wall.", "Normal chest radiograph.",
    "The heart is enlarged. Severe edema.", "Large mass in the right lower zone, ill defined. Edema.",
    "No pneumothorax is seen. Small nodule in the left apex.",
]  # fmt: skip
Settings = dict[str, Any]
COUNTS = [1, 2, 1, 3, 1, 1, 1, 2]


class Quiet(DFAT):
    """Without a trainer there is nowhere to log to. A later step: in the first one, nothing has changed yet."""

    global_step = 1

    def _log_step(self, *values: Any) -> None:
        self.shares, self.parts = values[3].detach(), {name: part.detach() for name, part in values[4].items()}

    def forward(self, batch: StudyBatch) -> Tensor:
        return self.training_step(batch, 0)


def make(
    folder: Path, kind: type[DFAT] = Quiet, category: str = "softmax", dkam: Settings | None = None, **settings: Any
) -> DFAT:  # fmt: skip
    """As of `recipe_module`, in float32."""
    module = recipe_module.make(folder, kind, dkam={"category": category, **(dkam or {})}, **settings)
    if "keep" in module.extras:
        module.extras["keep"].first.normal_(generator=torch.Generator().manual_seed(1))  # as of other weights
    return module.float()


def studies(part: slice = slice(None)) -> StudyBatch:
    generator = torch.Generator().manual_seed(2)
    counts, rows = torch.tensor(COUNTS), range(len(COUNTS))[part]
    pixels = torch.randint(0, 256, (sum(COUNTS), 1, 64, 64), generator=generator, dtype=torch.uint8).split(COUNTS)
    states = torch.randint(0, 4, (len(COUNTS), 4), generator=generator, dtype=torch.int8)
    return StudyBatch(
        torch.cat([pixels[i] for i in rows]), counts[part], REPORTS[part],
        torch.tensor([digest64(REPORTS[i]) for i in rows]), states[part], torch.zeros_like(counts[part]),
        torch.tensor(list(rows)), torch.zeros_like(counts[part]),
    )  # fmt: skip


def gradients(module: DFAT, batch: StudyBatch) -> tuple[float, Tensor]:
    """Loss, and the gradient of every trainable parameter (zero where it has none) in one vector."""
    loss = module.training_step(batch, 0)
    loss.backward()
    wanted = [p for p in module.parameters() if p.requires_grad]
    return loss.item(), torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in wanted])


def apart(found: Tensor, expected: Tensor) -> float:
    assert expected.norm() > 1e-3
    return ((found - expected).norm() / expected.norm()).item()


def compare(folder: Path, **settings: Any) -> None:
    """One step with caching in chunks of two and one without agree in loss, gradients and what is logged."""
    plain, cached = (make(folder, **settings, gradient_cache=size) for size in (0, 2))
    (value, expected), (again, found) = gradients(plain, studies()), gradients(cached, studies())
    assert again == pytest.approx(value, rel=1e-6)
    assert apart(found, expected) < 1e-5
    for (name, one), other in zip(plain.named_parameters(), cached.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
    assert torch.allclose(plain.shares, cached.shares)


@pytest.mark.parametrize("loss", ["cross", "global", "global_local"])
@pytest.mark.parametrize("category", ["softmax", "sigmoid"])
def test_gradients_equal_the_plain_big_batch(tiny_path: Path, loss: str, category: str) -> None:
    compare(tiny_path, category=category, loss=loss)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_so_do_those_of_the_losses_that_are_added(tiny_path: Path, padding: str) -> None:
    compare(tiny_path, keep_weight=0.7, reconstruction_weight=0.6, backbone={"padding": padding})


def test_a_small_chunk_of_texts_is_one_call_of_the_decoder(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven distinct texts are two chunks, each encoded twice; groups of single texts would keep no processor busy."""
    module = make(tiny_path, gradient_cache=4)
    backbone, texts = module.encoder.backbone, []
    real = backbone.decode
    monkeypatch.setattr(
        backbone,
        "decode",
        lambda e, m, patches=None: (patches is None and texts.append(len(e)), real(e, m, patches))[1],
    )
    module.training_step(studies(), 0).backward()
    assert texts == [4, 3, 4, 3]


@pytest.mark.parametrize(
    "backbone",
    [
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "recompute": "none"},
        {"recompute": "none"},
        {"train": "full", "train_tower": True},
        {"train": "frozen", "train_projector": False},
    ],
    ids=str,
)
def test_whatever_trains_and_whatever_is_made_again(tiny_path: Path, backbone: Settings) -> None:
    compare(tiny_path, backbone=backbone)


def test_with_dropout_each_chunk_meets_the_same_random_numbers_twice(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, plain = (
        make(tiny_path, backbone={"lora_dropout": 0.3}, gradient_cache=4),
        make(tiny_path, backbone={"lora_dropout": 0.3}),
    )

    def by_hand(batch: StudyBatch, texts: list[str]) -> tuple[Features, Features]:
        """The chunks of `cached` in one plain graph: four studies twice, then four distinct texts and three."""
        encode, words = plain.encoder, sorted(set(texts), key=len)
        modalities = ["chest_xray"] * 8
        parts = [
            encode.encode_images(batch.pixels[:7], batch.image_counts[:4], modalities[:4]),
            encode.encode_images(batch.pixels[7:], batch.image_counts[4:], modalities[4:]),
            encode.encode_texts(words[:4], groups=1), encode.encode_texts(words[4:], groups=1),
        ]  # fmt: skip
        image, text = (
            Features(torch.cat([a.overall, b.overall]), torch.cat([a.local, b.local]), a.peak_share)
            for a, b in (parts[:2], parts[2:])
        )
        return image, text.rows(torch.tensor([words.index(one) for one in texts]))

    monkeypatch.setattr(plain, "_features", by_hand)
    states = []
    results = []
    for module in (plain, cached):
        torch.manual_seed(5)
        results.append(gradients(module, studies()))
        states.append(torch.get_rng_state())
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-6) and apart(results[1][1], results[0][1]) < 1e-5
    assert torch.equal(*states)  # encoding again leaves the random numbers of the next step alone
    torch.manual_seed(6)
    assert (
        apart(gradients(make(tiny_path, backbone={"lora_dropout": 0.3}, gradient_cache=4), studies())[1], results[0][1])
        > 1e-2
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_trains_as_on_the_plain_batch(tiny_path: Path, precision: Any) -> None:
    """Two steps with warm-up and clipping; bfloat16 rounds, so there only the direction is that of float32."""
    moved = []
    for size in (0, 2):
        module = make(tiny_path, DFAT, gradient_cache=size, learning_rate=0.01, head_learning_rate=0.01)
        start = [p.detach().clone() for p in module.parameters() if p.requires_grad]
        trainer = plain_trainer(max_steps=2, precision=precision)
        trainer.fit(module, DataLoader([studies(), studies()], batch_size=None))  # type: ignore[arg-type]
        assert trainer.global_step == 2
        wanted = [p for p in module.parameters() if p.requires_grad]
        moved.append(torch.cat([(p.detach() - before).flatten() for p, before in zip(wanted, start, strict=True)]))
    plain, cached = moved
    cosine = torch.nn.functional.cosine_similarity(plain, cached, dim=0).item()
    assert plain.norm() > 1e-2 and cosine > (0.9999 if precision == "32-true" else 0.9)


Case = dict[str, Any]
KEPT = {"keep_weight": 0.7, "reconstruction_weight": 0.6}
FEW: list[Case] = [
    {"category": "sigmoid", "gradient_cache": 3, "loss": "cross", "learn_temperature": True, "sentences_weight": 0.7},
    {"gradient_cache": 2, "loss": "global_local", "positives": "same_labels", "sentences_weight": 0.7,
     "sentences_by": "tokens", "centre": "running"},
    {"gradient_cache": 2, "loss": "cross", "lm_weight": 0.3, "backbone": {"depth": "full"}},
    {"gradient_cache": 0, "loss": "global", **KEPT},
    {"gradient_cache": 3, "backbone": {"train": "full"}, **KEPT},
]  # fmt: skip
ALL: list[Case] = [
    {"category": category, "gradient_cache": size, "loss": loss, "positives": positives}
    for category in ("softmax", "sigmoid")
    for size in (0, 2)
    for loss in ("cross", "global", "global_local")
    for positives in ("same_text", "same_labels", "diagonal")
]


def worker(rank: int, world: int, folder: Path, tiny: Path, cases: list[Case]) -> None:
    for number, case in enumerate(cases):
        run(rank, world, folder / f"{number}.pt", make(tiny, **case))


def run(rank: int, world: int, file: Path, module: DFAT) -> None:
    reduced: list[int] = []

    def count(state, bucket):
        reduced.append(bucket.buffer().numel())
        return dist.all_reduce(bucket.buffer() / world, async_op=True).get_future().then(lambda done: done.value()[0])

    wrapped = nn.parallel.DistributedDataParallel(module)
    wrapped.register_comm_hook(None, count)
    each = len(COUNTS) // world
    loss = wrapped(studies(slice(each * rank, each * (rank + 1))))
    loss.backward()
    value = loss.detach().clone()
    dist.all_reduce(value)
    if rank == 0:
        found = torch.cat([p.grad.flatten() for p in module.parameters() if p.requires_grad])
        torch.save({"loss": value / world, "gradients": found, "reduced": sum(reduced)}, file)


@pytest.mark.parametrize(
    ("world", "cases"),
    [(2, FEW), *(pytest.param(world, ALL, marks=pytest.mark.slow) for world in (2, 4))],
    ids=["2-few", "2-all", "4-all"],
)
def test_several_processes_equal_one_and_reduce_once(
    tiny_path: Path, tmp_path: Path, world: int, cases: list[Case]
) -> None:
    in_processes(worker, world, tmp_path, tiny_path, cases)
    for number, case in enumerate(cases):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        value, expected = gradients(make(tiny_path, **{**case, "gradient_cache": 0}), studies())
        assert found["loss"].item() == pytest.approx(value, rel=1e-5), case
        assert apart(found["gradients"], expected) < 1e-5, case
        assert found["reduced"] == expected.numel()


@pytest.mark.parametrize(
    "overrides", [["dfat.gradient_cache=-1"], ["dfat.gradient_cache=2", "backbone.train=full", "trainer.strategy=fsdp"]]
)
def test_the_key_is_checked(overrides: list[str]) -> None:
    with pytest.raises(InputError, match=r"^dfat\.gradient_cache"):
        load_experiment("demo", overrides)
