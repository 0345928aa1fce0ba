"""A DICOM radiograph to gray: modality LUT, VOI LUT or first window, 8 bits, MONOCHROME1 inverted last.

That is DICOM's order (PS3.3 C.11, PS3.4 N.2). Without a window, or where its window shows nothing of the image, the
range of the values is stretched, padding left out; padding is black in the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut

from data_modules.dicom import check_deflated, one_file, padding_mask, stored_values
from data_modules.dicom_form import PIXEL_ELEMENTS, PixelForm, check_size, pixel_form
from data_modules.dicom_header import full_scale, numbers, shown, table
from data_modules.dicom_kind import check_kind
from data_modules.errors import InputError
from data_modules.gray import LUMA, Gray, limits, sample, stretch, tells, to_uint8

log = logging.getLogger(__name__)
Shade = Callable[[NDArray[Any]], Gray]
"""Values of any shape -> gray."""
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Values:
    """What the window of a radiograph is laid over."""

    values: NDArray[np.float64]
    """[H, W], behind the modality LUT; where there is no image, the least of the others, or the greatest if inverted"""
    low: float
    """becomes black, or white if inverted"""
    high: float
    inverted: bool


def read_radiograph(data: bytes, where: str, frames: str, modality: str | None) -> Gray:
    """Return uint8 [H, W] of a DICOM file; see `pixels.read_gray`."""
    with one_file(where, "the DICOM file"):
        return _render(_opened(data, where, modality), where, frames)


def read_values(data: bytes, where: str, frames: str, modality: str | None) -> Values | None:
    """Return the values of a DICOM file and the window by which `read_radiograph` shows them.

    None where that is no straight line from black to white: in colour, by a VOI LUT, by a sigmoid.
    """
    with one_file(where, "the DICOM file"):
        dataset = _opened(data, where, modality)
        form, stored, padding = _stored(dataset, where, frames)
        if not form.photometric.startswith("MONOCHROME"):
            return None
        inside = stored if padding is None else stored[~padding]
        of = _modality(dataset, where)
        shown = next((one for one in _declared(dataset, where) if tells(one[1](of(sample(inside))))), None)
        if shown is None:
            values = of(inside)
            low, high = limits(float(values.min()), float(values.max()), sample(values), where)
        elif shown[2] is None:
            return None
        else:
            low, high = shown[2]
        values, inverted = of(stored), form.photometric == "MONOCHROME1"
        if padding is not None:
            kept = values[~padding]
            values[padding] = kept.max() if inverted else kept.min()
        return Values(values, low, high, inverted)


def _opened(data: bytes, where: str, modality: str | None) -> Dataset:
    check_deflated(data, where)
    dataset = dcmread(BytesIO(data), force=True)
    if data[128:132] != b"DICM" and not any(element in dataset for element in PIXEL_ELEMENTS):
        raise InputError(f"{where}: is no DICOM file, or its header is damaged")
    if modality is not None:
        check_kind(dataset, modality, where)
    return dataset


def _stored(dataset: Dataset, where: str, frames: str) -> tuple[PixelForm, NDArray[Any], NDArray[np.bool_] | None]:
    """How the pixels lie, the stored ones of the frame that is the image, and which of them hold none."""
    form = pixel_form(dataset, where)
    if form.frames > 1 and frames == "error":
        raise InputError(
            f"{where}: has {form.frames} frames where a radiograph has one; set data.frames to first or middle, or "
            "export one"
        )
    check_size(form.rows * form.columns, where)
    stored = stored_values(dataset, form, where, form.frames // 2 if frames == "middle" else 0)
    if not form.photometric.startswith("MONOCHROME"):
        return form, stored, None
    if not np.isfinite(stored).all():
        raise InputError(f"{where}: the pixel data hold values that are not finite")
    return form, stored, padding_mask(stored, dataset, where)


def _render(dataset: Dataset, where: str, frames: str) -> Gray:
    form, stored, padding = _stored(dataset, where, frames)
    if not form.photometric.startswith("MONOCHROME"):
        return _luminance(stored, dataset, form.bits, where)
    inside = stored if padding is None else stored[~padding]
    if stored.dtype.kind in "iu" and int(stored.max()) - int(stored.min()) < stored.size and stored.itemsize < 4:
        # Every step works value by value: do it once per level, not once per pixel (14 megapixels hold 4096 levels).
        least = int(stored.min())
        levels = np.arange(least, int(stored.max()) + 1)
        gray = _shade(dataset, levels, inside, where)(levels)[stored.astype(np.intp) - least]
    else:
        gray = _shade(dataset, stored, inside, where)(stored)
    if form.photometric == "MONOCHROME1":
        gray = 255 - gray
    elif str(dataset.get("PresentationLUTShape") or "").strip(" \0").upper() == "INVERSE":
        log.warning("%s: PresentationLUTShape holds INVERSE beside MONOCHROME2; taken for MONOCHROME2", where)
    if padding is not None:
        gray[padding] = 0
    return gray


def _luminance(stored: NDArray[Any], dataset: Dataset, bits: int, where: str) -> Gray:
    """pixel_array has turned YBR into RGB; a palette gives 8 or 16 bits whatever the index has."""
    if stored.ndim == 2:
        for colour in ("Red", "Green", "Blue"):
            if f"{colour}PaletteColorLookupTableData" not in dataset:
                raise InputError(
                    f"{where}: PhotometricInterpretation holds PALETTE COLOR, but the header has no "
                    f"{colour}PaletteColorLookupTableData; export the file again"
                )
        stored = apply_color_lut(stored, dataset)
        bits = 8 * stored.dtype.itemsize
    gray = stored[..., :3].astype(np.float64) @ LUMA
    return to_uint8(gray / full_scale(float(gray.max()), bits))


def _shade(dataset: Dataset, levels: NDArray[Any], inside: NDArray[Any], where: str) -> Shade:
    """From stored values to gray: by VOI LUT, else by the first window, else stretched.

    What the header declares is used where it shows something of the values `inside`, those that are not padding.
    """
    values = _modality(dataset, where)
    seen = values(sample(inside))
    for told, shade, _ in _declared(dataset, where):
        if tells(shade(seen)):
            return lambda stored: shade(values(stored))
        log.warning("%s: %s shows nothing of values like %g; their whole range is shown", where, told, np.median(seen))
    within = values(levels[(levels >= inside.min()) & (levels <= inside.max())])
    low, high = limits(float(within.min()), float(within.max()), seen, where)
    return lambda stored: stretch(values(stored), low, high)


def _modality(dataset: Dataset, where: str) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Stored values to those that windows speak of; without slope and intercept, or where they are empty, the same."""
    lut = table(dataset, "ModalityLUTSequence", where)
    if lut is not None:
        return lut.apply
    slope = (numbers(dataset, "RescaleSlope", where) or [1.0])[0]
    intercept = (numbers(dataset, "RescaleIntercept", where) or [0.0])[0]
    if slope == 0:
        raise InputError(f"{where}: RescaleSlope holds 0, which makes all pixels alike; correct or remove it")
    return lambda stored: np.asarray(stored, dtype=np.float64) * slope + intercept


def _declared(dataset: Dataset, where: str) -> Iterator[tuple[str, Shade, tuple[float, float] | None]]:
    """What the header says of the way to gray, the first first: its name, itself, its black and white if linear."""
    lut = table(dataset, "VOILUTSequence", where)
    if lut is not None:
        yield "the VOI LUT", lambda values: to_uint8(lut.apply(values) / lut.top), None
    centres, widths = (numbers(dataset, keyword, where) for keyword in ("WindowCenter", "WindowWidth"))
    if not centres and not widths:
        return
    held = f"WindowCenter {shown(centres)} with WindowWidth {shown(widths)}"
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip(" \0").upper()
    if function not in FUNCTIONS:
        raise InputError(f"{where}: VOILUTFunction holds {shown([function])}; read are {', '.join(FUNCTIONS)}")
    if not centres or not widths or widths[0] <= 0 or (function == "LINEAR" and widths[0] < 1):
        log.warning("%s: %s is no window; the whole range is shown", where, held)
        return
    yield held, _window(centres[0], widths[0], function), _ends(centres[0], widths[0], function)


def _ends(centre: float, width: float, function: str) -> tuple[float, float] | None:
    """The values that become black and white (C.11.2.1.2 and C.11.2.1.3.2); None where that is no line."""
    if function == "SIGMOID":
        return None
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1.0, 1e-9)
    return centre - width / 2, centre + width / 2


def _window(centre: float, width: float, function: str) -> Shade:
    """C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return lambda values: to_uint8(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -500, 500))))
    if function == "LINEAR_EXACT":
        return lambda values: to_uint8((values - centre) / width + 0.5)
    # At width 1 the window is a step.
    return lambda values: to_uint8((values - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5)
