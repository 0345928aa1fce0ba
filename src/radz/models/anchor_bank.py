"""The anchor bank: what DKAM knows of each finding, as raw vectors before its head (docs/method.md 3.2 and 3.3).

It stores, loads and extends them; `radz.methods.dkam` encodes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.disk import check_opens, writing
from data_modules.errors import InputError
from data_modules.parsing import parse_json
from radz.backbones.folder import base_change
from radz.models.zero_shot import ClassTexts

JSON, TENSORS = "anchors.json", "anchors.safetensors"


@dataclass(frozen=True)
class BankInfo:
    """Where a bank comes from."""

    encoder: str
    """decoder | embedding"""
    aspects: tuple[str, ...]
    """parts of the description that were encoded"""
    source: str
    """file of the descriptions, or the model that wrote them"""
    prompt: str
    """the writing prompt of one finding; empty when the descriptions were brought"""
    decoding: str
    """how the answer was decoded; empty when the descriptions were brought"""
    base_digest: str
    """of the base that encoded it, see `radz.backbones.folder.folder_digest`"""
    adapter_digest: str
    """trained weights at encoding; empty for the base model"""
    step: int
    """training step at encoding"""


@dataclass
class AnchorBank:
    """K findings with their descriptions and raw vectors fp32: one each [K, d], or a set of S each [K, S, d]."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    vectors: Tensor
    info: BankInfo

    def save(self, folder: Path) -> None:
        """Write anchors.json and anchors.safetensors."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": self.vectors.contiguous()}, folder / TENSORS)
        text = {"names": self.names, "descriptions": self.descriptions, **asdict(self.info), "digest": self.digest()}
        (folder / JSON).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> AnchorBank:
        """Read a bank.

        Raises:
            InputError: a file is missing or damaged, or the two do not belong together.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        check_opens(folder / JSON, folder / TENSORS)
        try:
            text: dict[str, Any] = parse_json((folder / JSON).read_text(encoding="utf-8"))
            vectors = load_file(folder / TENSORS)["vectors"]
            expected = text.pop("digest")
            names, descriptions = tuple(text.pop("names")), tuple(text.pop("descriptions"))
            text["aspects"] = tuple(text["aspects"])
            bank = AnchorBank(names, descriptions, vectors, BankInfo(**text))
            together = bank.digest() == expected
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise InputError(f"{folder}: not a readable anchor bank ({error}); build it with `radz anchors`") from None
        if not together:
            raise InputError(f"{folder}: {JSON} and {TENSORS} do not belong together; build the bank anew")
        alike = len(names) == len(descriptions) == len(vectors)
        if vectors.dtype != torch.float32 or vectors.dim() not in (2, 3) or not alike:
            raise InputError(
                f"{folder}: {TENSORS} holds {vectors.dtype} {list(vectors.shape)} for {len(names)} findings and "
                f"{len(descriptions)} descriptions; one float32 vector each is needed, or one set, build the bank anew"
            )
        # Columns are found by name: of two equal ones, one would never be read.
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"{folder}: {twice[0]} stands twice in {JSON}; build the bank anew")
        rows = vectors if vectors.dim() == 3 else vectors[:, None]
        broken = (~rows.isfinite().all(2) | (rows == 0).all(2)).any(1)
        if broken.any():
            first = names[int(broken.int().argmax())]
            raise InputError(f"{folder}: the vector of {first} is not finite or zero; build the bank anew")
        return bank

    def replace_in(self, folder: Path) -> None:
        """Save as folder/anchors; the old bank stays until the new one is whole."""
        draft = folder / f".anchors.{os.getpid()}"
        try:
            with writing(folder / "anchors"):
                self.save(draft)
                shutil.rmtree(folder / "anchors", ignore_errors=True)
                draft.rename(folder / "anchors")
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def check_base(self, base_digest: str, width: int | None = None) -> None:
        """Refuse a bank of another backbone in any of `BASE_PARTS`, or of another `width` of vectors."""
        if cause := base_change(self.info.base_digest, base_digest):
            raise InputError(
                f"anchors: the bank was encoded by another backbone: {cause} ({self.info.base_digest} is not "
                f"{base_digest}); put the old one back, or build the bank anew with `radz anchors`"
            )
        if width is not None and self.vectors.shape[-1] != width:
            raise InputError(
                f"anchors: the vectors have {self.vectors.shape[-1]} numbers where the backbone has {width}; "
                "build the bank anew with `radz anchors`"
            )

    def digest(self) -> str:
        """12 hex digits over names, descriptions and vectors."""
        content = json.dumps([self.names, self.descriptions]).encode() + self.vectors.numpy().tobytes()
        return hashlib.sha256(content).hexdigest()[:12]

    def extended(self, other: AnchorBank) -> AnchorBank:
        """This bank with the findings of `other` that it lacks."""
        new = [i for i, name in enumerate(other.names) if name not in self.names]
        return AnchorBank(
            self.names + tuple(other.names[i] for i in new),
            self.descriptions + tuple(other.descriptions[i] for i in new),
            torch.cat([self.vectors, other.vectors[new]]),
            self.info,
        )


def known_anchors(bank: AnchorBank, texts: ClassTexts) -> torch.Tensor:
    """Raw anchors [C, d], or sets [C, S, d], of findings; NaN where the bank has none."""
    place = {name: i for i, name in enumerate(bank.names)}
    missing = torch.full(bank.vectors.shape[1:], float("nan"))
    return torch.stack([bank.vectors[place[n]] if n in place else missing for n in texts.findings])
