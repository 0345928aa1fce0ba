"""The same picture is known again after re-encoding, resizing and brightening; other pictures are not."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from audited import filled, look
from numpy.typing import NDArray
from PIL import Image
from small_corpus import Corpus

from data_modules import audit
from data_modules.corpora.phantom import written
from data_modules.corpus_config import PhantomConfig, SplitCounts
from data_modules.leaks import leaked
from data_modules.likeness import COARSE, FINE, alike, candidates, sketch
from data_modules.pixels import fit, read_gray

SAMPLES = Path(os.environ.get("RADZ_SAMPLES", Path(__file__).parents[3] / "shared/data"))
SETS = {"nih_cxr64": (64, 1, 2), "covid_cxr": (128, 3, 0), "kermany_cxr": (128, 4, 0)}
"""Side at which pictures are compared; every which of them; copies that may be missed."""


def copy(gray: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Resized to half to double, brighter or darker, as JPEG."""
    picture, factor = Image.fromarray(gray), rng.choice([0.5, 0.7, 1.5, 2.0])
    small = picture.resize([max(8, int(side * factor)) for side in picture.size], Image.Resampling.BICUBIC)
    values = np.asarray(small, dtype=np.float32)
    if rng.random() < 0.5:
        values = values * rng.uniform(0.9, 1.1) + rng.uniform(-10, 10)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=int(rng.choice([60, 75, 90]))
    )
    return np.array(Image.open(buffer))


def test_pairs_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, COARSE**2)).astype(np.float32)
    rows = np.concatenate([base, base + 0.05 * rng.normal(size=base.shape).astype(np.float32)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    place = rng.integers(0, 3, 80)
    plain = [(i, j) for i in range(80) for j in range(i) if rows[i] @ rows[j] > 0.98 and place[i] != place[j]]
    assert sorted(candidates(rows, place)) == sorted((j, i) for i, j in plain) and len(plain) > 10


def test_flat_pictures_are_never_alike() -> None:
    flat = np.full((64, 64), 90, np.uint8)
    assert not sketch(flat, COARSE).any() and not alike(sketch(flat, FINE), sketch(flat, FINE))


@pytest.mark.parametrize("name", list(SETS))
def test_real_radiographs(name: str) -> None:
    side, every, missed = SETS[name]
    files = sorted((SAMPLES / name / "images").glob("*"))[::every]
    if not files:
        pytest.skip(f"RADZ_SAMPLES names no folder with {name}")
    rng = np.random.default_rng(1)
    grays = [np.array(Image.open(file).convert("L")) for file in files]
    ours, theirs = ([fit(gray, side, "pad") for gray in of] for of in (grays, [copy(gray, rng) for gray in grays]))
    sketches = np.stack([sketch(gray, COARSE) for gray in (*ours, *theirs)])
    # Every picture is a place of its own: all pairs count.
    near = [(i, j) for i, j in candidates(sketches, np.arange(2 * len(files)))]
    fine = [sketch(gray, FINE) for gray in (*ours, *theirs)]
    found = [(i, j) for i, j in near if alike(fine[i], fine[j])]
    assert all(j - i == len(files) for i, j in found), "two different pictures pass for one"
    assert len(files) - len(found) <= missed


def test_a_re_encoded_picture_is_found_and_written_as_a_leak(corpus: Corpus, tmp_path: Path) -> None:
    """Radiographs of the phantom; a training picture comes again in the test split, smaller and as JPEG."""
    folder = written(PhantomConfig(SplitCounts(12, 1, 1), image_px=128, seed=5), tmp_path / "cache")
    corpus.write(images=False)
    for number, file in enumerate(sorted(folder.rglob("*.dcm"))[:12]):
        Image.fromarray(read_gray(file, "x", "error")).save(corpus.root / f"images/img{number}.png")
    data = look(corpus.config(), image_size=128)
    clean = audit.audit(data)
    assert clean["same_pictures"] == [] and leaked(data) == []
    first = Image.open(corpus.root / "images/img0.png")
    buffer = io.BytesIO()
    first.resize((90, 90)).save(buffer, "JPEG", quality=70)
    Image.open(buffer).save(corpus.root / "images/img9.png")
    data = look(corpus.config(), image_size=128)
    found = audit.audit(data)
    assert found["same_pixels"] == []
    (pair,) = found["same_pictures"]
    assert sorted((one["split"], one["row"]) for one in pair) == [("test", 11), ("train", 2)]
    assert any(line.startswith("same picture, encoded otherwise: 1 picture(s)") for line in audit.lines(found))
    assert leaked(data) == ["ours: 1 of 4 test images are training images, such as row 11 (training: row 2)"]


def test_a_sample_is_looked_at_and_the_table_read_whole(corpus: Corpus) -> None:
    config = filled(corpus)
    data = look(config, sample=1)
    found = audit.audit(data)
    assert found["images"] == {"looked_at": 3, "of": 12}
    assert found["counts"]["ours"]["train"]["images"] == 6
    assert "images looked at: 3 of 12; images=all looks at every one" in audit.lines(found)
    assert {data.pictures.split[row] for row in range(3)} == {"train", "val", "test"}
