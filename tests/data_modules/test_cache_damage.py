"""The pixel cache where files change or break, disks fill up or a build is interrupted."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_cache import OTHER, build, place

from data_modules import decode, store
from data_modules.disk import CannotWrite
from data_modules.errors import InputError
from data_modules.pixels import fit, read_gray
from data_modules.store import Store
from data_modules.study import StudyTable


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = np.arange(81, dtype=np.uint8).reshape(9, 9)

    def slow(path: Path, name: str | None = None, frames: str = "error", *more: str) -> np.ndarray:
        if path.name == "img4.png":
            Image.fromarray(painted).save(path)
        return read_gray(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_gray", slow)
        built = build(studies, tmp_path)
    assert "row 6" in built.unreadable[4] and "changed while it was read" in built.unreadable[4]
    np.testing.assert_array_equal(build(studies, tmp_path).get(4)[0, 0], fit(painted, 16, "pad"))


@pytest.mark.parametrize("content", [b"", b"junk", b"\x93NUMPY"])
def test_a_damaged_list_of_what_was_seen_costs_a_reading(
    studies: StudyTable, tmp_path: Path, decoded: list[str], content: bytes
) -> None:
    first = build(studies, tmp_path)
    (place(first) / "seen.npy").write_bytes(content)
    assert build(studies, tmp_path).digest() == first.digest() and len(decoded) == 12


def test_unreadable_images_are_named_by_row_and_hash(studies: StudyTable, tmp_path: Path) -> None:
    path = Path(studies.image_paths[4])
    path.write_bytes(path.read_bytes()[:-30])
    built = build(studies, tmp_path)
    assert list(built.unreadable) == [4] and built.get(4).shape == (0, 0, 16, 16) and built.slices[4] == 0
    assert built.unreadable[4].startswith("corpus ours, row 6, image ") and "img4" not in built.unreadable[4]
    assert list(build(studies, tmp_path).unreadable) == [4]


def test_unreadable_images_are_tried_again(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files stay as they are; it is the decoder that has been installed since."""

    def no_decoder(path: Path, name: str | None = None, *_: str) -> np.ndarray:
        if path.name in ("img4.png", "img5.png"):
            raise InputError(f"{name}: no decoder")
        return read_gray(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_gray", no_decoder)
        assert list(build(studies, tmp_path).unreadable) == [4, 5]
        assert list(build(studies, tmp_path).unreadable) == [4, 5]
    healed = build(studies, tmp_path)
    assert not healed.unreadable and healed.digest() == build(studies, tmp_path / "new").digest()


@pytest.mark.fault(14)
def test_damage_on_disk_is_found_at_the_first_read(studies: StudyTable, tmp_path: Path) -> None:
    built = build(studies, tmp_path)
    with open(place(built) / "pixels.u8", "r+b") as handle:
        handle.seek(3 * 256 + 100)
        handle.write(b"\x07")
    again = build(studies, tmp_path)
    assert again.get(2).shape == (1, 1, 16, 16)
    with pytest.raises(InputError, match="image 3 of the pixel cache is damaged; delete"):
        again.get(3)


@pytest.mark.parametrize("spoil", ["index", "other", "plain", "short"])
@pytest.mark.fault(14)
def test_an_incomplete_store_is_built_anew(studies: StudyTable, tmp_path: Path, decoded: list[str], spoil: str) -> None:
    built = build(studies, tmp_path)
    if spoil == "index":
        (place(built) / "index.npy").write_bytes((place(built) / "index.npy").read_bytes()[:-9])
    elif spoil == "other":
        np.save(place(built) / "index.npy", np.array([{}], dtype=object), allow_pickle=True)
    elif spoil == "plain":
        np.save(place(built) / "index.npy", np.arange(12))
    else:
        (place(built) / "pixels.u8").write_bytes(b"")
    again = build(studies, tmp_path)
    assert again.digest() == built.digest() and len(decoded) == 24 and again.batch(range(12)).any()


def test_an_interrupted_build_goes_on_where_it_stopped(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    def stop(path: Path, name: str | None = None, *_: str) -> np.ndarray:
        if path.name == "img7.png":
            raise KeyboardInterrupt
        return read_gray(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_gray", stop)
        with pytest.raises(KeyboardInterrupt):
            build(studies, tmp_path)
    built = build(studies, tmp_path)
    assert decoded == [f"img{i}.png" for i in range(7, 12)]
    assert built.digest() == build(studies, tmp_path / "new").digest() and built.batch(range(12)).any()


def test_what_was_written_after_the_last_index_is_written_again(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut: the planes of the last seconds are in the file, the index does not know them."""
    monkeypatch.setattr(store, "SAVE_SECONDS", 0.0)
    few = build(studies.take([0, 1, 2]), tmp_path)
    with open(place(few) / "pixels.u8", "ab") as handle:
        handle.write(b"\x55" * 300)
    built = build(studies, tmp_path)
    assert (place(built) / "pixels.u8").stat().st_size == 12 * 256
    assert built.digest() == build(studies, tmp_path / "new").digest() and built.batch(range(12)).any()


def test_a_disk_that_fills_keeps_what_was_stored(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    def full(path: Path, name: str | None = None, *_: str) -> np.ndarray:
        if path.name == "img5.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return read_gray(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_gray", full)
        with pytest.raises(
            InputError, match=r"pixels\.u8: cannot be written \(No space left on device, 3,072 bytes needed"
        ):
            build(studies, tmp_path)
    build(studies, tmp_path)
    assert decoded == [f"img{i}.png" for i in range(5, 12)]


def test_a_full_disk_is_told_before_the_work(
    studies: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Callable[[Path], object] = lambda path: type("Usage", (), {"free": 100})()  # noqa: E731
    monkeypatch.setattr(store.shutil, "disk_usage", usage)
    with pytest.raises(InputError, match="set cache_dir"):
        build(studies, tmp_path)


@pytest.mark.fault(24)
def test_a_warm_cache_on_a_read_only_disk_is_read(
    studies: StudyTable, small_disk: Callable[..., Path], remount: Callable[..., None]
) -> None:
    place = small_disk("200k")
    built = build(studies, place)
    remount(place, "ro")
    assert build(studies, place).digest() == built.digest()
    Path(studies.image_paths[4]).write_bytes(b"broken")
    assert list(build(studies, place).unreadable) == [4]
    Image.fromarray(OTHER).save(studies.image_paths[5])
    for cold in (place, place / "new"):
        with pytest.raises(CannotWrite, match=r"cannot be written \(Read-only file system\); choose a place that can"):
            build(studies, cold)


@pytest.mark.fault(6)
def test_a_small_disk_keeps_what_it_could_take(
    studies: StudyTable, small_disk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before the work where the room is known to be too little, else when it is used up."""
    place = small_disk("64k")
    with pytest.raises(InputError, match=r"needs 196,608 bytes and [\d,]+ are free; make room or set cache_dir"):
        build(studies, place, size=128)
    usage: Callable[[Path], object] = lambda path: type("Usage", (), {"free": 1 << 40})()  # noqa: E731
    monkeypatch.setattr(store.shutil, "disk_usage", usage)
    monkeypatch.setattr(store, "SAVE_SECONDS", 0.0)
    with pytest.raises(CannotWrite, match=r"pixels\.u8: cannot be written \(No space left.*196,608 bytes needed"):
        build(studies, place, size=128)
    kept = Store(next((place / "pixels").iterdir()), 128)
    assert 0 < len(kept.entries) < 4
