"""Out of memory is the user's to solve: one line with what helps, in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radz.cli import command_line
from radz.training.out_of_memory import is_out_of_memory


def allocate_on_the_cpu() -> None:
    torch.empty(2**60)


def allocate_an_array() -> None:
    np.empty(2**58)


def allocate_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def lose_cublas() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize("fail", [allocate_on_the_cpu, allocate_an_array, allocate_on_a_gpu, lose_cublas])
@pytest.mark.parametrize(
    ("verb", "arguments", "steps"),
    [
        ("train", ["demo"], ("gradient_checkpointing=true", "dfat.gradient_cache", "lower data.batch_size")),
        ("eval", ["demo", "run=x"], ("data.eval_batch_size", "data.workers=0", "fewer corpora")),
        ("report", ["x"], ("close other programs", "smaller files", "more memory")),
    ],
)
def test_out_of_memory_is_one_line(
    fail, verb: str, arguments: list[str], steps: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(
        command_line.VERBS, verb, command_line.Verb(command_line.VERBS[verb].positional, "x", lambda _: fail())
    )
    assert command_line.main([verb, *arguments]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1 and shown[0].startswith("radz: out of memory; in this order: 1) ")
    places = [shown[0].index(step) for step in steps]
    assert places == sorted(places)


def test_other_errors_are_none_of_it() -> None:
    for error in (RuntimeError("shapes do not match"), ValueError("can't allocate memory"), KeyError("x")):
        assert not is_out_of_memory(error)
