from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_modules.errors import InputError
from data_modules.privacy import hashed, private_file, private_folder, pseudonym, salt


def test_salt_is_private_stable_and_different_per_folder(tmp_path: Path) -> None:
    first = salt(tmp_path / "a" / "cache")
    path = tmp_path / "a" / "cache" / "salt"
    assert len(first) == 32 and path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["salt"]
    assert salt(tmp_path / "a" / "cache") == first != salt(tmp_path / "b")
    path.write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes"):
        salt(tmp_path / "a" / "cache")


def test_hash_is_keyed_and_short() -> None:
    expected = hashlib.blake2b(b"0123", key=b"k" * 32, digest_size=6).hexdigest()
    assert hashed("0123", b"k" * 32) == expected and len(expected) == 12
    assert hashed("0123", b"k" * 32) != hashed("123", b"k" * 32) != hashed("123", b"j" * 32)


def test_a_salt_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "salt").mkdir()
    with pytest.raises(InputError, match=r"cannot be made or read .*cache_dir") as fault:
        salt(tmp_path)
    assert "\n" not in str(fault.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cache_dir"):
        salt(tmp_path / "file")


def test_pseudonyms_tell_corpora_apart() -> None:
    assert pseudonym("ours", "1", b"k") == hashed("ours/1", b"k") != pseudonym("theirs", "1", b"k")


def test_private_places_keep_their_content(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    private_file(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c").write_text("kept")
    private_folder(tmp_path / "a" / "b")
    private_file(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").read_text() == "kept"
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a/b", "a/b/c")]
    assert modes == [0o700, 0o600]


@pytest.mark.fault(24)
def test_a_salt_on_a_read_only_disk_is_read_and_on_a_full_one_not_half_made(
    small_disk: Callable[..., Path], remount: Callable[..., None]
) -> None:
    place = small_disk("16k")
    value = salt(place)
    remount(place, "ro")
    assert salt(place) == value
    with pytest.raises(InputError, match=r"salt: cannot be made or read \(Read-only.*set cache_dir"):
        salt(place / "new")
    full = small_disk("16k")
    (full / "fill").write_bytes(b"x" * 16384)
    with pytest.raises(InputError, match=r"cannot be written \(No space left") as fault:
        salt(full)
    assert "\n" not in str(fault.value) and [one.name for one in full.iterdir()] == ["fill"]


def test_a_salt_needs_no_hard_links_and_is_one_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "link")
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(salt, [tmp_path / "cache"] * 8))) == 1
