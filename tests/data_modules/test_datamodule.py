from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from plain_trainer import plain_trainer
from small_corpus import Corpus, Make, ready

from data_modules import datamodule
from data_modules.batch import StudyBatch
from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import Augment, Limit
from data_modules.corpus_config import Columns, LabelPolicy, LabelRule, Unmentioned
from data_modules.errors import InputError
from data_modules.reports import digest64
from data_modules.workers import death


def floats(values: list) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_batches_hold_what_the_table_says(make: Make) -> None:
    module = ready(make())
    table = module.table
    seen = []
    for batch in module.test_dataloader():
        assert isinstance(batch, StudyBatch) and batch.pixels.dtype == torch.uint8
        assert batch.pixels.shape == (int(batch.image_counts.sum()), 1, 16, 16)
        assert batch.label_states.dtype == torch.int8 and batch.text_digest.dtype == torch.int64
        for b, row in enumerate(batch.rows.tolist()):
            assert batch.reports[b] == table.reports[row]
            assert int(batch.text_digest[b]) == digest64(table.reports[row])
            assert batch.label_states[b].tolist() == table.states[row].tolist()
            np.testing.assert_array_equal(batch.pixels[b, 0], module.cache.picture(row))
        seen += batch.rows.tolist()
    assert seen == table.rows("test").tolist()
    assert batch.to("cpu").rows.tolist() == batch.rows.tolist() and len(batch) == len(batch.reports)


def test_training_order_is_of_seed_and_epoch_and_touches_no_global_state(make: Make) -> None:
    def rows(module: ChestXrayDataModule, epoch: int) -> list[int]:
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return [row for batch in loader for row in batch.rows.tolist()]  # type: ignore[attr-defined]

    module = ready(make())
    state = torch.random.get_rng_state()
    first = rows(module, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sorted(first) == module.table.rows("train").tolist()
    assert rows(ready(make()), 0) == first
    assert any(rows(module, epoch) != first for epoch in (1, 2)) and rows(ready(make(seed=1)), 0) != first


def test_setup_reads_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ready(make())
    table = module.table
    monkeypatch.setattr(datamodule.corpora, "read", None)
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    assert module.table is table


def test_studies_of_several_images_stay_together(make: Make, corpus: Corpus) -> None:
    for i, row in enumerate(corpus.rows):
        row.update(study=f"s{i // 2}", notes="same", finding="No Finding")
    corpus.write()
    columns = Columns(image="filename", patient="patientid", study="study", report="notes")
    module = ready(make([corpus.config(columns=columns)]))
    batch = next(iter(module.train_dataloader()))
    assert batch.pixels.shape[0] == 4 and batch.image_counts.tolist() == [2, 2]
    for b, row in enumerate(batch.rows.tolist()):
        for image in range(2):
            np.testing.assert_array_equal(batch.pixels[2 * b + image, 0], module.cache.picture(2 * row + image))


def test_labels_follow_each_corpus_policy(make: Make, corpus: Corpus, another: Callable[[str], Corpus]) -> None:
    second = another("second")
    for row in second.rows:
        row["edema"] = "-1"
    corpus.write()
    second.write()
    coding = {1: "present", 0: "absent", -1: "uncertain"}
    labels = {"edema": LabelRule("edema", numeric=coding)}  # type: ignore[arg-type]
    policy = LabelPolicy("present", unmentioned=Unmentioned("absent", "absent"))
    module = ready(make([corpus.config(), second.config(name="second", labels=labels, policy=policy)]))
    assert module.findings == ("covid19", "no_finding", "edema")
    loss, metrics = module.loss_labels(), module.metric_labels()
    nan = np.nan
    # no_finding present makes edema absent; with COVID-19 the first corpus says nothing about edema.
    np.testing.assert_equal(loss[:2], floats([[1, 0, nan], [0, 1, 0]]))
    # The second corpus never labels COVID-19: unknown there, although its policy reads silence as absence.
    np.testing.assert_equal(loss[12], floats([nan, nan, 1]))
    np.testing.assert_equal(metrics[12], loss[12])
    np.testing.assert_equal(module.loss_labels([12, 1]), loss[[12, 1]])
    assert module.policy_loss.shape == (2, 3, 4)
    assert module.counts()["second"]["train"] == {"studies": 6, "patients": 3, "images": 6}


def test_masking_hides_terms_in_training_reports_only(make: Make, corpus: Corpus) -> None:
    for row in corpus.rows:
        row["notes"] = "Typical Covid-19 picture."
    module = ready(make(mask_terms=["COVID-19"]))
    train = next(iter(module.train_dataloader()))
    test = next(iter(module.test_dataloader()))
    assert set(train.reports) == {"Typical ___ picture."} and set(test.reports) == {"Typical Covid-19 picture."}
    assert train.text_digest[0] != test.text_digest[0]


def test_shuffled_pairs_keep_image_and_split_and_move_reports_with_labels(make: Make) -> None:
    plain, control = ready(make()), ready(make(shuffle_pairs=True, seed=3))
    assert (
        control.table.image_ids == plain.table.image_ids and control.table.split.tolist() == plain.table.split.tolist()
    )
    assert control.table.reports != plain.table.reports
    states = {report: tuple(s) for report, s in zip(plain.table.reports, plain.table.states, strict=True)}
    for split in ("train", "val", "test"):
        rows = plain.table.rows(split)
        assert {control.table.reports[r] for r in rows} == {plain.table.reports[r] for r in rows}
    assert all(states[r] == tuple(s) for r, s in zip(control.table.reports, control.table.states, strict=True))
    assert ready(make(shuffle_pairs=True, seed=3)).table.reports == control.table.reports


def test_limit_draws_by_seed(make: Make) -> None:
    module = ready(make(limit=Limit(train=2, test=3)))
    assert {s: len(module.table.rows(s)) for s in ("train", "val", "test")} == {"train": 2, "val": 2, "test": 3}
    chosen = {tuple(ready(make(limit=Limit(train=2), seed=s)).table.study_id[:2]) for s in range(5)}
    assert len(chosen) > 1


def test_log_and_environment_hold_the_account_and_no_identifier(
    make: Make, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    for row in corpus.rows[8:]:
        row["finding"] = "No Finding"
    corpus.rows[1]["notes"] = ""
    with caplog.at_level(logging.INFO):
        module = ready(make())
    assert "no positive study in test for: covid19" in caplog.text
    assert "1 row(s) kept all the same: empty report" in caplog.text and "ours/train" in caplog.text
    assert "ours: uncertain labels are ignored; unmentioned findings count as" in caplog.text
    told = module.environment()
    assert told["counts"]["ours"]["train"] == {"studies": 6, "patients": 3, "images": 6}
    assert told["data_digest"] == module.table.digest() and all(Path(folder).is_dir() for folder in told["cache"])
    assert told["coverage"]["counted"] == {"empty report": 1}
    for text in (caplog.text, str(told)):
        assert "img1" not in text and "Report 2" not in text


def test_a_batch_of_32_is_made_in_well_under_a_millisecond_per_image(make: Make, corpus: Corpus) -> None:
    module = ready(make(image_size=224))
    rows = module.table.rows("train").tolist() * 6
    module._collate(rows[:32])
    start = time.perf_counter()
    for _ in range(5):
        module._collate(rows[:32])
    assert (time.perf_counter() - start) / (5 * 32) < 1e-3
    assert len(pickle.dumps(module._collate)) < 10_000, "what travels to a worker holds no pixels"


class Recorder(LightningModule):
    """Records which studies a Trainer shows, and whether their pixels are augmented."""

    def __init__(self, module: ChestXrayDataModule) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.module, self.train_rows, self.changed = module, [], {"train": 0, "val": 0}  # type: ignore[var-annotated]

    def note(self, batch: StudyBatch, stage: str) -> None:
        stored = torch.from_numpy(self.module.cache.batch(batch.rows.numpy()))
        self.changed[stage] += int(not torch.equal(batch.pixels, stored))

    def training_step(self, batch: StudyBatch) -> torch.Tensor:
        self.train_rows.append((self.current_epoch, batch.rows.tolist()))
        self.note(batch, "train")
        return self.weight * 1.0

    def validation_step(self, batch: StudyBatch) -> None:
        self.note(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("enabled", [True, False])
def test_a_trainer_shuffles_by_epoch_and_augments_training_only(make: Make, tmp_path: Path, enabled: bool) -> None:
    module = make(augment=Augment(enabled=enabled))
    recorder = Recorder(module)
    trainer = plain_trainer(max_epochs=3, default_root_dir=tmp_path)
    trainer.fit(recorder, datamodule=module)
    orders = [[r for e, rows in recorder.train_rows if e == epoch for r in rows] for epoch in range(3)]
    assert [sorted(order) for order in orders] == [module.table.rows("train").tolist()] * 3
    assert len({tuple(order) for order in orders}) > 1
    assert recorder.changed == {"train": 9 if enabled else 0, "val": 0}


@pytest.mark.fault(20)
def test_workers_give_the_same_batches(make: Make) -> None:
    alone = list(ready(make()).test_dataloader())
    shared = list(ready(make(workers=1)).test_dataloader())
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a.pixels, b.pixels) and a.reports == b.reports  # type: ignore[attr-defined]


@pytest.mark.fault(14)
def test_a_fault_reads_the_same_from_a_worker(make: Make) -> None:
    """torch puts the traceback of the worker into the text."""
    told = []
    for workers in (0, 1):
        module = ready(make(workers=workers))
        for store in module.cache.stores:
            path = store.folder / "pixels.u8"
            path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(InputError) as fault:
            list(ready(make(workers=workers)).test_dataloader())
        told.append(str(fault.value))
    assert told[0] == told[1] and "\n" not in told[0] and "is damaged" in told[0]


@pytest.mark.fault(21)
def test_a_killed_loader_is_one_line(make: Make) -> None:
    before = multiprocessing.active_children()
    batches = iter(ready(make(workers=1, eval_batch_size=1)).test_dataloader())
    next(batches)
    (worker,) = [process.pid or 0 for process in multiprocessing.active_children() if process not in before]
    assert os.getpgid(worker) == worker != os.getpgid(0)
    with pytest.raises(RuntimeError) as fault:
        os.kill(worker, signal.SIGKILL)
        time.sleep(1)
        list(batches)
    assert f"(process {worker}) was killed by SIGKILL" in str(death(fault.value))


def test_class_aware_sampling_draws_findings_before_studies(make: Make) -> None:
    """One training study of six has covid19, the others the rest: it is drawn far more often than once in six."""
    plain, aware = (ready(make(sampling=how, batch_size=2)) for how in ("uniform", "class_aware"))
    present = plain.loss_labels(plain.table.rows("train")) == 1
    share = {"uniform": [], "class_aware": []}
    for name, module in (("uniform", plain), ("class_aware", aware)):
        loader = module.train_dataloader()
        for epoch in range(60):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            batches = list(loader)
            rows = [row for batch in batches for row in batch.rows.tolist()]  # type: ignore[attr-defined]
            repeats = [number for batch in batches for number in batch.repeats.tolist()]  # type: ignore[attr-defined]
            assert repeats == [rows[:n].count(row) for n, row in enumerate(rows)]
            share[name] += rows
    rows = plain.table.rows("train")
    assert set(share["class_aware"]) <= set(rows.tolist())
    for name, module in (("uniform", plain), ("class_aware", aware)):
        found = np.bincount(share[name], minlength=rows.max() + 1)[rows] / 60
        assert np.allclose(found, module.training_draws(), atol=0.35) and module.training_draws().sum() == len(rows)
    groups = [set(rows[column].tolist()) for column in (*present.T, ~present.any(1)) if column.any()]
    drawn = [sum(row in group for row in share["class_aware"]) / len(share["class_aware"]) for group in groups]
    once = [len(group) / len(rows) for group in groups]
    assert len(groups) > 1 and all(one >= 0.8 / len(groups) for one in drawn)
    assert min(once) < 0.8 * min(drawn)
