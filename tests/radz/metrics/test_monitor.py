"""The metric of the training loop against scikit-learn, on one process and on two with uneven rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from processes import in_processes
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from radz.metrics.monitor import FindingMetrics, as_log_dict

FINDINGS = ("edema", "mass", "hernia", "nodule")
SHARES = (47, 60)


Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def rows(n: int = 60, seed: int = 0) -> Part:
    """Narrow, tied scores near .5 as cosines give; hernia has no positive, nodule no known label."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 4)) < 0.3).astype(np.float32)
    targets[rng.random((n, 4)) < 0.2] = np.nan
    targets[:, 2], targets[:, 3] = 0, np.nan
    scores = 0.5 + 0.01 * np.round(rng.normal(size=(n, 4)) + np.nan_to_num(targets), 1)
    return torch.arange(n), torch.tensor(scores, dtype=torch.float32), torch.tensor(targets)


def cut(part: Part, where: slice) -> Part:
    return part[0][where], part[1][where], part[2][where]


def filled(*parts: Part) -> dict[str, float]:
    metric = FindingMetrics(FINDINGS)
    for part in parts:
        metric.update(*part)
    return as_log_dict(metric.compute(), "val")


def test_equals_scikit_learn_on_known_rows() -> None:
    index, scores, targets = rows()
    got = filled((index, scores, targets))
    for column, finding in enumerate(FINDINGS[:2]):
        known = ~torch.isnan(targets[:, column])
        y, s = targets[known, column].numpy(), scores[known, column].numpy()
        assert got[f"val/auroc/{finding}"] == pytest.approx(roc_auc_score(y, s), abs=1e-6)
        assert got[f"val/auprc/{finding}"] == pytest.approx(average_precision_score(y, s), abs=1e-6)
        best = max(f1_score(y, s >= threshold) for threshold in np.unique(s))
        assert got[f"val/f1/{finding}"] == pytest.approx(best, abs=1e-6)
    two = [got["val/auroc/edema"], got["val/auroc/mass"]]
    # torchmetrics' own macro would count hernia as 0.
    assert got["val/auroc_macro"] == pytest.approx(np.mean(two), abs=1e-6)
    assert np.isnan([got[f"val/{m}/{f}"] for m in ("auroc", "auprc", "f1") for f in FINDINGS[2:]]).all()


def test_batches_order_and_repeats_do_not_matter() -> None:
    whole = rows()
    one = filled(whole)
    halves = [cut(whole, where) for where in (slice(40, 60), slice(0, 40), slice(10, 20))]
    assert filled(*halves) == pytest.approx(one, nan_ok=True, abs=0)


def test_no_rows_gives_the_same_keys() -> None:
    empty = filled(cut(rows(), slice(0)))
    assert list(empty) == list(filled(rows())) and np.isnan(list(empty.values())).all()
    assert np.isnan(as_log_dict(FindingMetrics(FINDINGS).compute(), "val")["val/auroc_macro"])


def test_reset_forgets() -> None:
    metric = FindingMetrics(FINDINGS)
    metric.update(*rows(seed=1))
    metric.compute()
    metric.reset()
    metric.update(*rows())
    assert as_log_dict(metric.compute(), "val") == pytest.approx(filled(rows()), nan_ok=True)


def test_bad_scores_are_refused() -> None:
    index, scores, targets = rows(6)
    metric = FindingMetrics(FINDINGS)
    for bad in (-0.1, 1.1, float("nan")):
        broken = scores.clone()
        broken[2, 1] = bad
        with pytest.raises(ValueError, match=r"'mass'.*in \[0, 1\]"):
            metric.update(index, broken, targets)
    with pytest.raises(ValueError, match="float32"):
        metric.update(index, scores.bfloat16(), targets)
    with pytest.raises(ValueError, match="must both be"):
        metric.update(index, scores[:, :2], targets)


def test_an_undefined_monitor_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    metric = FindingMetrics(FINDINGS)
    for labels in (rows()[2], torch.ones(60, 4), torch.ones(60, 4)):
        metric.reset()
        metric.update(*rows()[:2], labels)
        metric.compute()
    warned = [record.message for record in caplog.records]
    assert len(warned) == 1 and "val/auroc_macro is undefined" in warned[0]


def _worker(rank: int, world: int, folder: Path) -> None:
    metric = FindingMetrics(FINDINGS)
    for share in SHARES:
        metric.reset()
        part = cut(rows(), slice(0, share) if rank == 0 else slice(share, 60))
        for batch in range(0, len(part[0]), 16):
            metric.update(*cut(part, slice(batch, batch + 16)))
        # Twice: a sync must leave the local state whole.
        metric.compute()
        metric._computed = None
        torch.save(as_log_dict(metric.compute(), "val"), folder / f"{share}_{rank}.pt")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Uneven ranks (47 and 13 rows), and one rank that never sees a row."""
    in_processes(_worker, 2, tmp_path)
    one = filled(rows())
    for share in SHARES:
        for rank in range(2):
            got = torch.load(tmp_path / f"{share}_{rank}.pt")
            assert list(got) == list(one)
            assert got == pytest.approx(one, nan_ok=True, abs=0)
