"""Chest radiographs: one or several gray images per study."""

from __future__ import annotations

from data_modules.datamodule import StudyDataModule


class ChestXrayDataModule(StudyDataModule):
    """Batches of uint8 [M, 1, H, W]; a study may hold a frontal and further views."""

    serves = ("chest_xray",)
