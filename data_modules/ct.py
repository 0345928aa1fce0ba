"""Chest CT: the slices of a volume are the images of its study."""

from __future__ import annotations

from data_modules.datamodule import StudyDataModule


class CTDataModule(StudyDataModule):
    """Batches of uint8 [M, C, H, W], C 3 under three windows and 1 under one; `data.ct` says which slices."""

    serves = ("chest_ct",)


class MixedDataModule(StudyDataModule):
    """Radiographs and CT in the same batches; beside CT of three channels a radiograph has three equal ones."""

    serves = ("chest_xray", "chest_ct")
