"""CT through the DataModules: volumes become the images of their study, alone and beside radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from small_corpus import Corpus

from data_modules.config import Augment, DataConfig
from data_modules.corpus_config import Columns, CorpusConfig, LabelRule
from data_modules.ct import CTDataModule, MixedDataModule
from data_modules.ct_config import CtConfig
from data_modules.decode import Recipe, decode
from data_modules.errors import InputError
from data_modules.slices import images
from data_modules.volumes import read_volume

SIDE = (24, 20, 18)
"""Voxels towards the patient's right, front and head."""


def volume(seed: int) -> np.ndarray:
    """Body in air, two lungs, a bright ball on the patient's right; float HU in RAS+ order."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIDE), indexing="ij")
    hu = np.where(x**2 + y**2 < 0.9, 40.0, -1000.0)
    for side in (-0.45, 0.45):
        hu[((x - side) / 0.3) ** 2 + (y / 0.5) ** 2 + (z / 0.8) ** 2 < 1] = -800.0
    hu[((x - 0.45) ** 2 + y**2 + z**2) < 0.04] = 30.0
    return hu + np.random.default_rng(seed).normal(0, 5, SIDE)


def save(path: Path, hu: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu.astype(np.int16), np.diag([4.0, 4.0, 6.0, 1.0])), path)


@pytest.fixture
def scans(tmp_path: Path) -> CorpusConfig:
    """Twelve studies of one volume, four per split; the last three in stored values with slope and intercept."""
    root, lines = tmp_path / "ct", ["image,patient,split,report,nodule,slope,intercept"]
    for i in range(12):
        hu, rescale = volume(i), ","
        if i >= 9:
            hu, rescale = (hu + 8192) / 2, "2,-8192"
        save(root / f"v{i}.nii.gz", hu)
        split = ("train", "val", "test")[i // 4]
        lines.append(f"v{i}.nii.gz,p{i},{split},Nodule on the right {i}.,{i % 2},{rescale}")
    (root / "scans.csv").write_text("\n".join(lines))
    columns = Columns("image", "patient", split="split", report="report", slope="slope", intercept="intercept")
    labels = {"nodule": LabelRule("nodule", numeric={1: "present", 0: "absent"})}
    return CorpusConfig(
        root=str(root), csv="scans.csv", name="scans", columns=columns, labels=labels, modality="chest_ct"
    )


def config(*corpora: CorpusConfig, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {
        "image_size": 16, "batch_size": 2, "eval_batch_size": 3, "ct": CtConfig(slices=5, choice="uniform"),
    }  # fmt: skip
    return DataConfig(list(corpora), **(settings | changes))


def test_a_volume_becomes_the_images_of_its_study(scans: CorpusConfig, tmp_path: Path) -> None:
    module = CTDataModule(config(scans), tmp_path / "cache", 0)
    module.setup()
    for batch in module.test_dataloader():
        assert batch.pixels.shape == (5 * len(batch), 3, 16, 16) and batch.image_counts.tolist() == [5] * len(batch)
        for b, row in enumerate(batch.rows.tolist()):
            shown = decode(module.table.image_paths[row], "v", Recipe(16, ct=module.config.ct), _rescale(row))
            np.testing.assert_array_equal(batch.pixels[5 * b : 5 * b + 5], shown)
    assert module.most_images() == {"chest_ct": 5} and module.modalities == ("chest_ct",)
    near = np.abs(module.cache.get(8).astype(int) - module.cache.get(9).astype(int))
    assert near.mean() < 4, "stored values with slope and intercept give what HU give"


def _rescale(row: int) -> tuple[float, float] | None:
    return (2.0, -8192.0) if row >= 9 else None


def test_one_window_is_gray_and_another_recipe_another_store(scans: CorpusConfig, tmp_path: Path) -> None:
    three = CTDataModule(config(scans), tmp_path / "cache", 0)
    gray = CTDataModule(config(scans, ct=CtConfig(["lung"], 4, "uniform")), tmp_path / "cache", 0)
    for module in (three, gray):
        module.setup()
    assert gray.cache.get(0).shape == (4, 1, 16, 16) and three.cache.get(0).shape == (5, 3, 16, 16)
    assert gray.cache.folders != three.cache.folders
    middle = images(read_volume(Path(gray.table.image_paths[0])), gray.config.ct)[2, 0]
    assert gray.cache.picture(0).shape == (16, 16) and middle.max() > 0


def test_every_mm_gives_taller_patients_more_images(scans: CorpusConfig, tmp_path: Path) -> None:
    assert scans.root is not None
    save(Path(scans.root) / "v0.nii.gz", np.repeat(volume(0), 2, axis=2))
    module = CTDataModule(config(scans, ct=CtConfig(choice="every_mm", every_mm=20)), tmp_path / "cache", 0)
    module.setup()
    assert module.cache.slices[0] > module.cache.slices[1] > 1
    batch = module._collate([0, 1])
    assert batch.image_counts.tolist() == module.cache.slices[:2].tolist()
    assert len(batch.pixels) == int(batch.image_counts.sum())
    assert module.most_images() == {"chest_ct": int(module.cache.slices[0])}


def test_radiographs_and_ct_share_batches(scans: CorpusConfig, corpus: Corpus, tmp_path: Path) -> None:
    corpus.write()
    module = MixedDataModule(config(corpus.config(), scans), tmp_path / "cache", 0)
    module.setup()
    assert module.modalities == ("chest_xray", "chest_ct") and module.most_images() == {"chest_ct": 5, "chest_xray": 1}
    xray, scan = int(module.table.rows("train", "ours")[0]), int(module.table.rows("train", "scans")[0])
    batch = module._collate([xray, scan])
    assert batch.image_counts.tolist() == [1, 5] and batch.pixels.shape == (6, 3, 16, 16)
    assert torch.equal(batch.pixels[0, 0], batch.pixels[0, 2]) and batch.corpus.tolist() == [0, 1]
    assert not torch.equal(batch.pixels[3, 0], batch.pixels[3, 2]), "windows differ"
    alone = module._collate([xray])
    assert alone.pixels.shape == (1, 1, 16, 16) and torch.equal(alone.pixels[0, 0], batch.pixels[0, 1])
    both = {int(c) for batch in module.train_dataloader() for c in batch.corpus}
    assert both == {0, 1}


def test_each_module_refuses_the_other_modality(scans: CorpusConfig, corpus: Corpus, tmp_path: Path) -> None:
    corpus.write()
    module = CTDataModule(config(corpus.config()), tmp_path, 0)
    with pytest.raises(InputError, match="modality chest_xray is not one of chest_ct"):
        module.setup()


def test_the_slices_of_a_training_volume_move_together(scans: CorpusConfig, tmp_path: Path) -> None:
    module = CTDataModule(config(scans, augment=Augment(rotate_degrees=20)), tmp_path / "cache", 0)
    module.setup()

    class Training:
        training, current_epoch = True, 0

    module.trainer = Training()  # type: ignore[assignment]
    batch = module._collate([0, 1])
    batch.pixels[:] = batch.pixels[:1]
    moved = module.on_after_batch_transfer(batch, 0).pixels
    assert torch.equal(moved[0], moved[4]) and not torch.equal(moved[0], moved[5])


def test_an_unreadable_volume_follows_the_policy(scans: CorpusConfig, tmp_path: Path) -> None:
    assert scans.root is not None
    file = Path(scans.root) / "v1.nii.gz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"corpus scans, row 3, image .*data.corpora.0.bad.on_unreadable_image=skip"):
        CTDataModule(config(scans), tmp_path / "cache", 0).setup()
    scans.bad.on_unreadable_image = "skip"
    module = CTDataModule(config(scans), tmp_path / "cache", 0)
    module.setup()
    assert len(module.table) == 11 and len(module.unreadable) == 1
    assert module.table.coverage.to_dict()["skipped"] == {"unreadable image": 1}


def test_slope_needs_intercept(scans: CorpusConfig, tmp_path: Path) -> None:
    scans.columns.intercept = None
    with pytest.raises(InputError, match=r"columns.slope: needs its partner"):
        CTDataModule(config(scans), tmp_path, 0).setup()
    scans.columns.intercept = "report"
    with pytest.raises(InputError, match=r"row 2 .*column 'report' is no number"):
        CTDataModule(config(scans), tmp_path, 0).setup()
    scans.columns.intercept = "nodule"
    with pytest.raises(InputError, match=r"row 2 .*one of slope and intercept"):
        CTDataModule(config(scans), tmp_path, 0).setup()
