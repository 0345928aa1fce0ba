"""Checkpoints: small, whole or absent, and refused when they are not what was written."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.errors import InputError
from radz.config.schema import CnnConfig
from radz.methods.cnn import CNN
from radz.models.labels import LabelView
from radz.training import checkpoint_io
from radz.training.checkpoint_io import (
    CheckedIO,
    DamagedCheckpoint,
    content_digest,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def best(trained_run: Path) -> Path:
    return trained_run / "checkpoints/best.ckpt"


def test_only_what_trains_is_kept(best: Path) -> None:
    content = read_checkpoint(best)
    weights, optimizer = content["state_dict"], content["optimizer_states"][0]
    parts = (
        "lora_",
        "trainable_tokens_",
        "multi_modal_projector",
        "heads.",
        "category_bias",
        "statement_bias",
        "anchors",
    )
    assert all(any(part in name for part in parts) for name in weights)
    trained = sum(value.numel() for name, value in weights.items() if name != "anchors")
    states = optimizer["state"].values()
    assert sum(state["exp_avg"].numel() for state in states) == trained, "the optimizer knows trained weights alone"
    bytes_needed = 4 * (3 * trained + weights["anchors"].numel())
    assert best.stat().st_size < bytes_needed + 200_000
    assert content["radz"]["image_tokens"] == 4 and content["radz"]["text_tokens"] == 8


@pytest.mark.fault(7)
def test_every_truncation_and_every_flipped_byte_is_told(best: Path, tmp_path: Path) -> None:
    data, file = best.read_bytes(), tmp_path / "x.ckpt"
    whole = content_digest(read_checkpoint(best))
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for place in torch.randint(0, len(data), (30,), generator=generator).tolist():
        bent = bytearray(data)
        bent[place] ^= 0xFF
        file.write_bytes(bent)
        try:
            assert content_digest(read_checkpoint(file)) == whole  # padding between the parts of the archive
        except DamagedCheckpoint as fault:
            refused += 1
            assert str(file) in str(fault) and "\n" not in str(fault)
        file.write_bytes(data[:place])
        with pytest.raises(DamagedCheckpoint, match=r"x\.ckpt"):
            read_checkpoint(file)
    assert refused > 15


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(best: Path, tmp_path: Path, value: float) -> None:
    content = read_checkpoint(best)
    content["state_dict"]["encoder.heads.text.weight"][3, 4] = value
    write_checkpoint(content, tmp_path / "x.ckpt")
    with pytest.raises(DamagedCheckpoint, match=r"heads.text.weight holds NaN or infinite"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_checkpoint_of_an_earlier_version_is_taken_with_a_warning(
    best: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(read_checkpoint(best), tmp_path / "x.ckpt")
    assert content_digest(read_checkpoint(tmp_path / "x.ckpt")) == content_digest(read_checkpoint(best))
    assert "x.ckpt: was written before checkpoints had a digest" in caplog.text


@pytest.mark.fault(6)
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.ckpt"
    write_checkpoint({"state_dict": {"a": torch.ones(3)}}, file)

    def full(content: Any, stream: Any) -> None:
        stream.write(b"some of it")
        raise OSError(28, "No space left on device")

    for fail, words in (
        (full, "No space left"),
        (lambda *_: broken("PytorchStreamWriter failed writing"), "bytes needed"),
    ):
        monkeypatch.setattr(torch, "save", fail)
        with pytest.raises(InputError, match=words) as fault:
            CheckedIO().save_checkpoint({"state_dict": {}}, file)
        assert str(file) in str(fault.value) and "\n" not in str(fault.value)
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    monkeypatch.setattr(torch, "save", lambda *_: broken("ours"))
    with pytest.raises(RuntimeError, match="ours"):
        write_checkpoint({}, file)
    assert torch.equal(CheckedIO().load_checkpoint(file)["state_dict"]["a"], torch.ones(3))


def broken(words: str) -> None:
    raise RuntimeError(words)


@pytest.mark.fault(5)
def test_a_kill_while_writing_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    write_checkpoint({"state_dict": {"a": torch.ones(3)}}, file)
    child = os.fork()
    if not child:

        def dying(content: Any, stream: Any) -> None:
            stream.write(b"half")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = dying
        write_checkpoint({"state_dict": {}}, file)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert torch.equal(read_checkpoint(file)["state_dict"]["a"], torch.ones(3))
    write_checkpoint({"state_dict": {"a": torch.zeros(3)}}, file)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]  # the draft of the dead process is gone


def test_a_network_of_another_width_is_refused_whole(tmp_path: Path) -> None:
    names, policy = ("a", "b"), torch.zeros(1, 2, 4)
    labels = LabelView(names, names, policy, policy)
    small, wide = (CNN(CnnConfig(width=width), labels, names, names) for width in (4, 8))
    write_checkpoint({"state_dict": dict(small.state_dict())}, tmp_path / "x.ckpt")
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    with pytest.raises(InputError, match="in this run; start a new run"):
        load_weights(wide, tmp_path / "x.ckpt")
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())
    few = {name: value for name, value in list(wide.state_dict().items())[1:]}
    write_checkpoint({"state_dict": few}, tmp_path / "y.ckpt")
    with pytest.raises(InputError, match="of another network"):
        load_weights(wide, tmp_path / "y.ckpt")  # type: ignore[arg-type]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(plain)
def test_the_digest_survives_the_way_to_the_disk(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "plain.ckpt"
    tensor = torch.arange(6, dtype=torch.bfloat16).view(2, 3).T
    whole = {"state_dict": {"a": tensor}, "rest": content, "empty": torch.zeros(0), "other": torch.float32}
    write_checkpoint(whole, file)
    found = read_checkpoint(file)
    assert checkpoint_io.content_digest(found) == content_digest(whole) != content_digest({**whole, "rest": [content]})
    assert torch.equal(found["state_dict"]["a"], tensor)
