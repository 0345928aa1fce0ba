"""P4 to P6: features of images and texts, and the bank of anchors, beside the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from benchmarks import common, shapes, sides
from benchmarks.common import Result
from benchmarks.reference import Reference, anchors_by_class, embed
from data_modules.batch import StudyBatch
from radz.config.files import find_resource
from radz.config.schema import DkamConfig
from radz.methods.dkam import DKAM
from radz.models.descriptions import load_descriptions
from radz.models.encoder import Encoder

IMAGES, BATCHES, REPORTS, REPEATS = 64, (1, 16, 64), 256, 0.4
ROUNDS = 5
DESCRIPTION = (34.0, 0.3, 120)
"""Words of a description, as of those that are shipped: median, spread of the logarithm, longest."""


@contextmanager
def both() -> Iterator[tuple[Encoder, Reference, str]]:
    """Encoder and reference with equal weights, in eval mode, and the instruction beside an image."""
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = shapes.write_folder(Path(name), shapes.TINY)
        settings = sides.experiment()
        encoder = sides.encoder(folder, settings)
        module = sides.module(encoder, settings)
        plain = sides.reference(folder, settings.dfat)
        sides.copy_trained(encoder, plain)
        words = sides.Inputs.of(shapes.batch(1, shapes.TINY), module).instruction
        yield encoder.eval(), plain.eval(), words


def images() -> Iterator[Result]:
    """P4."""
    with both() as (encoder, plain, instruction):
        whole = shapes.batch(IMAGES, shapes.TINY)
        for size in BATCHES:
            # One image at a time takes long enough with fewer of them.
            count = min(IMAGES, 16 * size)
            starts = range(0, count, size)
            what = f"image features, {size} at a time"

            def ours(starts: range = starts, size: int = size) -> Any:
                return [_image(encoder, whole, i, size) for i in starts]

            def theirs(starts: range = starts, size: int = size) -> Any:
                return [plain.image_features(whole.pixels[i : i + size], instruction) for i in starts]

            yield common.rates("P4", what, "images/s", count, ours, theirs, ROUNDS)


def _image(encoder: Encoder, whole: StudyBatch, start: int, count: int) -> Any:
    part = slice(start, start + count)
    return encoder.encode_images(whole.pixels[part], whole.image_counts[part], [sides.MODALITY] * count)


def texts() -> Iterator[Result]:
    """P5."""
    rng = np.random.default_rng(1)
    distinct = shapes.report_texts(REPORTS, shapes.TINY.words)
    fewer = distinct[: round(REPORTS * (1 - REPEATS))]
    repeated = [*fewer, *rng.choice(fewer, REPORTS - len(fewer))]
    rng.shuffle(repeated)
    with both() as (encoder, plain, _):
        for name, reports in (("distinct reports", distinct), (f"reports, {REPEATS:.0%} of them repeats", repeated)):
            what = f"features of {REPORTS} {name}, tokens {_lengths(encoder, reports)}"
            yield common.rates(
                "P5", what, "texts/s", REPORTS, lambda r=reports: encoder.encode_texts(r, 32).overall,
                lambda r=reports: embed(plain, r, 32), ROUNDS,
            )  # fmt: skip


def _lengths(encoder: Encoder, reports: Sequence[str]) -> str:
    """Quantiles of the token counts."""
    counts = [len(row) for row in encoder.backbone.tokenizer(list(reports)).input_ids]
    least, low, middle, high, most = np.quantile(counts, (0, 0.25, 0.5, 0.75, 1)).astype(int)
    return f"{least}/{low}/{middle}/{high}/{most} (least, quartiles, most), mean {np.mean(counts):.0f}"


def anchors() -> Iterator[Result]:
    """P6: through the Trainer, as `radz anchors` does."""
    shipped = load_descriptions(find_resource("descriptions/chest_xray.yaml"))
    aspects = DkamConfig().aspects
    banks = [[one.text(aspects) for one in list(shipped.values())[:14]], shapes.report_texts(200, DESCRIPTION)]
    with both() as (encoder, plain, _):
        module = DKAM(encoder, DkamConfig())
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        for bank in banks:
            loader = module.predict_dataloader_for(bank)
            words = sum(len(text.split()) for text in bank) / len(bank)
            what = f"anchors of {len(bank)} descriptions (mean {words:.0f} words) against one class after the other"
            yield common.rates(
                "P6", what, "anchors/s", len(bank), lambda d=loader: trainer.predict(module, d),
                lambda b=bank: anchors_by_class(plain, b), ROUNDS,
            )  # fmt: skip
