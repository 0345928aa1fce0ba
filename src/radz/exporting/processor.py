"""radz's way of making pixels, said in the words of a Hugging Face image processor.

`pixels.fit` is antialiased bicubic of Pillow on 8 bits; so is the resize of CLIP's processor. Its centre crop pads with
black what is smaller than the crop, before it normalises, which expresses `pad`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_modules.config import DataConfig
from radz.backbones.base import read_json

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
BICUBIC = 3
"""PIL.Image.Resampling.BICUBIC"""


def fitting(size: int, resize: str) -> dict[str, Any]:
    """The settings of CLIP's image processor that do what `pixels.fit` does."""
    square = {"height": size, "width": size}
    sizes: dict[str, dict[str, int]] = {
        "pad": {"max_height": size, "max_width": size},
        "crop": {"shortest_edge": size},
        "squash": square,
    }
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": sizes[resize],
        "resample": BICUBIC,
        "do_center_crop": resize != "squash",
        "crop_size": square,
    }


def write_processor(base: Path, data: DataConfig, out: Path) -> None:
    """Write the processor files of a backbone: those of `base` with radz's resizing.

    Args:
        base: backbone folder that was trained; mean, deviation and scale of its processor stay.
        out: folder of the exported backbone.
    """
    whole = read_json(base, PROCESSOR)
    old = whole.get("image_processor") or read_json(base, PREPROCESSOR)
    new = {
        **fitting(data.image_size, data.resize),
        "do_rescale": True,
        "rescale_factor": old.get("rescale_factor", 1 / 255),
        "do_normalize": True,
        "image_mean": old["image_mean"],
        "image_std": old["image_std"],
    }
    _write(out / PREPROCESSOR, new)
    if whole:
        _write(out / PROCESSOR, {**whole, "image_processor": new})


def limits(data: DataConfig) -> list[str]:
    """What of the pixels no image processor can express, for the model card."""
    found = [
        "DICOM, and pictures of more than 8 bits: make them 8-bit gray first, as `Radz` does (modality LUT, VOI LUT or "
        "window, MONOCHROME1 inverted)"
    ]
    if data.equalize:
        found.append("histogram equalisation, before the resizing: `PIL.ImageOps.equalize`")
    if any(corpus.modality == "chest_ct" for corpus in data.corpora):
        windows = ", ".join(data.ct.windows)
        found.append(f"CT volumes: axial slices whose channels are the windows {windows}, as `Radz` makes them")
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
