from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from data_modules.errors import InputError
from data_modules.privacy import hashed, salt


def test_salt_is_private_stable_and_different_per_folder(tmp_path: Path) -> None:
    first = salt(tmp_path / "a" / "cache")
    path = tmp_path / "a" / "cache" / "salt"
    assert len(first) == 32 and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["salt"]
    assert salt(tmp_path / "a" / "cache") == first != salt(tmp_path / "b")
    path.write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes"):
        salt(tmp_path / "a" / "cache")


def test_hash_is_keyed_and_short() -> None:
    expected = hashlib.blake2b(b"0123", key=b"k" * 32, digest_size=6).hexdigest()
    assert hashed("0123", b"k" * 32) == expected and len(expected) == 12
    assert hashed("0123", b"k" * 32) != hashed("123", b"k" * 32) != hashed("123", b"j" * 32)
