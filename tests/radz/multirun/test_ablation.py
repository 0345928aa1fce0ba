"""Groups of ablations: which arms, what is trained, and numbers equal to scikit-learn's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from sklearn.metrics import roc_auc_score
from small_run import SMALL

from data_modules.errors import InputError
from radz.cli.ablate import main
from radz.config.files import load_experiment, run_folder, to_yaml
from radz.metrics.score_table import ScoreTable
from radz.multirun.ablation import arms as suite
from radz.multirun.ablation.arm_scores import difference, scores
from radz.multirun.ablation.arms import Arm, group_arms, read_arm, train_arms, with_base
from radz.multirun.ablation.page import write_page
from radz.runs.evaluate import evaluate_run

ROOT = Path(__file__).parents[3] / "experiments"
GROUPS = sorted(p.name for p in (ROOT / "ablations").glob("*") if p.is_dir())
QUICK = ("", "anchors", "descriptions", "text")
"""Between them, deltas that set texts, lists, several lines or nothing."""


def test_a_group_is_a_folder_and_its_arms_say_what_they_change() -> None:
    arms = group_arms("tokens")
    assert len(arms) >= 7 and all(arm.base == "demo" and arm.about and len(arm.delta) == 1 for arm in arms)
    assert {arm.name for arm in group_arms("core")} >= {"ablations/no_dkam", "ablations/no_alignment"}
    with pytest.raises(InputError, match="GROUP=tokns: no such group of ablations; nearest is 'tokens'"):
        group_arms("tokns")
    with pytest.raises(InputError, match="BASE: the files of the group have the bases chexpert, demo"):
        with_base(group_arms("policies"), None)


def test_the_delta_of_an_arm_goes_on_another_base() -> None:
    arm = next(arm for arm in group_arms("descriptions") if arm.name.endswith("density"))
    own, moved = arm.experiment(None, []), arm.experiment("openi", ["seed=4"])
    assert own.dkam.aspects == moved.dkam.aspects == ["density"]
    assert own.data.corpora[0].reader == "phantom" and moved.data.corpora[0].reader == "openi"
    assert moved.name == "openi-descriptions_density" and moved.seed == 4


def test_what_an_arm_changes_stands_above_recipes(tmp_path: Path) -> None:
    """Both those of the command and those that its file names as bases, which go along to another base."""
    arm = next(arm for arm in group_arms("temperature") if arm.delta != {"dfat.temperature": 0.05})
    for base in (None, "kermany_cxr"):
        found = arm.experiment(base, ["with=paper"])
        assert (found.dfat.loss, found.dfat.temperature) == ("cross", arm.delta["dfat.temperature"])
    (tmp_path / "own.yaml").write_text("base: [demo, recipes/paper]\ndfat: {warmup: 0.1}\n")
    arm = read_arm(tmp_path / "own.yaml", str(tmp_path / "own.yaml"))
    assert (arm.base, arm.recipes, arm.delta) == ("demo", ("paper",), {"dfat.warmup": 0.1})
    for base in (None, "kermany_cxr"):
        found = arm.experiment(base, ["backbone.train=frozen"])
        assert (found.dfat.loss, found.dfat.warmup, found.backbone.train) == ("cross", 0.1, "frozen")


@pytest.mark.parametrize(
    "group",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ("", *GROUPS)],
)
def test_every_arm_goes_on_another_base_as_on_its_own(group: str) -> None:
    """Also where it sets texts, lists, several lines or nothing; without a group, the other methods on the demo."""
    methods = ("demo_clip", "demo_cnn", "demo_vqa")
    for arm in group_arms(group) if group else [read_arm(ROOT / f"{name}.yaml", name) for name in methods]:
        if arm.base != "demo":
            continue
        own, moved = arm.experiment(None, []), arm.experiment("kermany_cxr", [])
        for key in arm.delta:
            section, _, rest = key.partition(".")
            ours, theirs = getattr(own, section), getattr(moved, section)
            for part in rest.split(".") if rest else ():
                ours, theirs = (one[part] if isinstance(one, dict) else getattr(one, part) for one in (ours, theirs))
            assert ours == theirs, key


def test_the_base_comes_first_and_a_fault_stops_one_arm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    def train(experiment) -> Path:
        if experiment.dfat.loss == "global":
            raise InputError("too little data")
        done.append(f"{experiment.name} {experiment.seed}")
        return tmp_path / done[-1]

    def evaluate(experiment) -> Path:
        done.append(f"scored {experiment.name} {experiment.run}")
        return Path(experiment.run_dir)

    monkeypatch.setattr(suite, "train", train)
    monkeypatch.setattr(suite, "evaluate_run", evaluate)
    chosen = {arm.name: arm for arm in group_arms("alignment")}
    wanted = [chosen[f"ablations/alignment/alignment_{name}"] for name in ("cross", "global")]
    wanted = [*wanted, next(a for a in group_arms("scoring") if a.name.endswith("fused"))]
    arms = with_base(wanted, None)
    failed = train_arms(arms, [0, 1], None, ["trainer.max_epochs=1"])
    assert done == [
        "demo 0", "demo 1", "alignment_cross 0", "alignment_cross 1",
        f"scored scoring_fused {tmp_path}/demo 0", f"scored scoring_fused {tmp_path}/demo 1",
    ]  # fmt: skip
    assert failed == {"ablations/alignment/alignment_global": "too little data"}
    assert [len(arm.runs) for arm in arms] == [2, 2, 0, 2]


@pytest.fixture(scope="module")
def two_runs(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The trained run, and a copy whose scores of the headline are noise."""
    other = shutil.copytree(trained_run, tmp_path_factory.mktemp("runs") / "noise")
    path = next((other / "predictions").glob("*_test.csv"))
    table = ScoreTable.read_csv(path)
    draw = np.random.default_rng(0)
    table.scores = {name: draw.random(values.shape, np.float32) for name, values in table.scores.items()}
    table.write_csv(path)
    return [trained_run, other]


def test_numbers_are_those_of_scikit_learn(two_runs: list[Path]) -> None:
    found = next(one for one in scores("both", two_runs, "anchor") if one.group == "primary")
    for run, point in zip(two_runs, found.points, strict=True):
        table = ScoreTable.read_csv(next((run / "predictions").glob("*_test.csv")))
        columns = [table.findings.index(name) for name in found.findings]
        each = [roc_auc_score(table.labels[:, c], table.scores["anchor"][:, c]) for c in columns]
        assert point == pytest.approx(np.mean(each), abs=1e-12)
    # Two seeds so far apart say little: Student's t with one degree of freedom, put together with the patients'.
    seeds = float(t.ppf(0.975, 1)) * abs(found.points[0] - found.points[1]) / 2
    for side, end, of_patients in zip(
        (-1, 1), (found.estimate.low, found.estimate.high), found.of_patients, strict=True
    ):
        mean = found.points.mean()
        expected = np.clip(mean + side * np.hypot(of_patients - mean, seeds), 0, 1)  # an area lies between 0 and 1
        assert end == pytest.approx(expected, abs=1e-12)
    assert found.estimate.value == pytest.approx(found.points.mean()) and found.estimate.holds == "patients and seeds"
    alone = next(one for one in scores("one", two_runs[:1], "anchor") if one.group == "primary")
    beside = difference(found, alone)
    # Seed by seed: the one that both have run is the same run.
    assert (beside.value, beside.seeds) == (0.0, 1) and np.isnan([beside.low, beside.high]).all()
    assert beside.holds == alone.estimate.holds == "patients only" and alone.estimate.seeds == 1
    assert (alone.estimate.low, alone.estimate.high) == alone.of_patients
    noise = next(one for one in scores("noise", two_runs[1:], "anchor") if one.group == "primary")
    apart, turned = difference(noise, alone), difference(alone, noise)
    assert apart.value == pytest.approx(noise.points[0] - alone.points[0])
    assert (apart.low, apart.high) == pytest.approx((-turned.high, -turned.low)) and apart.low < apart.value
    assert np.isnan(difference(found, found).high)


def test_each_seed_is_read_by_the_headline_that_it_chose(two_runs: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(two_runs[0], tmp_path / "other")
    content = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(content | {"headline_scorer": "prompt"}))
    first = json.loads((two_runs[0] / "metrics.json").read_text())["headline_scorer"]
    expected = [next(iter(scores("one", two_runs[:1], name))).points[0] for name in (first, "prompt")]
    found = next(iter(scores("both", [two_runs[0], other], None)))
    assert first != "prompt" and expected[0] != expected[1]
    assert found.points.tolist() == expected and found.scorer == f"{first}, prompt"


def test_other_studies_are_not_compared(two_runs: list[Path], tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(two_runs[0], fewer)
    path = next((fewer / "predictions").glob("*_test.csv"))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match="scored other studies"):
        scores("x", [two_runs[0], fewer], None)
    with pytest.raises(InputError, match="has no scorer vqa; known: "):
        scores("x", two_runs, "vqa")


def test_what_one_seed_lacks_is_left_out_and_told(two_runs: list[Path], tmp_path: Path, caplog) -> None:
    """Whichever seed it is; and arms on other labels are not called paired."""
    less = tmp_path / "less"
    shutil.copytree(two_runs[1], less)
    metrics = json.loads((less / "metrics.json").read_text())
    (result,) = [one for key, one in metrics["results"].items() if key.endswith("/test")]
    whole = next(one for one in scores("both", two_runs, "anchor") if one.group == "primary").findings
    lost = whole[0]
    del result["scorers"]["anchor"]["findings"][lost]
    (less / "metrics.json").write_text(json.dumps(metrics))
    path = next((less / "predictions").glob("*_test.csv"))
    table = ScoreTable.read_csv(path)
    table.scores["anchor"][:, table.findings.index(lost)] = np.nan
    table.write_csv(path)
    for seeds in ([two_runs[0], less], [less, two_runs[0]]):
        found = next(one for one in scores("both", seeds, "anchor") if one.group == "primary")
        assert found.findings == whole[1:]
    assert f"both, phantom/test: {lost} not measured with every seed; left out" in caplog.text
    other = tmp_path / "other"
    shutil.copytree(two_runs[0], other)
    path = next((other / "predictions").glob("*_test.csv"))
    table = ScoreTable.read_csv(path)
    column = table.findings.index(whole[1])
    table.labels[:2, column] = 1 - table.labels[:2, column]
    table.write_csv(path)
    first, second = (next(iter(scores("one", [run], "anchor"))) for run in (two_runs[0], other))
    assert first.findings == second.findings and difference(second, first) is None


def test_the_page_tells_arms_differences_and_what_is_missing(two_runs: list[Path], tmp_path: Path) -> None:
    arms = [
        Arm("demo", "the base of all arms", {}, "", [two_runs[0]]),
        Arm("ablations/noise", "Noise <b>", {"dfat.loss": "cross"}, "demo", [two_runs[1]]),
        Arm("ablations/gone", "", {}, "demo"),
    ]
    page = write_page("Ablations: x", "", arms, {"ablations/gone": "no data"}, tmp_path, None).read_text()
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert set(table["arm"]) == {"demo", "ablations/noise"} and table["difference"].notna().any()
    noise = table[(table["arm"] == "ablations/noise") & (table["findings"] == "primary")].iloc[0]
    assert f"{noise['difference']:+.3f}" in page and "ablations/gone is missing here: no data" in page
    assert "Noise &lt;b&gt;" in page and "of one training" in page and "http" not in page.split("</head>")[1]
    assert set(table["interval"]) == {"patients only"} and set(table["seeds"]) == {1}
    assert len(list(tmp_path.glob("*.png"))) == len(table.groupby(["split", "findings"]))


def test_the_page_of_several_seeds_says_so(two_runs: list[Path], tmp_path: Path) -> None:
    arms = [Arm("demo", "", {}, "", two_runs), Arm("ablations/half", "", {}, "demo", two_runs[:1] * 2)]
    page = write_page("Ablations: x", "", arms, {}, tmp_path, None).read_text()
    assert "of means over 2 seeds" in page and "With fewer than five seeds they are wide" in page
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert set(table["interval"]) == {"patients and seeds"} and set(table["difference_seeds"].dropna()) == {2}
    base, half = (table[table["arm"] == name].iloc[0] for name in ("demo", "ablations/half"))
    # Differences of 0 and d: a mean of d / 2 with a standard error of d / 2; what patients add is little beside it.
    apart = base["greatest"] - base["least"]
    assert apart > 0.001 and abs(half["difference"]) == pytest.approx(apart / 2)
    reach = t.ppf(0.975, 1) * apart / 2
    assert reach < half["difference_high"] - half["difference"] < 1.1 * reach


def test_faults_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["tokens", "seeds=0,x"], "seeds=0,x: must be different whole numbers"),
        (["tokens", "seeds=1,1"], "seeds=1,1: must be different"),
        ([], "GROUP=: no such group"),
        (["tokens", "dfat.los=x"], "dfat.los: unknown key"),
    ):
        assert main(words) == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_a_group_in_small(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scoring", "seeds=0,1", *SMALL, f"cache_dir={cache_dir}"]) == 0
    page = Path(capsys.readouterr().out.strip())
    table = pd.read_csv(page.parent / "comparison.csv")
    arms = {"demo", *(arm.name for arm in group_arms("scoring"))}
    # Tiny features may make all scores of a scorer equal, which is no number; no arm is missing without a word.
    told = {arm for arm in arms if f"{arm} is missing here: it ran, but none of its findings" in page.read_text()}
    assert set(table["seeds"]) == {2} and set(table["arm"]) | told == arms and not set(table["arm"]) & told
    # What only scores otherwise has not been trained again.
    assert len(list((tmp_path / "runs" / "demo").glob("seed*"))) == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"demo", "ablations"}


@pytest.mark.slow
def test_a_scored_arm_equals_eval(trained_run: Path, tmp_path: Path, cache_dir: Path) -> None:
    experiment = load_experiment("ablations/scoring/scoring_prompt", [*SMALL, f"cache_dir={cache_dir}"])
    trained = shutil.copytree(trained_run, tmp_path / "run")
    folder = suite._scored(experiment, trained)
    assert folder.parent == trained / "eval" and (folder / "report.html").is_file()
    assert suite._scored(experiment, trained) == folder
    experiment.run, experiment.run_dir = str(trained), str(tmp_path / "again")
    again = evaluate_run(experiment)
    names = [path.name for path in (folder / "predictions").iterdir()]
    assert all((folder / "predictions" / n).read_bytes() == (again / "predictions" / n).read_bytes() for n in names)


def test_a_dry_run_counts_what_is_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [arm.name for arm in with_base(group_arms("tokens"), None)]
    done = run_folder(load_experiment(names[1], ["seed=1"]))
    done.mkdir(parents=True)
    (done / "config.yaml").write_text(to_yaml(load_experiment(names[1], ["seed=1"])))
    for name in ("metrics.json", "report.html"):
        (done / name).touch()
    assert main(["tokens", "seeds=0,1", "--dry-run"]) == 0
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first == "demo: seed 0 to run, seed 1 to run" and second == f"{names[1]}: seed 0 to run, seed 1 done"
    runs = 2 * len(names)
    assert last == f"{runs - 1} of {runs} runs to make, of {len(names)} arms and 2 seeds"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
