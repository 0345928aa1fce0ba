from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from synthetic_dicom import stretched

from data_modules.errors import InputError
from data_modules.gray import limits, sample
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


def ramp(top: int) -> np.ndarray:
    """[24, 32], from 40 to `top`."""
    return np.linspace(40, top, 24 * 32).reshape(24, 32).astype(np.uint16)


@pytest.mark.parametrize("top", [4095, 65535])
def test_deep_colour_keeps_its_depth(tmp_path: Path, top: int) -> None:
    """Pillow would keep the upper 8 bits: 12 bits of a 16-bit PNG as 0 to 15."""
    deep = np.stack([ramp(top), ramp(top)[::-1], ramp(top)[:, ::-1]], -1)
    values = deep @ np.array([0.299, 0.587, 0.114])
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    assert np.abs(read_gray(tmp_path / "a.png") - stretched(values)).max() <= 0.51
    alpha = np.full((24, 32, 1), 65535, np.uint16)
    alpha[:5] = 0
    for samples, of in ((deep, values), (deep[..., :1], deep[..., 0].astype(float))):
        (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(np.concatenate([samples, alpha], -1)))
        expected = stretched(of, of[5:].min(), of[5:].max())
        expected[:5] = 0
        assert np.abs(read_gray(tmp_path / "b.png") - expected).max() <= 0.51


def test_a_picture_that_is_transparent_everywhere_is_refused(tmp_path: Path) -> None:
    for most in (0, 100):
        alpha = Image.fromarray(np.full((31, 47), most, np.uint8))
        for mode in ("LA", "RGBA"):
            picture = Image.fromarray(GRAY).convert(mode)
            picture.putalpha(alpha)
            with pytest.raises(InputError, match="transparent everywhere"):
                read_gray(saved(picture, tmp_path / "a.png"))
    deep = np.stack([ramp(4095), np.zeros((24, 32), np.uint16)], -1)
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(deep))
    with pytest.raises(InputError, match="transparent everywhere"):
        read_gray(tmp_path / "b.png")


def test_a_transparent_gray_value_and_a_palette_with_one(tmp_path: Path) -> None:
    deep = ramp(4000)
    deep[:3] = 65535
    expected = stretched(deep.astype(float), deep[3:].min(), deep[3:].max())
    expected[:3] = 0
    path = saved(Image.fromarray(deep), tmp_path / "a.png", transparency=65535)
    assert np.abs(read_gray(path) - expected).max() <= 0.51
    palette = Image.fromarray(RGB).quantize(32)
    clear = int(np.asarray(palette)[0, 0])
    rgb = np.asarray(palette.convert("RGB")) @ np.array([0.299, 0.587, 0.114])
    rgb[np.asarray(palette) == clear] = 0
    assert np.abs(read_gray(saved(palette, tmp_path / "p.png", transparency=clear)) - rgb).max() <= 1


def test_deep_pictures_are_turned_by_their_mark(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = read_gray(saved(Image.fromarray(ramp(4095)), tmp_path / "a.png"))
    turned = read_gray(saved(Image.fromarray(ramp(4095)), tmp_path / "b.png", exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_pictures_for_print_and_several_in_one_are_refused(tmp_path: Path) -> None:
    cmyk = saved(Image.fromarray(RGB).convert("CMYK"), tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"CMYK.*save it as gray or RGB"):
        read_gray(cmyk)
    frames = [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1].copy())]
    for name, kind in (("a.png", "PNG"), ("b.jpg", "MPO")):
        frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="holds 2 pictures; save the one"):
            read_gray(tmp_path / name)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WebP", "BMP", "JPEG 2000"])
def test_other_formats_are_named(tmp_path: Path, kind: str) -> None:
    Image.fromarray(GRAY).save(tmp_path / "x", kind.replace(" ", ""))
    with pytest.raises(InputError, match=f"is a {kind} picture, neither DICOM nor PNG nor JPEG; save it as PNG"):
        read_gray(tmp_path / "x")


def test_a_packed_file_is_named(tmp_path: Path) -> None:
    path = saved(Image.fromarray(GRAY), tmp_path / "a.png")
    (tmp_path / "x.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="packed with gzip; unpack it"):
        read_gray(tmp_path / "x.gz")


def test_a_dead_pixel_of_a_deep_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = ramp(4000)
    deep[9, 9] = 65535
    expected = stretched(ramp(4000).astype(float))
    expected[9, 9] = 255
    assert np.abs(read_gray(saved(Image.fromarray(deep), tmp_path / "a.png")) - expected).max() <= 1
    assert "far from all others" in caplog.text


@pytest.mark.parametrize("side", [8, 20, 60])
@pytest.mark.parametrize("edged", [False, True])
def test_a_marker_of_a_deep_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture, side: int, edged: bool) -> None:
    """A lead letter of the highest value, with edges or without, and a black corner: the patient keeps his grays."""
    body = np.random.default_rng(0).normal(2000, 300, (512, 512)).clip(800, 3200)
    letter = np.zeros(body.shape)
    letter[30 : 30 + side, 40 : 40 + side] = 1
    letter = gaussian_filter(letter, 0.7) if edged else letter
    deep = body + (65535 - body) * letter
    deep[-side:, -side:] = 0
    gray = read_gray(saved(Image.fromarray(deep.astype(np.uint16)), tmp_path / "a.png"))
    least, most = np.percentile(body, (0.1, 99.9))
    inside = np.s_[100:400, 100:400]
    assert gray[40 : 20 + side, 50 : 30 + side].min(initial=255) == 255 and gray[-side:, -side:].max() == 0
    assert np.ptp(np.percentile(gray[inside], (1, 99))) > 100
    assert np.corrcoef(gray[inside].ravel(), body[inside].clip(least, most).ravel())[0, 1] > 0.99
    assert "far from all others" in caplog.text


def test_letters_and_collimation_that_leave_the_patient_his_range(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does what is more than a marker, or a tail without a gap."""
    rng = np.random.default_rng(0)
    body = rng.normal(1500, 250, (256, 256)).clip(0, 2500)
    body[10:30, 10:30], body[:, :9], body[200:, :] = 4095, 0, 0
    narrow = rng.integers(3400, 3560, (256, 256)).astype(float)
    narrow[:60] = 0  # far from all others, but more than a marker
    tailed = 4095 * rng.beta(1, 60, (256, 256))  # no gap
    for values in (body, narrow, tailed):
        assert limits(values.min(), values.max(), sample(values), "x") == (values.min(), values.max())
    assert caplog.text == ""


def test_blank_pictures_are_refused(tmp_path: Path) -> None:
    for picture in (np.full((31, 47), 90, np.uint8), np.full((31, 47), 90, np.uint16), np.zeros((31, 47, 3), np.uint8)):
        with pytest.raises(InputError, match=r"is blank: 100\.0% of its pixels"):
            read_gray(saved(Image.fromarray(picture), tmp_path / "a.png"))
