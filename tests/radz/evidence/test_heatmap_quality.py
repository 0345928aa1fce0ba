"""Heat-maps: states and attention against plain transformers, geometry by hand, DICOM read back by pydicom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_families import NAMES, PIXELS, inputs, plain, token_types

from data_modules.pixels import fit
from data_modules.placing import square_shape, to_original
from radz.evidence import localisation
from radz.evidence.heatmap_cases import Case
from radz.evidence.heatmap_quality import against_chance, best_to_worst
from radz.models.encoder import Encoder
from radz.models.heatmaps import contrast
from radz.report.heatmap_picture import MARK, overlay, tiled, write_dicom, write_png

Build = Callable[..., Encoder]


@pytest.mark.parametrize("family", list(NAMES))
def test_layers_and_attention_are_those_of_plain_transformers(
    make_family: Build, family_folders: dict[str, Path], family: str
) -> None:
    """Two studies of two images each, all hidden states up to the feature layer, all attention below it."""
    encoder = make_family(family, dtype="float32").eval()
    pixels, counts = PIXELS[:4], torch.tensor([2, 2])
    with torch.no_grad(), encoder.backbone.eager():
        given = encoder.image_sequences(pixels, counts, ["chest_xray"] * 2)
        found = encoder.backbone.decode_all(given.embeddings, given.mask, given.content, attention=True)
        usual = encoder.encode_images(pixels, counts, ["chest_xray"] * 2)
    assert encoder.backbone.decoder.config._attn_implementation == "sdpa"
    model = plain(family, family_folders[family], encoder.backbone)
    model.set_attn_implementation("eager")
    ids = torch.tensor([encoder._image_sequence(2, "chest_xray", 64)] * 2)
    types = token_types(family, ids == encoder.backbone.image_token)
    seen = {**inputs(family, family_folders[family], pixels), **types}
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True, output_attentions=True, use_cache=False, **seen)
    assert len(found.states) == 6 and len(found.attention) == 5
    for ours, theirs in zip(found.states, out.hidden_states, strict=False):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
    for ours, theirs in zip(found.attention, out.attentions, strict=False):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(ours.sum(-1), torch.ones_like(ours[..., 0]))
    features = encoder.image_features(found.states[-1], given)
    torch.testing.assert_close(features.overall, usual.overall, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", list(NAMES))
def test_a_patch_of_the_map_is_the_patch_of_the_image(make_family: Build, family: str) -> None:
    """Light in one corner changes the embeddings of that corner's patch most (before any token attends to another)."""
    backbone = make_family(family, train="frozen").eval().backbone
    for row, column in ((0, 1), (1, 0)):
        dark, light = torch.zeros(1, 1, 64, 64, dtype=torch.uint8), torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
        light[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 255
        with torch.no_grad():
            change = backbone.image_embeddings(backbone.prepare(light)) - backbone.image_embeddings(
                backbone.prepare(dark)
            )
        found = backbone.patch_map(change.norm(dim=-1), 64)[0]
        side = found.shape[0] // 2
        quarters = found.unflatten(0, (2, side)).unflatten(2, (2, side)).mean((1, 3))
        assert divmod(int(quarters.argmax()), 2) == (row, column), quarters


def test_tiles_join_the_view_and_newlines_have_no_place(make_family: Build) -> None:
    backbone = make_family("llava_next", train="frozen").backbone
    fine = torch.arange(16.0).view(4, 4)
    values = torch.cat([torch.full((4,), 2.0), torch.cat([fine, torch.full((4, 1), 99.0)], dim=1).flatten()])
    torch.testing.assert_close(backbone.patch_map(values[None], 64)[0], (fine + 2) / 2)


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
@pytest.mark.parametrize(
    "shape, aspect",
    [((40, 96), 1.0), ((96, 40), 1.0), ((64, 64), 1.0), ((40, 96), 0.5), ((40, 96), 2.4), ((96, 40), 3.0)],
)
def test_maps_go_back_to_where_the_pixels_came_from(resize: str, shape: tuple[int, int], aspect: float) -> None:
    """A bright spot of the original lies in one patch of the square; the map of that patch peaks at the spot."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    for y, x in ((shape[0] // 2 - 7, shape[1] // 2 + 9), (shape[0] // 2 + 8, shape[1] // 2 - 6)):
        image = (255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)).astype(np.uint8)
        grid = fit(image, 64, resize, aspect).reshape(16, 4, 16, 4).mean((1, 3))
        heat = to_original(grid, shape, 64, resize, aspect)
        assert heat.shape == shape
        peak = np.unravel_index(np.nanargmax(heat), shape)
        # Half a patch of 4 pixels of the square, in pixels of the original.
        tall, wide = square_shape(shape, aspect)
        reach = 2.5 * max(tall, wide) / 64 + 1
        assert abs(peak[0] - y) * tall / shape[0] <= reach and abs(peak[1] - x) * wide / shape[1] <= reach
        seen = np.isfinite(heat)
        if resize == "crop":
            shown = min(tall, wide) ** 2 * shape[0] * shape[1] / (tall * wide)
            assert seen.sum() == pytest.approx(shown, rel=0.06)
        else:
            assert seen.all()


def test_to_original_by_hand() -> None:
    """2 x 2 patches of 2 pixels: values at the patch centres, half way between them, even beyond the outer ones."""
    found = to_original(np.array([[0.0, 4.0], [8.0, 12.0]]), (4, 4), 4, "pad")
    np.testing.assert_allclose(found[0], [0, 1, 3, 4], atol=1e-6)
    np.testing.assert_allclose(found[:, 0], [0, 2, 6, 8], atol=1e-6)
    # Of 5 pixels the patches hold 4: the last one is seen by none and takes the value beside it.
    found = to_original(np.array([[0.0, 4.0], [8.0, 12.0]]), (5, 5), 5, "pad", covered=4)
    np.testing.assert_allclose(found[0], [0, 1, 3, 4, 4], atol=1e-6)


def test_measures_by_hand_and_against_scikit_learn() -> None:
    heat = np.array([[9.0, 5, 1], [4, 4, 0], [np.nan, np.nan, np.nan]])
    mask = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    pointing, dice, iou, area = localisation.measure(heat, mask, 0.5)
    # Three highest of six: 9, 5 and half of each 4. 1.5 of them lie in the mark of two.
    assert (pointing, dice, iou) == pytest.approx((1.0, 2 * 1.5 / 5, 1.5 / 3.5))
    assert area == pytest.approx(roc_auc_score(mask[:2].ravel(), heat[:2].ravel()))
    even = localisation.measure(np.zeros((2, 3)), mask[:2], 0.5)
    assert even == pytest.approx((2 / 6, 2 * 1 / 5, 1 / 4, 0.5))


def located(right: bool, count: int = 24) -> list[localisation.Located]:
    """Maps that point at their mark, or at that of nobody; two images of each patient."""
    generator, found = np.random.default_rng(0), []
    for number in range(count):
        mask = np.zeros((48, 48), dtype=bool)
        y, x = generator.integers(0, 40, 2)
        mask[y : y + 8, x : x + 8] = True
        heat = generator.random((48, 48)).astype(np.float32)
        found.append(
            localisation.Located(
                number, ("a", "b")[number % 2], f"p{number // 2}", mask, {"similarity": heat + right * mask}
            )
        )
    return found


@pytest.mark.parametrize("right", [True, False])
def test_good_maps_beat_chance_and_noise_does_not(right: bool) -> None:
    lines = localisation.table(located(right), 0)
    assert len(lines) == 24 and lines["random/pointing"].tolist() == pytest.approx([64 / 48**2] * 24)
    whole = localisation.summary(lines, 200, 0)["similarity"]["macro"]
    for measure in (
        "pointing minus random",
        "dice minus random",
        "pixel_auroc minus permuted",
        "pointing minus permuted",
    ):
        assert above(whole[measure]) == right, measure
    assert whole["pointing"]["value"] == pytest.approx(lines.groupby("finding")["pointing"].mean().mean())
    assert localisation.table(located(right), 0).equals(lines)


def above(gain: dict[str, float | None]) -> bool:
    """Beyond chance, by the words of the page; where all maps hit there is no interval."""
    return against_chance({"m minus random": gain}, "m", "a pixel", "").startswith("beats a pixel")


def test_differences_cover_the_same_images() -> None:
    """A finding of a single image has no permuted chance and must not enter one side of the difference alone."""
    some = located(True)
    lone = localisation.Located(99, "c", "p99", some[0].mask, {"similarity": -some[0].maps["similarity"]})
    lines = localisation.table([*some, lone], 0)
    found = localisation.summary(lines, 100, 0)["similarity"]
    assert found["findings"]["c"]["pointing minus permuted"]["value"] is None
    of_two = localisation.summary(localisation.table(some, 0), 100, 0)["similarity"]["macro"]
    assert found["macro"]["pointing minus permuted"]["value"] == of_two["pointing minus permuted"]["value"]
    assert found["macro"]["pointing"]["value"] < of_two["pointing"]["value"]


def test_slices_by_hand_and_against_scikit_learn() -> None:
    """A finding in slices 1 and 3 of four; of two slices that share the highest pixel each counts half."""
    mask, heat = np.zeros((4, 3, 2), dtype=bool), np.zeros((4, 3, 2), np.float32)
    mask[1, 0, 0] = mask[3, 2, 1] = True
    heat[:, 1, 1] = 1, 5, 3, 4
    assert localisation.measure_slices(heat, mask) == (1.0, roc_auc_score([0, 1, 0, 1], [1, 5, 3, 4]))
    assert localisation.measure(heat, mask, 0.1)[0] == 0  # the right slice, the wrong pixel
    heat[:, 1, 1] = 1, 5, 5, 2
    assert localisation.measure_slices(heat, mask) == (0.5, roc_auc_score([0, 1, 0, 1], [1, 5, 5, 2]))
    assert localisation.measure_slices(0 * heat, mask) == (0.5, 0.5)
    cut = np.where(np.arange(3)[:, None] == 0, np.nan, heat)  # what a crop cut off holds nothing that can be found
    assert localisation.measure_slices(cut, mask)[1] == roc_auc_score([0, 0, 0, 1], [1, 5, 5, 2])
    assert np.isnan(localisation.measure_slices(heat, np.ones_like(mask))[1])


@pytest.mark.parametrize("right", [True, False])
def test_volumes_that_know_their_slice_beat_chance_and_noise_does_not(right: bool) -> None:
    """The finding fills one corner of one slice, in studies of 4 and of 6 slices; the corner is the same in all."""
    generator, found = np.random.default_rng(1), []
    for number in range(24):
        mask = np.zeros((4 + 2 * (number % 4 == 0), 32, 32), dtype=bool)
        mask[generator.integers(len(mask)), 4:16, 4:16] = True
        heat = generator.random(mask.shape).astype(np.float32)
        maps = {"similarity": heat + right * mask}
        found.append(localisation.Located(number, ("a", "b")[number % 2], f"p{number}", mask, maps))
    lines = localisation.table(found, 0)
    assert set(lines["random/slice_hit"]) == {1 / 4, 1 / 6} and (lines["random/slice_auroc"] == 0.5).all()
    shares = [144 / case.mask.size for case in found[::2] + found[1::2]]
    assert lines["random/pointing"].tolist() == pytest.approx(shares)
    whole = localisation.summary(lines, 200, 0)["similarity"]["macro"]
    for measure in ("pointing", "slice_hit", "slice_auroc", "pixel_auroc"):
        for chance in localisation.CHANCES:
            assert above(whole[f"{measure} minus {chance}"]) == right, (measure, chance)
    assert whole["slice_hit"]["value"] == pytest.approx(lines.groupby("finding")["slice_hit"].mean().mean())


@pytest.mark.parametrize("shape", [(24, 40, 70), (150, 100)])
def test_a_map_of_all_images_is_no_better_than_that_of_others(shape: tuple[int, ...]) -> None:
    """One map that knows nothing of any image, and marks of one pixel in one slice, which a coarser grid would lose."""
    axes = np.meshgrid(*((np.arange(side) + 0.5) / side for side in shape), indexing="ij")
    heat, found = np.exp(-sum((axis - 0.4) ** 2 for axis in axes)).astype(np.float32), []
    for number in range(5):
        mask = np.zeros(shape, dtype=bool)
        mask[tuple((np.array(shape) * (0.2 + 0.1 * number)).astype(int))] = True
        mask[tuple((np.array(shape) * 0.4).astype(int))] = number % 2 == 0
        found.append(localisation.Located(number, "a", f"p{number}", mask, {"similarity": heat}))
    lines = localisation.table(found, 0)
    measures = [name for name in localisation.MEASURES + localisation.SLICE_MEASURES if name in lines]
    assert np.isfinite(lines[[f"permuted/{name}" for name in measures]].to_numpy()).all()
    for name in measures:
        assert (lines[name] == lines[f"permuted/{name}"]).all(), name


def volume(quality: float, row: int = 0) -> Case:
    """Three slices, the finding in two of them, most of it in the last; the map peaks in the first or with the mark."""
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[1, 0, :2] = mask[2, 0, :3] = True
    heat = np.random.default_rng(row).random(mask.shape).astype(np.float32)
    heat[0, 3, 3] = 2
    image = np.arange(48, dtype=np.uint8).reshape(mask.shape)
    return Case(row, "mass", image, {"similarity": heat + quality * mask, "attention": -heat}, mask)


def test_the_slice_that_is_shown_is_the_strongest() -> None:
    good, bad = volume(5), volume(0)
    assert good.slice_of("similarity") in (1, 2) and bad.slice_of("similarity") == 0 and bad.slice_of("") == 2
    image, maps, mask = bad.at(2)
    assert image[0, 0] == 32 and mask is not None and mask.sum() == 3
    np.testing.assert_array_equal(maps["attention"], bad.heat["attention"][2])
    unmarked = dataclasses.replace(bad, mask=np.zeros_like(bad.image, dtype=bool))
    assert not unmarked.marked and unmarked.slice_of("") == unmarked.slice_of("similarity") == 0
    film = Case(0, "mass", bad.image[0], {"similarity": bad.heat["similarity"][0]}, None)
    assert film.slice_of("similarity") is None and film.at(None)[0] is film.image and not film.marked


def test_cases_are_shown_from_the_best_to_the_worst() -> None:
    some = [volume(quality, row) for row, quality in enumerate([0.2, 5, -5, 0.4, -0.3])]
    assert [case.row for case in best_to_worst(some, 5)] == [1, 3, 0, 4, 2]
    assert [case.row for case in best_to_worst(some, 3)] == [1, 0, 2] and [c.row for c in best_to_worst(some, 1)] == [1]
    bare = [dataclasses.replace(case, mask=None) for case in some]
    assert [case.row for case in best_to_worst(bare, 2)] == [0, 1]
    assert [case.row for case in best_to_worst([*bare[:2], some[2]], 2)] == [2]


def test_slices_are_tiled_in_rows() -> None:
    values = np.arange(3 * 2 * 2).reshape(3, 2, 2)
    np.testing.assert_array_equal(tiled(values), [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 0, 0], [10, 11, 0, 0]])
    heat = tiled(values.astype(np.float32))
    assert np.isnan(heat[2:, 2:]).all() and np.isnan(heat).sum() == 4
    np.testing.assert_array_equal(tiled(values[0]), values[0])


def test_one_image_of_a_finding_has_no_permuted_chance() -> None:
    lines = localisation.table(located(True)[:1], 0)
    assert "permuted/pointing" not in lines
    assert "pointing minus permuted" not in localisation.summary(lines, 100, 0)["similarity"]["macro"]


def test_a_secondary_capture_is_read_back_and_names_nobody(tmp_path: Path) -> None:
    image = np.full((5, 7), 100, dtype=np.uint8)
    heat, mask = np.zeros((5, 7), np.float32), np.zeros((5, 7), dtype=bool)
    heat[1, 2], heat[4] = 1, np.nan
    mask[0, 6] = True
    rgb = overlay(image, heat, mask)
    assert tuple(rgb[0, 6]) == MARK and (rgb[1, 2] != 100).any() and (rgb[4] == 100).all() and (rgb[0, 0] == 100).all()
    for name, study in (("a", "study1"), ("b", "study1"), ("c", "study2")):
        write_dicom(tmp_path / f"{name}.dcm", rgb, study, "patient1", "mass, similarity heat-map", 1 + (name == "b"))
    one, two, other = (pydicom.dcmread(tmp_path / f"{name}.dcm") for name in "abc")
    np.testing.assert_array_equal(one.pixel_array, rgb)
    assert one.SOPClassUID.name == "Secondary Capture Image Storage" and "PatientIdentityRemoved" not in one
    assert one.PatientID == "patient1" and not one.StudyDate and not one.PatientBirthDate and not one.PatientSex
    assert one.StudyInstanceUID == two.StudyInstanceUID != other.StudyInstanceUID
    assert len({one.SOPInstanceUID, two.SOPInstanceUID, other.SOPInstanceUID}) == 3
    write_png(tmp_path / "a.png", rgb)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_contrast_is_to_the_mean_of_findings_that_can_be_read() -> None:
    similarity = torch.tensor([[[[1.0]], [[3.0]], [[100.0]]]])
    assert contrast(similarity, [True, True, False]).flatten()[:2].tolist() == [-1, 1]
