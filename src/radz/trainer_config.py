"""The section `trainer` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass

from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError
from radz.config_checks import above_zero


@dataclass
class TrainerConfig:
    """Length, hardware and logging of a run."""

    max_epochs: int | None = None
    max_steps: int | None = None
    devices: int = 1
    """processes on each node, one per GPU"""
    num_nodes: int = 1
    """machines; more than one needs torchrun or srun (experiments/cluster/)"""
    strategy: str = "auto"
    """auto (ddp from two processes on) | ddp | fsdp (FSDP2 shards weights and optimiser; backbone.train=full only)"""
    accelerator: str = "auto"
    """auto | cpu | gpu"""
    precision: str = "auto"
    """auto (bf16-mixed on GPUs that have it, else 32-true) | 32-true | 64-true | bf16-mixed"""
    validate_every_epochs: int = 1
    log_every_steps: int = 10
    progress_bar: bool = True
    checkpoint_every_n_steps: int | None = None
    """last.ckpt also every so many steps; None: after each epoch and before its last step"""
    timeout_minutes: float = 30.0
    """a run of several processes ends when one of them has not answered for so long"""
    deterministic: bool = False
    """only operators that repeat bit for bit, also on GPUs; slower, and one without such a form stops the run"""
    fast_dev_run: bool = False
    """one batch of training, validation and test, to see that all works; nothing is kept"""
    overfit_batches: int = 0
    """if not 0, train on the first so many batches again and again: the loss must fall to nearly nothing"""
    profiler: str = "none"
    """none | simple (seconds per part of a step) | torch (operators, memory, trace); into the run folder's profile/"""

    @property
    def processes(self) -> int:
        """Of all nodes."""
        return self.devices * self.num_nodes

    def __post_init__(self) -> None:
        one_of("trainer.precision", self.precision, ("auto", "32-true", "64-true", "bf16-mixed"))
        one_of("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu"))
        one_of("trainer.strategy", self.strategy, ("auto", "ddp", "fsdp"))
        for key in ("devices", "num_nodes", "validate_every_epochs", "log_every_steps"):
            in_range(f"trainer.{key}", getattr(self, key), 1)
        one_of("trainer.profiler", self.profiler, ("none", "simple", "torch"))
        above_zero("trainer.timeout_minutes", self.timeout_minutes)
        in_range("trainer.overfit_batches", self.overfit_batches, 0)
        for key in ("max_epochs", "max_steps", "checkpoint_every_n_steps"):
            if getattr(self, key) is not None:
                in_range(f"trainer.{key}", getattr(self, key), 1)
        if self.max_epochs is not None and self.max_steps is not None:
            raise InputError("trainer.max_steps: conflicts with trainer.max_epochs; set one of them to null")
