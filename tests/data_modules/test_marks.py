"""Marks of findings: boxes and run-length masks by hand, the phantom's geometry against its own pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_modules.corpora import phantom
from data_modules.corpus_config import CorpusConfig, PhantomConfig, SplitCounts
from data_modules.ct_config import CtConfig
from data_modules.errors import InputError
from data_modules.marks import PUBLISHED, SIZE_FILE, marks, runs
from data_modules.phantom.project import thickness
from data_modules.phantom.study import patients, sample_study, sample_view
from data_modules.phantom.truth import LOCATED, truth
from data_modules.pixels import read_gray
from data_modules.slices import mask_slices
from data_modules.volumes import read_volume


def test_boxes_of_nih(tmp_path: Path) -> None:
    (tmp_path / SIZE_FILE).write_text("8x5", encoding="utf-8")
    (tmp_path / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_000.png,Infiltrate,2,1,3.0,2\n00000001_000.png,Infiltrate,6,1,1,1\n"
        "00000002_000.png,Mass,90,90,5,5\n",
        encoding="utf-8",
    )
    found = marks(CorpusConfig(reader="chestxray14", root=str(tmp_path)), "data.corpora.0")
    assert found is not None and found.marked("images_003/images/00000001_000.png") and not found.marked("other.png")
    mask = found.masks("images_003/images/00000001_000.png", (5, 8))
    wanted = np.zeros((5, 8), bool)
    wanted[1:3, 2:5] = wanted[1, 6] = True
    assert list(mask) == ["infiltration"]
    np.testing.assert_array_equal(mask["infiltration"], wanted)
    with pytest.raises(InputError, match=r"BBox_List_2017.csv row 4: the mark does not lie in its image of 8 x 5"):
        found.masks("00000002_000.png", (5, 8))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Image Index,Finding Label,Bbox [x,y,w,h],,,", "a.png,Infiltrate,2,1,3.0,2"),  # as published
        ("Image Index,Finding Label,Bbox [x,y,w,h],,,", "a.png,Infiltrate,2,1,3,2,,,"),
        ("Image Index,Finding Label,Bbox [x,y,w,h]", "a.png, Infiltration ,2,1,3,2,"),
        ('\ufeffImage Index,Finding Label,"Bbox [x,y,w,h]"', 'a.png,INFILTRATE,"[2, 1, 3, 2]"'),
        ("image index,Finding label,x,y,w,h", "images_001/a.png,infiltrate,2.0,1.0,3.0,2.0\n,,,,,"),
    ],
)
def test_forms_of_the_box_list_of_nih(tmp_path: Path, header: str, row: str) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(f"{header}\r\n{row}\r\n", encoding="utf-8", newline="")
    found = marks(CorpusConfig(reader="chestxray14", root=str(tmp_path)), "data.corpora.0")
    assert found is not None
    mask = found.masks("images/a.png", PUBLISHED)["infiltration"]
    assert mask[1:3, 2:5].all() and mask.sum() == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Finding Label,Image Index,x,y,w,h\nMass,a.png,1,1,2,2\n", "its first two columns must be 'Image Index' and"),
        ("Image Index,Finding Label,x,y,w,h\na.png,Mass,1,1,2\n", "row 2: a box needs"),
        ("Image Index,Finding Label,x,y,w,h\na.png,Mass,1,1,2,2,9\n", "row 2: a box needs"),
        ("Image Index,Finding Label,x,y,w,h\na.png\n", "row 2: 'Finding Label' holds a word"),
        ("Image Index,Finding Label,x,y,w,h\na.png,Tumour,1,1,2,2\n", "row 2: 'Finding Label' holds a word"),
        ("Image Index,Finding Label,x,y,w,h\n\na.png,Mass,1,1,2,1e999\n", "row 3: a box needs"),
    ],
)
def test_a_box_list_that_does_not_parse_names_its_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        marks(CorpusConfig(reader="chestxray14", root=str(tmp_path)), "data.corpora.0")


def test_boxes_of_rsna_stand_for_both_of_its_findings(tmp_path: Path) -> None:
    text = "patientId,x,y,width,height,Target\na,1,0,2,2,1\na,4,3,1,1,1\nb,,,,,0\n"
    (tmp_path / "stage_2_train_labels.csv").write_text(text, encoding="utf-8")
    (tmp_path / SIZE_FILE).write_text("5x4", encoding="utf-8")
    found = marks(CorpusConfig(reader="rsna", root=str(tmp_path)), "data.corpora.0")
    assert found is not None and not found.marked("stage_2_train_images/b.dcm")
    mask = found.masks("stage_2_train_images/a.dcm", (4, 5))
    assert set(mask) == {"pneumonia", "lung_opacity"} and mask["pneumonia"].sum() == 5
    (tmp_path / "stage_2_train_labels.csv").write_text(text.replace("a,4,3,1", "a,4,3,-1"), encoding="utf-8")
    with pytest.raises(InputError, match="row 3: a box needs"):
        marks(CorpusConfig(reader="rsna", root=str(tmp_path)), "data.corpora.0")


def test_masks_of_siim_run_down_the_columns(tmp_path: Path) -> None:
    (tmp_path / "train-rle.csv").write_text(
        "ImageId, EncodedPixels\n1.2.4.7, 4 2 3 1\n1.2.4.7, 0 1\n1.2.4.8,-1\n1.2.4.9, 19 9\n", encoding="utf-8"
    )
    (tmp_path / SIZE_FILE).write_text("5x4", encoding="utf-8")
    found = marks(CorpusConfig(reader="siim", root=str(tmp_path)), "data.corpora.0")
    assert found is not None and not found.marked("dicom-images-train/1/2/1.2.4.8.dcm")
    mask = found.masks("dicom-images-train/1/2/1.2.4.7.dcm", (4, 5))["pneumothorax"]
    # Column by column of 4: pixels 4 and 5, then, 3 further, pixel 9; and pixel 0 of the other row.
    np.testing.assert_array_equal(np.flatnonzero(mask.T.ravel()), [0, 4, 5, 9])
    with pytest.raises(InputError, match="row 5: the mark does not lie in its image"):
        found.masks("1.2.4.9.dcm", (4, 5))
    np.testing.assert_array_equal(runs([1, 2])((2, 2)), [[False, True], [True, False]])


PUBLISHED_MARKS = [
    ("chestxray14", "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Mass,300,200,50,40\n"),
    ("rsna", "stage_2_train_labels.csv", "patientId,x,y,width,height,Target\na,300,200,50,40,1\n"),
    ("siim", "train-rle.csv", f"ImageId, EncodedPixels\na,{300 * 1024 + 200} 40\n"),
    ("chestxdet", "train.json", '[{"file_name": "a.png", "syms": ["Mass"], "boxes": [[300, 200, 350, 240]]}]'),
]


@pytest.mark.parametrize(("reader", "file", "text"), PUBLISHED_MARKS)
def test_marks_of_images_of_another_size_are_refused(tmp_path: Path, reader: str, file: str, text: str) -> None:
    """They would lie elsewhere, some of them inside of the smaller image without a word."""
    (tmp_path / file).write_text(text, encoding="utf-8")
    if reader == "chestxdet":
        (tmp_path / "test.json").write_text('[{"file_name": "b.png", "syms": [], "boxes": []}]', encoding="utf-8")
    config = CorpusConfig(reader=reader, root=str(tmp_path))
    found = marks(config, "data.corpora.0")
    assert found is not None
    for mask in found.masks("a.png", (1024, 1024)).values():
        assert mask[200:240, 300].all() and not mask[:200].any() and not mask[240:].any()
    for shape in ((512, 512), (2048, 2048), (1024, 512)):
        with pytest.raises(InputError, match=f"is {shape[1]} x {shape[0]} pixels, and the marks are of images of 1024"):
            found.masks("a.png", shape)
    (tmp_path / SIZE_FILE).write_text("512 x 400\n", encoding="utf-8")
    scaled = marks(config, "data.corpora.0")
    with pytest.raises(InputError, match="is 1024 x 1024 pixels, and the marks are of images of 512 x 400; give"):
        scaled.masks("a.png", (1024, 1024))  # type: ignore[union-attr]
    (tmp_path / SIZE_FILE).write_text("512", encoding="utf-8")
    with pytest.raises(InputError, match=r"marks_size\.txt: must hold width x height in pixels, such as 512x512"):
        marks(config, "data.corpora.0")


def test_corpora_without_marks_have_none(tmp_path: Path) -> None:
    assert marks(CorpusConfig(reader="chestxray14", root=str(tmp_path)), "data.corpora.0") is None
    assert marks(CorpusConfig(reader="chexpert", root=str(tmp_path)), "data.corpora.0") is None
    assert marks(CorpusConfig(reader="ct_rate", modality="chest_ct", root=str(tmp_path)), "data.corpora.0") is None


def test_truth_of_the_phantom_is_where_the_picture_changes() -> None:
    """Outside of its mask, a picture without the finding is the same; inside it is not."""
    seen = 0
    for index in range(8):
        found = truth("test", index, 8, 0, 64)
        study = sample_study("test", index, patients("test", 8, 0)[index], 0)
        assert set(found) == {one.name for one in study.findings if one.name in LOCATED}
        view = sample_view(study.body, 64, study.rng)
        for name in set(found) - {"pneumothorax", "cardiomegaly"}:
            change = np.abs(thickness(study.scene, view) - thickness(study.scene.without(name), view))
            assert change[found[name]].min() > 1 >= change[~found[name]].max()
            seen += 1
    assert seen > 4


@pytest.mark.parametrize("seed", [0, 5])
def test_truth_of_a_ct_is_where_the_finding_is(tmp_path: Path, seed: int) -> None:
    """In the voxels that the reader opens: what a mask holds has the Hounsfield units of its tissue."""
    config = PhantomConfig(SplitCounts(train=0, val=0, test=1), voxels=48, seed=seed)
    volume = read_volume(phantom.written(config, tmp_path, "chest_ct") / "images/test-000000.nii.gz")
    found = marks(CorpusConfig(reader="phantom", modality="chest_ct", phantom=config), "data.corpora.0")
    assert found is not None
    masks = found.masks("images/test-000000.nii.gz", volume.hu.shape)
    present = {one.name for one in sample_study("test", 0, 0, seed).findings}
    assert set(masks) == present & set(LOCATED) >= {"pleural_effusion", ("cardiomegaly", "pneumothorax")[seed == 5]}
    tissue = {"pleural_effusion": (-20, 20), "cardiomegaly": (30, 50), "pneumothorax": (-1000, -950)}
    for name in tissue.keys() & masks.keys():
        low, high = tissue[name]
        assert low < np.median(volume.hu[masks[name]]) < high, name
        # In another place it would not be so.
        assert not low < np.median(volume.hu[masks[name][::-1, :, ::-1]]) < high, name
    shown = mask_slices(np.ones(volume.hu.shape, bool), volume, CtConfig(slices=4))
    assert shown.all() and shown.shape == (4, 48, 48)


def test_what_a_rare_finding_left_has_no_mask() -> None:
    """A validation study that lost its finding has no mask of it (studies 2 and 4 would have one)."""
    rare = {"pneumothorax": 0.0, "pleural_thickening": 0.0}
    config = PhantomConfig(SplitCounts(train=0, val=5, test=0), image_px=64, rare=rare)
    found = marks(CorpusConfig(reader="phantom", phantom=config), "data.corpora.0")
    assert found is not None
    for index in range(5):
        study = sample_study("val", index, patients("val", 5, 0)[index], 0, rare=rare)
        masks = found.masks(f"images/val-{index:06d}.dcm", (64, 64))
        assert set(masks) == {one.name for one in study.findings} & set(LOCATED)


def test_truth_meets_the_written_files(tmp_path: Path) -> None:
    """The heart and fluid are brighter than the rest of the picture, in the very file that the reader opens."""
    config = PhantomConfig(SplitCounts(train=0, val=0, test=14), image_px=64)
    folder = phantom.written(config, tmp_path)
    found = marks(CorpusConfig(reader="phantom", phantom=config), "data.corpora.0")
    assert found is not None
    brighter = []
    for index in range(14):
        image = read_gray(folder / f"images/test-{index:06d}.dcm")
        masks = found.masks(f"images/test-{index:06d}.dcm", image.shape)
        for name in {"cardiomegaly", "pleural_effusion"} & set(masks):
            brighter.append(float(image[masks[name]].mean()) - float(image[~masks[name]].mean()))
    assert len(brighter) > 2 and min(brighter) > 20
