"""Checkpoints: written as a whole or not at all, with a digest of their content that is checked when they are read."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from data_modules.errors import InputError
from data_modules.files import replacing
from radz.training.fsdp import load_whole

log = logging.getLogger(__name__)
DIGEST = "radz_digest"


class DamagedCheckpoint(InputError):
    """A checkpoint that cannot be used, whatever the run; an earlier one may be."""


# Lightning's own keeps no digest, so that a checkpoint that has changed on the disk is loaded without a word.
class CheckedIO(TorchCheckpointIO):
    """Lightning's way to checkpoint files, through `write_checkpoint` and `read_checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See `write_checkpoint`."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `read_checkpoint`; tensors are put where the module is by whoever loads them."""
        return read_checkpoint(Path(path))


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint with its digest; until it is whole and on the disk, the old one stays.

    Raises:
        CannotWrite: the disk refuses it, such as a full one.
    """
    for stale in path.parent.glob(f".{path.name}.*.part"):
        stale.unlink(missing_ok=True)  # of a process that was killed as it wrote
    content = {key: value for key, value in content.items() if key != DIGEST}
    content[DIGEST] = content_digest(content)
    with replacing(path, tensor_bytes(content)) as draft, draft.open("wb") as file:
        torch.save(content, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content; only tensors and plain values are unpickled.

    Raises:
        DamagedCheckpoint: missing, truncated, changed since it was written, holding weights that are not finite, or
            anything else than tensors and plain values.
    """
    if not path.is_file():
        raise DamagedCheckpoint(f"{path}: no such checkpoint; the run has not finished its first validation")
    try:
        # On the CPU first: a checkpoint beside the model would need the memory of the device twice.
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        digest = content.pop(DIGEST, None)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # torch raises half a dozen kinds for a damaged archive
        raise DamagedCheckpoint(
            f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to start anew"
        ) from None
    if digest is None:
        log.warning("%s: was written before checkpoints had a digest; whether it is whole cannot be checked", path)
    elif digest != content_digest(content):
        raise DamagedCheckpoint(f"{path}: damaged (its content is not what was written); delete it to start anew")
    for name, value in content.get("state_dict", {}).items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DamagedCheckpoint(f"{path}: {name} holds NaN or infinite weights; delete it to start anew")
    return content


def tensor_bytes(content: Any) -> int:
    """Bytes of all tensors in nested containers, of which a checkpoint is nearly the sum."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(tensor_bytes(one) for one in inner)


def content_digest(content: Any) -> str:
    """24 hex digits over the tensors and plain values of nested containers, in their order."""
    digest = hashlib.blake2b(digest_size=12)
    _feed(content, digest)
    return digest.hexdigest()


def _feed(value: Any, digest: Any) -> None:
    if isinstance(value, Tensor):
        plain: Any = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"tensor {value.dtype} {list(value.shape)}\0".encode())
        digest.update(memoryview(plain))
    elif isinstance(value, dict):
        digest.update(f"dict {len(value)}\0".encode())
        for key, item in value.items():
            digest.update(f"{key!r}\0".encode())
            _feed(item, digest)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}\0".encode())
        for item in value:
            _feed(item, digest)
    elif value is None or isinstance(value, bool | int | float | str):
        digest.update(f"{value!r}\0".encode())
    else:  # not plain; `read_checkpoint` would not unpickle it
        digest.update(f"{type(value).__name__}\0".encode())


def check_weights(weights: dict[str, Tensor], wanted: dict[str, Tensor], strict: bool) -> None:
    """Refuse weights that would be loaded in part only.

    Args:
        weights: of the checkpoint.
        wanted: of the module.
        strict: whether the checkpoint must hold all that is wanted.

    Raises:
        InputError: naming the first weight that is missing, unknown or of another shape.
    """
    apart = set(weights) ^ set(wanted) if strict else set(weights) - set(wanted)
    if apart:
        raise InputError(f"checkpoint: it is of another network, first at {sorted(apart)[0]}; start a new run")
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise InputError(
                f"checkpoint: {name} is {list(value.shape)} there and {list(wanted[name].shape)} in this run; start a "
                "new run"
            )


def load_weights(module: LightningModule, checkpoint: Path) -> dict[str, Any]:
    """Put the trainable weights of a checkpoint into a module, which says in its `on_load_checkpoint` what it refuses.

    Returns:
        The content of the checkpoint.

    Raises:
        InputError: unreadable, or of another backbone, bank or network.
    """
    content = read_checkpoint(checkpoint)
    module.on_load_checkpoint(content)  # its reason is plainer than that of a first weight that does not fit
    check_weights(content["state_dict"], module.state_dict(), module.strict_loading)
    load_whole(module, content["state_dict"], module.strict_loading)
    return content
