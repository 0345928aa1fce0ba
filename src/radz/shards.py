"""Safetensors files read and written one tensor at a time, so that a model larger than the memory can be rewritten.

Format: https://github.com/huggingface/safetensors (length of the header, header as JSON, raw bytes).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.errors import InputError

INDEX = "model.safetensors.index.json"
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip
"""Sizes of the element types that checkpoints hold."""
SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Planned:
    """A tensor that is to be written."""

    name: str
    dtype: str
    """as safetensors names it, such as BF16"""
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    """gives the tensor when its turn comes"""

    @property
    def size(self) -> int:
        """Bytes."""
        count = 1
        for side in self.shape:
            count *= side
        return count * BITS[self.dtype] // 8


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row by row."""
    values: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return memoryview(values)


def sha256(tensor: Tensor) -> str:
    """Digest of a tensor's bytes."""
    return hashlib.sha256(raw(tensor)).hexdigest()


def write_shards(folder: Path, tensors: Sequence[Planned], limit: int = SHARD_BYTES) -> dict[str, str]:
    """Write tensors as `model*.safetensors` of at most `limit` bytes each, with an index where there are several.

    Returns:
        The file of each tensor.
    """
    groups: list[list[Planned]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + tensor.size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.size
    found: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        one = len(groups) == 1
        name = "model.safetensors" if one else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        _write(folder / name, group)
        found.update(dict.fromkeys((tensor.name for tensor in group), name))
    if len(groups) > 1:
        index = {"metadata": {"total_size": sum(tensor.size for tensor in tensors)}, "weight_map": found}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return found


def _write(path: Path, tensors: Sequence[Planned]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for tensor in tensors:
        offsets = [place, place + tensor.size]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        place += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            data = raw(tensor.read())
            assert len(data) == tensor.size, tensor.name
            file.write(data)


class Tensors:
    """The safetensors weights of a folder: a header look at all of them, then one tensor at a time.

    Args:
        folder: with `model.safetensors`, or shards and their index.
        verb: begins the error texts.
    """

    def __init__(self, folder: Path, verb: str) -> None:
        self.folder, self._verb = folder, verb
        self.file: dict[str, str] = {}
        """file of each tensor"""
        self.dtype: dict[str, str] = {}
        self.shape: dict[str, tuple[int, ...]] = {}
        for name in self._files():
            self._look(name)

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU."""
        from safetensors import safe_open

        with safe_open(self.folder / self.file[name], framework="pt") as file:
            found: Tensor = file.get_tensor(name)
        return found

    def _files(self) -> list[str]:
        if (self.folder / INDEX).is_file():
            try:
                listed = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
                names = sorted(set(listed.values()))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{self._verb}: {self.folder / INDEX}: not a readable index of shards") from None
            for name in names:
                if not (self.folder / name).is_file():
                    raise InputError(
                        f"{self._verb}: {self.folder}: shard {name} of {INDEX} is missing; copy the folder again"
                    )
            return names
        return sorted(path.name for path in self.folder.glob("*.safetensors"))

    def _look(self, name: str) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.folder / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    if key in self.file:
                        raise InputError(
                            f"{self._verb}: {self.folder}: {key} stands in both {self.file[key]} and {name}"
                        )
                    part = file.get_slice(key)
                    self.file[key], self.dtype[key] = name, part.get_dtype()
                    self.shape[key] = tuple(part.get_shape())
                    if self.dtype[key] not in BITS:
                        raise InputError(
                            f"{self._verb}: {self.folder / name}: {key} is {self.dtype[key]} (quantised?); give the "
                            "checkpoint in float32, float16 or bfloat16"
                        )
        except (SafetensorError, OSError) as error:
            cause = " ".join(str(error).split())[:120]
            raise InputError(
                f"{self._verb}: {self.folder / name}: truncated or damaged ({cause}); copy it again"
            ) from None
