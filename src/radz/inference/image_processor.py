"""radz's way of making pixels, said in the words of Hugging Face image processors.

`pixels.fit` is antialiased bicubic of Pillow on 8 bits; so is the resize of CLIP's processor. Its centre crop pads with
black what is smaller than the crop, before it normalises, which expresses `pad`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_modules.config import DataConfig
from data_modules.ct_config import CtConfig, centre_and_width
from data_modules.slices import LUNG_HU, LUNG_SHARE
from radz.backbones.folder import image_settings, read_json
from radz.config.backbone import BackboneConfig

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
SQUARE = "square"
"""Folder of the processor that only makes square images, for families whose own processor has another way to do it."""
ONE_STEP = "CLIPImageProcessor"
"""Kind of image processor that can do both."""
FOUR_BIT = (
    "features were trained on 4-bit weights, and these are the whole ones, which give others: score this folder before "
    "you use it, or load the base in 4 bit (nf4) below the adapter (`merge=false`)"
)
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
        "image_processor_type": ONE_STEP,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": sizes[resize],
        "resample": BICUBIC,
        "do_center_crop": resize != "squash",
        "crop_size": square,
    }


def write_processors(base: Path, data: DataConfig, out: Path, square: Path, changes: Mapping[str, Any]) -> None:
    """Write the processor files of a backbone, and a processor that makes square images as training did.

    LLaVA's processor does both, since it is CLIP's. That of another family cuts tiles or chooses a size in its own way;
    it stays as it is but for `changes`, and takes the square images.

    Args:
        base: backbone folder that was trained.
        out: folder of the exported backbone.
        square: folder of the processor of square images.
        changes: `processor_changes` of the backbone.
    """
    square.mkdir()
    _write(square / PREPROCESSOR, {**fitting(data.image_size, data.resize), "do_rescale": False, "do_normalize": False})
    whole, old = read_json(base, PROCESSOR), image_settings(base)
    if read_json(base, "config.json").get("architectures") != ["LlavaForConditionalGeneration"]:
        for name in (PREPROCESSOR, PROCESSOR):
            if (base / name).is_file():
                shutil.copyfile(base / name, out / name)
        if changes and whole.get("image_processor"):
            _write(out / PROCESSOR, {**whole, "image_processor": {**whole["image_processor"], **changes}})
        if changes and (out / PREPROCESSOR).is_file():
            _write(out / PREPROCESSOR, {**read_json(out, PREPROCESSOR), **changes})
        return
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


def limits(data: DataConfig, backbone: BackboneConfig) -> list[str]:
    """What of the way from file to features transformers alone does not do, for the model card."""
    missing = [
        "DICOM, and pictures of more than 8 bits: make them 8-bit gray first, as `Radz` does (modality LUT, VOI LUT or "
        "window, MONOCHROME1 inverted)"
    ]
    if backbone.quantize == "4bit":
        missing.append(FOUR_BIT)
    if data.equalize:
        missing.append("histogram equalisation, before the resizing: `PIL.ImageOps.equalize`")
    if any(corpus.modality == "chest_ct" for corpus in data.corpora):
        missing.append(_of_ct(data.ct))
    if backbone.image_pool > 1:
        missing.append(
            f"`image_pool`: {backbone.image_pool} neighbouring image tokens are averaged behind the "
            "projector; the features of images need `Radz`"
        )
    return missing


def _of_ct(ct: CtConfig) -> str:
    """How a volume becomes images, in words."""
    named = ((window, *centre_and_width(window)) for window in ct.windows)
    windows = ", ".join(f"{window} (centre {centre:g}, width {width:g} HU)" for window, centre, width in named)
    spread = f"the middles of {ct.slices} equal parts of the slices"
    lung = f"{LUNG_SHARE:.0%} of the largest such area, in one run around that"
    chosen = {
        "lung": f"{spread} that show lung ({LUNG_HU[0]} to {LUNG_HU[1]} HU with body on all sides, more than {lung})",
        "uniform": spread,
        "every_mm": f"a slice every {ct.every_mm:g} mm",
    }[ct.choice]
    return (
        "CT volumes: axial slices from head to feet, the front on top, the patient's right on the left, pixels square; "
        f"{chosen}. Their channels are the windows {windows}, 0 at centre - width / 2, 255 at centre + width / 2. "
        "`Radz.images` makes them"
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
