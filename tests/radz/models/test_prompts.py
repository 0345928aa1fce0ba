"""Sentences per class, what they do to the prompt scorer, and the faults that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_modules.errors import InputError
from radz.cli.command_line import main
from radz.config.schema import ClassPrompts
from radz.config.scoring import ScoringConfig
from radz.models.prompts import (
    PROMPT_SET,
    ClassSentences,
    Wording,
    lint,
    said_and_denied,
    sentences,
    wordings_of,
)
from radz.models.zero_shot import over_prompts, over_wording

NAMES = {"edema": "edema", "pleural_effusion": "pleural effusion", "no_finding": "no finding", "effusion": "effusion"}


def test_own_sentences_replace_the_templates() -> None:
    own = {"edema": ClassPrompts(["Fluid in the lungs on this {modality}.", "{Finding}."], ["Dry lungs."])}
    scoring = ScoringConfig(prompts=["A {modality} with {finding}."], class_prompts=own)
    found = sentences(["edema", "pleural_effusion"], ["edema", "pleural effusion"], "chest CT", scoring)
    assert found == [
        ClassSentences(("Fluid in the lungs on this chest CT.", "Edema."), ("Dry lungs.",)),
        ClassSentences(("A chest CT with pleural effusion.",)),
    ]
    similarity = torch.tensor([[0.2, 0.4, 0.1, 0.7], [0.0, 0.0, 1.0, -0.5]])
    assert torch.allclose(over_prompts(similarity, found), torch.tensor([[0.2, 0.7], [-1.0, -0.5]]))


@pytest.mark.parametrize(
    ("finding", "text", "message"),
    [
        ("edema", "  ", "an empty prompt for edema"),
        ("edema", "Edema with pleural effusion.", "names pleural_effusion as well"),
        ("no_finding", "No no finding.", "negates 'no finding'"),
        ("no_finding", "Without any no finding.", "negates 'no finding'"),
        ("effusion", "A pleural effusion is seen.", "names pleural_effusion as well"),
    ],
)
def test_faulty_sentences_are_refused(finding: str, text: str, message: str, caplog: pytest.LogCaptureFixture) -> None:
    """A finding's own sentence may name a second class, as descriptions do: that is a warning."""
    key = f"scoring.class_prompts.{finding}.negative: "
    own = {finding: ClassSentences(("fine",), (text,))}
    if "as well" in message:
        lint(own, NAMES, [finding])
        assert [record.message for record in caplog.records if message in record.message and key in record.message]
    else:
        with pytest.raises(InputError, match=message) as fault:
            lint(own, NAMES, [finding])
        assert str(fault.value).startswith(key)
    with pytest.raises(InputError, match=r"^scoring\.prompts: "):
        lint({finding: ClassSentences((text,))}, NAMES, [])


def test_longer_names_hide_those_within() -> None:
    lint({"pleural_effusion": ClassSentences(("A pleural effusion.", "No pleural effusion."))}, NAMES, [])
    lint({"no_finding": ClassSentences(("There is no finding.",))}, NAMES, [])


def test_faults_in_the_experiment_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for value, message in (
        ("{edema: {positive: [' ']}}", "scoring.class_prompts.edema.positive: an empty prompt"),
        ("{edema: {negative: [Dry.]}}", "scoring.class_prompts.edema.positive: name one sentence"),
        ("{edema: {positive: ['{nothing}']}}", "unknown placeholder {nothing}"),
        ("{oedma: {positive: [Wet.]}}", "scoring.class_prompts: unknown finding 'oedma'"),
    ):
        assert main(["train", "demo", f"scoring.class_prompts={value}", "--print-config"]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert message in line, line


def test_a_test_asks_paraphrases_with_a_denial_and_the_published_sets(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(
        "paraphrases: {a: {positive: 'A {finding}.', negative: 'No {finding}.'}, b: {positive: '{finding}'}}"
    )
    asked = wordings_of(str(file))
    assert asked["a"] == Wording(("A {finding}.",), ("No {finding}.",), apart=True)
    assert list(asked) == ["a", *(PROMPT_SET + name for name in ("chexzero", "carzero", "ct_clip"))]
    assert asked[PROMPT_SET + "carzero"] == Wording(("There is {Finding}",), (), apart=False)
    assert wordings_of("") == {}


def test_sentences_of_a_wording_come_side_by_side() -> None:
    """Two sentences said and one denied of two findings; each side is the mean of its own."""
    two = Wording(("{finding}", "A {Finding} on {modality}"), ("no {finding}",), apart=False)
    names = ["edema", "mass"]
    assert said_and_denied(names, "chest CT", two) == [
        "edema", "mass", "A Edema on chest CT", "A Mass on chest CT", "no edema", "no mass"
    ]  # fmt: skip
    similarity = torch.tensor([[0.2, 0.0, 0.4, 1.0, 0.1, 0.7]])
    assert torch.allclose(over_wording(similarity, two), torch.tensor([[0.2, -0.2]]))
    apart = replace(two, apart=True)
    assert torch.allclose(over_wording(similarity, apart), torch.tensor([[0.3, 0.5, 0.1, 0.7]]))
    alone = Wording(two.positive, (), apart=False)
    assert torch.allclose(over_wording(similarity[:, :4], alone), torch.tensor([[0.3, 0.5]]))
