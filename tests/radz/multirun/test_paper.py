"""`make paper`: plans name what is there, published numbers stand where they belong, the page shows every section."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from small_run import SMALL

from data_modules.corpora import PUBLISHED
from data_modules.errors import InputError
from radz.cli.paper import main
from radz.config.files import load_experiment
from radz.multirun.ablation.arms import Arm, group_arms
from radz.multirun.paper import page, sections
from radz.multirun.paper.plan import read_plan
from radz.training.callbacks.signals import Stopped

ROOT = Path(__file__).parents[3] / "experiments"
PRESETS = sorted(file.stem for file in (ROOT / "paper").glob("*.yaml"))


def test_presets_that_claim_something_have_five_seeds() -> None:
    assert all(len(set(read_plan(preset).seeds)) >= 5 for preset in set(PRESETS) - {"quick", "reproduce"})
    assert "Smoke" in read_plan("quick").note and "One seed, as in the paper" in read_plan("reproduce").note


@pytest.mark.parametrize("preset", [pytest.param(p, marks=pytest.mark.slow) if p == "quick" else p for p in PRESETS])
def test_everything_a_plan_names_is_there(preset: str) -> None:
    plan = read_plan(preset)
    load_experiment(plan.base, plan.keys)
    for section in plan.sections:
        for corpus, protocols in section.sets.items():
            assert corpus in PUBLISHED
            for protocol in protocols:
                experiment = load_experiment(f"protocols/{protocol}")
                assert [one.reader for one in experiment.data.corpora] == [corpus]
        for name in [*section.arms, *([arm.name for arm in group_arms(section.group)] if section.group else [])]:
            load_experiment(name, plan.keys)


def test_the_findings_of_a_set_are_those_of_its_mean() -> None:
    """Two of five have no positive on this set; of another seed the headline is a scorer without one of the rest."""
    names = ["a", "b", "c", "d", "e"]
    own = {name: {"auroc": {"value": 0.5}} for name in names}
    some = {scorer: {"findings": {n: own[n] for n in names[:size]}} for scorer, size in (("x", 3), ("y", 2))}
    result = {"primary": names, "scorers": some}
    assert sections.SetScores("nih14", "p", "it", "nih14/test", ["x"], [result]).findings("auroc") == "3"
    assert sections.SetScores("nih14", "p", "it", "nih14/test", ["x", "y"], [result] * 2).findings("auroc") == "2 to 3"


def test_a_plan_is_printed_without_any_corpus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And says what is still to be named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RADZ_BACKBONE", raising=False)
    assert main(["reproduce", "--dry-run", "root.rsna=/data/rsna"]) == 0
    base, title, *sets = capsys.readouterr().out.splitlines()
    assert base == (
        "base: llava_radz, backbone.path=FOLDER, 2 epochs, seeds 0, on mimic_cxr (root.mimic_cxr=FOLDER)"
    )  # fmt: skip
    assert title == "1. Zero-shot on five sets" and len(sets) == 6
    assert "   rsna in /data/rsna: rsna, by fused" in sets
    assert "   siim (root.siim=FOLDER, else the phantom): siim, by fused" in sets
    assert main(["reproduce", "root.mimic_cxr=/d", "with=tiny", "trainer.max_steps=3", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(
        "base: llava_radz, the tiny backbone, 3 steps, seeds 0, on mimic_cxr in /d"
    )
    assert main(["reproduce", "--dry-run", "with=tny"]) == 2
    assert "with=tny: no such recipe" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
    assert main(["reproduce"]) == 2
    assert "root.mimic_cxr: missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"sections": [{"title": "a"}]}, "section 'a' must have one of sets, group, arms and evidence"),
        ({"sections": [{"title": "a", "group": "core", "arms": ["demo_cnn"]}]}, "section 'a' must have one of"),
        ({"sections": []}, "name one seed and one section at least"),
        ({"sections": [], "sedes": 1}, "sedes"),
    ],
)
def test_a_faulty_plan_is_one_line(
    content: dict[str, object], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/ours.yaml").write_text(yaml.safe_dump({"note": "n", "base": "demo", "seeds": [0], **content}))
    monkeypatch.setattr("radz.multirun.paper.plan.experiment_roots", lambda: [tmp_path])
    with pytest.raises(InputError, match=fault) as error:
        read_plan("ours")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", ["paper", "ablate"])
def test_a_signal_ends_with_the_code_of_a_run_that_resumes(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = import_module(f"radz.cli.{module}")

    def stop(*_: object) -> None:
        raise Stopped(tmp_path)

    monkeypatch.setattr(command, module, stop)
    assert command.main(["quick"]) == 3
    assert capsys.readouterr().err == "radz: stopped before the first checkpoint; repeat the command to start again\n"


def test_faults_of_the_command_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quik"]) == 2
    assert capsys.readouterr().err == "radz: PRESET=quik: no such preset; nearest is 'quick'\n"
    assert main(["quick", "base=mimic_cxr"]) == 2
    assert "root.mimic_cxr: missing" in capsys.readouterr().err


def test_published_numbers_stand_by_method_and_set() -> None:
    frame = page.published(["chestxray14", "rsna"])
    assert (
        set(frame.dataset) == {"chestxray14", "rsna"} and frame.value.between(0, 1).all() and (frame.source != "").all()
    )
    rows = pd.DataFrame(
        [["A", "v", "rsna", "binary", "auroc", 0.8], ["B", "v", "rsna", "binary", "auroc", 0.7],
         ["B", "v", "siim", "", "auroc", 0.6], ["B", "v", "siim", "", "auprc", 0.5]],
        columns=["method", "variant", "dataset", "classes", "metric", "value"],
    )  # fmt: skip
    tables = page.by_set(rows)
    assert list(tables) == ["rsna", "siim"] and all(list(one.columns) == list(page.METRICS) for one in tables.values())
    assert tables["rsna"]["auroc"].to_dict() == {("A", "v", "binary"): 0.8, ("B", "v", "binary"): 0.7}
    assert tables["siim"].loc[("B", "v", ""), "auroc"] == 0.6 and tables["siim"]["f1_oracle"].isna().all()


def test_a_set_from_another_place_is_scored_anew(
    trained_run: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the phantom in the layout of a corpus, then the corpus: the page must not show the first as the second."""
    plan = read_plan("quick")
    plan.layout = {"train": 4, "val": 4, "test": 6}
    section = next(one for one in plan.sections if one.sets)
    section.sets = {"rsna": ["rsna"]}
    places = []

    def score(experiment: Any) -> None:
        places.append(experiment.data.corpora[0].root)
        folder = Path(experiment.run_dir)
        folder.mkdir(parents=True)
        entry = {
            "headline_scorer": "anchor",
            "results": {"rsna/test": {"place": places[-1], "scorers": {"anchor": {}}}},
        }
        (folder / "metrics.json").write_text(json.dumps(entry))

    monkeypatch.setattr(sections, "evaluate_run", score)
    monkeypatch.setattr(sections, "write_layout", lambda corpus, root, *_: root.mkdir(parents=True))
    results = sections.Results(Arm("demo", "", {}, ""), "phantom", [])
    (tmp_path / "real").mkdir()
    run = tmp_path / "run"
    keys = [f"cache_dir={cache_dir}"]
    found = [
        sections._sets(section, plan, [run], tmp_path, roots, keys, results)[0]
        for roots in ({}, {"rsna": str(tmp_path / "real")}, {})
    ]
    assert [one.results[0]["place"] for one in found] == [places[0], str(tmp_path / "real"), places[0]] and len(
        places
    ) == 2
    assert [one.measured_on for one in found] == [
        "phantom in the layout of rsna",
        "rsna",
        "phantom in the layout of rsna",
    ]


def test_a_set_is_scored_by_every_seed(cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over seeds, with the patients' part of the interval and Student's t over the seeds."""
    plan = read_plan("quick")
    section = next(one for one in plan.sections if one.sets)
    section.sets = {"rsna": ["rsna"]}
    values = {"run0": 0.7, "run1": 0.8, "run2": 0.75}

    def score(experiment: Any) -> None:
        value = values[Path(experiment.run).name]
        Path(experiment.run_dir).mkdir(parents=True)
        macro = {"auroc": {"value": value, "low": value - 0.03, "high": value + 0.02},
                 "f1_oracle": {"value": None, "low": None, "high": None}}  # fmt: skip
        entry = {"headline_scorer": "anchor", "results": {"rsna/test": {"scorers": {"anchor": {"macro": macro}}}}}
        (Path(experiment.run_dir) / "metrics.json").write_text(json.dumps(entry))

    monkeypatch.setattr(sections, "evaluate_run", score)
    results = sections.Results(Arm("demo", "", {}, ""), "phantom", [])
    runs = [tmp_path / name for name in values]
    (one,) = sections._sets(section, plan, runs, tmp_path, {"rsna": str(tmp_path)}, [f"cache_dir={cache_dir}"], results)
    half = 4.302652729911275 * 0.05 / 3**0.5
    assert len(one.results) == 3 and one.macro["f1_oracle"] == {"value": None, "low": None, "high": None}
    assert one.macro["auroc"] == pytest.approx(
        {"value": 0.75, "low": 0.75 - (0.03**2 + half**2) ** 0.5, "high": 0.75 + (0.02**2 + half**2) ** 0.5}
    )


@pytest.mark.slow
def test_a_small_paper_is_whole(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = yaml.safe_load((ROOT / "paper/quick.yaml").read_text())
    plan["keys"] = [key for key in SMALL if "max_epochs" not in key] + [
        "trainer.max_steps=3",
        "trainer.max_epochs=null",
    ]
    plan["layout"] = {"train": 24, "val": 16, "test": 30}
    kept = {"sets", "arms", "evidence"}
    plan["sections"] = [one for one in plan["sections"] if kept & set(one) or one.get("group") == "core"]
    plan["sections"][0]["sets"] = {"rsna": ["rsna"], "chexpert": ["chexpert5"]}
    plan["sections"][1]["arms"] = ["demo_cnn"]
    again = {"title": "By prompt", "group": "core", "scorer": "prompt"}
    plan["sections"] += [again, {"title": "By nothing", "group": "core", "scorer": "nothing"}]
    (tmp_path / "plans/paper").mkdir(parents=True)
    (tmp_path / "plans/paper/small.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setattr("radz.multirun.paper.plan.experiment_roots", lambda: [tmp_path / "plans"])
    monkeypatch.chdir(tmp_path)
    assert main(["small", f"cache_dir={cache_dir}"]) == 2  # for the section that cannot be
    page = Path(capsys.readouterr().out.strip())
    text = page.read_text()
    assert "phantom in the layout of rsna" in text and "MedKLIP" in text and "Smoke, not evidence" in text
    assert all(f"<h2>{one['title']}</h2>" in text for one in plan["sections"][:-1])
    ids = re.findall(r'<clipPath id="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 4  # else one drawing is cut to the frame of another
    assert re.search("By nothing is missing here: .* has no scorer nothing; known: ", text)
    ours = pd.read_csv(page.parent / "zero_shot_on_five_sets/ours.csv")
    assert set(ours.protocol) == {"rsna", "chexpert5"} and ours.value.between(0, 1).all()
    compared = pd.read_csv(page.parent / "dfat_and_dkam/comparison.csv")
    assert set(compared.arm) == {"demo", *(f"ablations/no_{one}" for one in ("alignment", "dkam", "training"))}
    assert set(pd.read_csv(page.parent / "by_prompt/comparison.csv").scorer) == {"prompt"}
    assert main(["small", f"cache_dir={cache_dir}"]) == 2  # at once: nothing runs again


def test_what_was_read_in_an_abstract_says_so() -> None:
    """Behind the variant, so that the table and its CSV tell it apart; a number of a table stays as it is."""
    frame = page.marked(page.published(["vindr_cxr", "rsna"]))
    tables = page.by_set(frame)
    assert tables["vindr_cxr"].index.tolist() == [("ProtoCLIP", "zero-shot (read in the abstract)", "pneumothorax")]
    assert tables["vindr_cxr"]["auroc"].tolist() == [0.94]
    assert ("RadZero", "zero-shot", "binary") in tables["rsna"].index
    every = pd.read_csv(page.PUBLISHED, dtype=str, keep_default_na=False)
    assert (every.note.str.startswith(page.ABSTRACT)).sum() == 15
    assert not every.duplicated(["method", "variant", "dataset", "classes", "metric"]).any()
