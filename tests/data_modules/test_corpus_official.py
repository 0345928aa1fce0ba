"""What every reader of a published corpus does where its folder is not given as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from official import missing, refused

from data_modules.corpora import LAYOUTS

TREES = {
    "chestxdet": "train_data/36200.png",
    "chestxray14": "images_001/images",
    "chexpert": "view1_frontal.jpg",
    "chexpert_5x200": "chexpert-5x200-val-meta.csv of MedCLIP",
    "covid_ct": "unpacked from CT_COVID.zip",
    "covidx": "val.txt",
    "ct_rate": "train_fixed/train_1",
    "cxr_lt": "cxr-lt-2024/train_labeled.csv",
    "cxr_lt_2026": "6 unseen findings",
    "inspect": "the date may be another",
    "lidc_idri": "one folder per series",
    "mimic_cxr": "<dicom_id>.jpg",
    "openi": "ecgen-radiology",
    "padchest": "54/<ImageID>",
    "rad_chestct": "trn00001.npz",
    "rsna": "stage_2_train_images",
    "siim": "STUDY/SERIES/IMAGE.dcm",
    "vindr_cxr": "<image_id>.dicom",
}
"""Reader -> a part of the tree that its help shows."""


@pytest.mark.parametrize("reader", sorted(LAYOUTS))
def test_a_wrong_root_shows_the_tree(tmp_path: Path, reader: str) -> None:
    for root in (tmp_path, tmp_path / "none", ""):
        missing(reader, TREES[reader], root)


@pytest.mark.parametrize("key", ["csv", "image_folder"])
@pytest.mark.parametrize("reader", sorted(LAYOUTS))
def test_settings_of_the_table_reader_are_refused(tmp_path: Path, reader: str, key: str) -> None:
    refused(rf"data\.corpora\.0\.{key}: belongs to the table reader", reader, tmp_path, **{key: "a"})
