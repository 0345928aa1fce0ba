"""Every file of the experiments folder resolves, and those that need no data of a user run in small."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Container
from pathlib import Path

import pytest
import yaml
from small_run import SMALL, small_phantom

from data_modules.corpora import PUBLISHED
from data_modules.corpus_config import PhantomConfig, SplitCounts
from data_modules.phantom.layouts import LAYOUTS, write_layout
from radz.config.files import digest, find_experiment, find_resource, load_experiment, to_yaml
from radz.config.schema import Experiment
from radz.runs.evaluate import evaluate_run
from radz.runs.train import train

ROOT = Path(__file__).parents[3] / "experiments"
OTHERS = {"descriptions", "sweeps", "paper", "prompts", "recipes"}
FILES = sorted(p for p in ROOT.rglob("*.yaml") if not OTHERS & set(p.relative_to(ROOT).parts))
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
RAW = {p: yaml.safe_load(p.read_text()) for p in [*FILES, *RECIPES]}


def _bases(path: Path) -> list[Path]:
    """The files that a file names as bases."""
    given = RAW[path].get("base", [])
    near = [path.parent / f"{name}.yaml" for name in (given if isinstance(given, list) else [given])]
    return [one.resolve() if one.is_file() else ROOT / f"{one.stem}.yaml" for one in near]


BASES = {base for path in FILES for base in _bases(path)}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _is_base(path: Path) -> bool:
    return path.resolve() in BASES and not _readers(path)


def _readers(path: Path) -> list[str]:
    """Reader of each corpus of an experiment, from the raw files: resolving all of them takes half a minute."""
    raw = RAW[path]
    if "corpora" in raw.get("data", {}):
        return [corpus.get("reader", "table") for corpus in raw["data"]["corpora"]]
    return next((readers for base in reversed(_bases(path)) if (readers := _readers(base))), [])


OWN = [path for path in FILES if not _is_base(path)]
FRACTIONS = ["data.batch_size=1", "data.corpora.0.phantom.studies={train: 300, val: 12, test: 16}"]
"""So many that 1 % of them are three patients."""


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_experiment_resolves(path: Path, tmp_path: Path) -> None:
    # A file that others inherit from may leave the corpora to them.
    given = (
        ["data.corpora=[{reader: phantom}]", "data.image_size=${backbone.tiny.image_size}"] if _is_base(path) else []
    )
    experiment = load_experiment(str(path), given)
    assert experiment.name == path.stem
    assert find_resource(experiment.dkam.descriptions, "x").is_file()
    for corpus in experiment.data.corpora:
        assert corpus.root is None, "the root of a corpus is given on the command line, never in the file"
    if not given:
        assert [corpus.reader for corpus in experiment.data.corpora] == _readers(path)


@pytest.mark.parametrize(
    "path", [p if "demo" in p.stem else pytest.param(p, marks=pytest.mark.slow) for p in OWN], ids=_name
)
def test_an_experiment_comes_back_from_its_own_text(path: Path, tmp_path: Path) -> None:
    experiment = load_experiment(str(path))
    (tmp_path / "again.yaml").write_text(to_yaml(experiment))
    again = load_experiment(str(tmp_path / "again.yaml"))
    assert again == experiment and digest(again) == digest(experiment)


def test_experiment_names_are_unique_and_found() -> None:
    for path in FILES:
        assert find_experiment(str(path.relative_to(ROOT).with_suffix(""))).resolve() == path.resolve()


def _experiments(readers: Container[str]) -> list[Path]:
    """Those whose every corpus has one of the readers; protocols are for runs that are trained already.

    Those on SmolLM2 need its folder.
    """
    trained = [
        path
        for path in OWN
        if "protocols" not in path.relative_to(ROOT).parts and ROOT / "recipes/smol.yaml" not in _bases(path)
    ]
    return [path for path in trained if all(reader in readers for reader in _readers(path))]


def _corpora() -> list[Path]:
    """The experiment of each published corpus; an ablation on one is the same reading with another policy."""
    return [path for path in _experiments(PUBLISHED) if _readers(path) == [path.stem]]


@pytest.mark.slow
@pytest.mark.parametrize("path", _experiments(["phantom"]), ids=_name)
def test_every_experiment_without_user_data_runs_in_small(
    path: Path, tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = [
        *SMALL,
        *(FRACTIONS if path.parent.name in ("fractions", "shots") else []),
        *(key for number in range(1, len(_readers(path))) for key in small_phantom(number)),
    ]
    with caplog.at_level(logging.INFO, "radz"):
        folder = train(load_experiment(str(path), [*small, f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]))
    assert (folder / "metrics.json").is_file() and (folder / "report.html").is_file()
    assert "macro AUROC" in caplog.text


def test_every_official_corpus_has_an_experiment_and_a_layout() -> None:
    names = {path.stem for path in _corpora()}
    assert names == set(PUBLISHED) == set(LAYOUTS)


MODIFIERS = ("full_finetune", "low_memory")
"""recipes that change another one"""


def _model(experiment: Experiment) -> dict[str, object]:
    """What a recipe settles: all but data, and what of the text is the corpus' own."""
    plain = dataclasses.asdict(experiment)
    plain["backbone"] |= {"tiny": None, "image_pool": None}
    plain["dfat"]["text_source"] = plain["dkam"]["descriptions"] = plain["dkam"]["findings"] = None
    plain["trainer"]["log_every_steps"] = None
    kept = {key: plain[key] for key in ("backbone", "dfat", "dkam", "trainer")}
    return kept | {"image_size": plain["data"]["image_size"], "batch_size": plain["data"]["batch_size"]}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_resolves_on_every_corpus(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says all of the model: it makes the same of an experiment on the tiny backbone as of one on a real one."""
    monkeypatch.setenv("RADZ_BACKBONE", "/models/x")
    found = {
        path.stem: _model(load_experiment(path.stem, [f"with=recipes/{recipe.stem}"]))
        for path in [*_corpora(), ROOT / "demo.yaml", ROOT / "kermany_cxr.yaml", ROOT / "covid_cxr.yaml"]
    }
    if recipe.stem not in MODIFIERS:
        assert [name for name, one in found.items() if one != found["demo"]] == []
    assert (found["chexpert"]["backbone"]["path"] == "/models/x") == (recipe.stem not in ("tiny", "smol"))


def test_a_backbone_in_the_cache_is_the_same_wherever_the_cache_lies() -> None:
    first, moved = load_experiment("smol"), load_experiment("smol", ["cache_dir=/scratch/radz"])
    assert moved.backbone.path == "/scratch/radz/backbones/smollm2" and digest(moved) == digest(first)
    other = load_experiment("smol", ["backbone.path=/scratch/radz/backbones/smollm2"])
    assert digest(other) != digest(first) != digest(load_experiment("smol", ["backbone.path=null"]))


@pytest.mark.parametrize("over", ["llava_med_v1_5", "qwen2_5_vl", "medgemma"])
def test_modifiers_leave_the_recipe_below_them(over: str) -> None:
    below = load_experiment("chexpert", [f"with={over}"])
    small, whole = (load_experiment("chexpert", [f"with={over},{name}"]) for name in ("low_memory", "full_finetune"))
    assert small.backbone == dataclasses.replace(below.backbone, quantize="4bit")
    assert small.dfat == dataclasses.replace(below.dfat, gradient_cache=8)
    assert (whole.backbone.train, whole.trainer.strategy, whole.data.image_size) == (
        "full", "fsdp", below.data.image_size
    )  # fmt: skip
    both = load_experiment("chexpert", [f"with={over},low_memory,full_finetune"])
    assert (both.backbone, both.dfat, both.trainer) == (whole.backbone, whole.dfat, whole.trainer)


HEADLINES = {"cxr_lt": ["scoring.headline=fused"]}
"""of corpora with a finding that is not described, which its file tells"""


@pytest.mark.slow
@pytest.mark.parametrize("path", _corpora(), ids=lambda p: p.stem)
def test_every_official_corpus_trains_and_tests_on_the_phantom_in_its_layout(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    corpus = path.stem
    write_layout(
        corpus, tmp_path / corpus, PhantomConfig(SplitCounts(60, 24, 40), image_px=64, voxels=48, seed=2), cache_dir
    )
    places = [f"data.corpora.0.root={tmp_path / corpus}", f"cache_dir={cache_dir}"]
    wanted = ["with=recipes/tiny", *SMALL, *places, *HEADLINES.get(corpus, []), f"run_dir={tmp_path / 'run'}"]
    folder = train(load_experiment(str(path), wanted))
    assert (folder / "report.html").is_file()
    for protocol in FILES:
        if "protocols" in protocol.relative_to(ROOT).parts and RAW[protocol]["base"] == f"../{corpus}":
            own = ["scoring.headline=anchor"] if corpus in ("covid_ct", "covidx", "siim") else []  # too few for fused
            scored = evaluate_run(load_experiment(str(protocol), [*SMALL, *places, *own, f"run={folder}"]))
            assert (scored / "metrics.json").is_file()
