"""Published prompts by name: the sentences of each, what a name stands for, and names that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.errors import InputError
from radz.config.files import digest, find_resource, load_experiment, published_prompts, to_yaml
from radz.config.prompt_sets import FILE, read_published
from radz.models.prompts import sentences

OWN = "scoring.negative_prompts=['Without {finding}.']"


@pytest.mark.parametrize(
    ("name", "positive", "negative"),
    [
        ("chexzero", "Pleural effusion", ("no Pleural effusion",)),
        ("carzero", "There is Pleural effusion", ()),
        ("ct_clip", "Pleural effusion is present.", ("Pleural effusion is not present.",)),
    ],
)
def test_each_set_says_what_its_authors_say(name: str, positive: str, negative: tuple[str, ...]) -> None:
    scoring = load_experiment("demo", [f"scoring.prompts={name}"]).scoring
    (found,) = sentences(["pleural_effusion"], ["pleural effusion"], "chest X-ray", scoring)
    assert (found.positive, found.negative) == ((positive,), negative)
    published = published_prompts()
    assert published.name_of(scoring.prompts, scoring.negative_prompts) == name
    assert all((published.sets[name].paper, published.sets[name].source, published.sets[name].scored))


def test_all_names_of_the_help_text_are_there() -> None:
    assert list(published_prompts().sets) == ["chexzero", "carzero", "ct_clip"]
    assert published_prompts().name_of(["{Finding}"], []) is None


def test_a_name_is_the_experiment_with_its_sentences(tmp_path: Path) -> None:
    """The demo has denied sentences of its own, of a layer below; the file that a run keeps reads back to the same."""
    named = load_experiment("demo", ["scoring.prompts=chexzero"])
    written = load_experiment("demo", ["scoring.prompts=['{Finding}']", "scoring.negative_prompts=['no {Finding}']"])
    assert named == written and digest(named) == digest(written) != digest(load_experiment("demo"))
    (tmp_path / "kept.yaml").write_text(to_yaml(named))
    assert load_experiment(str(tmp_path / "kept.yaml")) == named


def test_layers_above_a_name_replace_it_whole(tmp_path: Path) -> None:
    file = tmp_path / "named.yaml"
    file.write_text("base: demo\nscoring: {prompts: chexzero}\n")
    assert load_experiment(str(file)).scoring.negative_prompts == ["no {Finding}"]
    assert load_experiment(str(file), ["scoring.prompts=carzero"]).scoring.negative_prompts == []
    own = load_experiment(str(file), ["scoring.prompts=['A {finding}.']"]).scoring
    assert (own.prompts, own.negative_prompts) == (["A {finding}."], [])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scoring.prompts=chexero"], "scoring.prompts: no published set is called 'chexero'; nearest is 'chexzero'"),
        (["scoring.prompts=zzz"], "known are carzero, chexzero, ct_clip"),
        (
            ["scoring.prompts=medklip"],
            "scoring.prompts: medklip has no prompts here: it has a sentence for",
        ),
        (["scoring.prompts=merlin"], "give a file of your own by scoring.class_prompts=FILE"),
        (["scoring.prompts=One {finding}."], "is one sentence; put it in a list"),
        (["scoring.prompts=[chexzero]"], "every prompt must contain {finding}"),
        (["scoring.prompts=chexzero", OWN], "scoring.negative_prompts: conflicts with scoring.prompts=chexzero"),
        (["scoring.prompts=chexzero", "scoring.negative_prompts=[]"], "conflicts with scoring.prompts=chexzero"),
    ],
)
def test_what_is_no_name_is_one_line(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as fault:
        load_experiment("demo", overrides)
    assert words in str(fault.value) and "\n" not in str(fault.value) and "(in the command line)" in str(fault.value)


def test_denied_sentences_above_a_named_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "named.yaml").write_text("base: demo\nscoring: {prompts: chexzero}\n")
    with pytest.raises(InputError, match=r"conflicts with scoring\.prompts=chexzero"):
        load_experiment(str(tmp_path / "named.yaml"), [OWN])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt_sets: 3", "must hold `prompt_sets"),
        ("prompt_sets: {a: {positive: ['{finding}']}}", "must hold `prompt_sets"),
        ("prompt_sets: {a: {positive: [x], negative: [], paper: p, source: s, scored: d}}", "a: every positive"),
        ("prompt_sets: {a: {positive: ['{finding}'], negative: ['{age}'], paper: p, source: s, scored: d}}", "{age}"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "sets.yaml").write_text(text)
    with pytest.raises(InputError) as fault:
        read_published(tmp_path / "sets.yaml")
    assert words in str(fault.value) and "sets.yaml" in str(fault.value)
    assert find_resource(FILE, "x").name == "published.yaml"
