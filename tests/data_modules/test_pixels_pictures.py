from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import InputError
from data_modules.pixels import equalize, fit, read_gray

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 256, (31, 47)).astype(np.uint8)
RGB = RNG.integers(0, 256, (31, 47, 3)).astype(np.uint8)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_8_bit_png_is_untouched(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_gray(saved(Image.fromarray(GRAY), tmp_path / "a.png")), GRAY)


@pytest.mark.parametrize("top", [65535, 4095, 300])
def test_16_bit_png_is_stretched_and_never_clipped(tmp_path: Path, top: int) -> None:
    deep = RNG.integers(100, top + 1, (40, 30)).astype(np.uint16)
    deep[0, 0], deep[0, 1] = 100, top
    image = read_gray(saved(Image.fromarray(deep), tmp_path / "a.png"))
    expected = (deep.astype(float) - 100) / (top - 100) * 255
    assert np.abs(image - expected).max() <= 0.5 and image.min() == 0 and image.max() == 255
    assert len(np.unique(image)) > min(top - 100, 255) * 0.7


def test_colour_and_palette_become_luminance(tmp_path: Path) -> None:
    expected = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_gray(saved(Image.fromarray(RGB), tmp_path / "a.png")) - expected).max() <= 1
    palette = Image.fromarray(RGB).quantize(32)
    expected = np.asarray(palette.convert("RGB")) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_gray(saved(palette, tmp_path / "p.png")) - expected).max() <= 1


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    alpha = np.full((31, 47), 255, np.uint8)
    alpha[:10] = 0
    for picture in (
        Image.fromarray(np.dstack([RGB, alpha])),
        Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)]),
    ):
        image = read_gray(saved(picture, tmp_path / "a.png"))
        assert not image[:10].any() and np.array_equal(image[10:], np.asarray(picture.convert("RGB").convert("L"))[10:])


def test_one_bit_png(tmp_path: Path) -> None:
    image = read_gray(saved(Image.fromarray(GRAY > 100), tmp_path / "a.png"))
    np.testing.assert_array_equal(image, (GRAY > 100) * 255)


def test_jpeg_and_its_orientation_mark(tmp_path: Path) -> None:
    smooth = Image.fromarray(GRAY).resize((94, 62), Image.Resampling.BICUBIC)
    path = saved(smooth, tmp_path / "a.jpg", quality=95)
    np.testing.assert_array_equal(read_gray(path), np.asarray(Image.open(path)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    turned = read_gray(saved(smooth, tmp_path / "b.jpg", quality=95, exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(read_gray(path), -1))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_cut_pictures_are_refused_without_their_path(tmp_path: Path, name: str) -> None:
    whole = saved(Image.fromarray(GRAY), tmp_path / name).read_bytes()
    for end in (12, 40, len(whole) // 2, len(whole) - 99):
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"^row 9: .*damaged") as caught:
            read_gray(tmp_path / "cut", "row 9")
        assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 100_000])
def test_a_png_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(InputError, match="pixels"):
        read_gray(tmp_path / "bomb.png")


def test_fit_pads_to_a_centred_square() -> None:
    tall = np.full((200, 100), 200, np.uint8)
    square = fit(tall, 50, "pad")
    assert square.shape == (50, 50) and (square[:, 13:37] == 200).all()
    assert not square[:, :12].any() and not square[:, 38:].any()
    np.testing.assert_array_equal(fit(tall.T, 50, "pad"), square.T)


def test_fit_crop_and_squash_agree_with_pillow() -> None:
    picture = Image.fromarray(GRAY)
    np.testing.assert_array_equal(
        fit(GRAY, 16, "squash"), np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC))
    )
    whole = np.asarray(picture.resize((24, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(fit(GRAY, 16, "crop"), whole[:, 4:20])
    np.testing.assert_array_equal(fit(GRAY[:31, :31], 31, "pad"), GRAY[:31, :31])


def test_fit_is_antialiased_and_takes_extreme_shapes() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (256, 128))
    assert np.abs(fit(stripes, 32, "pad").astype(int) - 127).max() < 30, "fine stripes become gray, not an alias"
    for shape in ((1, 500), (500, 1), (3, 2)):
        for resize in ("pad", "crop", "squash"):
            assert fit(np.full(shape, 9, np.uint8), 16, resize).shape == (16, 16)


def test_equalize_flattens_and_keeps_the_order() -> None:
    dark = (RNG.random((64, 64)) ** 3 * 120).astype(np.uint8)
    flat = equalize(dark)
    assert flat.dtype == np.uint8 and flat.max() == 255 and flat.min() == 0
    levels = np.unique(dark)
    means = [flat[dark == level].mean() for level in levels]
    assert (np.diff(means) >= 0).all()
    assert abs(np.median(flat) - 127) < 12 < abs(np.median(dark) - 127)
