"""Threads of a run: one for a tiny backbone, unless the user says how many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from radz.training import environment


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    environment._threads_of_process.cache_clear()
    yield
    environment._threads_of_process.cache_clear()
    torch.set_num_threads(before)


def test_a_tiny_backbone_has_one_and_the_next_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for tiny, threads in ((True, 1), (False, 3), (True, 1)):
        environment.set_threads(tiny)
        assert torch.get_num_threads() == threads


def test_the_user_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment.set_threads(True)
    assert torch.get_num_threads() == 3
