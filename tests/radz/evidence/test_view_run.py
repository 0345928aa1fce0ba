"""What `radz view` shows of a run and of a folder, against the run's own files, scikit-learn and the engine."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from data_modules.errors import InputError
from data_modules.labelling.labeller import Labeller
from data_modules.pixels import read_gray
from data_modules.reports import kept
from radz import Radz
from radz.evidence.view.frames import Frames
from radz.evidence.view.model import NEAREST, Model
from radz.evidence.view.of_folder import Scorer, worklist_of_folder
from radz.evidence.view.of_run import trained_folder, worklist_of_run
from radz.evidence.view.proofs import marked_report
from radz.evidence.view.settings import read_settings
from radz.evidence.view.worklist import Worklist
from radz.inference.predict import predict_folder
from radz.metrics.score_table import ScoreTable


@pytest.fixture(scope="module")
def worklist(trained_run: Path) -> Worklist:
    return worklist_of_run(trained_run, "test", [])[0]


@pytest.fixture(scope="module")
def model(trained_run: Path, worklist: Worklist) -> Model:
    return Model(lambda: Radz.from_pretrained(trained_run, "cpu"), worklist, Frames(worklist.recipe))


def table_of(run: Path) -> ScoreTable:
    return ScoreTable.read_csv(run / "predictions" / "phantom_test.csv")


def test_scores_and_labels_are_those_of_the_run(trained_run: Path, worklist: Worklist) -> None:
    table = table_of(trained_run)
    assert worklist.findings == table.findings and worklist.scorer == "fused"
    np.testing.assert_array_equal(worklist.scores, table.scores["fused"])
    np.testing.assert_array_equal(worklist.labels, table.labels)
    assert worklist.settled == list(range(len(table)))
    assert worklist.thresholds["phantom"] and set(worklist.thresholds["phantom"]) <= set(table.findings)


def test_studies_are_named_by_their_hashes_and_hold_their_own_files(trained_run: Path, worklist: Worklist) -> None:
    table = table_of(trained_run)
    with (trained_run / "private" / "ids.csv").open(newline="") as file:
        known = {row["study_id"] for row in csv.DictReader(file)} | set(table.study_id)
    shown = str(worklist.plain())
    assert [study for study in known if re.search(rf"\b{re.escape(study)}\b", shown)] == []
    for identifier, study in zip(table.study_id, worklist.studies, strict=True):
        assert re.fullmatch("[0-9a-f]{12}", study.name) and identifier in str(study.files[0].path)
        assert study.files[0].name is not None and identifier not in study.files[0].name


def test_a_study_that_cannot_be_read_is_told_by_row_and_hash(trained_run: Path, tmp_path: Path) -> None:
    own, _ = worklist_of_run(trained_run, "test", [])
    file = own.studies[0].files[0]
    broken = type(file)(tmp_path / "cut.dcm", file.name)
    broken.path.write_bytes(file.path.read_bytes()[:3000])
    own.studies[0].files = (broken,)
    frames = Frames(own.recipe)
    with pytest.raises(InputError, match=r"^phantom row \d+ \([0-9a-f]{12}\): ") as error:
        frames.read(own.studies[0], 0)
    assert str(tmp_path) not in str(error.value)
    assert own.studies[0].reason(str(error.value)) in str(error.value).split(": ", 1)[1]
    assert frames.read(own.studies[1], 0).levels.size


def test_a_heat_map_is_that_of_the_engine(
    trained_run: Path, worklist: Worklist, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, path = worklist.findings[0], worklist.studies[2].files[0].path
    drawn = model.heat(2, 0, finding)
    whole = Radz.from_pretrained(trained_run, "cpu").heatmap(path, finding)
    assert drawn.shape[:2] == whole.shape == read_gray(path).shape
    low, high = np.nanmedian(model._maps[2, finding]), np.nanmax(model._maps[2, finding])
    opacity = np.clip((whole - low) / (high - low), 0, 1) * 0.6 * 255
    np.testing.assert_allclose(drawn[..., 3], opacity, atol=1)
    with pytest.raises(InputError, match="the model does not see"):
        model.heat(2, 1, finding)
    monkeypatch.setattr(type(model.engine().encoder.backbone), "covered", lambda self, side: side - 8)
    whole = Radz.from_pretrained(trained_run, "cpu").heatmap(path, finding)
    opacity = np.clip((whole - low) / (high - low), 0, 1) * 0.6 * 255
    np.testing.assert_allclose(model.heat(2, 0, finding)[..., 3], opacity, atol=1)


def test_the_nearest_cases_are_those_of_scikit_learn(worklist: Worklist, model: Model, trained_run: Path) -> None:
    model.nearest(3)
    assert model._encoder is not None
    model._encoder.join(120)
    found = model.nearest(3)["cases"]
    paths = [study.files[0].path for study in worklist.studies]
    features = Radz.from_pretrained(trained_run, "cpu").embed_images(paths)
    reference = NearestNeighbors(n_neighbors=NEAREST + 1, metric="cosine").fit(features)
    distances, places = reference.kneighbors(features[3:4])
    assert 3 not in [case["study"] for case in found] and len(found) == NEAREST
    np.testing.assert_allclose([case["cosine"] for case in found], 1 - distances[0][1:], atol=2e-4)
    assert {case["study"] for case in found[:3]} <= set(places[0])


def test_a_folder_is_scored_as_predict_does(
    trained_run: Path, phantom_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for file in sorted(phantom_folder.rglob("*.dcm"))[:3]:
        shutil.copy(file, source / file.name)
    (source / "bad.png").write_bytes(b"\x89PNG no picture")
    settings, _ = read_settings([f"input={source}"])
    engine = Radz.from_pretrained(trained_run, "cpu")
    worklist, grouped, faults = worklist_of_folder(engine, trained_run, settings)
    assert worklist.settled == [] and worklist.labels is None and np.isnan(worklist.scores).all()
    scorer = Scorer(Model(lambda: engine, worklist, Frames(worklist.recipe)), grouped, faults)
    scorer.start()
    scorer.join(120)
    assert scorer.fault == "" and sorted(worklist.settled) == list(range(4))
    with predict_folder(str(trained_run), str(source), str(tmp_path / "out.csv"), [], device="cpu").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for number, study in enumerate(worklist.studies):
        row = rows[study.name]
        assert bool(study.error) == bool(row["error"]) and study.error in row["error"]
        assert str(source) not in study.error
        if not study.error:
            np.testing.assert_allclose(worklist.scores[number], [float(row[name]) for name in worklist.findings])
    assert [study.name for study in worklist.studies if study.error] == ["bad.png"]

    engine.experiment.scoring.headline = "anchor"
    settings, _ = read_settings([f"input={source}", "findings=swallowed coin"])
    worklist, grouped, faults = worklist_of_folder(engine, trained_run, settings)
    scorer = Scorer(Model(lambda: engine, worklist, Frames(worklist.recipe)), grouped, faults)
    scorer.run()
    assert scorer.fault.startswith("scoring stopped: findings: swallowed coin has no description")
    assert "Traceback" not in caplog.text


def test_a_report_is_whole_and_its_proofs_are_where_they_say(worklist: Worklist) -> None:
    labeller = Labeller("chest_xray")
    report = "FINDINGS:  The heart is  enlarged.\nNo pneumothorax.\n\nIMPRESSION: Cardiomegaly. Possible edema."
    for text in (report, *(study.report for study in worklist.studies)):
        found, known = marked_report(text, labeller), labeller.label(text)
        assert "".join(part["text"] for part in found["parts"]) == text
        marked: dict[str, str] = {}
        for part in found["parts"]:
            for one in part["says"]:
                assert part["sentence"] and known[one["finding"]].state == one["state"]
                marked[one["finding"]] = marked.get(one["finding"], "") + part["text"]
        assert {name: " ".join(words.split()) for name, words in marked.items()} == {
            name: " ".join(proof.words.split()) for name, proof in known.items()
        }
    assert known is not None and marked
    assert all(study.report and study.report == kept(study.report) for study in worklist.studies), "as labels read it"


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda run: (run / "metrics.json").unlink(), "the run is not finished"),
        (lambda run: (run / "metrics.json").write_text("[]"), "metrics.json: holds no keys"),
        (lambda run: (run / "metrics.json").write_text("{}"), "metrics.json: no results; repeat its train"),
        (lambda run: (run / "metrics.json").write_text('{"results": {"a/val": 1}}'), "'a/val' has no scorer"),
        (lambda run: (run / "config.yaml").unlink(), "not a run folder"),
        (lambda run: shutil.rmtree(run / "predictions"), "split: the run has no predictions of test"),
        (lambda run: (run / "radz.json").write_text("{}"), "is an export, which holds no studies; give input=FOLDER"),
    ],
)
def test_what_is_no_finished_run(trained_run: Path, tmp_path: Path, spoil, cause: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("checkpoints", "figures"))
    spoil(run)
    with pytest.raises(InputError, match=cause):
        worklist_of_run(run, "test", [])


def test_results_without_the_headline_are_shown_without_thresholds(
    trained_run: Path, tmp_path: Path, worklist: Worklist, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("checkpoints", "figures"))
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"].values():
        result["scorers"]["prompt"] = result["scorers"].pop("fused")
        result["thresholds"]["validation"].pop("fused", None)
    (run / "metrics.json").write_text(json.dumps(metrics))
    found, _ = worklist_of_run(run, "test", [])
    np.testing.assert_array_equal(found.scores, worklist.scores)
    assert found.thresholds == {"phantom": {}} and found.seen == {}
    assert "view: metrics.json has no results of scorer fused on phantom/" in caplog.text


def test_a_study_without_scores_is_listed(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("checkpoints", "figures"))
    file = run / "predictions" / "phantom_test.csv"
    lines = file.read_text().splitlines()
    gone = lines[-1].split(",")
    file.write_text("\n".join([*lines[:3], *lines[4:-1], ",".join(["nobody", *gone[1:]])]) + "\n")
    found, _ = worklist_of_run(run, "test", [])
    errors = [study.error for study in found.studies]
    assert len(errors) == len(lines) and errors[: len(lines) - 3] == [""] * (len(lines) - 3)
    assert errors[-3].startswith("is not in the corpus")
    assert [error[:13] for error in errors[-2:]] == ["has no scores"] * 2
    assert np.isnan(found.scores[-2:]).all()


def test_the_evaluation_of_a_run_is_looked_at_with_its_weights() -> None:
    assert {trained_folder(Path(name)) for name in ("runs/a/eval/nih14", "runs/a")} == {Path("runs/a")}


def test_planes_are_those_of_the_engine(worklist: Worklist, model: Model, trained_run: Path) -> None:
    planes = model.frames.planes(worklist.studies[0])
    engine = Radz.from_pretrained(trained_run, "cpu")
    np.testing.assert_array_equal(planes, engine.study([worklist.studies[0].files[0].path]))
