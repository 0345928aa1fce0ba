"""Experiment files: inheritance, overrides, faults in one line, and every file of the experiments folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from experiment_files import MINIMAL, Write, fault
from omegaconf import OmegaConf

from data_modules.errors import InputError
from radz.config.files import NEWER, digest, find_experiment, find_resource, load_experiment, to_yaml
from radz.config.schema import DfatConfig, Experiment

TABLE = """
backbone: {tiny: {image_size: 128}}
data:
  image_size: 128
  corpora:
    - reader: table
      csv: table.csv
      columns: {image: file, patient: 007}
      keep: {view: [PA, 0123, no, 1e3, "null", 12:30]}
      labels:
        edema: {column: edema, numeric: {1: present, 0: absent, -1: uncertain, blank: unmentioned}}
        mass: {column: findings, token: Mass, separator: ";"}
trainer: {max_epochs: 1}
"""


# ---- Inheritance ---------------------------------------------------------------------------------------------------


def test_maps_merge_and_lists_replace(write: Write) -> None:
    top = "base: middle\ndfat: {loss: cross}\nscoring: {prompts: ['{finding}']}\n"
    middle = "base: bottom\ndfat: {temperature: 0.1, loss: global}\ndkam: {aspects: [shape, density]}\n"
    bottom = MINIMAL + "dfat: {temperature: 0.2, image_tokens: 2}\nscoring: {prompts: ['a {finding}', 'b {finding}']}\n"
    found = load_experiment(write(bottom=bottom, middle=middle, top=top))
    assert (found.dfat.loss, found.dfat.temperature, found.dfat.image_tokens) == ("cross", 0.1, 2)
    assert found.scoring.prompts == ["{finding}"] and found.dkam.aspects == ["shape", "density"]
    assert found.name == "top" and found.dfat.text_tokens == DfatConfig().text_tokens


def test_a_null_takes_back_what_the_base_set(write: Write) -> None:
    found = load_experiment(write(low=MINIMAL, top="base: low\ntrainer: {max_epochs: null, max_steps: 5}\n"))
    assert (found.trainer.max_epochs, found.trainer.max_steps) == (None, 5)


def test_a_missing_or_circular_base_is_named(write: Write) -> None:
    assert "base: nothing" in fault(write(one=MINIMAL + "base: nothing\n"))
    assert "inherits from itself" in fault(write(a="base: b\n", b="base: a\n" + MINIMAL))


def test_of_several_bases_the_later_wins(write: Write) -> None:
    """Each with all that it says, its own bases included: [a, b] is a under b."""
    name = write(low=MINIMAL, a="base: low\ndfat: {loss: cross, image_tokens: 2}", c="dfat: {text_tokens: 3}",
                 b="base: c\ndfat: {image_tokens: 3}", top="base: [a, b.yaml]\nseed: 4")  # fmt: skip
    found = load_experiment(name).dfat
    assert (found.loss, found.image_tokens, found.text_tokens) == ("cross", 3, 3)
    again = load_experiment(write(d="base: c\ndfat: {text_tokens: 9}", e="base: [low, d, b]"))
    assert again.dfat.text_tokens == 3
    steps = load_experiment(write(c="trainer: {max_steps: 9}", d="base: [a, c]")).trainer
    assert (steps.max_epochs, steps.max_steps) == (None, 9)


@pytest.mark.fault(17)
def test_a_base_that_is_no_file_is_named(write: Write) -> None:
    write(low=MINIMAL)
    assert "base: nothing: no such file" in fault(write(one="base: [low, nothing]"))
    assert "a.yaml inherits from itself" in fault(write(a="base: [low, b]", b="base: [a]"))
    for wrong in ("[[low]]", "{low: 1}", "[low, null]"):
        assert "is no name of a file" in fault(write(one=f"base: {wrong}"))


# ---- Recipes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """Two recipes of one's own, in the working directory."""
    (tmp_path / "experiments/recipes").mkdir(parents=True)
    write(**{"experiments/recipes/long": "trainer: {max_steps: 8}\ndfat: {image_tokens: 5}", "low": MINIMAL})
    write(**{"experiments/recipes/short": "trainer: {max_epochs: 3}\nbase: long\ndfat: {text_tokens: 6}"})
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("recipes")
def test_recipes_come_between_the_file_and_the_keys(write: Write) -> None:
    name = write(own="base: low\ndfat: {image_tokens: 2, text_tokens: 2, loss: global}")
    found = load_experiment(name, ["dfat.text_tokens=7", "with=recipes/long"])
    assert (found.dfat.image_tokens, found.dfat.text_tokens, found.dfat.loss) == (5, 7, "global")
    assert (found.trainer.max_epochs, found.trainer.max_steps) == (None, 8) and found.name == "own"
    both = load_experiment(name, ["with=long,recipes/short"])
    assert (both.trainer.max_epochs, both.trainer.max_steps, both.dfat.text_tokens) == (3, None, 6)
    assert both == load_experiment(name, ["with=short"]) == load_experiment(name, ["with=long", "with=short"])
    assert digest(both) != digest(load_experiment(name, ["with=short,long"]))


@pytest.mark.usefixtures("recipes")
def test_a_recipe_comes_anew_over_what_the_file_made_of_it(write: Write) -> None:
    """`low` is a base of `own`, which changes it; as a part of the recipe it counts again."""
    write(**{"experiments/recipes/mine": "base: ../../low"})
    own = write(own="base: low\ntrainer: {max_epochs: 7}")
    assert load_experiment(own, ["with=mine"]).trainer.max_epochs == 1


@pytest.mark.fault(17)
@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("with=lnog", ["with=lnog: no such recipe", "nearest is 'long'"]),
        ("with=low", ["with=low: no such recipe"]),
        ("with=demo", ["no such recipe"]),
        ("with=long,recipes/demo", ["with=recipes/demo: no such recipe"]),
        ("with=", ["names no recipe", "with=recipes/NAME"]),
        ("with=bad", ["dfat.lss: unknown key", "bad.yaml"]),
    ],
)
def test_what_is_no_recipe_is_named(write: Write, item: str, words: list[str]) -> None:
    write(**{"experiments/recipes/bad": "dfat: {lss: cross}"})
    line = fault("low.yaml", item)
    assert [word for word in words if word not in line] == [], line


def test_a_base_of_the_package_serves_a_file_anywhere(write: Write) -> None:
    """`demo` lies below the experiments folder; a file of that name beside the own one comes first."""
    assert load_experiment(write(mine="base: demo\nseed: 3\n")).scoring.headline == "anchor"
    own = MINIMAL + "scoring: {headline: prompt}\n"
    assert load_experiment(write(demo=own, mine="base: demo\n")).scoring.headline == "prompt"


def test_interpolation_follows_the_override() -> None:
    assert load_experiment("demo", ["data.image_size=64"]).backbone.tiny.image_size == 64


# ---- Reading --------------------------------------------------------------------------------------------------------


def test_yaml_anchors_and_merge_keys(write: Write) -> None:
    merged = TABLE.replace(
        "        mass:",
        "        nodule: &rule {column: 0123, token: a, separator: ;}\n"
        "        hernia: {<<: *rule, token: no}\n"
        "        tumour: {<<: *rule}\n        mass:",
    )
    labels = load_experiment(write(one=merged)).data.corpora[0].labels
    assert [(labels[n].column, labels[n].token, labels[n].separator) for n in ("nodule", "hernia", "tumour")] == [
        ("0123", "a", ";"), ("0123", "no", ";"), ("0123", "a", ";")
    ]  # fmt: skip
    assert labels["mass"].column == "findings"


def test_an_unknown_name_shows_the_nearest() -> None:
    assert "nearest is 'demo'" in fault("dmo")
    assert find_experiment("demo").name == "demo.yaml" and find_experiment("demo").is_file()


def test_a_missing_resource_is_named() -> None:
    assert find_resource("descriptions/chest_xray.yaml", "x").is_file()
    with pytest.raises(InputError, match=r"x: nothing\.yaml: no such file"):
        find_resource("nothing.yaml", "x")


# ---- Overrides -----------------------------------------------------------------------------------------------------


def get(experiment: Experiment, key: str) -> Any:
    return OmegaConf.select(OmegaConf.structured(experiment), key)


PHANTOM = {"studies": {"train": 1, "val": 1, "test": 1}, "image_px": 99, "voxels": 96, "seed": 4, "rare": {}}


def test_a_map_merges_into_what_is_there() -> None:
    before = load_experiment("demo").data.corpora[0].phantom.studies
    after = load_experiment("demo", ["data.corpora.0.phantom.studies={val: 7}"]).data.corpora[0].phantom.studies
    assert after == dataclasses.replace(before, val=7)


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("seed=7", 7),
        ("dfat.learning_rate=1e-05", 1e-5),
        ("dfat.learning_rate=3", 3.0),
        ("backbone.train_tower=True", True),
        ("trainer.progress_bar=false", False),
        ("wandb.entity=0123", "0123"),
        ("wandb.entity=no", "no"),
        ("wandb.entity=1e3", "1e3"),
        ("wandb.entity=a=b", "a=b"),
        ("wandb.entity=", ""),
        ("wandb.entity=None", None),
        ("wandb.entity=null", None),
        ("data.limit.train=None", None),
        ("data.limit.train=12", 12),
        ("dkam.aspects=[shape, density]", ["shape", "density"]),
        ("dkam.aspects=['shape', 'density']", ["shape", "density"]),
        ("wandb.tags=[0123, no, 1e3]", ["0123", "no", "1e3"]),
        ("wandb.tags=[]", []),
        ("dkam.aspects.1=clinical", "clinical"),
        ("data.corpora.0.root=/data/0123", "/data/0123"),
        ("data.corpora.0.phantom.studies={train: 3, val: 2, test: 1}", {"train": 3, "val": 2, "test": 1}),
        ("data.corpora.0.phantom={'image_px': 99, 'seed': 4, 'studies': {'train': 1, 'val': 1, 'test': 1}}", PHANTOM),
        ("data.corpora.0.keep={view: [0123, no]}", {"view": ["0123", "no"]}),
        ("data.corpora.0.keep.view=[0123, no]", ["0123", "no"]),
        ("data.augment.scale=[0.8,1.2]", [0.8, 1.2]),
    ],
)
def test_overrides_are_typed_by_the_schema(item: str, value: Any) -> None:
    found = get(load_experiment("demo", [item]), item.partition("=")[0])
    found = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    assert found == value and type(found) is type(value)


def test_of_keys_that_exclude_each_other_the_later_layer_counts(write: Write) -> None:
    steps = load_experiment("demo", ["trainer.max_steps=60"]).trainer
    assert (steps.max_steps, steps.max_epochs) == (60, None)
    write(low="base: demo\ntrainer: {max_steps: 7}")
    assert load_experiment(write(top="base: low\ntrainer: {max_epochs: 2}")).trainer.max_steps is None
    assert load_experiment(write(mid="base: low")).trainer.max_epochs is None
    with pytest.raises(InputError, match=r"trainer.max_steps: conflicts with trainer.max_epochs"):
        load_experiment("demo", ["trainer.max_steps=60", "trainer.max_epochs=3"])
    own = ["data.corpora.0.columns.split=part", "data.corpora.0.labels.covid19.equals=COVID"]
    corpus = load_experiment("covid_cxr", own).data.corpora[0]
    assert corpus.split_csv is None and corpus.columns.split == "part"
    assert (corpus.labels["covid19"].equals, corpus.labels["covid19"].contains) == ("COVID", None)


def test_a_whole_sweep_command() -> None:
    """The arguments as a W&B agent writes them with ${args_no_hyphens}."""
    items = "dfat.alignment_weight=0.3 dfat.loss=global dfat.positives=same_text seed=2 data.limit.val=None"
    found = load_experiment("demo", items.split())
    assert (found.dfat.alignment_weight, found.dfat.loss, found.seed, found.data.limit.val) == (0.3, "global", 2, None)


def test_a_corpus_given_whole_replaces_the_list() -> None:
    corpus = (
        "{reader: table, csv: t.csv, columns: {image: f, patient: p}, labels: {edema: {column: '01', equals: '1'}}}"
    )
    found = load_experiment("demo", [f"data.corpora=[{corpus}]"]).data.corpora
    assert len(found) == 1 and found[0].reader == "table" and found[0].phantom.studies.train == 1200
    assert (found[0].labels["edema"].column, found[0].labels["edema"].equals) == ("01", "1")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("dfat.los=cross", ["dfat.los", "nearest is 'loss'"]),
        ("data.corpora.0.phantom.studies.trian=3", ["nearest is 'train'"]),
        ("data.corpora.0.phantom.studies={trian: 3}", ["trian", "nearest is 'train'"]),
        ("data.corpora=[{reader: phantom, rot: x}]", ["data.corpora.0.rot", "nearest is 'root'"]),
        ("data.corpora.first.root=x", ["'first'", "position in the list"]),
        ("data.corpora.3.root=/x", ["data.corpora.3"]),
        ("seed=one", ["seed", "one"]),
        ("seed=None", ["seed"]),
        ("seed.deep=1", ["seed.deep"]),
        ("data.corpora.0.phantom.studies=[1", ["not valid YAML"]),
        ("seed", ["key=value"]),
        ("=1", ["key=value"]),
        ("--seed=1", ["--seed"]),
        ("dfat.temperature=0", ["dfat.temperature", "above 0"]),
        ("trainer.devices=0", ["trainer.devices"]),
    ],
)
def test_a_faulty_override_is_one_line(item: str, words: list[str]) -> None:
    line = fault("demo", item)
    assert [word for word in words if word not in line] == [], line
    assert "command line" in line or "key=value" in line


# ---- Printing and reading back -------------------------------------------------------------------------------------


def again(experiment: Experiment, tmp_path: Path) -> Experiment:
    (tmp_path / "again.yaml").write_text(to_yaml(experiment))
    return load_experiment(str(tmp_path / "again.yaml"))


def test_what_is_printed_reads_back_to_the_same(write: Write, tmp_path: Path) -> None:
    nasty = ["0123", "no", "1e3", "null", "~", "a: b", "1_000", "12:30:45", "0x1F", "2024-01-01", "#x", " x ", "ä", "'"]
    file = write(table=TABLE)
    experiment = load_experiment(file)
    corpus = experiment.data.corpora[0]
    assert corpus.columns.patient == "007" and corpus.keep["view"] == ["PA", "0123", "no", "1e3", "null", "12:30"]
    assert corpus.labels["edema"].numeric == {1: "present", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
    coded = load_experiment(file, ["data.corpora.0.labels.edema.numeric.1=absent"]).data.corpora[0].labels["edema"]
    assert coded.numeric == {1: "absent", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
    corpus.keep["view"] = nasty
    found = again(experiment, tmp_path)
    assert found == experiment and digest(found) == digest(experiment)
    assert found.data.corpora[0].keep["view"] == nasty


@pytest.mark.parametrize("name", ["demo"])
def test_digest_and_object_survive_the_round_trip(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(name, ["seed=3", "trainer.max_epochs=null", "trainer.max_steps=9", "wandb.tags=[a]"])
    found = again(experiment, tmp_path)
    assert found == experiment and digest(found) == digest(experiment)


def test_every_key_of_the_schema_is_explained_or_plain() -> None:
    """A schema without stray fields: every field has a default, so that a file may leave it out."""

    def fields(kind: type, prefix: str = "") -> None:
        for field in dataclasses.fields(kind):
            given = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            assert given, f"{prefix}{field.name}"

    fields(Experiment)


def test_an_edit_of_the_statements_is_another_experiment_where_they_are_used(tmp_path: Path) -> None:
    file, text = (
        tmp_path / "mine.yaml",
        "statements: [['{Finding}.', 'No {finding}.']]\nnormal: [[Normal., Abnormal.]]\n",
    )
    found = []
    for weight in (1, 0):
        for content in (text, text + "# another\n"):
            file.write_text(content)
            keys = [f"dfat.statements={file}", f"dfat.statements_weight={weight}"]
            found.append(digest(load_experiment("demo", keys)))
    assert found[0] != found[1] and found[2] == found[3]


def test_few_shots_are_another_experiment_and_without_them_digests_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before, few = (digest(load_experiment("demo", keys)) for keys in ([], ["data.shots=4"]))
    assert few != before
    monkeypatch.setitem(NEWER, "data", tuple(key for key in NEWER["data"] if key != "shots"))
    assert digest(load_experiment("demo")) != before  # what would happen if the key entered at its default


def test_keys_of_lists_leave_digests_at_their_default(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(load_experiment("demo"))
    assert digest(load_experiment("demo", ["scoring.frequency_limits=[0.2, 0.01]"])) != before
    monkeypatch.setitem(NEWER, "scoring", tuple(key for key in NEWER["scoring"] if key != "frequency_limits"))
    assert digest(load_experiment("demo")) != before
