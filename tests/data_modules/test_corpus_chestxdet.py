"""ChestX-Det10 and ChestX-Det: entries typed by hand, both releases, the folders of both archives, boxes as marks."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audited import look
from official import KEY, phantom, picture, read, states
from PIL import Image

from data_modules import audit
from data_modules.corpus_config import CorpusConfig, SplitFractions
from data_modules.errors import InputError, MissingCorpus
from data_modules.marks import SIZE_FILE, marks

NONE_HELD = SplitFractions(train=1.0, val=0.0, test=0.0)
TRAIN = [
    {"file_name": "36204.png", "syms": ["Fibrosis", "Fibrosis"], "boxes": [[6, 7, 9, 9], [1, 6, 4, 9]]},
    {"file_name": "36200.png", "syms": [], "boxes": []},
]
TEST = [{"file_name": "36199.png", "syms": ["Nodule", "Effusion"], "boxes": [[2, 1, 5, 4], [0, 8, 10, 12]]}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom("chestxdet", tmp_path_factory.mktemp("layout") / "chestxdet")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Three images, typed as the lists of ChestX-Det10 have them."""
    _write(tmp_path / "train.json", TRAIN)
    _write(tmp_path / "test.json", TEST)
    (tmp_path / SIZE_FILE).write_text("10x12", encoding="utf-8")
    for split, entries in (("train", TRAIN), ("test", TEST)):
        for entry in entries:
            picture(tmp_path / f"{split}_data" / str(entry["file_name"]))
    return tmp_path


def _write(path: Path, entries: Any) -> None:
    path.write_text(json.dumps(entries), encoding="utf-8")


def test_states_of_entries_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = read("chestxdet", by_hand, split_fractions=NONE_HELD)
    assert found.image_ids == ["train_data/36204.png", "train_data/36200.png", "test_data/36199.png"]
    assert found.split.tolist() == ["train", "train", "test"] and len(set(found.patient)) == 3
    assert found.source_rows.tolist() == [1, 2, 1]
    fibrosis, empty, both = (states(found, study) for study in found.study_id.tolist())
    assert [name for name, state in fibrosis.items() if state == "present"] == ["fibrosis"]
    assert set(empty.values()) == {"absent"} and len(empty) == 10 and "no_finding" not in empty
    assert {name for name, state in both.items() if state == "present"} == {"nodule", "pleural_effusion"}
    for told in ("train: 2 images here, 3001 in the", "test: 1 image here, 542 in the", "no patient is named"):
        assert told in caplog.text
    assert "361" not in caplog.text and "362" not in caplog.text


def test_the_later_release_has_three_classes_more(by_hand: Path) -> None:
    for split in ("train", "test"):
        (by_hand / f"{split}.json").unlink()
    more = {"syms": ["Diffuse Nodule", "Cardiomegaly"], "boxes": [[1, 1, 2, 2]] * 2, "polygons": [[[1, 1]]] * 2}
    _write(by_hand / "ChestX_Det_train.json", [TRAIN[1] | more])
    _write(by_hand / "ChestX_Det_test.json", TEST)
    found = read("chestxdet", by_hand, split_fractions=NONE_HELD)
    first = states(found, found.study_id.tolist()[0])
    assert {name for name, state in first.items() if state == "present"} == {"nodule", "cardiomegaly"}
    assert len(first) == 12 and first["pleural_thickening"] == "absent"


def test_archives_unpack_into_other_depths(by_hand: Path) -> None:
    shutil.move(by_hand / "train_data", by_hand / "train")
    shutil.move(by_hand / "test_data", by_hand / "test")
    (by_hand / "test_data").mkdir()
    shutil.move(by_hand / "test", by_hand / "test_data/test")
    found = read("chestxdet", by_hand)
    assert found.image_ids[0] == "train/36204.png" and found.image_ids[2] == "test_data/test/36199.png"


def test_boxes_lie_where_the_list_says(by_hand: Path) -> None:
    found = marks(CorpusConfig(reader="chestxdet", root=str(by_hand)), KEY)
    assert found is not None and not found.marked("train_data/36200.png")
    fibrosis = found.masks("train_data/36204.png", (12, 10))["fibrosis"]
    wanted = np.zeros((12, 10), bool)
    wanted[7:9, 6:9] = wanted[6:9, 1:4] = True
    np.testing.assert_array_equal(fibrosis, wanted)
    both = found.masks("test_data/36199.png", (12, 10))
    assert {name: int(mask.sum()) for name, mask in both.items()} == {"nodule": 9, "pleural_effusion": 40}
    with pytest.raises(InputError, match=r"train\.json row 1: its image is 4 x 4 pixels, and the marks are"):
        found.masks("train_data/36204.png", (4, 4))
    assert found.cut == set()
    _write(by_hand / "test.json", [TEST[0] | {"boxes": [[5, 1, 8, 4], [-1, 8, 10.5, 14]]}])
    found = marks(CorpusConfig(reader="chestxdet", root=str(by_hand)), KEY)
    assert found is not None
    half = found.masks("test_data/36199.png", (12, 10))
    assert int(half["pleural_effusion"].sum()) == 40 and found.cut == {f"{by_hand / 'test.json'} row 1"}


def test_the_audit_lists_boxes_beyond_their_image_and_outside_of_it(by_hand: Path) -> None:
    _write(by_hand / "train.json", [TRAIN[0] | {"boxes": [[6, 7, 9, 9], [20, 6, 24, 9]]}, TRAIN[1]])
    _write(by_hand / "test.json", [TEST[0] | {"boxes": [[5, 1, 8, 4], [-1, 8, 10.5, 14]]}])
    data = look(CorpusConfig(reader="chestxdet", root=str(by_hand), split_fractions=NONE_HELD))
    found = audit.audit(data)
    assert found["marks"]["looked_at"] == 1 and found["marks"]["beyond"] == [f"{by_hand / 'test.json'} row 1"]
    (outside,) = found["marks"]["outside"]
    assert outside.startswith(f"{by_hand / 'train.json'} row 1: the mark does not lie in its image of 10 x 12")
    told = audit.lines(found)
    assert "rows with boxes that reach beyond their image, where they are cut: 1" in told
    assert f"  {outside}" in told and "marks that cannot be drawn: 1" in told


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("chestxdet", root, split_fractions=SplitFractions(train=0.6, val=0.4, test=0.0))
    assert len(found) == 34 and [len(found.rows(split)) for split in ("train", "val", "test")] == [15, 10, 9]
    totals = found.totals()
    assert totals.loc["pleural_effusion", "present"] > 0 and totals.loc["nodule", "absent"] > 0
    known = marks(CorpusConfig(reader="chestxdet", root=str(root)), KEY)
    assert known is not None
    for name, path, labels in zip(found.image_ids, found.image_paths, found.states, strict=True):
        with Image.open(path) as image:
            boxed = known.masks(name, (image.height, image.width))
        assert set(boxed) == {found.findings[k] for k in np.flatnonzero(labels == 1)}


def _first(root: Path, **changes: Any) -> None:
    _write(root / "train.json", [TRAIN[0] | changes, TRAIN[1]])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "train.json").write_text("[{"), r"train\.json: is no JSON that can be read"),
        (lambda r: _write(r / "train.json", {"images": []}), r"train\.json: must be a list of images"),
        (lambda r: _first(r, syms=["Fibrosis", "Fibrosys"]), "row 1: 'syms' holds .* 10 classes.*'Fibrosis'"),
        (lambda r: _first(r, syms=["Fibrosis", "Cardiomegaly"]), "row 1: 'syms' holds a word that is none of its 10"),
        (
            lambda r: _first(r, syms=["Fibrosis"]),
            "row 1: an entry needs file_name, syms, and in boxes one for each of syms",
        ),
        (lambda r: _first(r, boxes=[[1, 2, 3, 4], [1, 2, 3]]), "row 1: box 2 must be four numbers"),
        (lambda r: _first(r, boxes=[[1, 2, 3, "4"], [1, 2, 3, 4]]), "row 1: box 1 must be four numbers"),
        (lambda r: _first(r, boxes=[[1, 2, 3, True], [1, 2, 3, 4]]), "row 1: box 1 must be four numbers"),
        (lambda r: _first(r, boxes=[[1, 2, 3, float("nan")], [1, 2, 3, 4]]), "row 1: box 1 must be four numbers"),
        (lambda r: _first(r, boxes=["1234", [1, 2, 3, 4]]), "row 1: box 1 must be four numbers"),
        (lambda r: _first(r, boxes=[[1, 2, 3, 4], [5, 1, 2, 4]]), "row 1: box 2 ends before it begins"),
        (lambda r: _first(r, boxes=[[1, 2, 3, 4], [1, 2, 3, 2]]), "row 1: box 2 ends before it begins"),
        (lambda r: _first(r, boxes=[[1, 2, 3, 4], [-9, 2, -3, 4]]), "row 1: box 2 lies outside its image"),
        (lambda r: _first(r, boxes={}), "row 1: an entry needs"),
        (lambda r: _first(r, syms=None), "row 1: an entry needs"),
        (lambda r: _write(r / "train.json", ["36204.png"]), "row 1: an entry needs"),
        (lambda r: _write(r / "train.json", [*TRAIN, TRAIN[0]]), "row 3: its image has an entry before"),
        (lambda r: (r / "train_data/36200.png").unlink(), "row 2.*no image file"),
        (
            lambda r: shutil.copy(r / "test.json", r / "ChestX_Det_test.json"),
            "holds test.json and ChestX_Det_test.json; keep the one",
        ),
        (lambda r: (r / "train.json").unlink(), r"holds no train\.json"),
        (lambda r: (r / "test.json").unlink(), r"holds no test\.json or ChestX_Det_test\.json"),
        (lambda r: shutil.rmtree(r / "test_data"), "holds no test_data/test or test_data or test"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil: Any, said: str) -> None:
    spoil(by_hand)
    with pytest.raises(InputError, match=said) as fault:
        read("chestxdet", by_hand)
    assert "\n" not in str(fault.value) and "3620" not in str(fault.value)


def test_a_wrong_root_shows_the_tree(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none", ""):
        with pytest.raises(MissingCorpus, match=f"{KEY}.root") as fault:
            read("chestxdet", root)
        assert "train_data/36200.png" in fault.value.help
