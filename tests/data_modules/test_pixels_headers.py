"""Headers that contradict themselves or their pixels: the right picture, or a refusal that names the element."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, RLELossless
from synthetic_dicom import assert_gray, dataset, lut, stretched, written

from data_modules.decode import Recipe, decode
from data_modules.errors import InputError, OtherKind
from data_modules.full_range import read_full_range
from data_modules.pixels import read_gray

RAMP = (np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 5) % 4096
RGB = np.stack([RAMP >> 4, RAMP.T.reshape(24, 32) >> 4, RAMP[::-1] >> 4], -1).astype(np.uint8)


def save(folder: Path, ds: Dataset) -> Path:
    ds.save_as(folder / "x.dcm", enforce_file_format=True)
    return folder / "x.dcm"


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "two samples": ({"SamplesPerPixel": 2}, "SamplesPerPixel holds '2', which must be 1 or 3"),
    "gray of three": ({"SamplesPerPixel": 3}, "SamplesPerPixel holds 3, which contradicts .* MONOCHROME2"),
    "no samples": ({"SamplesPerPixel": None}, "no SamplesPerPixel"),
    "RGB of one": ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel holds 1, which contradicts .* RGB"),
    "HSV": ({"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation holds 'HSV'; read are"),
    "no photometric": ({"PhotometricInterpretation": None}, "PhotometricInterpretation holds ''"),
    "packed": ({"BitsAllocated": 12}, "BitsAllocated holds '12', which must be 1 or 8 or 16"),
    "narrow": ({"BitsAllocated": 8}, "BitsStored holds '12', which must be 1 to 8"),
    "wide": ({"BitsAllocated": 32}, "PixelData holds 1536 bytes, less than expected: .* BitsAllocated 32 .* make 3072"),
    "no bits": ({"BitsStored": 0}, "BitsStored holds '0', which must be 1 to 16"),
    "high below": ({"HighBit": 5}, "HighBit holds '5', which must be 11 to 15"),
    "high above": ({"HighBit": 16}, "HighBit holds '16', which must be 11 to 15"),
    "high, but values lie low": ({"HighBit": 15}, "bits outside of BitsStored 12 and HighBit 15"),
    "stored too few": ({"BitsStored": 8, "HighBit": 7}, "bits outside of BitsStored 8 and HighBit 7"),
    "sign": ({"PixelRepresentation": 2}, "PixelRepresentation holds '2', which must be 0 or 1"),
    "no sign": ({"PixelRepresentation": None}, "no PixelRepresentation"),
    "rows": ({"Rows": 25}, "PixelData holds 1536 bytes, less than expected: Rows 25"),
    "fewer columns": ({"Columns": 30}, "PixelData holds 1536 bytes, more than expected: .* Columns 30"),
    "no columns": ({"Columns": None}, "no Columns"),
    "zero rows": ({"Rows": 0}, "Rows holds '0', which must be 1 to 65535"),
    "frames": ({"NumberOfFrames": 0}, "NumberOfFrames holds '0'"),
    "slope": ({"RescaleSlope": 0}, "RescaleSlope holds 0"),
    "function": ({"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "VOILUTFunction holds 'CUBIC'"),
}


@pytest.mark.parametrize("name", list(CONTRADICTIONS))
def test_the_element_is_named(tmp_path: Path, name: str) -> None:
    tags, part = CONTRADICTIONS[name]
    ds = dataset(RAMP)
    for keyword, value in tags.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    with pytest.raises(InputError, match=part) as caught:
        read_gray(save(tmp_path, ds), "row 3")
    assert str(caught.value).startswith("row 3: ") and "\n" not in str(caught.value)


def test_colour_needs_its_layout_and_its_bits(tmp_path: Path) -> None:
    ds = dataset(RGB, bits=8)
    del ds.PlanarConfiguration
    with pytest.raises(InputError, match="no PlanarConfiguration"):
        read_gray(save(tmp_path, ds))
    with pytest.raises(InputError, match=r"BitsStored holds 7 beside PhotometricInterpretation YBR_FULL"):
        read_gray(written(tmp_path, RGB, bits=7, PhotometricInterpretation="YBR_FULL"))
    deep = RGB.astype(np.uint16) << 4  # 12 bits, declared as 16
    assert_gray(read_gray(written(tmp_path, deep, bits=16)), deep / 4095 * 255 @ [0.299, 0.587, 0.114])


def test_zeros_behind_the_pixels_are_padding_and_pixels_are_not(tmp_path: Path) -> None:
    for extra, fine in ((bytes(10), True), (bytes(63) + b"\1", False), (bytes(2 * 24), False), (bytes(64), True)):
        ds = dataset(RAMP)
        ds.PixelData += extra
        path = save(tmp_path, ds)
        if fine:
            assert_gray(read_gray(path), stretched(RAMP.astype(float)))
        else:
            with pytest.raises(InputError, match="more than expected"):
                read_gray(path)


@pytest.mark.parametrize("syntax", [None, RLELossless, ExplicitVRBigEndian])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_below_high_bit_are_the_value(tmp_path: Path, syntax: str | None, signed: bool) -> None:
    """12 bits at the top of 16, or with an overlay above them; signed ones with or without their sign extended."""
    values = RAMP.astype(np.int16) - 2048 * signed
    settings = {"syntax": syntax} if syntax else {}
    tags = settings | {"PixelRepresentation": int(signed)}
    cell = (values & 0xFFF).astype(np.uint16)
    assert_gray(read_gray(written(tmp_path, cell << 4, HighBit=15, **tags)), stretched(values.astype(float)))
    assert_gray(read_gray(written(tmp_path, cell, **tags)), stretched(values.astype(float)))
    assert_gray(read_gray(written(tmp_path, values.view(np.uint16), **tags)), stretched(values.astype(float)))
    overlaid = cell | ((RAMP % 3 == 0).astype(np.uint16) << 14)
    with pytest.raises(InputError, match=r"\d+ pixels have bits outside of BitsStored 12 and HighBit 11"):
        read_gray(written(tmp_path, overlaid, **tags))
    ds = dataset(overlaid, **tags)
    for element, vr, value in ((0x0010, "US", 24), (0x0100, "US", 16), (0x0102, "US", 14)):
        ds.add_new((0x6000, element), vr, value)
    assert_gray(read_gray(save(tmp_path, ds)), stretched(values.astype(float)))


def test_a_padding_value_may_lie_outside_of_the_bits(tmp_path: Path) -> None:
    stored = RAMP.copy()
    stored[:3] = 63536
    expected = stretched(RAMP.astype(float), RAMP[3:].min(), RAMP[3:].max())
    expected[:3] = 0
    assert_gray(read_gray(written(tmp_path, stored, PixelPaddingValue=63536)), expected)
    stored = RAMP.astype(np.int16)
    stored[:3] = -2000  # 63536 as an unsigned number
    ds = dataset(stored, bits=16)
    ds.add_new("PixelPaddingValue", "US", 63536)
    assert_gray(read_gray(save(tmp_path, ds)), expected)


WINDOWS: dict[str, dict[str, Any]] = {
    "outside": {"WindowCenter": 20000, "WindowWidth": 100},
    "below": {"WindowCenter": -500, "WindowWidth": 400},
    "a step": {"WindowCenter": 40, "WindowWidth": 1},
    "no width": {"WindowCenter": 2048, "WindowWidth": 0},
    "negative": {"WindowCenter": 2048, "WindowWidth": -4096},
    "no centre": {"WindowWidth": 4096},
    "sigmoid, outside": {"WindowCenter": 90000, "WindowWidth": 10, "VOILUTFunction": "SIGMOID"},
    "VOI LUT, outside": {"VOILUTSequence": [lut(np.arange(500, 1000, dtype=np.uint16), 9000, 10)]},
}


@pytest.mark.parametrize("name", list(WINDOWS))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_shows_nothing_is_told_and_not_used(
    tmp_path: Path, name: str, photometric: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, RAMP, PhotometricInterpretation=photometric, **WINDOWS[name])
    expected = stretched(RAMP.astype(float))
    assert_gray(read_gray(path, "row 3"), 255 - expected if photometric == "MONOCHROME1" else expected)
    (told,) = caplog.messages
    assert told.startswith("row 3: ") and ("Window" in told or "VOI LUT" in told) and "whole range is shown" in told


def test_a_table_that_shows_nothing_gives_way_to_the_window(tmp_path: Path) -> None:
    tags = {"WindowCenter": 2048, "WindowWidth": 4096} | WINDOWS["VOI LUT, outside"]
    assert_gray(read_gray(written(tmp_path, RAMP, **tags)), RAMP / 4095 * 255, 0.6)


def with_text(folder: Path, **texts: str) -> Path:
    """Elements as text of VR LT, whatever their own."""
    ds = dataset(RAMP)
    for keyword, text in texts.items():
        ds.add_new(keyword, "LT", text)
    return save(folder, ds)


def test_numbers_of_another_vr(tmp_path: Path) -> None:
    """One number is read from text; two in a text, or a comma, are not guessed at."""
    read = read_gray(with_text(tmp_path, WindowCenter="2048", WindowWidth=" 4096 "))
    assert_gray(read, RAMP / 4095 * 255, 0.6)
    for text in ("2048\\600", "2048,5", "2,048", "wide", "nan", "1e999"):
        with pytest.raises(InputError, match=r"WindowCenter holds '.*', not finite numbers"):
            read_gray(with_text(tmp_path, WindowCenter=text, WindowWidth="4096"))
    ds = dataset(RAMP)
    ds.add_new("WindowCenter", "FD", 2048.0)
    ds.add_new("WindowWidth", "SL", 4096)
    assert_gray(read_gray(save(tmp_path, ds)), RAMP / 4095 * 255, 0.6)


def test_empty_elements_count_as_absent(tmp_path: Path) -> None:
    empty = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PixelPaddingValue", "NumberOfFrames")
    ds = dataset(RAMP, ModalityLUTSequence=[], VOILUTSequence=[])
    for keyword in empty:
        setattr(ds, keyword, None)
    assert_gray(read_gray(save(tmp_path, ds)), stretched(RAMP.astype(float)))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("form", ["words", "bytes", "packed"])
def test_tables_of_every_depth(tmp_path: Path, bits: int, form: str) -> None:
    """A modality LUT that falls, as the values it gives; a VOI LUT scaled by its bits."""
    entries = (np.linspace(1, 0, 4096) ** 2 * (2**bits - 1)).astype(np.uint16)
    item = lut(entries, 0, bits)
    if form == "words":
        item.add_new("LUTData", "US", entries.tolist())
    elif form == "packed" and bits == 8:
        item.LUTData = entries.astype(np.uint8).tobytes()
    shown = entries[RAMP].astype(float)
    assert_gray(read_gray(written(tmp_path, RAMP, VOILUTSequence=[item])), shown / (2**bits - 1) * 255)
    item.ModalityLUTType = "US"
    low, high = entries[RAMP.max()], entries[RAMP.min()]
    assert_gray(read_gray(written(tmp_path, RAMP, ModalityLUTSequence=[item])), stretched(shown, low, high))


def test_oddities_of_a_descriptor(tmp_path: Path) -> None:
    whole = np.arange(65536)[::-1].astype(np.uint16)
    item = lut(whole[:8], 0, 16)
    item.LUTDescriptor, item.LUTData = [0, 0, 16], whole.tobytes()  # 0 stands for 65536
    item["LUTDescriptor"].VR = "US"
    assert_gray(read_gray(written(tmp_path, RAMP, VOILUTSequence=[item])), (65535 - RAMP.astype(float)) / 65535 * 255)
    signed = RAMP.astype(np.int16) - 2048
    item = lut(np.arange(4096, dtype=np.uint16), 65536 - 2048, 12)  # -2048, written as an unsigned number
    assert_gray(read_gray(written(tmp_path, signed, VOILUTSequence=[item])), RAMP / 4095 * 255)
    item = lut(np.arange(4096, dtype=np.uint16), 0, 16)  # 12 bits, declared as 16
    assert_gray(read_gray(written(tmp_path, RAMP, VOILUTSequence=[item])), RAMP / 4095 * 255)
    for changes, part in (
        ({"LUTDescriptor": [4000, 0, 12]}, "LUTData holds 4096 entries, LUTDescriptor says 4000"),
        ({"LUTDescriptor": [4096, 0, 10]}, "LUTData goes up to 4095, LUTDescriptor says 10 bits"),
        ({"LUTDescriptor": [4096, 0, 32]}, "LUTDescriptor holds '4096, 0, 32'"),
        ({"LUTDescriptor": [4096, 0]}, "LUTDescriptor holds '4096, 0'"),
        ({"LUTData": None}, "LUTData holds 0 entries"),
    ):
        item = lut(np.arange(4096, dtype=np.uint16), 0, 12)
        for name, value in changes.items():
            setattr(item, name, value)
            item[name].VR = "US" if name == "LUTDescriptor" else "OW"
        with pytest.raises(InputError, match=f"VOILUTSequence: {part}"):
            read_gray(written(tmp_path, RAMP, VOILUTSequence=[item]))
    for missing in ("LUTDescriptor", "LUTData"):
        item = lut(np.arange(4096, dtype=np.uint16), 0, 12)
        del item[missing]
        with pytest.raises(InputError, match=f"ModalityLUTSequence has no {missing}"):
            read_gray(written(tmp_path, RAMP, ModalityLUTSequence=[item]))


def test_a_dead_pixel_does_not_set_the_range(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = RAMP.copy()
    stored[5, 7] = 65535
    expected = stretched(RAMP.astype(float))
    expected[5, 7] = 255
    assert_gray(read_gray(written(tmp_path, stored, bits=16)), expected, 1.0)
    assert "lie far from all others" in caplog.text


def test_a_palette_without_its_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no RedPaletteColorLookupTableData"):
        read_gray(written(tmp_path, RAMP, PhotometricInterpretation="PALETTE COLOR"))


ODD = st.one_of(
    st.none(), st.integers(-3, 70000), st.sampled_from(["", "MONOCHROME2", "RGB", "YBR_FULL", "1\\2", "a,b", "\0"]),
    st.lists(st.integers(0, 20), max_size=3),
)  # fmt: skip
ELEMENTS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "RescaleSlope", "RescaleIntercept", "LUTDescriptor", "ImageType", "PixelPaddingRangeLimit",
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(ELEMENTS), st.tuples(st.sampled_from(["US", "LT", "DS", "UN"]), ODD), max_size=3)
)
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]) -> None:
    ds = dataset(RAMP)
    for keyword, (vr, value) in changes.items():
        if vr == "US":
            value = value % 65536 if isinstance(value, int) else None
        else:
            value = str(value).encode() if vr == "UN" else str(value)
        changes[keyword] = vr, value
    path = tmp_path_factory.mktemp("odd") / "x.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for keyword, (vr, value) in changes.items():
                ds.add_new(keyword, vr, value)
            ds.save_as(path, enforce_file_format=True)
        except Exception:  # pydicom writes no such value
            return
        try:
            assert read_gray(path, "row 3").dtype == np.uint8
        except InputError as error:
            assert str(error).startswith("row 3: ") and "\n" not in str(error)


def test_whatever_a_decoder_raises_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, RAMP)

    class Odd(Exception):
        pass

    for raised, passes in ((Odd("x\ny"), False), (RecursionError(), False), (MemoryError(), True)):
        monkeypatch.setattr("data_modules.dicom.pixel_array", lambda *_, of=raised, **__: (_ for _ in ()).throw(of))
        with pytest.raises(type(raised) if passes else InputError) as caught:
            read_gray(path, "row 3")
        assert passes or (str(caught.value).startswith("row 3: ") and "\n" not in str(caught.value))


def test_an_ultrasound_is_no_radiograph(tmp_path: Path) -> None:
    """By Modality, or by the SOP class; without a Modality the caller's word counts."""
    capture, ultrasound, ct = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2"
    enhanced = "1.2.840.10008.5.1.4.1.1.2.1"
    for modality, sop_class, foreign in (
        ("DX", None, ()), ("CR ", capture, ("chest_ct",)), ("", None, ("chest_ct",)), ("OT", capture, ()),
        ("RF", capture, ("chest_ct",)), ("ANONYMIZED", capture, ()), (None, capture, ()), ("", "1.2.3.4", ()),
        ("US", None, ("chest_xray", "chest_ct")), ("us", capture, ("chest_xray", "chest_ct")),
        ("", ultrasound, ("chest_xray", "chest_ct")), ("DX", ultrasound, ("chest_xray", "chest_ct")),
        ("PT", "1.2.840.10008.5.1.4.1.1.128", ("chest_xray", "chest_ct")), ("XA", capture, ("chest_xray", "chest_ct")),
        ("SEG", capture, ("chest_xray", "chest_ct")), ("CT", ct, ("chest_xray", "chest_ct")),
        ("", ct, ("chest_xray", "chest_ct")), ("OT", ct, ("chest_xray", "chest_ct")), ("CT", capture, ("chest_xray",)),
        ("CT", "1.2.3.4", ("chest_xray", "chest_ct")), ("CT", enhanced, ("chest_xray", "chest_ct")),
    ):  # fmt: skip
        ds = dataset(RAMP)
        if sop_class:
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(sop_class)
        elif modality == "DX":
            foreign = ("chest_ct",)
        if modality is not None:
            ds.Modality = modality
        path = save(tmp_path, ds)
        for kind in ("chest_xray", "chest_ct"):
            if kind in foreign:
                with pytest.raises(OtherKind, match=r"row 3: is (no (chest radiograph|CT): |one slice of a CT, )"):
                    read_gray(path, "row 3", modality=kind)
                with pytest.raises(OtherKind, match="row 3: is "):  # what caches and predicts
                    decode(str(path), "row 3", Recipe(16), None, kind)
                with pytest.raises(OtherKind, match="row 3: is "):  # what is looked at
                    read_full_range(path, "row 3", modality=kind)
            else:
                assert read_gray(path, "row 3", modality=kind).shape == RAMP.shape, (modality, sop_class, kind)
        assert read_gray(path).shape == RAMP.shape


def test_reports_and_states_are_told_by_what_they_are() -> None:
    sample = pydicom.data.get_testdata_file("test-SR.dcm", download=False)
    with pytest.raises(InputError, match="is no chest radiograph: Modality holds SR; leave the file out"):
        read_gray(Path(str(sample)), modality="chest_xray")


def test_elements_of_another_vr_two_pixel_elements_and_two_polarities(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read = read_gray(with_text(tmp_path, Rows="24", Columns="32 ", BitsStored="12", SamplesPerPixel="1"))
    assert_gray(read, stretched(RAMP.astype(float)))
    assert not caplog.messages
    path = written(tmp_path, RAMP, PresentationLUTShape="INVERSE")
    assert_gray(read_gray(path), stretched(RAMP.astype(float)))
    assert "PresentationLUTShape holds INVERSE beside MONOCHROME2" in caplog.text
    ds = dataset(RAMP)
    ds.FloatPixelData = RAMP.astype("<f4").tobytes()
    with pytest.raises(InputError, match="holds both PixelData and FloatPixelData; keep one"):
        read_gray(save(tmp_path, ds))
