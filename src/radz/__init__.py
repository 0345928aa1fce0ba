"""radz: zero-shot recognition of disease in chest X-rays and CT with multimodal language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radz.version import __version__

if TYPE_CHECKING:
    from radz.inference.engine import Radz

__all__ = ["Radz", "__version__"]


def __getattr__(name: str) -> Any:
    # Lazily: `radz --help` must not pay for torch.
    if name == "Radz":
        from radz.inference.engine import Radz

        return Radz
    raise AttributeError(f"module 'radz' has no attribute {name!r}")
