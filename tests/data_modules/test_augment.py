from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage, stats

from data_modules.augment import augment, image_numbers, uniform
from data_modules.config import Augment

STILL = Augment(rotate_degrees=0, scale=[1, 1], translate=0, brightness=0, contrast=0)


def pictures(count: int, side: int = 24) -> torch.Tensor:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((count, side, side)), (0, 2, 2))
    spread = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy((255 * spread).astype(np.uint8))[:, None]


def changed(pixels: torch.Tensor, studies: torch.Tensor, epoch: int, seed: int, config: Augment) -> torch.Tensor:
    """Radiographs: each image of a study for itself."""
    once = torch.zeros_like(studies)
    return augment(pixels, studies, once, once.bool(), epoch, seed, config)


def test_the_slices_of_a_volume_share_their_change() -> None:
    one = pictures(1).expand(6, 3, -1, -1)
    studies = torch.tensor([4, 4, 4, 9, 9, 9])
    together = torch.tensor([True] * 3 + [False] * 3)
    out = augment(one, studies, torch.zeros_like(studies), together, 0, 0, Augment())
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2]) and out.shape == (6, 3, 24, 24)
    assert not torch.equal(out[3], out[4])
    assert torch.equal(out[0], changed(one[:1], studies[:1], 0, 0, Augment())[0]), "that of the first image"
    assert torch.equal(out[0, 0], out[0, 1]), "channels move together"


def test_an_image_does_not_depend_on_its_batch() -> None:
    pixels, studies = pictures(6), torch.tensor([4, 4, 7, 9, 9, 9])
    whole = changed(pixels, studies, 2, 0, Augment())
    for part in ([0, 1], [2], [3, 4, 5]):
        assert torch.equal(changed(pixels[part], studies[part], 2, 0, Augment()), whole[part])
    assert whole.dtype == torch.uint8 and whole.shape == pixels.shape


def test_draws_differ_by_seed_epoch_study_and_image() -> None:
    same = pictures(1).repeat(3, 1, 1, 1)
    studies = torch.tensor([1, 1, 2])
    a = changed(same, studies, 0, 0, Augment())
    assert not torch.equal(a[0], a[1]) and not torch.equal(a[0], a[2])
    assert not torch.equal(changed(same, studies, 1, 0, Augment()), a)
    assert not torch.equal(changed(same, studies, 0, 1, Augment()), a)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert torch.equal(changed(same, studies, 0, 0, Augment()), a)
    assert torch.equal(torch.random.get_rng_state(), before), "the global random state is not touched"


def test_a_study_that_is_drawn_again_is_changed_anew() -> None:
    """Also beside its first draw in a batch; the first one is what it is where a study is drawn once."""
    same, studies = pictures(1).expand(8, -1, -1, -1), torch.full((8,), 4)
    repeats = torch.arange(4).repeat_interleave(2)
    out = augment(same, studies, repeats, torch.tensor([False, False] * 3 + [True, True]), 0, 0, Augment())
    assert len({picture.numpy().tobytes() for picture in out}) == 7 and torch.equal(out[6], out[7])
    assert torch.equal(out[:2], changed(same[:2], studies[:2], 0, 0, Augment()))
    alone = augment(same[4:6], studies[4:6], repeats[4:6], torch.tensor([False, False]), 0, 0, Augment())
    assert torch.equal(out[4:6], alone)


def test_off_and_zero_ranges_change_nothing() -> None:
    pixels, studies = pictures(3), torch.arange(3)
    assert torch.equal(changed(pixels, studies, 0, 0, Augment(enabled=False)), pixels)
    assert torch.equal(changed(pixels, studies, 0, 0, STILL), pixels)
    assert changed(pixels[:0], studies[:0], 0, 0, Augment()).shape == (0, 1, 24, 24)


def test_flip_mirrors_about_half_of_the_images() -> None:
    pixels = pictures(1).repeat(200, 1, 1, 1)
    config = Augment(rotate_degrees=0, scale=[1, 1], translate=0, brightness=0, contrast=0, flip=True)
    out = changed(pixels, torch.arange(200), 0, 0, config)
    mirrored = [torch.equal(image, pixels[0].flip(-1)) for image in out]
    assert all(m or torch.equal(image, pixels[0]) for m, image in zip(mirrored, out, strict=True))
    assert 70 < sum(mirrored) < 130


def test_rotation_agrees_with_scipy() -> None:
    pixels = pictures(8, 65)
    config = Augment(rotate_degrees=20, scale=[1, 1], translate=0, brightness=0, contrast=0)
    studies = torch.arange(8)
    out = changed(pixels, studies, 0, 3, config).numpy()
    angles = 20 * (2 * uniform(studies, torch.zeros_like(studies), 0, 3, 7)[:, 0].numpy() - 1)
    for image, rotated, angle in zip(pixels.numpy(), out, angles, strict=True):
        expected = ndimage.rotate(image[0].astype(float), angle, reshape=False, order=1)
        inner = (slice(12, -12), slice(12, -12))
        assert np.abs(rotated[0][inner] - expected[inner]).mean() < 1.0


def test_brightness_and_contrast_stay_in_range() -> None:
    flat = torch.full((400, 1, 4, 4), 191, dtype=torch.uint8)
    config = Augment(rotate_degrees=0, scale=[1, 1], translate=0, brightness=0.1, contrast=0.2)
    values = changed(flat, torch.arange(400), 0, 0, config)[:, 0, 0, 0].double()
    assert values.min() >= 127.5 + 63.5 * 0.8 - 25.5 - 1 and values.max() <= 127.5 + 63.5 * 1.2 + 25.5 + 1
    assert values.max() - values.min() > 50 and abs(float(values.mean()) - 191) < 3


def test_generator_is_uniform_and_uncorrelated() -> None:
    rows = torch.arange(4000)
    draws = uniform(rows, torch.zeros_like(rows), 1, 2, 7).numpy()
    assert draws.min() >= 0 and draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(7)).max() < 0.06
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.06
    assert len(np.unique(draws)) == draws.size


def test_image_numbers_count_within_a_study() -> None:
    studies, repeats = torch.tensor([3, 3, 8, 1, 1, 1, 3, 3]), torch.tensor([0, 0, 0, 2, 2, 2, 1, 2])
    assert image_numbers(studies, repeats).tolist() == [0, 1, 0, 0, 1, 2, 0, 0]
