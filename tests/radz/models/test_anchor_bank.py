"""The anchor bank on disk: saved, loaded, and refused when it does not belong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_modules.errors import InputError
from radz import Radz
from radz.models.anchor_bank import AnchorBank, BankInfo
from radz.models.geometry import geometry

INFO = BankInfo("decoder", ("shape", "density"), "ours.yaml", "", "", "0123456789ab", "", 0)


@pytest.fixture
def bank() -> AnchorBank:
    vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    return AnchorBank(("a", "b", "c"), ("one", "two", "three"), vectors, INFO)


def test_a_bank_comes_back_bit_for_bit(bank: AnchorBank, tmp_path: Path) -> None:
    bank.save(tmp_path / "anchors")
    again = AnchorBank.load(tmp_path / "anchors")
    assert (again.names, again.descriptions, again.info) == (bank.names, bank.descriptions, bank.info)
    assert torch.equal(again.vectors, bank.vectors) and again.digest() == bank.digest()
    assert sorted(path.name for path in (tmp_path / "anchors").iterdir()) == ["anchors.json", "anchors.safetensors"]
    text = json.loads((tmp_path / "anchors/anchors.json").read_text())
    assert text["digest"] == bank.digest() and text["base_digest"] == "0123456789ab" and text["step"] == 0


def test_sets_come_back_and_one_broken_vector_is_named(bank: AnchorBank, tmp_path: Path) -> None:
    sets = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(1))
    several = replace(bank, vectors=sets)
    several.save(tmp_path)
    assert torch.equal(AnchorBank.load(tmp_path).vectors, sets)
    assert geometry(sets) == geometry(sets.mean(1))
    sets[1, 1] = 0
    several.save(tmp_path)
    with pytest.raises(InputError, match="vector of b is not finite or zero"):
        AnchorBank.load(tmp_path)


def test_a_bank_of_another_base_is_refused(bank: AnchorBank) -> None:
    bank.check_base("0123456789ab")
    with pytest.raises(InputError, match="another backbone") as fault:
        bank.check_base("ffffffffffff")
    assert "\n" not in str(fault.value) and "radz anchors" in str(fault.value)


@pytest.mark.parametrize(
    "fault", ["no json", "no tensors", "half json", "half tensors", "not a bank", "edited", "mixed"]
)
def test_a_damaged_bank_is_refused(bank: AnchorBank, tmp_path: Path, fault: str) -> None:
    bank.save(tmp_path)
    text, tensors = tmp_path / "anchors.json", tmp_path / "anchors.safetensors"
    if fault == "no json":
        text.unlink()
    elif fault == "no tensors":
        tensors.unlink()
    elif fault == "half json":
        text.write_text(text.read_text()[:50])
    elif fault == "half tensors":
        tensors.write_bytes(tensors.read_bytes()[:60])
    elif fault == "not a bank":
        text.write_text("[1, 2]")
    elif fault == "edited":
        text.write_text(text.read_text().replace('"two"', '"too"'))
    else:
        save_file({"vectors": load_file(tensors)["vectors"] + 1}, tensors)
    with pytest.raises(InputError) as caught:
        AnchorBank.load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def _save(bank: AnchorBank, folder: Path, **changes: object) -> None:
    replace(bank, **changes).save(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [1.0, 1.0]])}, "vector of b is not finite"),
        ({"vectors": torch.tensor([[1.0, 2.0], [1.0, 1.0], [float("inf"), 1.0]])}, "vector of c is not finite"),
        ({"vectors": torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])}, "vector of a is not finite or zero"),
        ({"vectors": torch.ones(3, 4, 2, 5)}, r"\[3, 4, 2, 5\] for 3 findings"),
        ({"vectors": torch.ones(2, 4)}, r"\[2, 4\] for 3 findings"),
        ({"vectors": torch.ones(3, 4, dtype=torch.float16)}, "float16"),
        ({"descriptions": ("one", "two")}, "2 descriptions"),
        ({"names": ("a", "b", "a")}, "a stands twice"),
    ],
)
def test_a_bank_that_agrees_with_itself_but_makes_no_sense_is_refused(
    bank: AnchorBank, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    _save(bank, tmp_path, **changes)
    with pytest.raises(InputError, match=message) as fault:
        AnchorBank.load(tmp_path)
    assert "\n" not in str(fault.value) and str(tmp_path) in str(fault.value)


@pytest.mark.parametrize(
    "text", ['"text"', "3", "null", '{"digest": 1}', '{"names": 3, "descriptions": [], "digest": 1}']
)
def test_a_json_file_of_another_kind_is_refused(bank: AnchorBank, tmp_path: Path, text: str) -> None:
    bank.save(tmp_path)
    (tmp_path / "anchors.json").write_text(text)
    with pytest.raises(InputError, match="not a readable anchor bank"):
        AnchorBank.load(tmp_path)


def test_vectors_of_another_width_are_refused(bank: AnchorBank) -> None:
    bank.check_base("0123456789ab", 8)
    with pytest.raises(InputError, match="8 numbers where the backbone has 32"):
        bank.check_base("0123456789ab", 32)


def test_extended_keeps_its_own_rows(bank: AnchorBank) -> None:
    other = AnchorBank(("c", "d"), ("3", "4"), torch.stack([torch.full((8,), 9.0), torch.full((8,), 4.0)]), INFO)
    joined = bank.extended(other)
    assert joined.names == ("a", "b", "c", "d") and joined.descriptions == ("one", "two", "three", "4")
    assert torch.equal(joined.vectors[:3], bank.vectors) and (joined.vectors[3] == 4).all()


def test_geometry_of_known_sets() -> None:
    assert geometry(torch.eye(4)) == {"count": 4, "mean_cosine": 0.0, "effective_rank": 4.0}
    assert geometry(torch.ones(4, 4)) == {"count": 4, "mean_cosine": 1.0, "effective_rank": 1.0}


def test_a_run_with_a_foreign_bank_is_refused(trained_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "copy")
    old = AnchorBank.load(folder / "anchors")
    AnchorBank(old.names, old.descriptions, old.vectors, replace(old.info, base_digest="0" * 12)).save(
        folder / "anchors"
    )
    with pytest.raises(InputError, match="another backbone"):
        Radz.from_pretrained(folder)
