"""What the pixel cache holds, and when it decodes."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_cache import OTHER, build, place
from small_corpus import SALT, Corpus

from data_modules import cache, decode
from data_modules.corpora import table
from data_modules.file_stamps import NONE, Stamps, content_key
from data_modules.findings import ontology
from data_modules.pixels import fit, read_gray
from data_modules.study import StudyTable


def test_rows_are_the_fitted_images(studies: StudyTable, tmp_path: Path) -> None:
    built = build(studies, tmp_path)
    for i, path in enumerate(studies.image_paths):
        np.testing.assert_array_equal(built.get(i)[0, 0], fit(read_gray(Path(path)), 16, "pad"))
        np.testing.assert_array_equal(built.picture(i), built.get(i)[0, 0])
    batch = built.batch([3, 1])
    assert batch.shape == (2, 1, 16, 16) and np.array_equal(batch[1:], built.get(1)) and batch.flags.writeable
    assert len(built) == 12


@pytest.mark.fault(14)
def test_opening_again_reads_no_image(studies: StudyTable, tmp_path: Path, decoded: list[str]) -> None:
    first = build(studies, tmp_path)
    assert len(decoded) == 12
    again = build(studies, tmp_path)
    assert len(decoded) == 12 and again.folders == first.folders and again.digest() == first.digest()
    build(studies, tmp_path, size=8)
    assert len(decoded) == 24, "another size is another store"


@pytest.mark.fault(14)
def test_a_changed_file_alone_is_decoded_again(studies: StudyTable, tmp_path: Path, decoded: list[str]) -> None:
    first = build(studies, tmp_path)
    old = [first.get(i).copy() for i in range(12)]
    Image.fromarray(OTHER).save(studies.image_paths[5])
    again = build(studies, tmp_path)
    assert decoded[12:] == ["img5.png"] and (again.get(5) == OTHER).all() and again.digest() != first.digest()
    assert all(np.array_equal(again.get(i), old[i]) for i in range(12) if i != 5)
    assert np.array_equal(first.get(5), old[5]), "planes are never changed under an open cache"
    os.utime(studies.image_paths[2], ns=(1, 1))
    third = build(studies, tmp_path)
    assert decoded[13:] == [] and third.digest() == again.digest(), "what only looks new is read, not decoded"


def repaint(path: str, shade: int) -> None:
    """Other pixels in a file of the same length and times, written in place."""
    old = os.stat(path)
    Image.fromarray(np.full((9, 9), shade, np.uint8)).save(path, format="BMP")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


@pytest.mark.fault(14)
@pytest.mark.parametrize("way", ["in place", "replaced"])
def test_a_file_of_the_same_size_and_time_is_another(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def shade(path: Path, name: str | None = None, frames: str = "error", *more: str) -> np.ndarray:
        return np.asarray(Image.open(path))

    monkeypatch.setattr(decode, "read_gray", shade)
    path = studies.image_paths[3]
    repaint(path, 100)
    before = os.stat(path)
    assert (build(studies, tmp_path).get(3) == 100).all()
    if way == "in place":
        repaint(path, 200)
    else:
        shutil.copy(path, f"{path}.new")
        repaint(f"{path}.new", 200)
        os.replace(f"{path}.new", path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert (build(studies, tmp_path).get(3) == 200).all()


@pytest.mark.fault(14)
def test_a_corpus_of_the_same_name_files_sizes_and_times_is_another(
    studies: StudyTable, corpus: Corpus, tmp_path: Path, decoded: list[str]
) -> None:
    first = build(studies, tmp_path)
    theirs = Corpus(tmp_path / "theirs")
    theirs.write()
    other = table.read(theirs.config(name="ours"), ontology(), SALT)
    for here, there, pixels in zip(studies.image_paths, other.image_paths, (*studies.image_paths[1:], ""), strict=True):
        shutil.copy(pixels or studies.image_paths[0], there)
        os.utime(there, ns=(os.stat(here).st_atime_ns, os.stat(here).st_mtime_ns))
    second = build(other, tmp_path)
    assert second.folders == first.folders and len(decoded) == 12, "the same contents under other names"
    assert all(np.array_equal(second.get(i), first.get((i + 1) % 12)) for i in range(12))


@pytest.mark.fault(14)
def test_a_corpus_that_moves_or_is_copied_is_not_decoded_again(
    studies: StudyTable, corpus: Corpus, tmp_path: Path, decoded: list[str]
) -> None:
    first = build(studies, tmp_path)
    shutil.copytree(corpus.root, tmp_path / "copy")
    corpus.root.rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        again = build(table.read(corpus.config(root=str(tmp_path / name)), ontology(), SALT), tmp_path)
        assert again.digest() == first.digest() and len(decoded) == 12
    read: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "content_key", lambda path, *more: read.append(path) or 1)
        build(table.read(corpus.config(root=str(tmp_path / "moved")), ontology(), SALT), tmp_path)
    assert read == [], "what has been read once is known by its looks"


def test_another_scale_or_kind_of_the_same_bytes_is_another_image(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    path = str(tmp_path / "a")
    keys = {content_key(path, more, SALT) for more in (".png [nan, nan]", ".dcm [nan, nan]", ".dcm [1, 0]")}
    assert len(keys) == 3 and content_key(path, ".png [nan, nan]", b"other" * 4) not in keys


def test_a_folder_of_slices_goes_by_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").write_bytes(b"a")
        (tmp_path / name / "2.dcm").write_bytes(b"b")
    one, two = (content_key(str(tmp_path / name), "", SALT) for name in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "2.dcm").rename(tmp_path / "two" / "3.dcm")
    assert content_key(str(tmp_path / "two"), "", SALT) != one
    stamp = Stamps(SALT).of(str(tmp_path / "one"), "")
    old = os.stat(tmp_path / "one" / "2.dcm")
    (tmp_path / "one" / "2.dcm").write_bytes(b"c")
    os.utime(tmp_path / "one" / "2.dcm", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert Stamps(SALT).of(str(tmp_path / "one"), "") != stamp
    assert content_key(str(tmp_path / "one"), "", SALT) != one and Stamps(SALT).of(str(tmp_path / "three"), "") == NONE


def test_processes_give_the_same_store(studies: StudyTable, tmp_path: Path) -> None:
    here, pool = build(studies, tmp_path / "a"), build(studies, tmp_path / "b", workers=2)
    assert here.digest() == pool.digest() and place(here).name == place(pool).name
    assert (place(here) / "pixels.u8").read_bytes() == (place(pool) / "pixels.u8").read_bytes()


def test_names_on_disk_carry_no_identifier(studies: StudyTable, tmp_path: Path) -> None:
    Path(studies.image_paths[0]).write_bytes(b"broken")
    built = build(studies, tmp_path)
    assert sorted(p.name for p in place(built).iterdir()) == ["index.npy", "pixels.u8", "seen.npy"]
    content = (place(built) / "index.npy").read_bytes()
    assert not any(name.encode() in content for name in [*studies.image_ids, "patientid", studies.image_paths[3]])


def test_only_the_owner_may_read_the_store(studies: StudyTable, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        build(studies, tmp_path)
        Image.fromarray(OTHER).save(studies.image_paths[5])
        built = build(studies, tmp_path)  # the first store, with one image more
    finally:
        os.umask(old)
    folder = place(built)
    assert [p.stat().st_mode & 0o777 for p in (folder.parent, folder)] == [0o700, 0o700]
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}
    assert (built.get(5) == OTHER).all()


def test_other_selections_of_a_corpus_share_the_store(studies: StudyTable, tmp_path: Path, decoded: list[str]) -> None:
    whole = build(studies, tmp_path)
    part = build(studies.take([9, 2]), tmp_path)
    assert part.folders == whole.folders and len(decoded) == 12 and np.array_equal(part.get(1), whole.get(2))


def test_two_corpora_have_two_stores(studies: StudyTable, corpus: Corpus, tmp_path: Path, decoded: list[str]) -> None:
    other = table.read(corpus.config(name="theirs"), ontology(), SALT)
    build(studies, tmp_path)
    both = build(StudyTable.concat([studies, other]), tmp_path)
    assert len(decoded) == 24 and len(set(both.folders)) == 2
    assert np.array_equal(both.get(3), both.get(15)) and both.checksums()[3] == both.checksums()[15]
    assert pickle.loads(pickle.dumps(both)).digest() == both.digest()


def test_select_and_pickle(studies: StudyTable, tmp_path: Path) -> None:
    built = build(studies, tmp_path)
    some = built.select([7, 2])
    assert len(some) == 2 and np.array_equal(some.get(0), built.get(7)) and some.digest() != built.digest()
    data = pickle.dumps(some)
    assert len(data) < 5000, "the pixels do not travel"
    assert np.array_equal(pickle.loads(data).batch([0, 1]), some.batch([0, 1]))


def test_a_batch_comes_in_well_under_a_millisecond_per_image(studies: StudyTable, tmp_path: Path) -> None:
    built = build(studies, tmp_path, size=336)
    images = list(range(12)) * 3
    built.batch(images)
    start = time.perf_counter()
    for _ in range(5):
        built.batch(images)
    assert (time.perf_counter() - start) / (5 * len(images)) < 1e-3
