"""P7: radiographs per second from the pixel cache, and from files, beside a loop of pydicom and Pillow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGLosslessSV1, generate_uid

from benchmarks.common import Result, rates
from data_modules import codecs
from data_modules.cache import open_or_build
from data_modules.corpora import table
from data_modules.corpus_config import Columns, CorpusConfig
from data_modules.decode import Recipe
from data_modules.findings import ontology
from data_modules.pixels import fit, read_gray

COUNT, SIDE, SIZE = 24, 2048, 336
SALT = b"b" * 32


def run() -> Iterator[Result]:
    """24 images of 2048 x 2048 with 12 bits, to 336 x 336, one process and thread."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(COUNT):
            stored = _radiograph(i)
            _dicom(folder / f"{i}.dcm", stored)
            Image.fromarray((stored >> 4).astype(np.uint8)).save(folder / f"{i}.png")
        lines = ["image,patient,split", *(f"{i}.dcm,{i},test" for i in range(COUNT))]
        (folder / "table.csv").write_text("\n".join(lines))
        config = CorpusConfig(root=name, csv="table.csv", columns=Columns("image", "patient", split="split"))
        studies = table.read(config, ontology(), SALT)
        cache = open_or_build(studies, Recipe(SIZE), folder / "cache", 0, SALT, progress=False)
        order = np.random.default_rng(0).permutation(COUNT)

        def warm() -> object:
            return [cache.batch(order) for _ in range(20)]

        def ours() -> object:
            return [fit(read_gray(folder / f"{i}.dcm"), SIZE, "pad") for i in range(COUNT)]

        def plain() -> object:
            return [_plain(folder / f"{i}.dcm") for i in range(COUNT)]

        def png() -> object:
            return [np.asarray(Image.open(folder / f"{i}.png").resize((SIZE, SIZE))) for i in range(COUNT)]

        reads = "warm pixel cache against"
        yield _twenty(rates("P7", f"{reads} pydicom + Pillow, JPEG Lossless", "images/s", COUNT, warm, plain))
        yield _twenty(rates("P7", f"{reads} Pillow, PNG", "images/s", COUNT, warm, png))
        yield rates("P7", "decode, window and resize against pydicom + Pillow", "images/s", COUNT, ours, plain)


def _twenty(result: Result) -> Result:
    """One reading of the cache is too short for the clock, so it is done twenty times."""
    values = {name: 20 * getattr(result, name) for name in ("radz", "ratio", "low", "high")}
    return Result(**{**vars(result), **values})


def _radiograph(seed: int) -> NDArray[np.uint16]:
    """Noise with the spectrum of a radiograph, power 1/f^3 (Burgess et al., Med Phys 2001), over 12 bits."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]).clip(1 / SIDE)
    image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / frequency**1.5)
    image = (image - image.min()) / np.ptp(image) * 4000 + rng.normal(0, 8, image.shape)
    return image.clip(0, 4095).astype(np.uint16)


def _dicom(path: Path, stored: NDArray[np.uint16]) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PixelRepresentation, ds.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = encapsulate([bytes(imagecodecs.ljpeg_encode(stored))])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path, enforce_file_format=True)


def _plain(path: Path) -> NDArray[np.uint8]:
    """Min-max to 8 bits and resize, as most public code does; with the same decoder."""
    stored = pixel_array(pydicom.dcmread(path), decoding_plugin=codecs.PLUGIN).astype(np.float32)
    gray = (stored - stored.min()) / (stored.max() - stored.min()) * 255
    return np.asarray(Image.fromarray(gray.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
