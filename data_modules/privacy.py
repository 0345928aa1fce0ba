"""Salted hashes in place of corpus identifiers, wherever a text may leave the machine."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from data_modules.errors import InputError

SALT_BYTES = 32


def salt(cache_dir: Path) -> bytes:
    """Return the user's salt from ``cache_dir/salt`` (mode 0600), made on first use.

    It lies in the cache folder so that hashes of different runs compare. Raises InputError when the file is damaged.
    """
    path = cache_dir / "salt"
    if not path.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        # Written apart and linked: two processes that start together end up with the same salt.
        fresh = cache_dir / f"salt.{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(secrets.token_bytes(SALT_BYTES))
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    value = path.read_bytes()
    if len(value) != SALT_BYTES:
        raise InputError(f"{path}: holds {len(value)} bytes instead of {SALT_BYTES}; delete it (hashes will change)")
    return value


def hashed(identifier: str, salt: bytes) -> str:
    """Return 12 hexadecimal digits of the keyed BLAKE2b of `identifier`."""
    return hashlib.blake2b(identifier.encode(), key=salt, digest_size=6).hexdigest()
