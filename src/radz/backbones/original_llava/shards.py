"""Safetensors files read and written one tensor at a time, so that a model larger than the memory can be rewritten.

Format: https://github.com/huggingface/safetensors (length of the header, header as JSON, raw bytes).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_modules.errors import InputError
from data_modules.listing import listed
from data_modules.parsing import parse_json
from radz.backbones.weight_copy import mean_rows, raw

INDEX = "model.safetensors.index.json"
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip
"""Sizes of the element types that checkpoints hold."""
SHARD_BYTES = 5_000_000_000


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
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def _files(self) -> list[str]:
        if (self.folder / INDEX).is_file():
            try:
                named = parse_json((self.folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
                names = sorted(set(named.values()))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{self._verb}: {self.folder / INDEX}: not a readable index of shards") from None
            for name in names:
                if not (self.folder / name).is_file():
                    raise InputError(
                        f"{self._verb}: {self.folder}: shard {name} of {INDEX} is missing; copy the folder again"
                    )
            return names
        return [path.name for path in listed(self.folder, "*.safetensors")]

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


@dataclass(frozen=True)
class Planned:
    """A tensor that is to be written: where it comes from, and the name it gets."""

    tensors: Tensors
    name: str
    new: str
    rows_added: int
    """rows behind those of the source, each the mean of them"""

    @property
    def dtype(self) -> str:
        """As safetensors names it, such as BF16."""
        return self.tensors.dtype[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is written."""
        rows, *rest = self.tensors.shape[self.name] or (0,)
        return (rows + self.rows_added, *rest) if self.tensors.shape[self.name] else ()

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    def read(self) -> Tensor:
        """The source tensor, enlarged."""
        source = self.tensors.read(self.name)
        return torch.cat([source, mean_rows(source, self.rows_added)]) if self.rows_added else source


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
    file_of: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        one = len(groups) == 1
        name = "model.safetensors" if one else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        _write(folder / name, group)
        file_of.update(dict.fromkeys((tensor.new for tensor in group), name))
    if len(groups) > 1:
        index = {"metadata": {"total_size": sum(tensor.size for tensor in tensors)}, "weight_map": file_of}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return file_of


# Written by hand: save_file sorts tensors, and with other bytes a checkpoint imported anew has another digest, which
# runs trained on the earlier import refuse. It also needs all tensors of a file in memory.
def _write(path: Path, tensors: Sequence[Planned]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for tensor in tensors:
        offsets = [place, place + tensor.size]
        header[tensor.new] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        place += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the bytes behind it are mapped as tensors, which must begin at a multiple of 8
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            data = raw(tensor.read())
            assert len(data) == tensor.size, tensor.new
            file.write(data)
