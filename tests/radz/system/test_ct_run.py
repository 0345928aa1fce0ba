"""A run on CT from training to prediction, and a run on both modalities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from csv_rows import rows_of
from PIL import Image
from sklearn.metrics import roc_auc_score
from small_run import SMALL, small_phantom

from data_modules.corpora.phantom import written
from data_modules.corpus_config import PhantomConfig, SplitCounts
from data_modules.errors import InputError
from data_modules.phantom.layouts import write_layout
from data_modules.placing import to_original
from radz import Radz
from radz.cli.command_line import main
from radz.config.files import load_experiment
from radz.evidence import localisation
from radz.inference.predict import predict_folder
from radz.models.heatmaps import Mapper, target_of
from radz.report.heatmap_picture import overlay, tiled
from radz.runs.evaluate import evaluate_run
from radz.runs.train import train

CT = ["data.ct.slices=4", "data.ct.windows=[lung, mediastinum, bone]"]


@pytest.fixture(scope="module")
def ct_run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A finished run on the phantom's CT, four slices of three windows each."""
    folder = tmp_path_factory.mktemp("ct") / "run"
    return train(load_experiment("demo_ct", [*SMALL, *CT, f"run_dir={folder}", f"cache_dir={cache_dir}"]))


def test_results_say_how_the_slices_were_made(ct_run: Path) -> None:
    metrics = json.loads((ct_run / "metrics.json").read_text())
    assert metrics["pixels"]["ct"]["slices"] == 4 and set(metrics["results"]) == {"phantom_ct/test"}
    assert "CT slices by lung, windows\nlung, mediastinum, bone" in (ct_run / "report.html").read_text()


def test_volumes_series_and_pictures_are_one_study_each(ct_run: Path, tmp_path: Path, cache_dir: Path) -> None:
    phantom = PhantomConfig(SplitCounts(0, 0, 2), voxels=48)
    volumes = written(phantom, cache_dir, "chest_ct") / "images"
    write_layout("lidc_idri", tmp_path / "lidc", phantom, cache_dir)
    source = tmp_path / "in"
    shutil.copytree(volumes, source / "volumes")
    slices = sorted((tmp_path / "lidc").rglob("*.dcm"))
    largest = max({path.parent for path in slices}, key=lambda folder: len(list(folder.iterdir())))
    shutil.copytree(largest, source / "series", ignore=shutil.ignore_patterns("*.xml"))
    (source / "broken.nii.gz").write_bytes(b"no volume")
    predict_folder(str(ct_run), str(source), str(tmp_path / "out.csv"), ["edema", "nodule"])
    found = {row["file"]: row for row in rows_of(tmp_path / "out.csv")}
    names = [f"volumes/{path.name}" for path in sorted(volumes.iterdir())]
    assert set(found) == {"broken.nii.gz", "series", *names}
    assert "NIfTI" in found["broken.nii.gz"]["error"] and found["broken.nii.gz"]["edema"] == ""
    scores = {name: float(row["edema"]) for name, row in found.items() if not row["error"]}
    assert len(scores) == 3 and min(abs(scores["series"] - scores[name]) for name in names) < 0.02

    model = Radz.from_pretrained(ct_run)
    alone = model.score([source / names[0]], ["edema", "nodule"]).to_numpy()[0]
    np.testing.assert_allclose(alone, [float(found[names[0]][name]) for name in ("edema", "nodule")], atol=1e-5)
    assert model.images(source / names[0]).shape == (4, 3, 64, 64) and model.embed_images([source / names[0]]).any()


def test_evidence_maps_every_slice_and_measures_it(
    ct_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(ct_run, tmp_path / "run")
    keys = ["only=heatmaps", "heatmap_studies=6", "overlays=2", "replicates=100", "batch_size=3", "dicom=false"]
    located: list[localisation.Located] = []
    real = localisation.table

    def table(cases: list[localisation.Located], seed: int) -> pd.DataFrame:
        located.extend(cases)
        return real(cases, seed)

    monkeypatch.setattr(localisation, "table", table)
    assert main(["evidence", str(folder), *keys]) == 0
    found = json.loads((folder / "evidence" / "heatmaps.json").read_text())
    assert found["numbers"]["ct"]["studies"] > 0 and "maps" not in found["numbers"]
    assert located and all(one.mask.shape == (4, 48, 48) and one.mask.any() for one in located)
    lines = rows_of(folder / "evidence" / "localisation_ct_images.csv")
    assert len(lines) == 3 * len(located)
    for one in located:
        for kind, heat in one.maps.items():
            line = next(
                line
                for line in lines
                if (line["patient"], line["finding"], line["map"]) == (one.patient, one.finding, kind)
                and float(line["random/pointing"]) == pytest.approx(one.mask.mean())
            )
            assert float(line["pixel_auroc"]) == pytest.approx(roc_auc_score(one.mask.ravel(), heat.ravel()), abs=1e-5)
            assert float(line["slice_hit"]) in (0, 1)
            assert bool(float(line["slice_hit"])) == one.mask[np.unravel_index(heat.argmax(), heat.shape)[0]].any()
            assert float(line["random/slice_hit"]) == one.mask.any((1, 2)).mean()
    assert [picture["name"] for picture in found["pictures"]] == ["heatmaps_ct", "localisation_ct"]
    drawn = rows_of(folder / "evidence" / "heatmaps_ct.csv")
    assert all(1 <= int(line["slice"]) <= 4 for line in drawn)
    assert all(sum(one["finding"] == line["finding"] for one in drawn) <= 2 * 2 for line in drawn)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Map of CT by similarity: pointing game" in page and "in a slice with the finding" in page


def test_the_engine_and_predict_map_every_slice(ct_run: Path, tmp_path: Path, cache_dir: Path) -> None:
    path = next(written(PhantomConfig(SplitCounts(0, 0, 2), voxels=48), cache_dir, "chest_ct").glob("images/*"))
    model = Radz.from_pretrained(ct_run)
    # By the classifier itself, slice after slice.
    pixels, counts = model._pixels([model.images(path)])
    classifier = model._classifier(("edema", "nodule"))
    encoder, backbone = model.encoder, model.encoder.backbone
    with torch.no_grad():
        given = encoder.image_sequences(pixels, counts, ["chest_ct"])
        states = backbone.decode(given.embeddings, given.mask, given.content)[0][given.content[0]]
        target = target_of(model.experiment.scoring.headline)
        tokens = encoder.patch_features(states.unflatten(0, (4, -1)))
        values = [classifier.patch_scores(of_slice, "chest_ct", target)[:, 1] for of_slice in tokens]
    side = round(len(values[0]) ** 0.5)
    by_hand = [to_original(one.reshape(side, side).numpy(), (48, 48), 64, "pad") for one in values]
    heat = model.heatmaps(path, ["edema", "nodule"], "similarity")
    assert heat.shape == (2, 4, 48, 48) and heat.dtype == np.float32
    np.testing.assert_allclose(heat[1], np.stack(by_hand), atol=1e-4)
    attention = model.heatmap(path, "nodule")
    assert attention.shape == (4, 48, 48) and attention.min() >= 0 and attention.max() > 0

    (tmp_path / "in").mkdir()
    shutil.copy(path, tmp_path / "in" / "a.nii.gz")
    keys = [f"input={tmp_path / 'in'}", f"out={tmp_path / 's.csv'}", f"heatmaps={tmp_path / 'maps'}", "findings=nodule"]
    assert main(["predict", str(ct_run), *keys]) == 0
    picture = np.asarray(Image.open(tmp_path / "maps" / "a.nii.gz_nodule.png"))
    gray = model.grays(path)
    assert picture.shape == (96, 96, 3) and gray.shape == (4, 48, 48)
    np.testing.assert_array_equal(picture, overlay(tiled(gray), tiled(attention)))


def test_images_that_are_scored_alone_are_mapped_alone(ct_run: Path, cache_dir: Path) -> None:
    path = next(written(PhantomConfig(SplitCounts(0, 0, 2), voxels=48), cache_dir, "chest_ct").glob("images/*"))
    model = Radz.from_pretrained(ct_run)
    model.experiment.scoring.aggregate = "mean"
    pixels, modality = model.images(path), "chest_ct"
    mapper = Mapper(model.encoder, model._classifier(("edema",)), "anchor")
    study = mapper.similarity(pixels, torch.tensor([4]), [modality])
    alone = [mapper.similarity(one[None], torch.tensor([1]), [modality])[0] for one in pixels]
    torch.testing.assert_close(study, torch.stack(alone), atol=1e-5, rtol=1e-4)
    assert mapper.attention(pixels, torch.tensor([4]), [modality], [0]).shape == (4, 1, *study.shape[2:])


def test_a_run_on_radiographs_refuses_volumes(trained_run: Path, cache_dir: Path) -> None:
    volume = next(written(PhantomConfig(SplitCounts(0, 0, 2), voxels=48), cache_dir, "chest_ct").glob("images/*"))
    with pytest.raises(InputError, match="is a CT volume, and the run was trained on chest X-rays"):
        Radz.from_pretrained(trained_run).images(volume)


def test_the_slices_of_training_hold_at_test(ct_run: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = evaluate_run(load_experiment("demo_ct", [*SMALL, f"run={ct_run}", f"cache_dir={cache_dir}"]))
    assert json.loads((folder / "metrics.json").read_text())["pixels"]["ct"]["slices"] == 4
    assert "data.ct: CtConfig(" in caplog.text and "as in training" in caplog.text


def test_slices_beyond_the_context_stop_before_training(tmp_path: Path, cache_dir: Path) -> None:
    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}", "data.ct.slices=40", "data.ct.choice=uniform"]
    with pytest.raises(InputError, match=r"40 chest CT image\(s\).* lower data.ct.slices"):
        train(load_experiment("demo_ct", [*SMALL, *places, "backbone.image_pool=1"]))
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_one_model_for_both_modalities(tmp_path: Path, cache_dir: Path) -> None:
    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]
    folder = train(load_experiment("demo_mixed", [*SMALL, *small_phantom(1), *CT, *places]))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["results"]) == {"phantom_xray/test", "phantom_ct/test"}
    model = Radz.from_pretrained(folder)
    assert model.modalities == ("chest_xray", "chest_ct")
    volume = next(written(PhantomConfig(SplitCounts(0, 0, 2), voxels=48), cache_dir, "chest_ct").glob("images/*"))
    film = next(written(PhantomConfig(SplitCounts(2, 0, 0), image_px=64), cache_dir).glob("images/*"))
    together = model.score([volume, film], ["edema"]).to_numpy()
    apart = np.concatenate([model.score([path], ["edema"]).to_numpy() for path in (volume, film)])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    # Each by the validation of its own modality; one corpus chosen leaves the studies of the other without.
    (tmp_path / "in").mkdir()
    for path in (volume, film):
        shutil.copy(path, tmp_path / "in")
    name = next(n for n, (ones, _) in model.validations["phantom_xray"].support.items() if ones)
    for corpus in (None, "phantom_xray"):
        found = rows_of(
            predict_folder(str(folder), str(tmp_path / "in"), str(tmp_path / "s.csv"), [name], corpus=corpus)
        )
        for row in found:
            modality = "chest_ct" if row["file"].endswith(".nii.gz") else "chest_xray"
            fit = model.readings([name], None, corpus)[modality][name].fit
            assert (row[f"{name}/probability"] == "") == (fit is None)
            assert fit is None or float(row[f"{name}/probability"]) == pytest.approx(fit(float(row[name])), rel=1e-4)
    assert [row[f"{name}/probability"] != "" for row in found] == [row["file"].endswith(".dcm") for row in found]
