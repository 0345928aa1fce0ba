"""What a run keeps of its training images: round trip, old folders, damage, views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_run import SMALL

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.pixels import fit, read_gray
from radz.config.files import load_experiment
from radz.methods import training_scope as scope
from radz.methods.training_scope import FILE, Scope


@pytest.fixture(scope="module")
def data(trained_run: Path, cache_dir: Path) -> StudyDataModule:
    """The data that `trained_run` was trained on."""
    module = ChestXrayDataModule(load_experiment("demo", SMALL).data, cache_dir, 0)
    module.setup()
    return module


def test_the_run_keeps_what_its_data_give(trained_run: Path, data: StudyDataModule) -> None:
    kept, fresh = scope.read(trained_run), scope.measure(data)
    assert list(kept) == list(fresh) == ["chest_xray"]
    one, other = kept["chest_xray"], fresh["chest_xray"]
    assert one.views == other.views == {"frontal": 24}
    assert one.appearance and other.appearance and one.appearance.studies == 12
    assert one.appearance.limit == pytest.approx(other.appearance.limit)
    for name, part in one.appearance.parts.items():
        np.testing.assert_allclose(part.mean, other.appearance.parts[name].mean)


def test_validation_studies_are_within_and_the_pictures_are_those_of_the_cache(
    trained_run: Path, data: StudyDataModule
) -> None:
    known = scope.read(trained_run)["chest_xray"].appearance
    assert known is not None
    farthest = []
    for row in data.table.rows("val"):
        (path,) = data.table.study(row).image_paths
        picture = fit(read_gray(Path(path)), data.config.image_size, data.config.resize)
        farthest.append(known.farthest(picture[None])[0])
    assert max(farthest) == pytest.approx(known.limit)


def test_a_folder_without_it_says_nothing_and_a_damaged_one_is_refused(trained_run: Path, tmp_path: Path) -> None:
    assert scope.read(tmp_path) == {}
    content = (trained_run / FILE).read_bytes()
    for damaged in (b"", content[: len(content) // 2], content.replace(b"grey levels", b"gray levels")):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{FILE}: damaged .*put it back as radz wrote it") as fault:
            scope.read(tmp_path)
        assert "\n" not in str(fault.value)


def test_what_is_written_is_read_again(trained_run: Path, tmp_path: Path) -> None:
    scopes = {**scope.read(trained_run), "chest_ct": Scope({"": 3}, None)}
    scope.write(scopes, tmp_path)
    again = scope.read(tmp_path)
    assert {name: one.plain() for name, one in again.items()} == {name: one.plain() for name, one in scopes.items()}
    picture = np.arange(64 * 64, dtype=np.uint32).reshape(1, 64, 64).astype(np.uint8)
    one, other = (of["chest_xray"].appearance for of in (scopes, again))
    assert one and other and one.farthest(picture) == other.farthest(picture)


def test_a_view_is_new_where_training_says_its_views() -> None:
    assert Scope({"frontal": 95, "": 5}, None).is_new("lateral")
    assert not Scope({"frontal": 94, "": 6}, None).is_new("lateral")
    assert not Scope({"frontal": 95, "": 5}, None).is_new("frontal")
    assert not Scope({"frontal": 99, "lateral": 1}, None).is_new("lateral")
    assert not Scope({"frontal": 9}, None).is_new("") and not Scope({}, None).is_new("lateral")


def test_too_few_studies_measure_nothing(data: StudyDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "FEWEST", 13)
    assert scope.measure(data)["chest_xray"].appearance is None


def test_a_study_of_several_images_has_no_view_of_its_own(data: StudyDataModule) -> None:
    table, (first, second, *_) = data.table, data.table.rows("train")
    view = table.attributes["view"].copy()
    view[second] = "LATERAL"
    offsets = table.image_offsets.copy()
    offsets[first + 1 :] += 1  # an image more
    other = replace(table, attributes={"view": view}, image_offsets=offsets)
    assert scope._views(other, "chest_xray") == {"lateral": 1, "frontal": 22, "": 1}
    assert scope._views(replace(table, attributes={}), "chest_xray") == {"": 24}
