"""The audit: every kind of planted leak is caught, nothing is made up, and nothing names a patient."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from audited import filled, look
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_corpus import Corpus
from synthetic_dicom import dataset

from data_modules import audit, corpora
from data_modules.corpus_config import BadRows
from data_modules.errors import InputError


def places(found: dict[str, Any]) -> list[list[tuple[str, str, int]]]:
    return [sorted((i["corpus"], i["split"], i["row"]) for i in group) for group in found["same_pixels"]]


def test_clean_data(corpus: Corpus) -> None:
    data = look(filled(corpus))
    found = audit.audit(data)
    assert found["same_pixels"] == [] and found["unreadable"] == []
    ours = found["counts"]["ours"]
    assert ours["train"] == {"studies": 6, "patients": 3, "images": 6, "published_images": None, "with_report": 6}
    assert found["labels"]["val"]["covid19"] == {"absent": 1, "present": 1, "uncertain": 0, "unmentioned": 0}
    assert found["data_digest"] == data.table.digest()
    told = audit.lines(found)
    assert "ours/test: 4 studies of 2 patients, 4 images, 4 with a report" in told
    assert {"unreadable images: none", "same pixels in two splits or corpora: none"} <= set(told)
    json.dumps(found, allow_nan=False)


def test_turned_radiographs_are_counted(corpus: Corpus) -> None:
    filled(corpus)
    values = np.arange(3600, dtype=np.uint16).reshape(60, 60)
    for number, orientation in enumerate((["R", "F"], ["L", "F"], ["R", "F"], ["L", "H"]), start=1):
        held = dataset(values + 5 * number, Modality="DX", PatientOrientation=orientation)
        held.save_as(corpus.root / f"images/img{number}.png", enforce_file_format=True)
    found = audit.audit(look(corpus.config()))
    assert found["turned"] == {"R\\F": 2, "L\\H": 1}
    assert any(line.endswith(r"mirrored or turned, read as they lie: 2 x R\F, 1 x L\H") for line in audit.lines(found))


@pytest.mark.fault(19)
def test_a_picture_in_two_splits(corpus: Corpus) -> None:
    filled(corpus)
    shutil.copy(corpus.root / "images/img1.png", corpus.root / "images/img9.png")
    # Other bytes, the same pixels.
    Image.open(corpus.root / "images/img2.png").save(corpus.root / "images/img6.png", compress_level=1)
    # Twice in one split is no leak.
    shutil.copy(corpus.root / "images/img3.png", corpus.root / "images/img4.png")
    found = audit.audit(look(corpus.config()))
    assert sorted(places(found)) == [
        [("ours", "test", 11), ("ours", "train", 3)],
        [("ours", "train", 4), ("ours", "val", 8)],
    ]
    told = [line for line in audit.lines(found) if line.startswith("same pixels")]
    assert len(told) == 2 and "1 picture(s) both in ours/test and in ours/train, such as row 11" in told[0]


def test_a_picture_in_two_corpora(corpus: Corpus, another: Callable[[str], Corpus]) -> None:
    theirs = another("theirs")
    filled(theirs)
    filled(corpus)
    for source, target in ((0, 0), (1, 1), (2, 11)):
        shutil.copy(corpus.root / f"images/img{source}.png", theirs.root / f"images/img{target}.png")
    found = audit.audit(look(corpus.config(), theirs.config(name="theirs")))
    assert sorted(places(found)) == [
        [("ours", "train", 2), ("theirs", "train", 2)],
        [("ours", "train", 3), ("theirs", "train", 3)],
        [("ours", "train", 4), ("theirs", "test", 13)],
    ]
    told = "\n".join(audit.lines(found))
    assert "2 picture(s) both in ours/train and in theirs/train" in told
    assert "1 picture(s) both in ours/train and in theirs/test" in told


def test_three_places_of_one_picture_are_one_group(corpus: Corpus) -> None:
    filled(corpus)
    for target in (1, 6, 9):
        shutil.copy(corpus.root / "images/img0.png", corpus.root / f"images/img{target}.png")
    found = audit.audit(look(corpus.config()))
    assert [len(group) for group in found["same_pixels"]] == [4]
    assert sum(line.startswith("same pixels: 1 picture") for line in audit.lines(found)) == 3


def test_equal_checksums_do_not_make_equal_pixels(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    config = filled(corpus)
    monkeypatch.setattr(zlib, "crc32", lambda data, value=0: 7)
    assert audit.audit(look(config))["same_pixels"] == []


def test_unreadable_images_are_all_told(corpus: Corpus) -> None:
    filled(corpus)
    for number in (2, 7):
        (corpus.root / f"images/img{number}.png").write_bytes(b"\x89PNG broken")
    data = look(corpus.config(bad=BadRows(on_unreadable_image="error")))
    found = audit.audit(data)
    assert len(found["unreadable"]) == 2 and len(data.cache) == 10
    assert all("corpus ours, row" in cause and "img" not in cause for cause in found["unreadable"])
    assert found["coverage"]["skipped"] == {"unreadable image": 2}
    told = audit.lines(found)
    assert "unreadable images: 2" in told and f"  {found['unreadable'][0]}" in told
    assert found["counts"]["ours"]["train"]["images"] == 5
    assert "images looked at: 12 of 12" in told
    for sample, words in ((100, "12 of 12"), (2, "6 of 12; images=all looks at every one")):
        data = look(*data.config.corpora, sample=sample)
        assert f"images looked at: {words}" in audit.lines(audit.audit(data))


@pytest.mark.fault(19)
def test_a_patient_in_two_splits_stops_the_reading(corpus: Corpus) -> None:
    corpus.splits[0]["split"] = "test"
    filled(corpus)
    with pytest.raises(InputError, match="in more than one split"):
        look(corpus.config())


def test_missing_reports_and_test_only_data(corpus: Corpus) -> None:
    corpus.rows[10]["notes"] = ""
    for row in corpus.splits:
        row["split"] = "test"
    filled(corpus)
    found = audit.audit(look(corpus.config()))
    counts = found["counts"]["ours"]
    assert (counts["test"]["studies"], counts["test"]["with_report"], counts["train"]["images"]) == (12, 11, 0)


def test_nothing_told_names_a_patient(corpus: Corpus) -> None:
    config = filled(corpus)
    shutil.copy(corpus.root / "images/img1.png", corpus.root / "images/img9.png")
    (corpus.root / "images/img2.png").write_bytes(b"")
    found = audit.audit(look(config))
    text = json.dumps(found) + "\n".join(audit.lines(found))
    assert found["same_pixels"] and found["unreadable"]
    assert "img" not in text and "Report" not in text and str(corpus.root) not in text


def test_every_official_reader_names_its_published_numbers() -> None:
    assert set(corpora.PUBLISHED) == set(corpora.READERS) - {"table", "phantom"}
    assert corpora.PUBLISHED["chexpert"] == {"train": 223_414, "val": 234}


@given(st.lists(st.integers(0, 4), min_size=12, max_size=12))
def test_groups_are_those_of_a_plain_search(tmp_path_factory: pytest.TempPathFactory, shades: list[int]) -> None:
    ours = Corpus(tmp_path_factory.mktemp("shades") / "ours")
    ours.write(images=False)
    for number, shade in enumerate(shades):
        halves = np.repeat(np.array([[40 * shade], [255]], dtype=np.uint8), 4, axis=0)
        Image.fromarray(np.tile(halves, 8)).save(ours.root / f"images/img{number}.png")
    data = look(ours.config(), image_size=8)
    wanted = []
    for shade in set(shades):
        rows = [(data.table.split[i], i + 2) for i, value in enumerate(shades) if value == shade]
        if len({split for split, _ in rows}) > 1:
            wanted.append(rows)
    found = [[(i["split"], i["row"]) for i in group] for group in audit.same_pixels(data)]
    assert sorted(found) == sorted(wanted)
