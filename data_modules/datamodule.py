"""The shared DataModule: corpora -> one table, one cache, one batch type."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DataLoader

from data_modules import corpora, privacy, reports, summary
from data_modules.augment import augment
from data_modules.batch import StudyBatch
from data_modules.cache import PixelCache, open_or_build
from data_modules.collate import Collator
from data_modules.config import DataConfig
from data_modules.corpus_config import SPLITS, one_of
from data_modules.decode import Recipe
from data_modules.errors import InputError
from data_modules.findings import Ontology, complete, ontology, policy_table
from data_modules.labelling.reviewed import apply_reviewed
from data_modules.loader import Loader
from data_modules.samplers import EvalSampler, RowDataset, TrainSampler, expected_draws, rank_and_world
from data_modules.shots import few_shots
from data_modules.study import StudyTable
from data_modules.subsets import by_image, fraction_of_patients, limited, shuffled

log = logging.getLogger(__name__)

NEEDED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
"""Splits that must hold studies at each stage; all three when no stage is named."""


class StudyDataModule(LightningDataModule):
    """Reads the corpora of a DataConfig. After `setup`: table, findings, ontology, cache, policy_loss, policy_metrics.

    Order and augmentation depend on (seed, epoch) alone; no global random state is read or changed.
    """

    serves: tuple[str, ...] = ()
    """Modalities that the subclass takes."""

    table: StudyTable
    ontology: Ontology
    cache: PixelCache
    policy_loss: torch.Tensor
    """float32 [C, K, 4], see `findings.policy_table`."""
    policy_metrics: torch.Tensor
    unreadable: list[str]
    """Why images were left out, each named by corpus, row and hash."""
    texts: list[str]
    """[N], the reports as batches hold them: those of training studies with `mask_terms` hidden."""
    overfit_batches: int = 0
    """If not 0, training repeats the first so many batches of epoch 0, augmented alike."""
    even_ranks: bool = False
    """whether all ranks must score equally many studies (`EvalSampler`)"""

    pictures: StudyTable
    """The studies whose images the cache holds: all of `table`, but in an audit that looks at a sample."""

    def __init__(
        self, config: DataConfig, cache_dir: Path, seed: int, sample: int | None = None, unit: str = "study"
    ) -> None:
        """Keep the settings; nothing is read before `setup`.

        `sample`: for an audit, decode the images of no more than this many studies of each corpus and split.
        `unit`: `image` makes every image of validation and test a row of its own.
        """
        super().__init__()
        for number, corpus in enumerate(config.corpora):
            # The first corpus may take minutes to read; a misspelt reader of the second should not wait for it.
            one_of(f"data.corpora.{number}.reader", corpus.reader, corpora.READERS)
        self.config, self.cache_dir, self.seed, self.sample = config, Path(cache_dir), seed, sample
        self.unit = unit
        self._ready, self._position = False, (0, 0)
        self._sampler: TrainSampler | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modality of each corpus."""
        return tuple(corpus.modality for corpus in self.config.corpora)

    @property
    def recipe(self) -> Recipe:
        """How files become images."""
        return Recipe.of(self.config)

    def most_images(self) -> dict[str, int]:
        """Return {modality: images of the study that has most}, the slices of a volume each counted."""
        counts = np.bincount(self.table.image_study, self.cache.slices, minlength=len(self.table)).astype(int)
        modality = self.table.modality
        return {name: int(counts[modality == name].max()) for name in sorted(set(modality))}

    @property
    def findings(self) -> tuple[str, ...]:
        """The K label columns."""
        return self.table.findings

    def prepare_data(self) -> None:
        """Build what lies on disk in one process, before the others look for it."""
        self._read()

    def setup(self, stage: str | None = None) -> None:
        """Read once; InputError when a split that the stage needs holds no study."""
        self._read()
        for split in SPLITS if stage is None else NEEDED[stage]:
            if not len(self.table.rows(split)):
                raise InputError(f"data.corpora: no study in the {split} split; see split_csv or split_fractions")
        if stage in (None, "fit"):
            self.check_batches(rank_and_world()[1])

    def check_batches(self, world: int) -> None:
        """InputError when the training split does not fill a batch on each of `world` processes."""
        if len(self.table.rows("train")) < self.config.batch_size * world:
            raise InputError(
                f"data.batch_size={self.config.batch_size}: {len(self.table.rows('train'))} training studies do not "
                f"fill one batch on {world} device(s); lower it"
            )

    def _read(self) -> None:
        if self._ready:
            return
        config = self.config
        if not config.corpora:
            raise InputError("data.corpora is empty: name at least one corpus")
        salt = privacy.salt(self.cache_dir)
        known, tables = ontology(), []
        for number, corpus in enumerate(config.corpora):
            key = f"data.corpora.{number}"
            tables.append(corpora.read(corpus, known, salt, self.cache_dir, key))
            known = known.extended(corpus.findings, f"{key}.findings", corpus.reader)
        table = StudyTable.concat(tables)
        for modality in set(table.modality) - set(self.serves):
            raise InputError(f"data.corpora: modality {modality} is not one of {', '.join(self.serves)}")
        table.check_splits(salt)
        if config.labels_reviewed:
            changed = apply_reviewed(table, Path(config.labels_reviewed).expanduser(), salt)
            log.info("%s: %d label(s) are replaced", config.labels_reviewed, changed)
        table.states = complete(table.states, table.findings, known)
        policies = [corpus.policy for corpus in config.corpora]
        self.policy_loss = torch.from_numpy(policy_table(policies, table.findings, "loss", table.coded))
        self.policy_metrics = torch.from_numpy(policy_table(policies, table.findings, "metrics", table.coded))
        # Of the whole training list: how often it has a finding must not move with how much of it is trained on.
        self.training_shares = {
            name: summary.frequencies(_labels(table, self.policy_metrics, rows))
            for name in table.corpora if len(rows := table.rows("train", name))
        }  # fmt: skip
        table = fraction_of_patients(limited(table, vars(config.limit), self.seed), config.fraction, self.seed)
        if config.shots:
            table = few_shots(table, _labels(table, self.policy_loss), config.shots, self.seed)
        table = by_image(table, ("val", "test")) if self.unit == "image" else table
        if self.sample is None:
            table, self.cache = self._decode(table, salt)
            if config.shuffle_pairs:
                table = shuffled(table, self.seed)
            self.pictures = table
        else:
            self.pictures, self.cache = self._decode(
                limited(table, dict.fromkeys(SPLITS, self.sample), self.seed), salt
            )
        self.table, self.ontology = table, known
        training = table.split == "train"
        self.texts = [
            reports.mask_terms(text, config.mask_terms) if train else text
            for text, train in zip(table.reports, training, strict=True)
        ]
        self._collate = self._collator()
        self._ready = True
        self._log()

    def reword(self, words: Mapping[str, str]) -> None:
        """Give the training studies other texts, {text: other}, masked like the first; what has none stays."""
        for row in self.table.rows("train"):
            other = words.get(self.texts[row], "")
            self.texts[row] = reports.mask_terms(other, self.config.mask_terms) or self.texts[row]
        self._collate = self._collator()

    def _collator(self) -> Collator:
        digests = np.array([reports.digest64(text) for text in self.texts], dtype=np.int64)
        table = self.table
        return Collator(self.cache, table.image_offsets, self.texts, digests, table.states, table.corpus)

    def _decode(self, table: StudyTable, salt: bytes) -> tuple[StudyTable, PixelCache]:
        """Open the cache; an unreadable image stops the run or is left out, as its corpus says."""
        config = self.config
        cache = open_or_build(table, self.recipe, self.cache_dir, config.workers or None, salt)
        self.unreadable = sorted(cache.unreadable.values())
        studies = table.image_study
        for image, cause in cache.unreadable.items():
            number = int(table.corpus[studies[image]])
            if config.corpora[number].bad.on_unreadable_image == "error":
                raise InputError(
                    f"{cause} ({len(cache.unreadable)} unreadable image(s)); replace the file or set "
                    f"data.corpora.{number}.bad.on_unreadable_image=skip"
                )
            table.coverage.skip("unreadable image", table.source_rows[studies[image]], table.corpora[number])
        if not cache.unreadable:
            return table, cache
        table, kept = table.without_images(cache.unreadable)
        return table, cache.select(kept)

    def _log(self) -> None:
        table = self.table
        log.info("studies per finding and state:\n%s", table.totals().to_string())
        log.info("studies, patients and images:\n%s", summary.counts_table(self.counts()))
        for line in summary.coverage_lines(table.coverage):
            log.info("%s", line)
        for name, corpus in zip(table.corpora, self.config.corpora, strict=True):
            log.info("%s: %s", name, summary.policy_sentence(corpus.policy))
        for split in SPLITS:
            labels = self.metric_labels(table.rows(split))
            none = [name for k, name in enumerate(table.findings) if len(labels) and not (labels[:, k] == 1).any()]
            if none:
                log.warning("no positive study in %s for: %s", split, ", ".join(none))

    def trained_findings(self) -> list[str]:
        """Findings with a positive training label."""
        positive = (self.loss_labels(self.table.rows("train")) == 1).any(axis=0)
        return [name for name, there in zip(self.findings, positive, strict=True) if there]

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return {corpus: {split: {studies, patients, images}}}."""
        table, found = self.table, {}
        images = np.diff(table.image_offsets)
        for corpus in table.corpora:
            rows = {split: table.rows(split, corpus) for split in SPLITS}
            found[corpus] = {
                split: {"studies": len(r), "patients": len(set(table.patient[r])), "images": int(images[r].sum())}
                for split, r in rows.items()
            }
        return found

    def environment(self) -> dict[str, Any]:
        """Return what a run records of its data: digests, counts, cache, coverage."""
        return {
            "data_digest": self.table.digest(),
            "pixel_digest": self.cache.digest(),
            "counts": self.counts(),
            "fraction": self.config.fraction,
            "shots": self.config.shots,
            "cache": [str(folder) for folder in self.cache.folders],
            "coverage": self.table.coverage.to_dict(),
        }

    def loss_labels(self, rows: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return float32 [n, K], 1, 0 or NaN under the loss policy; of all studies when no rows are given."""
        return _labels(self.table, self.policy_loss, rows)

    def metric_labels(self, rows: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return float32 [n, K], 1, 0 or NaN under the metrics policy; of all studies when no rows are given."""
        return _labels(self.table, self.policy_metrics, rows)

    def training_draws(self) -> NDArray[np.float64]:
        """How often an epoch draws each training study, in the mean."""
        rows = self.table.rows("train")
        return expected_draws(len(rows), self._classes(rows))

    def _classes(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Places in `rows` of the studies that have each finding, and of those that have none, where these are drawn
        first."""
        if self.config.sampling != "class_aware":
            return []
        present = self.loss_labels(rows) == 1
        return [np.flatnonzero(column) for column in (*present.T, ~present.any(1))]

    def train_dataloader(self) -> DataLoader[int]:
        """Shuffled by (seed, epoch), sharded by rank, incomplete last batch dropped; goes on where a resume is."""
        rows = RowDataset(self.table.rows("train"))
        shape = self.config.batch_size, self.seed, *rank_and_world()
        classes = self._classes(rows.rows)
        self._sampler = sampler = TrainSampler(rows, *shape, batches=self.overfit_batches, classes=classes)
        sampler.go_to(*self._position)
        return self._loader(rows, sampler, self.config.batch_size, drop_last=True)

    def state_dict(self) -> dict[str, Any]:
        """Where training is: epoch, and how many of its batches have been trained on."""
        if self.trainer is None:
            return {}
        loop = self.trainer.fit_loop
        # A finished epoch still counts its batches when its checkpoint is written, but is already done as an epoch.
        batch = loop.epoch_loop.batch_progress.current.completed % int(self.trainer.num_training_batches)
        return {"epoch": loop.epoch_progress.state_dict()["current"]["processed"], "batch": batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start the first training loader there. The loops' own counts are restored after that loader is made."""
        self._position = state_dict["epoch"], state_dict["batch"]
        if self._sampler is not None:  # strategies that shard restore after the loader is made
            self._sampler.go_to(*self._position)

    def val_dataloader(self) -> DataLoader[int]:
        """Each validation study exactly once over all ranks."""
        return self.rows_dataloader(self.table.rows("val"))

    def test_dataloader(self) -> DataLoader[int]:
        """Each test study exactly once over all ranks."""
        return self.rows_dataloader(self.table.rows("test"))

    def rows_dataloader(self, rows: ArrayLike, batch_size: int | None = None) -> DataLoader[int]:
        """Each of these studies exactly once over all ranks, `eval_batch_size` or `batch_size` together."""
        chosen = RowDataset(rows)
        sampler = EvalSampler(chosen, *rank_and_world(), self.even_ranks)
        return self._loader(chosen, sampler, batch_size or self.config.eval_batch_size, drop_last=False)

    def _loader(
        self, rows: RowDataset, sampler: TrainSampler | EvalSampler, batch_size: int, drop_last: bool
    ) -> DataLoader[int]:
        # A generator of its own: else every pass over the data would draw from torch's global one.
        generator = torch.Generator().manual_seed(self.seed)
        return Loader(
            rows,
            batch_size,
            sampler=sampler,
            collate_fn=self._collate,
            num_workers=self.config.workers,
            drop_last=drop_last,
            generator=generator,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.config.workers > 0,
        )

    def named(self, rows: Sequence[int]) -> list[str]:
        """Studies of table rows as logs may name them: corpus, row of its table, salted hash."""
        return self.table.named(rows, privacy.salt(self.cache_dir))

    def on_after_batch_transfer(self, batch: StudyBatch, dataloader_idx: int) -> StudyBatch:
        """Augment training batches on their device."""
        if self.trainer is None or not self.trainer.training:
            return batch
        volumetric = torch.tensor([name == "chest_ct" for name in self.modalities], device=batch.corpus.device)
        studies, repeats, together = (
            torch.repeat_interleave(of_studies, batch.image_counts, output_size=len(batch.pixels))
            for of_studies in (batch.rows, batch.repeats, volumetric[batch.corpus])
        )
        epoch = 0 if self.overfit_batches else int(self.trainer.current_epoch)
        pixels = augment(batch.pixels, studies, repeats, together, epoch, self.seed, self.config.augment)
        return replace(batch, pixels=pixels)


def _labels(table: StudyTable, policy: torch.Tensor, rows: ArrayLike | None = None) -> NDArray[np.float32]:
    index = np.arange(len(table)) if rows is None else np.asarray(rows, dtype=np.int64)
    corpus, states = table.corpus[index].astype(np.int64), table.states[index].astype(np.int64)
    labels: NDArray[np.float32] = policy.numpy()[corpus[:, None], np.arange(len(table.findings)), states]
    return labels
