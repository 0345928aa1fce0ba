"""key=value of the verbs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import radz.cli.paper
from data_modules.errors import InputError
from data_modules.keys import read_keys, whole


def test_a_key_of_a_verb_is_given_once() -> None:
    readers = {"port": whole(0), "out": str}
    for items in (["port=1", "port=2"], ["port=1", "out=x", "port=1"], ["out=", "out=x"]):
        key = items[0].partition("=")[0]
        with pytest.raises(InputError, match=f"^{items[-1]}: {key} is given twice; keep one$"):
            read_keys(items, readers)
    items = ["data.image_size=64", "data.image_size=96"]
    assert read_keys(["port=1", *items], readers, overrides=("data",)) == ({"port": 1}, items)


@pytest.mark.parametrize("text", ["abc", "1.5", "-1", "", str(2**32), "9" * 5000])
def test_a_number_that_no_generator_takes_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=f"^seed={text[:190]}9*: must be a whole number from 0 to 4294967295$"
    ) as fault:
        read_keys([f"seed={text}"], {"seed": whole(0)})
    assert len(str(fault.value)) < 300 and read_keys(["seed=4294967295"], {"seed": whole(0)})[0] == {"seed": 2**32 - 1}


@pytest.mark.parametrize("item", ["seed=abc", "seed=1.5", "studies=[a", "probe_strength=x"])
def test_evidence_says_what_a_value_must_be(fails: Callable[..., str], item: str) -> None:
    key, _, text = item.partition("=")
    kind = "a number" if key == "probe_strength" else "a whole number"
    assert fails("evidence", "runs/x", item) == f"radz: {key}: must be {kind}, not {text!r}"


@pytest.mark.parametrize(
    "words",
    [
        ["view", "runs/x", "port=1", "port=2"],
        ["predict", "runs/x", "input=a", "out=b", "out=c"],
        ["score", "s.csv", "labels=a", "out=b", "labels=a"],
        ["compare", "runs/a", "runs/b", "out=x", "scorer=a", "scorer=b"],
        ["sweep", "demo_bayes", "count=1", "count=2"],
        ["evidence", "runs/x", "seed=1", "seed=2"],
        ["export", "runs/x", "out=a", "out=b"],
        ["data", "check", "demo", "images=1", "images=2"],
        ["data", "label", "csv=a", "csv=b", "text=t", "out=o"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_every_verb_says_so(fails: Callable[..., str], words: list[str]) -> None:
    assert "is given twice; keep one" in fails(*words)


def test_the_place_of_a_corpus_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert radz.cli.paper.main(["quick", "--dry-run", "root.rsna=a", "root.rsna=b"]) == 2
    assert capsys.readouterr().err == "radz: root.rsna=b: root.rsna is given twice; keep one\n"
    assert radz.cli.paper.main(["quick", "--dry-run", "root.rsna"]) == 2
    assert "root.rsna: unknown here" in capsys.readouterr().err
