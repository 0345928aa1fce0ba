"""The path of `radz bench device=gpu`, on the CPU at a small size: it runs, ends in time, and counts FLOPs as torch."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, gpu_parts, run, shapes
from benchmarks.shapes import SMALL
from data_modules.errors import InputError


def told(*parts: str, until: float = 0.0) -> list[dict[str, Any]]:
    """What a part tells, as JSON would bring it, in this process."""
    found = gpu_parts.side(SMALL, "cpu", until, *parts)
    return json.loads(json.dumps(list(found)))


@pytest.mark.slow
def test_both_sides_are_measured_and_a_batch_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "TRAIN", (1, 2))
    monkeypatch.setattr(gpu_parts, "SHOT", (1,))
    ours, theirs = told("radz", "plain"), told("reference", "checkpointing")
    assert all(len(one["seconds"]) == 1 for one in ours + theirs), "time is over: one call each"
    assert [one["kind"] for one in ours] == ["train", "train", "shot"] and len(theirs) == 2
    shown = {**theirs[0], "kind": "shot"}
    rows = list(gpu._beside(ours, [theirs[0], {**theirs[1], "seconds": []}, shown], "plain", SMALL, "a device"))
    rows += gpu._beside([{**ours[1], "seconds": []}], theirs, "checkpointing", SMALL, "a device")
    assert [(row.id, row.radz > 0, row.reference > 0) for row in rows] == [
        ("P1", True, True), ("P2", True, True), ("P1", True, False), ("P4", True, True), ("P1", False, True)
    ]  # fmt: skip
    assert "2 pairs with checkpointing; radz ran" in rows[-1].what
    assert "the reference ran out of memory" in rows[2].what
    assert "of 790" in rows[0].what and rows[0].device == "a device"
    assert list(gpu._beside(ours, [], "plain", SMALL, "a device")) == [], "what is beside nothing is no row"


def test_bf16_features_are_those_of_fp32() -> None:
    found = {one["kind"]: one["cosine"] for one in gpu_parts.parity(SMALL, "cpu", 0.0)}
    assert found.keys() == {"images", "reports"} and all(1 - gpu_parts.BOUND < x < 1 for x in found.values())


def test_it_ends_in_time_and_says_what_was_not_measured() -> None:
    """Parts that do not end are killed; nobody is beside them."""
    start = time.monotonic()
    rows = list(gpu.run("small", "cpu", limit=3.5))
    assert time.monotonic() - start < 3.5 + 5
    assert [row.id for row in rows] == ["P19", "P20", "P21"]
    assert all("not measured" in row.what and row.radz == row.ratio == 0 for row in rows)


@pytest.mark.slow
def test_all_of_it_in_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Processes, Trainer, DDP on gloo and table."""
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "PAGE", tmp_path / "page")
    run.PAGE.write_text(f"before\n{run.START}\n{run.END}\nafter\n")
    monkeypatch.setattr(gpu, "run", lambda real=gpu.run: real("small", "cpu", 900.0))
    lines = list(run.bench([], "gpu"))
    found = json.loads(run.RESULTS.read_text())
    ids = [one["id"] for one in found]
    assert len(lines) == len(found) + 1 and set(ids) == set(gpu.IDS)
    assert [ids.count(name) for name in gpu.IDS] == [6, 6, 3, 2, 2, 1]
    ddp = [one for one in found if one["id"] == "P20"]
    assert "one process, gloo" in ddp[0]["what"] and ddp[1]["radz"] < gpu.BOUND
    assert "4-bit weights: not measured, there is no GPU" in run.PAGE.read_text()


def test_a_run_that_is_cut_off_has_written_its_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from benchmarks import common

    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "PAGE", tmp_path / "page")
    run.PAGE.write_text(f"before\n{run.START}\n| old |\n{run.END}\nafter\n")
    old = common.of_times("P1", "an older row", "pairs/s", 1, [1.0], [2.0])
    run._write([], [old, common.of_times("P1", "another device", "pairs/s", 1, [1.0], [2.0], "GPU")])

    def cut() -> Any:
        yield common.of_times("P1", "a new row", "pairs/s", 1, [1.0], [3.0])
        raise KeyboardInterrupt

    monkeypatch.setitem(run.BENCHMARKS, "P1", cut)
    shown: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        shown.extend(run.bench(["P1"]))
    kept = {one["what"]: one["ratio"] for one in json.loads(run.RESULTS.read_text())}
    assert kept == {"a new row": 3.0, "another device": 2.0}
    page = run.PAGE.read_text()
    assert "a new row" in page and "older" not in page and page.startswith("before") and page.endswith("after\n")


def test_flops_are_those_that_torch_counts() -> None:
    config = SMALL.config()
    config.text_config._attn_implementation = "eager"
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration(config).eval()
    decoder = model.model.language_model
    decoder.layers = decoder.layers[:-1]
    tokens = 50
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(inputs_embeds=torch.randn(1, tokens, SMALL.width), use_cache=False)
    # Eager attention computes the whole square, of which a causal model needs half.
    square = (SMALL.layers - 1) * 2 * tokens**2 * SMALL.width
    assert counter.get_total_flops() == pytest.approx(gpu.forward_flops(SMALL, tokens) + square, rel=0.01)
    assert gpu.forward_flops(shapes.SEVEN_B, 617) == pytest.approx(8.44e12, rel=0.01)
    assert gpu.tower_flops(shapes.SEVEN_B) == pytest.approx(0.366e12 + 0.024e12, rel=0.03)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_one_line_says_so() -> None:
    with pytest.raises(InputError, match="device=gpu: there is no usable GPU here"):
        list(run.bench([], "gpu"))


def test_an_unknown_benchmark_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^only: there is no benchmark 'P99' for device=cpu; nearest is 'P9'"):
        list(run.bench(["P99"]))
    with pytest.raises(InputError, match=r"^only: there is no benchmark 'P5' for device=gpu"):
        list(run.bench(["P5"], "gpu"))
