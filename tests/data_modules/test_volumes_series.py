"""DICOM series: order in space, scaling a slice, what is left out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    RLELossless,
    generate_uid,
)
from synthetic_dicom import AXIAL, SIDES, bundled, dataset, series
from test_volumes import phantom

from data_modules import dicom, dicom_series
from data_modules.errors import InputError
from data_modules.volumes import is_volume, read_volume

TILT = np.deg2rad(25)
ORIENTATIONS = {
    "axial": AXIAL,
    "axial, normal reversed": np.diag([-1.0, 1.0, -1.0]),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "sagittal": np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]]),
    "oblique": np.array([[1, 0, 0], [0, np.cos(TILT), np.sin(TILT)], [0, -np.sin(TILT), np.cos(TILT)]]),
}
"""Rows: the direction in which columns, rows and slices grow, in Left, Posterior, Superior."""


def edit(path: Path, **tags: Any) -> None:
    ds = dcmread(path)
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.save_as(path)


def refused(folder: Path, part: str) -> None:
    with pytest.raises(InputError, match=part) as caught:
        read_volume(folder, "row 4")
    message = str(caught.value)
    assert message.startswith("row 4: ") and "\n" not in message and "IM0" not in message


@pytest.mark.parametrize("name", list(ORIENTATIONS))
def test_a_series_equals_the_nifti_of_its_array(tmp_path: Path, name: str) -> None:
    axes, hu = ORIENTATIONS[name], phantom()
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ axes.T * SIDES
    nib.save(nib.Nifti1Image(hu, affine), tmp_path / "x.nii")
    series(tmp_path / "s", hu, axes)
    ours, theirs = read_volume(tmp_path / "s"), nib.as_closest_canonical(nib.load(tmp_path / "x.nii"))
    assert np.array_equal(ours.hu, np.asarray(theirs.dataobj))
    assert ours.spacing == pytest.approx(theirs.header.get_zooms(), rel=1e-5)
    assert np.array_equal(ours.hu, read_volume(tmp_path / "x.nii").hu)


def test_an_axial_series_lies_in_ras(tmp_path: Path) -> None:
    hu = phantom()
    # Columns grow to the left and rows to the back: both against RAS.
    paths = series(tmp_path / "s", hu[::-1, ::-1])
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.hu, hu) and volume.spacing == pytest.approx(SIDES) and is_volume(tmp_path / "s")
    assert [path.name for path in paths] != sorted(path.name for path in paths)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    hu = phantom() // 4 * 4
    paths = series(tmp_path / "s", hu[::-1, ::-1])
    for index, path in enumerate(paths):
        slope, intercept = ((1, -1024), (2, -1000), (4, 0), (0.5, -2000))[index % 4]
        stored = (hu[::-1, ::-1, index].T - intercept) / slope
        edit(path, RescaleSlope=slope, RescaleIntercept=intercept, PixelData=stored.astype("<i2").tobytes())
    assert np.array_equal(read_volume(tmp_path / "s").hu, hu)
    series(tmp_path / "t", phantom() + 8192, RescaleIntercept=-1)
    refused(tmp_path / "t", "not in Hounsfield units")
    assert np.array_equal(read_volume(tmp_path / "t", rescale=(1, -8192)).hu, phantom()[::-1, ::-1])


def test_padding_is_air_and_syntaxes_are_mixed(tmp_path: Path) -> None:
    stored = phantom()[::-1, ::-1] + 1024
    stored[:5, :5] = 3000
    paths = series(tmp_path / "s", stored.astype(np.uint16), RescaleIntercept=-1024, PixelPaddingValue=3000)
    edit(paths[2], PixelPaddingValue=0)
    ds = dcmread(paths[3])
    ds.compress(RLELossless)
    ds.save_as(paths[3])
    ds = dcmread(paths[4])
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(paths[4])
    hu = read_volume(tmp_path / "s").hu
    corner = hu[-5:, -5:]
    assert (np.delete(corner, 2, axis=2) == -1024).all() and (corner[..., 2] == 1976).all()
    assert np.array_equal(hu[:-5], phantom()[:-5])


def test_other_files_and_copies_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    paths = series(folder, phantom())
    expected = read_volume(folder).hu
    (folder / "069.xml").write_text("<x/>")
    (folder / "README").write_text("notes")
    for marker in ("empty.txt", "DONE", "Icon\r", "series.done", "x1.lock", "mask.mha", "IM0001.dcm.tmp", "defaced"):
        (folder / marker).write_bytes(b"")
    (folder / "mask.dat").write_bytes(bytes(9000))
    (folder / "._IM0001.dcm").write_bytes(b"Mac OS X")
    (folder / "below").mkdir()
    for name in ("test-SR.dcm", "rtplan.dcm", "DICOMDIR"):
        (folder / name).write_bytes(bundled(name).read_bytes())
    dataset(np.zeros((8, 8), np.uint16), Modality="DX").save_as(folder / "dx.dcm", enforce_file_format=True)
    (folder / "copy").write_bytes(paths[5].read_bytes())
    ds = dcmread(paths[0])
    ds.ImageType, ds.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.save_as(folder / "scout.dcm")
    assert np.array_equal(read_volume(folder).hu, expected)
    for path in [*paths, folder / "copy"]:
        path.unlink()
    refused(folder, r"no CT slices \(16 other files\)")


def test_several_series_and_lone_slices(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    refused(folder, r"no CT slices \(0 other files\)")
    (folder / "below").mkdir()
    refused(folder, "holds folders only")
    paths = series(folder, phantom())
    edit(paths[0], SeriesInstanceUID=generate_uid())
    edit(paths[1], SeriesInstanceUID=generate_uid())
    refused(folder, "holds 3 CT series; name the folder of one")
    for path in paths[1:]:
        path.unlink()
    refused(folder, "one CT slice")
    edit(paths[0], SOPClassUID=EnhancedCTImageStorage)
    refused(folder, "multi-frame CT; convert")


DAMAGE = {
    "moved along the normal": ({"ImagePositionPatient": [-40, 25, -687.2]}, r"4\.80 mm between.*4\.00 mm between most"),
    "another place": ({"ImagePositionPatient": [-40, 25, -700]}, r"1 slices lie where another.*-700\.0 mm"),
    "no place": ({"ImagePositionPatient": None}, "ImagePositionPatient is absent or empty; 3 numbers must stand there"),
    "direction": ({"ImageOrientationPatient": [1, 0, 0, 0, 0.99, 0.141067]}, "differ in ImageOrientationPatient"),
    "no direction": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
    "spacing": ({"PixelSpacing": [2.6, 2.0]}, "differ in their number of pixels or in PixelSpacing"),
    "size": ({"Rows": 18, "Columns": 88}, "differ in their number of pixels"),
    "frames": ({"NumberOfFrames": 2}, "several frames"),
    "scale": ({"RescaleSlope": "nan"}, "RescaleSlope holds 'nan', not finite"),
    "no scale": ({"RescaleSlope": ""}, "RescaleSlope is absent or empty; 1 number must"),
    "pixels": ({"PixelData": bytes(10)}, "less than expected|damaged or unusual"),
    "patient": ({"PatientName": "C^D"}, "differ in PatientName; put those of one patient together"),
    "study": ({"StudyInstanceUID": "1.2.5"}, "differ in StudyInstanceUID"),
    "frame of reference": ({"FrameOfReferenceUID": "1.2.5"}, "differ in FrameOfReferenceUID"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", list(DAMAGE))
def test_a_slice_that_does_not_fit(tmp_path: Path, name: str) -> None:
    tags, part = DAMAGE[name]
    same = {"PatientName": "A^B", "StudyInstanceUID": "1.2.4", "FrameOfReferenceUID": "1.2.4"}
    edit(series(tmp_path / "s", phantom(), **same)[3], **tags)
    refused(tmp_path / "s", part)


@pytest.mark.parametrize(
    ("tags", "other"),
    [
        ({"StudyInstanceUID": "1.2.{}"}, {}),
        ({"FrameOfReferenceUID": "1.2.{}"}, {}),
        ({"FrameOfReferenceUID": "1.2.{}"}, {"FrameOfReferenceUID": ""}),
        ({"PatientName": "A^B=\u5c71"}, {"PatientName": "a b"}),
        ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "1950.01.01"}),
        ({"PatientID": "7", "PatientName": "A^B"}, {"PatientID": "", "PatientName": "A, b"}),
        ({"PatientID": "7", "PatientName": "A^B"}, {"PatientName": "C^B"}),
    ],
    ids=str,
)
def test_slices_that_differ_in_what_says_nothing(tmp_path: Path, tags: dict[str, str], other: dict[str, str]) -> None:
    paths = series(tmp_path / "s", phantom())
    for number, path in enumerate(paths):
        edit(path, **{key: value.format(number) for key, value in tags.items()})
    edit(paths[1], **other)
    assert read_volume(tmp_path / "s").hu.shape[2] == len(paths)
    if not other:  # nothing says that these belong together
        edit(paths[1], **{key: value.format(0) for key, value in tags.items()})
        refused(tmp_path / "s", "differ in")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_missing_and_damaged_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(tmp_path / "s", phantom())
    gone = paths[7].read_bytes()
    paths[7].unlink()
    refused(tmp_path / "s", r"8\.00 mm between two of them at -676\.0 mm, 4\.00 mm between most")
    for name, content in (("cut", gone[:-99]), ("cut", gone[:300]), ("IM0007.dcm", b""), ("IM0007.dcm", b"no DICOM"),
                          ("IM0099.part", b"")):  # fmt: skip
        (tmp_path / "s" / name).write_bytes(content)
        refused(tmp_path / "s", r"file \d+ of 20 by name")
        (tmp_path / "s" / name).unlink()
    paths[7].write_bytes(gone)
    for place in (paths[0], tmp_path / "s/0A1F"):  # at an end no gap tells of it
        whole = place.read_bytes() if place.exists() else b""
        for content in (b"", bytes(len(gone)), *([gone[132:]] if whole else [])):
            place.write_bytes(content)
            refused(tmp_path / "s", r"file \d+ of 2[01] by name is no DICOM file, but may have been a slice")
        if whole:
            place.write_bytes(whole)
    place.unlink()
    for stem in ("3fa85f64-5717-4562-b3fc-2c963f66af", "aaaaaa", "1.2.84."):
        for number, path in enumerate(paths):
            paths[number] = path.rename(tmp_path / f"s/{stem}{number + 10}")
        (tmp_path / "s" / (other := stem.replace("5", "c").replace("aaaaaa", "bbcdea") + "99")).write_bytes(b"<html>")
        refused(tmp_path / "s", r"file \d+ of 21 by name is no DICOM file, but may have been a slice")
        (tmp_path / "s" / other).unlink()
    monkeypatch.setattr(dicom_series, "MAX_VOXELS", 1000)
    refused(tmp_path / "s", "more than 1000 voxels")
    ds = dcmread(paths[7])
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(paths[7])
    monkeypatch.setattr(dicom, "MAX_BYTES", 1 << 10)
    refused(tmp_path / "s", r"file \d+ of 20 by name: inflates to more")
    monkeypatch.setattr(dicom_series, "MAX_BYTES", 1 << 10)
    refused(tmp_path / "s", r"file 1 of 20 by name has .* MiB")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    paths = series(tmp_path / "s", phantom((12, 10, 4)))
    whole, rng, refusals = paths[1].read_bytes(), np.random.default_rng(2), 0
    for _ in range(200):
        damaged = bytearray(whole)
        for position in rng.integers(128, len(whole) - 240, 4):
            damaged[position] = rng.integers(256)
        paths[1].write_bytes(damaged)
        try:
            assert read_volume(tmp_path / "s").hu.dtype == np.int16
        except InputError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 30
