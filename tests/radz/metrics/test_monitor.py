"""The metric of the training loop against scikit-learn, on one process and on two with uneven rows, and its use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from processes import in_processes
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from study_batch import study_batch

from radz.methods.base import Scored
from radz.metrics.monitor import MONITOR, FindingMetrics, as_log_dict
from radz.models.labels import LabelView

FINDINGS = ("edema", "mass", "hernia", "nodule")
SHARES = (47, 60)


Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def rows(n: int = 60, seed: int = 0, corpora: int = 2) -> Part:
    """Narrow, tied scores near .5 as cosines give; hernia has no positive, nodule no known label."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 4)) < 0.3).astype(np.float32)
    targets[rng.random((n, 4)) < 0.2] = np.nan
    targets[:, 2], targets[:, 3] = 0, np.nan
    scores = 0.5 + 0.01 * np.round(rng.normal(size=(n, 4)) + np.nan_to_num(targets), 1)
    index = torch.arange(n)
    return index, index // 4 % corpora, torch.tensor(scores, dtype=torch.float32), torch.tensor(targets)


def cut(part: Part, where: slice) -> Part:
    index, corpus, scores, targets = part
    return index[where], corpus[where], scores[where], targets[where]


def filled(*parts: Part) -> dict[str, float]:
    metric = FindingMetrics(FINDINGS)
    for part in parts:
        metric.update(*part)
    return as_log_dict(metric.compute(), "val")


def best_f1(y: np.ndarray, s: np.ndarray) -> float:
    return max(f1_score(y, s >= threshold) for threshold in np.unique(s))


@pytest.mark.parametrize("corpora", [1, 2])
def test_equals_scikit_learn_on_known_rows_of_each_corpus(corpora: int) -> None:
    part = rows(corpora=corpora)
    _, corpus, scores, targets = part
    got = filled(part)
    for column, finding in enumerate(FINDINGS[:2]):
        known = [~torch.isnan(targets[:, column]) & (corpus == number) for number in range(corpora)]
        pairs = [(targets[at, column].numpy(), scores[at, column].numpy()) for at in known]
        for name, measure in {"auroc": roc_auc_score, "auprc": average_precision_score, "f1": best_f1}.items():
            expected = np.mean([measure(*pair) for pair in pairs])
            assert got[f"val/{name}/{finding}"] == pytest.approx(expected, abs=1e-6)
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
    index, corpus, scores, targets = rows(6)
    metric = FindingMetrics(FINDINGS)
    for bad in (-0.1, 1.1, float("nan")):
        broken = scores.clone()
        broken[2, 1] = bad
        with pytest.raises(ValueError, match=r"'mass'.*in \[0, 1\]"):
            metric.update(index, corpus, broken, targets)
    with pytest.raises(ValueError, match="float32"):
        metric.update(index, corpus, scores.bfloat16(), targets)
    with pytest.raises(ValueError, match="must both be"):
        metric.update(index, corpus, scores[:, :2], targets)


def test_an_undefined_monitor_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    metric = FindingMetrics(FINDINGS)
    for labels in (rows()[3], torch.ones(60, 4), torch.ones(60, 4)):
        metric.reset()
        metric.update(*rows()[:3], labels)
        metric.compute()
    warned = [record.message for record in caplog.records]
    assert len(warned) == 1 and "val/auroc_macro is undefined" in warned[0]


class Fixed(Scored):
    """Scores that are given."""

    headline = "fixed"

    def __init__(self, names: tuple[str, ...], scores: torch.Tensor) -> None:
        super().__init__()
        self.given, self.logged = scores, dict[str, float]()
        policy = torch.tensor([0, 1, torch.nan, torch.nan]).expand(2, len(names), 4)
        self.set_up(LabelView(names, names, policy, policy), names)

    def score(self, batch: object) -> dict[str, torch.Tensor]:
        return {"fixed": self.given}

    def log(self, name: str, value: float, **_: object) -> None:  # type: ignore[override]
        self.logged[name] = value

    def log_dict(self, values: dict[str, float], **_: object) -> None:  # type: ignore[override]
        self.logged |= values


def logged(
    names: tuple[str, ...], scores: np.ndarray, labels: np.ndarray, corpus: np.ndarray, *primary: str
) -> dict[str, float]:
    """What a validation logs."""
    module = Fixed(names, torch.tensor(scores, dtype=torch.float32))
    if primary:
        module.metrics.primary = primary
    states = torch.tensor(labels).to(torch.int8)
    batch = study_batch(torch.zeros(len(labels), 1, 1, 1), [1] * len(labels), states=states)
    batch.corpus = torch.tensor(corpus)
    module.on_validation_epoch_start()
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    return module.logged


def test_to_know_the_hospital_is_no_better_epoch() -> None:
    """Two corpora, where a twentieth and three fifths have the finding."""
    draw = np.random.default_rng(0)
    corpus = np.repeat([0, 1], 400)
    labels = (draw.random(800) < np.where(corpus == 1, 0.6, 0.05)).astype(int)
    noise, values, pooled = draw.normal(size=800), [], []
    for logits in (labels + noise, 3 * corpus + noise):
        scores = 1 / (1 + np.exp(-logits))
        of = [roc_auc_score(labels[corpus == number], scores[corpus == number]) for number in (0, 1)]
        found = logged(("edema",), scores[:, None], labels[:, None], corpus)
        assert found[MONITOR] == found["val/auroc/edema"] == pytest.approx(np.mean(of), abs=1e-6)
        values.append(found[MONITOR])
        pooled.append(roc_auc_score(labels, scores))
    assert values[0] > values[1] + 0.15 and pooled[0] < pooled[1]


def test_findings_outside_the_primary_ones_choose_no_epoch(caplog: pytest.LogCaptureFixture) -> None:
    """Unless no other has both labels; their own numbers are logged."""
    names, labels = ("edema", "mass", "hernia"), np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]])
    scores = np.array([[0.9, 0.1, 0.5], [0.1, 0.8, 0.5], [0.2, 0.2, 0.5], [0.3, 0.7, 0.5]])
    of = {"edema": 0.75, "mass": 0.25}
    nothing, both = np.zeros(4, int), sum(of.values()) / 2
    with caplog.at_level("INFO", "radz"):
        for primary, expected, said in (
            ((), both, ""),
            (("edema", "hernia"), of["edema"], "without findings that scoring.primary leaves out (mass)"),
            (("hernia",), both, "by others (edema, mass)"),
        ):
            caplog.clear()
            found = logged(names, scores, labels, nothing, *primary)
            assert found[MONITOR] == expected and {name: found[f"val/auroc/{name}"] for name in of} == of
            assert [said in record.message for record in caplog.records] == [True] * bool(said)


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
