"""How a run is spread over processes: DDP, or FSDP2 for full fine-tuning of what one GPU cannot hold.

FSDP2 shards every parameter, its gradient and the optimiser's state over all processes and gathers one decoder layer at
a time (Zhao et al. 2023, arXiv 2304.11277; torch.distributed.fsdp.fully_shard).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from radz.config.schema import TrainerConfig

ENTRIES = (
    "training_step", "validation_step", "test_step", "on_validation_epoch_start", "on_test_epoch_start",
    "on_train_epoch_end",
)  # fmt: skip
"""Methods of the module that compute with its weights; FSDP2 gathers those at the root before them."""


def strategy(settings: TrainerConfig) -> str | Strategy:
    """What the Trainer takes as strategy."""
    processes = settings.processes
    if settings.strategy == "fsdp":
        # One file, gathered, so that test, eval and a run on one GPU can read it.
        return ModelParallelStrategy(processes, 1, save_distributed_checkpoint=False)
    return "ddp" if processes > 1 or settings.strategy == "ddp" else "auto"


def shard(module: nn.Module, mesh: Any, low_precision: bool) -> None:
    """Shard a DFAT module over `mesh` (one dimension); a module that is sharded already stays as it is.

    Each decoder layer is gathered by itself; what else trains (embeddings, projector, heads) makes up the root. What is
    frozen has no gradient and no state, so every process keeps a copy of it.

    Args:
        low_precision: decoder layers are gathered and computed in bfloat16, and their gradients summed in float32.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    if isinstance(module, FSDPModule):
        return
    low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = low if low_precision else MixedPrecisionPolicy()
    decoder: Any = module.encoder.backbone.decoder  # type: ignore[union-attr]
    frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
    for layer in decoder.layers:  # before the root, which takes what is left
        fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=frozen)
    fully_shard(module, mesh=mesh, ignored_params=frozen)
    for name in ENTRIES:
        register_fsdp_forward_method(module, name)


def whole(value: Tensor) -> Tensor:
    """A sharded tensor gathered; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; any other as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def load_whole(module: nn.Module, weights: Mapping[str, Tensor], strict: bool) -> None:
    """Put weights, whole tensors, into a module that may be sharded; unless `strict`, what is not named stays."""
    from torch.distributed.tensor import distribute_tensor

    parts, own = dict(weights), module.state_dict()
    for name, value in weights.items():
        if isinstance(target := own.get(name), DTensor):  # every rank has the whole tensor and keeps its part
            parts[name] = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    module.load_state_dict(parts, strict=strict)
