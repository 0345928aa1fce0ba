"""PNG and JPEG to gray."""

from __future__ import annotations

from io import BytesIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from data_modules.dicom import one_file
from data_modules.dicom_form import check_size
from data_modules.errors import InputError
from data_modules.gray import LUMA, Gray, limits, sample, stretch

SIGNATURES = (b"\x89PNG", b"\xff\xd8")
OTHERS = {
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "GIF": (b"GIF8",), "WebP": (b"RIFF",), "BMP": (b"BM",),
    "JPEG 2000": (b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51"), "JPEG XL": (b"\x00\x00\x00\x0cJXL", b"\xff\x0a"),
}  # fmt: skip
"""Pictures that are not read, by how their files begin."""


def other_format(data: bytes) -> str:
    """Return the name of a picture format that is not read, or nothing."""
    for name, starts in OTHERS.items():
        if data.startswith(starts) and {"WebP": data[8:12] == b"WEBP", "BMP": data[6:10] == bytes(4)}.get(name, True):
            return name
    return ""


def read_picture(data: bytes, where: str) -> Gray:
    """Return uint8 [H, W] of a PNG or JPEG file: of 8 bits as it is, of 16 stretched; transparent pixels are black.

    InputError: damaged, several pictures in one, CMYK, no opaque pixel.
    """
    with one_file(where, "the picture"):
        try:
            image: Image.Image = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
        except UnidentifiedImageError:  # Pillow's text holds an address, not a cause
            raise InputError(f"{where}: the header of the picture is damaged") from None
        check_size(image.width * image.height, where)
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{where}: holds {getattr(image, 'n_frames', 1)} pictures; save the one that is meant")
        if image.mode == "CMYK":
            raise InputError(f"{where}: is a picture for print (CMYK), whose black varies; save it as gray or RGB")
        image.load()
        if data[:4] == SIGNATURES[0] and data[24] == 16 and data[25] & 6:
            return _upright(_deep(imagecodecs.png_decode(data), where), image)
        if image.mode.startswith("I"):
            return _upright(_deep_gray(image, where), image)
        image = ImageOps.exif_transpose(image)
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")
            _check_opaque(float(np.asarray(image.getchannel("A")).max()) / 255, where)
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        return np.asarray(image.convert("L"))


def read_deep(data: bytes, where: str) -> tuple[NDArray[np.uint16], float, float] | None:
    """Return the values [H, W] of a 16-bit gray PNG, and those that `read_picture` makes black and white.

    None for a picture of 8 bits, in colour or with transparency, which `read_picture` shows as far as it goes.
    """
    with one_file(where, "the picture"):
        try:
            image = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
        except UnidentifiedImageError:  # `read_picture` says what is wrong
            return None
        if not image.mode.startswith("I") or "transparency" in image.info:
            return None
        check_size(image.width * image.height, where)
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
        return values, *limits(float(values.min()), float(values.max()), sample(values.astype(np.float64)), where)


def _deep(samples: NDArray[np.uint16], where: str) -> Gray:
    """uint16 [H, W, 2 to 4] of gray or colour, with or without alpha; Pillow would keep the upper 8 bits."""
    colours = samples[..., : 3 if samples.shape[2] > 2 else 1].astype(np.float64)
    values = colours @ LUMA if colours.shape[2] == 3 else colours[..., 0]
    if samples.shape[2] == 3:
        return _stretched(values, values, where)
    alpha = samples[..., -1] / 65535.0
    _check_opaque(float(alpha.max()), where)
    return np.rint(_stretched(values, values[alpha > 0], where) * alpha).astype(np.uint8)


def _deep_gray(image: Image.Image, where: str) -> Gray:
    """16 bits, of which one value may mean transparent."""
    values = np.asarray(image).astype(np.float64)
    clear = values == image.info.get("transparency", -1)
    if clear.all():
        _check_opaque(0.0, where)
    gray = _stretched(values, values[~clear] if clear.any() else values, where)
    gray[clear] = 0
    return gray


def _stretched(values: NDArray[np.float64], counted: NDArray[np.float64], where: str) -> Gray:
    return stretch(values, *limits(float(counted.min()), float(counted.max()), sample(counted), where))


def _check_opaque(most: float, where: str) -> None:
    if most < 1:
        raise InputError(
            f"{where}: is transparent everywhere (alpha at most {most:.0%}) and would be black; save it without alpha"
        )


def _upright(gray: Gray, image: Image.Image) -> Gray:
    """Turned as the file's orientation mark says."""
    turned = Image.fromarray(gray)
    turned.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return np.asarray(ImageOps.exif_transpose(turned))
