"""The section `trainer` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, Positive, at_least, check_fields, words


@dataclass
class TrainerConfig:
    """Length, hardware and logging of a run."""

    max_epochs: Annotated[int | None, at_least(1)] = None
    """passes over the training studies; set this or max_steps"""
    max_steps: Annotated[int | None, at_least(1)] = None
    """optimizer steps; set this or max_epochs"""
    devices: Count = 1
    """processes on each node, one per GPU"""
    num_nodes: Count = 1
    """machines; more than one needs torchrun or srun (experiments/cluster/)"""
    strategy: Annotated[str, words("auto", "ddp", "fsdp")] = "auto"
    """auto (ddp from two processes on) | ddp | fsdp (FSDP2 shards weights and optimiser; backbone.train=full only)"""
    accelerator: Annotated[str, words("auto", "cpu", "gpu")] = "auto"
    """auto | cpu | gpu"""
    precision: Annotated[str, words("auto", "32-true", "64-true", "bf16-mixed")] = "auto"
    """auto (bf16-mixed on GPUs that have it, else 32-true) | 32-true | 64-true | bf16-mixed"""
    validate_every_epochs: Count = 1
    """epochs from one validation to the next; the end of a run is validated too"""
    log_every_steps: Count = 10
    """steps from one row of metrics.csv to the next"""
    progress_bar: bool = True
    """show a bar where there is a terminal"""
    checkpoint_every_n_steps: Annotated[int | None, at_least(1)] = None
    """last.ckpt also every so many steps; None: after each epoch and before its last step"""
    timeout_minutes: Positive = 30.0
    """a run of several processes ends when one of them has not answered for so long"""
    deterministic: bool = False
    """only operators that repeat bit for bit, also on GPUs; slower, and one without such a form stops the run"""
    fast_dev_run: bool = False
    """one batch of training, validation and test, to see that all works; nothing is kept"""
    overfit_batches: Annotated[int, at_least(0)] = 0
    """if not 0, train on the first so many batches again and again: the loss must fall to nearly nothing"""
    profiler: Annotated[str, words("none", "simple", "torch")] = "none"
    """none | simple (seconds per part of a step) | torch (operators, memory, trace); into the run folder's profile/"""

    @property
    def processes(self) -> int:
        """Of all nodes."""
        return self.devices * self.num_nodes

    def __post_init__(self) -> None:
        check_fields("trainer.", self)
        if self.max_epochs is not None and self.max_steps is not None:
            raise InputError("trainer.max_steps: conflicts with trainer.max_epochs; set one of them to null")


@dataclass
class WandbConfig:
    """Weights & Biases; metrics.csv is written whatever is chosen here."""

    mode: Annotated[str, words("auto", "online", "offline", "disabled")] = "auto"
    """auto (online when an account is configured, else offline) | online | offline | disabled"""
    project: str = "radz"
    """project that the run is listed under"""
    entity: str | None = None
    """user or team; empty: the account's own"""
    group: str | None = None
    """name that puts runs together"""
    tags: list[str] = field(default_factory=list)
    """words to find the run by"""
    images: bool = False
    """send pictures of single cases; radiographs leave the machine then"""
    artifacts: bool = False
    """send the trained weights (never the frozen backbone) and the anchor bank; mind the terms of the corpora"""

    def __post_init__(self) -> None:
        check_fields("wandb.", self)
