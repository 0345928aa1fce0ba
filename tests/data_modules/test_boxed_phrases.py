"""Lists of phrases with boxes: both forms of MS-CXR, PadChest-GR, the phantom's layouts, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import COUNTS, phantom, phantoms, read, write_table
from PIL import Image, ImageDraw

from data_modules.corpora.phantom import written as phantom_written
from data_modules.corpus_config import PhantomConfig
from data_modules.errors import InputError
from data_modules.marks import PhantomMarks, stem
from data_modules.phantom.layouts import cases
from data_modules.phantom.layouts import mimic_cxr as mimic_layout
from data_modules.phantom.layouts import padchest as padchest_layout
from data_modules.phrases import Phrase, read_phrases

HEADER = mimic_layout.PHRASE_HEADER
ROWS = [
    ["aa-1", "Edema", "Mild edema.", "files/p1/aa-1.jpg", 2, 1, 4, 3, 20, 10, "train"],
    ["aa-2", "Edema", "Mild edema.", "files/p1/aa-2.jpg", 0, 0, 20, 10, 20, 10, "test"],
    ["aa-1", "Edema", "Mild edema.", "files/p1/aa-1.jpg", 10, 5, 10, 5, 20, 10, "train"],
    ["aa-1", "Pneumonia", "Mild edema.", "files/p1/aa-1.jpg", 0, 0, 1, 1, 20, 10, "train"],
]
COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "aa-1.jpg", "width": 20, "height": 10, "path": "files/p1/aa-1.jpg"},
        {"id": 9, "file_name": "aa-2.jpg", "width": 20, "height": 10, "path": "files/p1/aa-2.jpg"},
    ],
    "categories": [{"id": 3, "name": "Edema"}, {"id": 5, "name": "Pneumonia"}],
    "annotations": [
        {"id": n, "image_id": 7 if row[0] == "aa-1" else 9, "category_id": 3 if row[1] == "Edema" else 5,
         "label_text": row[2], "bbox": row[4:8], "area": 1, "iscrowd": 0}
        for n, row in enumerate(ROWS)
    ],
}  # fmt: skip
GROUNDED: list[dict[str, Any]] = [
    {"StudyID": "1", "ImageID": "21_00-163.png", "findings": [
        {"sentence_en": "Left  effusion.", "sentence_es": "Derrame.", "abnormal": True, "labels": ["Pleural effusion"],
         "locations": ["left"], "boxes": [[0.1, 0.2, 0.35, 0.4], [0.5, 0.5, 1.004, 1.0]],
         "extra_boxes": [[0, 0, 1, 1]]},
        {"sentence_en": "Normal heart.", "sentence_es": "", "abnormal": False, "labels": ["Normal"], "locations": [],
         "boxes": [], "extra_boxes": []},
    ]},
]  # fmt: skip


def written(path: Path, content: Any) -> Path:
    if path.suffix == ".csv":
        write_table(path, HEADER, content)
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the layouts and the phantom that they are made of stand in."""
    return tmp_path_factory.mktemp("layouts")


def drawn(boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Boxes x, y, w, h of 20 x 10 pixels, by Pillow."""
    image = Image.new("1", (20, 10))
    for x, y, w, h in boxes:
        ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), fill=1)
    return np.asarray(image)


@pytest.mark.parametrize(("name", "content"), [("list.csv", ROWS), ("list.json", COCO)])
def test_both_forms_of_ms_cxr_say_the_same(tmp_path: Path, name: str, content: Any) -> None:
    found, without = read_phrases(written(tmp_path / name, content), "phrases")
    assert without == 0
    assert [(one.image, one.category, one.text, len(one.boxes)) for one in found] == [
        ("aa-1", "Edema", "Mild edema.", 2), ("aa-2", "Edema", "Mild edema.", 1),
        ("aa-1", "Pneumonia", "Mild edema.", 1),
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0].mask((10, 20)), drawn([(2, 1, 4, 3), (10, 5, 10, 5)]))
    assert found[1].mask((10, 20)).all()
    np.testing.assert_array_equal(found[2].mask((10, 20)), drawn([(0, 0, 1, 1)]))
    with pytest.raises(InputError, match=r"is 10 x 20 pixels here and 20 x 10 in the list; give the images in their"):
        found[0].mask((20, 10))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3), st.integers(1, 3), st.integers(8, 4000))
def test_a_box_is_the_pixels_it_names(x: int, y: int, w: int, h: int, side: int) -> None:
    """Shares of odd sides move no pixel."""
    one = Phrase("a", "b", "c", ((x / side, y / side, (x + w) / side, (y + h) / side),), None, "here")
    rows, columns = np.nonzero(one.mask((side, side)))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (y, y + h, x, x + w)


def test_padchest_gr_has_shares_and_sentences_without_boxes(tmp_path: Path) -> None:
    (found,), without = read_phrases(written(tmp_path / "list.json", GROUNDED), "phrases")
    assert without == 1
    assert (found.image, found.category, found.text) == ("21_00-163", "pleural effusion", "Left effusion.")
    np.testing.assert_array_equal(found.mask((10, 20)), drawn([(2, 2, 5, 2), (10, 5, 10, 5)]))
    with pytest.raises(InputError, match="its boxes hold no pixel of an image of 1 x 1"):
        Phrase("a", "b", "c", ((0.0, 0.0, 0.2, 0.2),), None, "here").mask((1, 1))


@pytest.mark.parametrize("corpus", ["mimic_cxr", "padchest"])
def test_phantoms_have_phrases_on_their_test_images(layouts: Path, corpus: str) -> None:
    """Images that the corpus' reader knows as test images, sentences of their reports, some with two boxes."""
    root = phantom(corpus, layouts / corpus)
    layout: Any = mimic_layout if corpus == "mimic_cxr" else padchest_layout
    found, without = read_phrases(root / layout.PHRASES, "phrases")
    table = read(corpus, root)
    test = {stem(table.image_ids[table.image_offsets[row]]): row for row in table.rows("test").tolist()}
    assert found and {one.image for one in found} <= test.keys()
    assert (without > 0) == (corpus == "padchest")
    assert max(len(one.boxes) for one in found) == 2
    if corpus == "mimic_cxr":
        assert {one.category for one in found} <= set(layout.CATEGORIES.values())
        reports = {name: table.study(row).report for name, row in test.items()}
        assert any(one.text in reports[one.image] for one in found)
        assert all(one.size == (64, 64) for one in found)


def test_boxes_of_a_phantom_are_those_of_its_masks(layouts: Path) -> None:
    config = PhantomConfig(COUNTS, image_px=64, voxels=48, seed=1)
    every = cases(phantom_written(config, phantoms(layouts / "any")))
    case = next(one for one in every if one.split == "test" and one.phrases())
    masks = PhantomMarks(config).masks(case.image.name, (64, 64))
    assert set(case.phrases()) <= set(case.marks) == set(masks)
    for finding, boxes in case.marks.items():
        inside = np.zeros((64, 64), dtype=bool)
        for left, top, right, bottom in boxes:
            inside[top:bottom, left:right] = True
        assert (masks[finding] & inside).sum() > 0.9 * masks[finding].sum()
        rows, columns = np.nonzero(masks[finding])
        assert min(box[0] for box in boxes) >= columns.min() and max(box[3] for box in boxes) <= rows.max() + 1


def changed(content: Any, way: list[Any], value: Any) -> Any:
    content = copy.deepcopy(content)
    part = content
    for step in way[:-1]:
        part = part[step]
    part[way[-1]] = value
    return content


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.csv", changed(ROWS, [1, 4], 3), "row 3: its box does not lie in its image; correct the entry"),
        ("a.csv", changed(ROWS, [1, 6], 0), "row 3: a box needs the numbers x, y, and w, h"),
        ("a.csv", changed(ROWS, [1, 5], "top"), "row 3: a box needs the numbers"),
        ("a.csv", changed(ROWS, [2, 8], 30), "row 4: its image has another size than in .* row 2"),
        ("a.csv", changed(ROWS, [0, 2], " "), "row 2: the name of the image, the finding and the phrase must be texts"),
        ("a.json", changed(COCO, ["annotations", 1, "bbox"], [1, 2, 3]), "annotation 2: a box needs the numbers"),
        ("a.json", changed(COCO, ["annotations", 1, "image_id"], 1), "annotation 2: needs image_id and category_id"),
        ("a.json", changed(COCO, ["images", 0], {"id": 7}), "an entry of images needs id, file_name, width"),
        ("a.json", {"images": []}, "is neither MS-CXR .* nor PadChest-GR"),
        ("a.json", {**COCO, "annotations": 5}, "is neither MS-CXR .* nor PadChest-GR"),
        ("a.json", [{"ImageID": "a", "findings": ["b"]}], "study 1: needs ImageID and findings"),
        ("a.json", [], "is neither MS-CXR .* nor PadChest-GR"),
        ("a.json", [{"ImageID": "a"}], "study 1: needs ImageID and findings"),
        ("a.json", changed(GROUNDED, [0, "findings", 0, "boxes", 0], [0.1, 0.2, 0.3]), "study 1: a box needs four"),
        ("a.json", changed(GROUNDED, [0, "findings", 0, "boxes", 0, 2], 1.2), "study 1: its box does not lie in its"),
        ("a.json", changed(GROUNDED, [0, "findings", 0, "boxes", 0, 2], 0.1), "study 1: its box does not lie in its"),
        ("a.json", changed(GROUNDED, [0, "findings", 0, "boxes"], []), "holds no phrase with a box"),
        ("a.json", changed(GROUNDED, [0, "findings", 0, "sentence_en"], 4), "must be texts"),
    ],
)  # fmt: skip
def test_what_is_no_such_list_is_refused_in_one_line(tmp_path: Path, name: str, content: Any, cause: str) -> None:
    with pytest.raises(InputError, match=cause) as refused:
        read_phrases(written(tmp_path / name, content), "phrases")
    assert "\n" not in str(refused.value) and name in str(refused.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"phrases=.*a\.csv: no such file; give your copy of the list of MS-CXR"):
        read_phrases(tmp_path / "a.csv", "phrases")
    (tmp_path / "b.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.json: is no JSON that can be read"):
        read_phrases(tmp_path / "b.json", "phrases")
    write_table(tmp_path / "c.csv", ["dicom_id", "category", *HEADER[2:]], ROWS)
    with pytest.raises(InputError, match=r"c\.csv: has no column 'category_name'"):
        read_phrases(tmp_path / "c.csv", "phrases")
