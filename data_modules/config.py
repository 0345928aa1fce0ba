"""The data section of an experiment: dataclasses that the upper floor composes with `OmegaConf.structured`.

The string under a field is its help text. `DataConfig` checks the whole section, so that an error names the full key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.corpus_config import SPLITS, CorpusConfig, in_range, one_of
from data_modules.ct_config import CtConfig
from data_modules.errors import InputError


@dataclass
class Augment:
    """Training images only; ranges are uniform, per image, seeded by (seed, epoch, study, image)."""

    enabled: bool = True
    """Whether training images are changed at all."""
    rotate_degrees: float = 5.0
    """Up to this angle to either side."""
    scale: list[float] = field(default_factory=lambda: [0.9, 1.1])
    """Least and greatest magnification."""
    translate: float = 0.05
    """Up to this share of the side, in x and in y."""
    brightness: float = 0.1
    """Added: up to this share of the full range, up or down."""
    contrast: float = 0.15
    """Gain about mid-gray between 1 - contrast and 1 + contrast."""
    flip: bool = False
    """Mirror left and right for half of the images. Off: reports name sides."""

    def check(self, key: str) -> None:
        """InputError for a range that cannot be drawn from."""
        in_range(f"{key}.rotate_degrees", self.rotate_degrees, 0, 180)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"{key}.scale: {list(self.scale)} must be [least, greatest] with 0 < least <= greatest")
        for name in ("translate", "brightness", "contrast"):
            in_range(f"{key}.{name}", getattr(self, name), 0, 1)


@dataclass
class Limit:
    """At most this many studies per split and corpus, drawn by the seed; null is all."""

    train: int | None = None
    """Studies to train on."""
    val: int | None = None
    """Studies of validation."""
    test: int | None = None
    """Studies of the test."""


@dataclass
class DataConfig:
    """The data section of an experiment."""

    corpora: list[CorpusConfig] = field(default_factory=list)
    """Corpora, joined into one table."""
    image_size: int = 336
    """Side of the square image in pixels."""
    resize: str = "pad"
    """pad (keeps all, black border), squash (ignores the aspect ratio) or crop (centre square)."""
    equalize: bool = False
    """Equalise the histogram of every picture, as MIMIC-CXR-JPG did; CT volumes keep their windows."""
    frames: str = "error"
    """Which frame of a multi-frame DICOM file is the radiograph: first, middle, or error (such a file is refused)."""
    ct: CtConfig = field(default_factory=CtConfig)
    """How a CT volume becomes images."""
    batch_size: int = 32
    """Studies per step and device."""
    eval_batch_size: int = 64
    """Studies per step and device in validation and test."""
    workers: int = 0
    """Processes that assemble batches (0: none; a batch comes from the cache in well under a millisecond per image)."""
    augment: Augment = field(default_factory=Augment)
    """Random changes of training images."""
    mask_terms: list[str] = field(default_factory=list)
    """Words hidden in training reports (whole words, any case)."""
    labels_reviewed: str | None = None
    """Table of labels that a person has looked at again (`radz data denoise RUN`); `accepted` cells replace labels."""
    shuffle_pairs: bool = False
    """Negative control: reports and labels together permuted against the images inside each split of each corpus."""
    limit: Limit = field(default_factory=Limit)
    """Fewer studies, for trials."""
    sampling: str = "uniform"
    """Training studies of an epoch: uniform (each once) | class_aware (as many draws, of a finding first, then of a
    study that has it): rare findings are seen as often as common ones."""
    fraction: float = 1.0
    """Share of the training patients of each corpus that are kept, by the seed; a smaller share lies in a larger."""
    shots: int = 0
    """Few shots: so many positive training studies of each finding, at most one of a patient, and as many without any
    finding, by the seed; fewer lie in more. 0: all."""

    def __post_init__(self) -> None:
        """Check the whole section; InputError names the key as it is typed."""
        for number, corpus in enumerate(self.corpora):
            corpus.check(f"data.corpora.{number}")
        one_of("data.resize", self.resize, ("pad", "squash", "crop"))
        one_of("data.frames", self.frames, ("error", "first", "middle"))
        in_range("data.image_size", self.image_size, 8, 4096)
        in_range("data.batch_size", self.batch_size, 1)
        in_range("data.eval_batch_size", self.eval_batch_size, 1)
        in_range("data.workers", self.workers, 0)
        self.ct.check("data.ct")
        self.augment.check("data.augment")
        for split in SPLITS:
            limit = getattr(self.limit, split)
            if limit is not None:
                in_range(f"data.limit.{split}", limit, 1)
        one_of("data.sampling", self.sampling, ("uniform", "class_aware"))
        if not 0 < self.fraction <= 1:
            raise InputError(f"data.fraction={self.fraction}: must be above 0 and at most 1")
        in_range("data.shots", self.shots, 0)
        if self.shots and self.fraction != 1:
            raise InputError(
                f"data.shots={self.shots}: conflicts with data.fraction={self.fraction}, which draws patients of its "
                "own; set one of them"
            )
        for term in self.mask_terms:
            if not term.strip():
                raise InputError("data.mask_terms: holds an empty term")
