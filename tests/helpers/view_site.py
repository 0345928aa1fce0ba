"""A worklist of `radz view` that needs no run: pictures, a CT volume, bad files, a thousand studies in all."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from synthetic_dicom import written

from data_modules.ct_config import CtConfig
from data_modules.decode import Recipe
from data_modules.errors import InputError
from data_modules.labelling.labeller import Labeller
from radz.evidence.view.frames import Frames
from radz.evidence.view.model import Model
from radz.evidence.view.server import Site
from radz.evidence.view.worklist import File, Listed, Worklist
from radz.inference.engine import Radz

COUNT = 1000
REPORT = "Findings: Large Pleural Effusion. No pneumothorax is seen."
SLICES = 12
"""of the volume, which is study 5"""


def worklist(folder: Path) -> Worklist:
    """Of one corpus: a DICOM radiograph, a picture, both, two bad files, a CT, and again; study 9 has no file."""
    random = np.random.default_rng(0)
    written(folder, random.integers(0, 4096, (30, 40)).astype(np.uint16), "a.dcm", WindowCenter=2000, WindowWidth=900)
    Image.fromarray(random.integers(0, 256, (50, 2500)).astype(np.uint8)).save(folder / "b.png")
    (folder / "bad.png").write_bytes(b"\x89PNG no picture")
    nibabel.save(nibabel.Nifti1Image(body(), np.diag([3, 3, 8, 1])), folder / "ct.nii.gz")
    files = [["a.dcm"], ["b.png"], ["a.dcm", "b.png"], ["bad.png"], ["gone.dcm"], ["ct.nii.gz"]]
    studies = []
    for n in range(COUNT):
        names = files[n % len(files)]
        modality = "chest_ct" if names == ["ct.nii.gz"] else "chest_xray"
        own = tuple(File(folder / name, f"row {n}") for name in names)
        studies.append(Listed(f"study {n}", "ours", modality, own, REPORT))
    studies[9] = Listed("study 9", "ours", "chest_xray", (), error="is gone")
    scores = random.random((COUNT, 2)).astype(np.float32)
    labels = random.integers(0, 2, (COUNT, 2)).astype(np.float32)
    scores[7], labels[8], scores[9] = np.nan, np.nan, np.nan
    return Worklist(
        "ours", "test split of ours", "fused", ("pleural_effusion", "pneumothorax"), studies,
        Recipe(32, ct=CtConfig(slices=4, choice="uniform")), scores, labels, {"ours": {"pleural_effusion": 0.4}},
        {"pneumothorax": "none"}, list(range(COUNT)),
    )  # fmt: skip


def body() -> np.ndarray:
    """Soft tissue with lungs in air, int16 [60, 60, SLICES], brighter from slice to slice."""
    x, y = np.mgrid[-30:30, -30:30]
    plane = np.full((60, 60), -1000, dtype=np.int16)
    plane[x**2 + y**2 < 26**2] = 40
    plane[((abs(x) - 11) ** 2 + y**2) < 8**2] = -800
    volume = np.repeat(plane[:, :, None], SLICES, axis=2)
    return (volume + np.where(volume == 40, np.arange(SLICES), 0)).astype(np.int16)


def site_without_model(of: Worklist) -> Site:
    """Pictures and scores are there; whoever asks for a map is told why there is none."""
    frames = Frames(of.recipe)

    def load() -> Radz:
        raise InputError("no weights here")

    return Site(of, frames, Model(load, of, frames), {"ours": Labeller("chest_xray")})
