"""The page of small images: which they are, whose, and who may look."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
from audited import filled, look
from csv_rows import rows_of
from PIL import Image
from small_corpus import Corpus

from data_modules.thumbnails import thumbnails

SPLITS = ("train", "val", "test")


def test_thumbnails_are_the_images_of_the_rows_beside_them(corpus: Corpus, tmp_path: Path) -> None:
    data = look(filled(corpus), image_size=96)
    for name in ("a", "b"):
        thumbnails(data, tmp_path / name, 3)
    assert (tmp_path / "a/thumbnails.png").read_bytes() == (tmp_path / "b/thumbnails.png").read_bytes()
    page = np.asarray(Image.open(tmp_path / "a/thumbnails.png"))
    assert page.shape == (3 * (20 + 4 * 96), 8 * 96)
    rows = rows_of(tmp_path / "a" / "thumbnails.csv")
    assert [sum(row["split"] == split for row in rows) for split in SPLITS] == [6, 2, 4]
    for row in rows:
        top = SPLITS.index(row["split"]) * 404 + 20 + (int(row["line"]) - 1) * 96
        left = (int(row["column"]) - 1) * 96
        study = data.table.source_rows.tolist().index(int(row["row"]))
        assert (page[top : top + 96, left : left + 96] == data.cache.get(study)).all()


def test_many_images_are_drawn_by_the_seed(corpus: Corpus, tmp_path: Path) -> None:
    corpus.rows = [{**corpus.rows[0], "filename": f"img{i}.png", "patientid": str(i)} for i in range(60)]
    corpus.splits = [{"filename": f"img{i}.png", "split": "train" if i < 50 else "test"} for i in range(60)]
    data = look(filled(corpus))
    for seed in (0, 1):
        thumbnails(data, tmp_path / str(seed), seed)
    first, second = (rows_of(tmp_path / str(seed) / "thumbnails.csv") for seed in (0, 1))
    assert len(first) == 32 + 10 and [row["row"] for row in first] != [row["row"] for row in second]
    assert len({row["row"] for row in first}) == len(first)


def test_they_are_for_their_owner_and_name_no_patient(corpus: Corpus, tmp_path: Path) -> None:
    thumbnails(look(filled(corpus)), tmp_path, 0)
    for name in ("thumbnails.png", "thumbnails.csv"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "img" not in (tmp_path / "thumbnails.csv").read_text()
