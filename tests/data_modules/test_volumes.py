"""CT volumes: NIfTI in every axis order, npz, the Hounsfield check, damaged files. Their slices: test_slices.py."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from data_modules import dicom_series, volumes
from data_modules.ct_config import CtConfig
from data_modules.errors import InputError
from data_modules.slices import images
from data_modules.volumes import Volume, is_volume, read_volume

SAMPLE = Path(os.environ.get("RADZ_SAMPLES", Path(__file__).parents[3] / "shared/data")) / "ct_volume/example_ct.nii.gz"
SPACING = (2.0, 2.5, 4.0)
RNG = np.random.default_rng(3)
UNIFORM = CtConfig(choice="uniform", slices=4)


def phantom(shape: tuple[int, int, int] = (44, 36, 20)) -> np.ndarray:
    """HU in RAS order: a body with two lungs in air, a bright cube at the patient's right, front and top."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[x**2 + y**2 < 0.9] = 40
    for side in (-0.45, 0.45):
        hu[((x - side) / 0.3) ** 2 + (y / 0.55) ** 2 + (z / 0.8) ** 2 < 1] = -850
    hu[-10:-6, -10:-6, -5:] = 900
    return hu


def written(path: Path, data: np.ndarray, affine: np.ndarray | None = None, **scaling: float) -> Path:
    image = nib.Nifti1Image(data, np.diag([*SPACING, 1.0]) if affine is None else affine)
    image.header["scl_slope"], image.header["scl_inter"] = scaling.get("slope", 1), scaling.get("inter", 0)
    if scaling:  # nibabel would scale the data to fit: write its own header and bytes
        image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
        path.write_bytes(image.header.binaryblock + bytes(4) + data.tobytes(order="F"))
    else:
        nib.save(image, path)
    return path


def refused(path: Path, part: str, **settings_: Any) -> None:
    with pytest.raises(InputError, match=part) as caught:
        read_volume(path, "row 4", **settings_)
    assert (
        str(caught.value).startswith("row 4: ") and "\n" not in str(caught.value) and path.name not in str(caught.value)
    )


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_all_48_axis_orders_give_the_same_volume(tmp_path: Path, suffix: str) -> None:
    hu = phantom()
    image = nib.Nifti1Image(hu, np.diag([*SPACING, 1.0]))
    expected, codes = images(Volume(hu, SPACING), UNIFORM), set()
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turned = image.as_reoriented(np.array(list(zip(order, signs, strict=True))))
            nib.save(turned, tmp_path / f"x{suffix}")
            codes.add(nib.aff2axcodes(turned.affine))
            volume = read_volume(tmp_path / f"x{suffix}")
            assert volume.hu.dtype == np.int16 and np.array_equal(volume.hu, hu)
            assert volume.spacing == pytest.approx(SPACING)
            assert np.array_equal(images(volume, UNIFORM), expected)
    assert len(codes) == 48


def test_display_has_front_up_right_side_left_and_head_first() -> None:
    shown = images(Volume(phantom(), (2.0, 2.0, 4.0)), CtConfig(windows=["bone"], choice="uniform", slices=20))[:, 0]
    assert shown.shape == (20, 36, 44)
    slices, rows, columns = np.nonzero(shown > 150)
    assert sorted(set(slices)) == [0, 1, 2, 3, 4] and set(rows) == {6, 7, 8, 9} and set(columns) == {6, 7, 8, 9}


def test_oblique_volumes_keep_their_values_and_spacing(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = read_volume(written(tmp_path / "x.nii", phantom(), turn @ np.diag([*SPACING, 1.0])))
    assert np.array_equal(volume.hu, phantom()) and volume.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64, ">i2"])
def test_header_scaling_is_applied_once_and_rescale_takes_its_place(tmp_path: Path, kind: Any) -> None:
    hu = phantom()
    path = written(tmp_path / "x.nii", ((hu + 1024) // 2).astype(np.dtype(kind)), slope=2, inter=-1024)
    if kind == ">i2":
        image = nib.Nifti1Image(hu, np.diag([*SPACING, 1.0]), nib.Nifti1Header(endianness=">"))
        image.set_data_dtype(">i2")
        nib.save(image, path)
        assert np.array_equal(read_volume(path).hu, hu)
        return
    assert np.array_equal(read_volume(path).hu, hu // 2 * 2)
    assert np.array_equal(nib.load(path).get_fdata(), hu // 2 * 2)
    placeholder = written(tmp_path / "y.nii", (hu + 8192).astype(kind), slope=1, inter=-1)
    assert np.array_equal(read_volume(placeholder, rescale=(1, -8192)).hu, hu)
    refused(placeholder, "not in Hounsfield units.*slope and intercept")
    refused(path, "do not scale", rescale=(0, -1024))
    refused(path, "do not scale", rescale=(1, float("nan")))


def test_floats_are_rounded_and_nifti_2_and_wrong_suffixes_are_read(tmp_path: Path) -> None:
    hu = phantom()
    assert np.array_equal(read_volume(written(tmp_path / "x.nii", hu + np.float32(0.4))).hu, hu)
    nib.save(nib.Nifti2Image(hu[..., None], np.diag([*SPACING, 1.0])), tmp_path / "two.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "two.nii.gz").hu, hu)
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "x.nii").read_bytes())
    assert np.array_equal(read_volume(tmp_path / "plain.nii.gz").hu, hu)


def test_header_without_orientation_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = nib.Nifti1Image(phantom(), None)
    image.header.set_zooms(SPACING)
    nib.save(image, tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii", "row 4")
    assert [(record.levelname, record.getMessage()[:5]) for record in caplog.records] == [("WARNING", "row 4")]
    as_dicom = nib.Nifti1Image(phantom(), np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert np.array_equal(volume.hu, np.asarray(nib.as_closest_canonical(as_dicom).dataobj))
    assert volume.spacing == pytest.approx(SPACING)
    caplog.clear()
    read_volume(written(tmp_path / "y.nii", phantom()))
    assert not caplog.records


def test_padding_becomes_air(tmp_path: Path) -> None:
    hu = phantom()
    hu[:4, :4], hu[-4:, :4] = -2000, -8192
    found = read_volume(written(tmp_path / "x.nii", hu)).hu
    assert found.min() == -1024 and (found[:4, :4] == -1024).all() and np.array_equal(found[4:-4], hu[4:-4])


def padded(hu: np.ndarray, value: int) -> np.ndarray:
    hu = hu.copy()
    hu[:6, :6] = hu[:6, -6:] = hu[-6:, :6] = hu[-6:, -6:] = value
    return hu


LEGAL = {
    "clipped": phantom().clip(-1000, 1000), "padded": padded(phantom(), -3024),
    "tight crop": phantom()[10:-10, 10:-10, 6:-6],
    "mostly padding": np.pad(phantom(), ((60, 60), (60, 60), (9, 9)), constant_values=-3024),
    "nothing around the body": np.where(phantom() < -950, 40, phantom()),
}  # fmt: skip
ILLEGAL = {
    "stored values": phantom() + 1024, "stored values, padded by -2000": padded(phantom() + 1024, -2000),
    "stored values, padded by -1024": padded(phantom() + 1024, -1024), "stored values of CT-RATE": phantom() + 8192,
    "rescaled twice": phantom() - 1024, "rescaled twice by 8192": phantom().astype(np.int32) - 8192,
    "a picture": ((phantom() + 1024) // 8).astype(np.uint8), "0..1": ((phantom() + 1024) / 2000).astype(np.float32),
    "-1..1": (phantom() / 1000).astype(np.float32), "one value": np.full((9, 9, 9), -1000, np.int16),
    "only padding": np.full((9, 9, 9), -2000, np.int16), "water": np.zeros((9, 9, 9), np.int16),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LEGAL))
def test_hounsfield_units_are_taken(tmp_path: Path, name: str) -> None:
    read_volume(written(tmp_path / "x.nii", LEGAL[name].astype(np.int16)))


@pytest.mark.parametrize("name", list(ILLEGAL))
def test_other_units_are_refused(tmp_path: Path, name: str) -> None:
    refused(written(tmp_path / "x.nii", ILLEGAL[name]), r"not in Hounsfield units: .*% .*air.*% .*soft tissue")


def test_damaged_and_unfit_nifti(tmp_path: Path) -> None:
    path, hu = tmp_path / "x.nii.gz", phantom()
    whole = written(path, hu + RNG.integers(-9, 9, hu.shape, dtype=np.int16)).read_bytes()
    for end in [*range(1, len(whole), len(whole) // 20), len(whole) - 4]:
        path.write_bytes(whole[:end])
        refused(path, "truncated|damaged")
    path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])  # only the checksum tells
    refused(path, "damaged or unusual .CRC")
    for content in (b"", b"GIF89a", b"\x1f\x8bno", bytes(540)):
        path.write_bytes(content)
        refused(path, "damaged|truncated")
    refused(tmp_path / "absent.nii", "cannot be opened")
    refused(written(tmp_path / "x.nii", hu[0]), "three axes")
    refused(written(tmp_path / "x.nii", np.stack([hu, hu], -1)), "three axes")
    refused(written(tmp_path / "x.nii", hu.astype(np.complex64)), "kind complex64")
    refused(written(tmp_path / "x.nii", np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "one number")
    refused(written(tmp_path / "x.nii", hu, np.diag([2, 2, 60, 1])), "2 x 2 x 60 mm")
    refused(written(tmp_path / "x.nii", hu, np.diag([2, 2, 0.001, 1])), "0.001 mm")
    refused(
        written(tmp_path / "x.nii", hu, np.array([[2, 2, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])),
        "singular",
    )
    refused(written(tmp_path / "x.nii", hu, np.diag([0.05, 50, 2, 1])), "square pixels")
    broken = hu.astype(np.float32)
    broken[3, 3, 3] = np.inf
    refused(written(tmp_path / "x.nii", broken), "no finite numbers")


def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytearray(written(tmp_path / "x.nii", phantom()).read_bytes())
    raw[42:48] = np.array([32000, 32000, 900], "<i2").tobytes()
    for path, content in ((tmp_path / "x.nii", raw), (tmp_path / "x.nii.gz", gzip.compress(raw))):
        path.write_bytes(content)
        refused(path, "1000000000 are read")
    raw[42:48] = np.array([1000, 1000, 900], "<i2").tobytes()
    for path, content in ((tmp_path / "x.nii", raw), (tmp_path / "x.nii.gz", gzip.compress(raw))):
        path.write_bytes(content)
        refused(path, "truncated; its header names 1800000000 bytes")
    array = io.BytesIO()
    np.save(array, phantom())
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("ct.npy", array.getvalue().replace(b"(44, 36, 20)", b"(99999,9999,9999)"))
    refused(tmp_path / "x.npz", "are read")
    assert volumes.MAX_VOXELS == dicom_series.MAX_VOXELS


def test_npz_is_slices_rows_columns_from_head_front_and_right(tmp_path: Path) -> None:
    hu = phantom()
    stored = hu[::-1, ::-1, ::-1].transpose(2, 1, 0)
    np.savez_compressed(tmp_path / "x.npz", ct=stored)
    volume = read_volume(tmp_path / "x.npz")
    assert np.array_equal(volume.hu, hu) and volume.spacing == (0.8, 0.8, 0.8)
    shown = images(volume, CtConfig(windows=["bone"], choice="uniform", slices=20))[:, 0]
    assert np.array_equal(shown, images(Volume(hu, (0.8, 0.8, 0.8)), CtConfig(["bone"], 20, "uniform"))[:, 0])
    np.savez(tmp_path / "y.npz", volume=np.asfortranarray(stored, np.float32), spacing=[4, 2.5, 2])
    volume = read_volume(tmp_path / "y.npz")
    assert np.array_equal(volume.hu, hu) and volume.spacing == (2.0, 2.5, 4.0)
    np.savez(tmp_path / "z.npz", other=[1], ct=stored + 1024)
    assert np.array_equal(read_volume(tmp_path / "z.npz", rescale=(1, -1024)).hu, hu)
    refused(tmp_path / "z.npz", "Hounsfield")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


def test_unfit_npz(tmp_path: Path) -> None:
    path, hu = tmp_path / "x.npz", phantom()
    for arrays, part in [
        ({"a": hu, "b": hu}, "holds 2 arrays"), ({"spacing": [1, 1, 1]}, "holds 0 arrays"),
        ({"ct": hu[0]}, "three axes"),
        ({"ct": hu, "spacing": [1.0, 2]}, "3 numbers"), ({"ct": hu, "spacing": [1, 1, 900]}, "900"),
        ({"ct": hu, "spacing": [1, 1, np.nan]}, "nan"), ({"ct": hu.astype("U5")}, "one number a voxel"),
        ({"ct": np.zeros((3, 3, 0))}, "three axes"), ({"ct": np.full((3, 3, 3), np.nan)}, "no finite"),
    ]:  # fmt: skip
        np.savez(path, **arrays)
        refused(path, part)
    trap = np.empty((3, 3, 3), dtype=object)
    trap[:] = Trap()
    np.savez(path, ct=trap)
    refused(path, "kind object")
    np.savez(path, ct=hu)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "damaged")
    path.write_bytes(pickle.dumps(hu))
    refused(path, "damaged")


def test_what_a_volume_is(tmp_path: Path) -> None:
    assert all(map(is_volume, ("a.nii", "a.nii.gz", "A.NII.GZ", "a.npz", tmp_path, str(tmp_path))))
    assert not any(map(is_volume, ("a.dcm", "a.png", "a.gz", "a.nii.bz2", tmp_path / "absent")))
    (tmp_path / "x.dcm").write_bytes(b"x")
    refused(tmp_path / "x.dcm", "neither .nii")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """A folder, a NIfTI file not yet compressed, and the npy inside an npz."""
    folder = tmp_path_factory.mktemp("fuzz")
    array = io.BytesIO()
    np.save(array, phantom((12, 10, 8)))
    return folder, written(folder / "x.nii", phantom((12, 10, 8))).read_bytes(), array.getvalue()


BYTES = st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=5)
NPY_BYTES = st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=4)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutated(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    copy = bytearray(content)
    for position, value in changes:
        copy[position % len(copy)] = value
    return bytes(copy)


def valid_or_refused(path: Path) -> None:
    try:
        volume = read_volume(path)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert volume.hu.dtype == np.int16 and volume.hu.ndim == 3 and volume.hu.min() >= -1500
        assert all(0.05 <= side <= 50 for side in volume.spacing)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@quick
@given(changes=BYTES)
def test_fuzzed_nifti_header(fuzzed: tuple[Path, bytes, bytes], changes: list[tuple[int, int]]) -> None:
    path = fuzzed[0] / "y.nii.gz"
    path.write_bytes(gzip.compress(mutated(fuzzed[1], changes), 1))
    valid_or_refused(path)


@quick
@given(changes=BYTES)
def test_fuzzed_gzip(fuzzed: tuple[Path, bytes, bytes], changes: list[tuple[int, int]]) -> None:
    path = fuzzed[0] / "z.nii.gz"
    path.write_bytes(mutated(gzip.compress(fuzzed[1], 1), changes))
    valid_or_refused(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@quick
@given(
    changes=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=4), where=st.booleans()
)
def test_fuzzed_npz(fuzzed: tuple[Path, bytes, bytes], changes: list[tuple[int, int]], where: bool) -> None:
    path = fuzzed[0] / "y.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ct.npy", mutated(fuzzed[2], changes) if where else fuzzed[2])
    if not where:
        size = path.stat().st_size
        path.write_bytes(mutated(path.read_bytes(), [(size - 127 + position, value) for position, value in changes]))
    valid_or_refused(path)


@pytest.mark.skipif(not SAMPLE.is_file(), reason="RADZ_SAMPLES names no folder with ct_volume/example_ct.nii.gz")
def test_real_volume() -> None:
    canonical = nib.as_closest_canonical(nib.load(SAMPLE))
    volume = read_volume(SAMPLE)
    assert volume.spacing == pytest.approx(canonical.header.get_zooms())
    assert np.array_equal(volume.hu, np.asarray(canonical.dataobj))
    # An abdomen with the bases of the lungs: they are at the top only.
    few = images(volume, CtConfig(windows=["mediastinum"], slices=4))[:, 0]
    everything = images(volume, CtConfig(windows=["mediastinum"], slices=200, choice="uniform"))[:, 0]
    assert all((everything[:15] == one).all((1, 2)).any() for one in few)
    # The liver fills the patient's right half of the body, here the left of the image.
    body = ndimage.binary_fill_holes(few[0] > 100)
    organ = ndimage.binary_opening((few[0] > 120) & (few[0] < 230) & body, iterations=2)
    assert organ[:, :61].sum() > 1.5 * organ[:, 61:].sum()
    # The spine is at the back, in the lower half.
    bone = images(volume, CtConfig(windows=["bone"], slices=4, choice="uniform"))[0, 0] > 90
    rows, columns = ndimage.center_of_mass(ndimage.binary_opening(bone, iterations=2))
    assert rows > 55 and 45 < columns < 77
