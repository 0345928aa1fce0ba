"""Sentences of reports: which assert something, their false twins, what is drawn, and files at fault."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import strategies as st

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from data_modules.findings import ontology
from radz.config.files import find_resource
from radz.config.schema import DfatConfig
from radz.models.extra_loss import Given
from radz.models.sentences import Sentences, Turns, sentence_loss

REPORT = (
    "Findings: Small left pleural effusion. No pneumothorax. The heart is enlarged. Large nodule in the right apex. "
    "Possible pneumonia. Impression: Pleural effusion on the left side."
)
TWINS = find_resource("prompts/twins.yaml", "x")


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    config = DfatConfig(sentences_weight=1.0, sentences=3)
    return Sentences(config, ("pleural_effusion", "nodule", "pneumonia"), ontology(), ["chest_xray"])


def test_sentences_that_only_deny_are_kept_apart_and_those_in_doubt_are_not(sentences: Sentences) -> None:
    found = {one.text.removeprefix("Findings: "): one for one in sentences.asserted(REPORT, "chest_xray")}
    assert [*found][:4] == [
        "Small left pleural effusion.", "The heart is enlarged.", "Large nodule in the right apex.",
        "Possible pneumonia.",
    ]  # fmt: skip
    assert len(found) == 5
    assert "pneumonia" in found["Possible pneumonia."].findings
    assert "nodule" in found["Large nodule in the right apex."].findings
    assert sentences.asserted("", "chest_xray") == sentences.asserted("No acute finding.", "chest_xray") == ()


def test_a_twin_turns_words_of_one_kind_round_where_the_report_does_not_say_so_too(sentences: Sentences) -> None:
    turns = Turns(TWINS)

    def twins(sentence: str, others: list[str]) -> list[str]:
        return list(turns.twins(sentence, others).values())

    assert twins("Small left effusion, Left base.", []) == [
        "Small right effusion, Right base.", "Large left effusion, Left base.",
    ]  # fmt: skip
    # The case of a word must not tell the twin from the true sentence.
    assert twins("SMALL LEFT EFFUSION.", []) == ["SMALL RIGHT EFFUSION.", "LARGE LEFT EFFUSION."]
    assert twins("Small LEFT effusion.", []) == ["Small RIGHT effusion.", "Large LEFT effusion."]
    assert twins("Effusion, left more than right.", []) == [] == twins("Effusion.", ["Left."])
    assert twins("Left effusion.", ["Bilateral effusions."]) == [] == twins("Left effusion.", ["Right effusion."])
    assert twins("Left effusion.", ["Left effusion again."]) == ["Right effusion."]
    assert twins("Mild edema.", ["Moderate edema."]) == [] and twins("Mild edema.", []) == ["Severe edema."]
    assert twins("Enlarged, leftover, smaller.", []) == []  # whole words
    assert twins("Erguss links.", []) == ["Erguss rechts."]
    assert turns.twins("Small left effusion.", []).keys() == {"side", "severity"}
    of_report = {one.text: tuple(twin for _, twin in one.twins) for one in sentences.asserted(REPORT, "chest_xray")}
    assert of_report["Large nodule in the right apex."] == (
        "Large nodule in the left apex.", "Small nodule in the right apex.",
    )  # fmt: skip
    both = "Right pleural effusion is small. A nodule. Pleural effusion on the left side."
    assert not any(
        "left pleural" in twin.lower() for one in sentences.asserted(both, "chest_xray") for _, twin in one.twins
    )


@drawn_from(st.lists(st.sampled_from(["left", "Right", "small", "large", "effusion", "both", "."]), max_size=8))
def test_a_twin_turned_again_is_the_sentence(words: list[str]) -> None:
    turns, sentence = Turns(TWINS), " ".join(words)
    for kind, twin in turns.twins(sentence, []).items():
        assert twin != sentence and turns.twins(twin, [])[kind] == sentence


def given(step: int, rows: list[int], seed: int = 0) -> Given:
    texts = ["", REPORT, "Normal chest radiograph.", "Pleural effusion."]
    count = torch.ones(len(rows), dtype=torch.int64)
    nothing = torch.zeros(len(rows), dtype=torch.int64)
    batch = StudyBatch(
        torch.zeros(len(rows), 1, 2, 2, dtype=torch.uint8), count, [texts[row] for row in rows], nothing,
        torch.zeros(len(rows), 3, dtype=torch.int8), nothing, torch.tensor(rows), nothing,
    )  # fmt: skip
    return Given(step, batch, batch.reports, ["chest_xray"] * len(rows), seed)


def test_what_is_drawn_depends_on_seed_step_and_study_alone(sentences: Sentences) -> None:
    seen = set()
    for step in range(40):
        drawn, twins = sentences.draw(given(step, [0, 1, 2, 3]))
        alone, twins_alone = sentences.draw(given(step, [1]))
        assert len(drawn) == len(twins) == 12 and (drawn[3:6], twins[3:6]) == (alone, twins_alone)
        assert [bool(one.text) for one in drawn] == [False] * 3 + [True] * 3 + [False] * 3 + [True, False, False]
        assert len({one.text for one in alone}) == 3
        seen |= {one.text for one in alone}
    assert len(seen) == 5
    seeds = [[sentences.draw(given(step, [1], seed))[0] for step in range(9)] for seed in (0, 1, 2)]
    assert seeds[0] != seeds[1] != seeds[2] != seeds[0]


def test_a_study_without_any_match_or_negative_leaves_the_loss_finite() -> None:
    cosines = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    match = torch.tensor([[True, False, False, False], [False] * 4])
    loss = sentence_loss(cosines, match, torch.zeros(2, 4, dtype=torch.bool), 0.1)
    loss.backward()
    assert loss.item() == 0 and torch.equal(cosines.grad, torch.zeros(2, 4))
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    assert sentence_loss(cosines, nothing, nothing, 0.1).item() == 0


@pytest.mark.parametrize(
    "content",
    ["side: 3", "side: {pairs: [[left]]}", "side: {pairs: [[left, 3]]}", "side: {pairs: [[left, left]]}", "- side",
     "side: {both: [x]}", "side: [", "{}", "side: {pairs: []}", "side: {pairs: [[left, right]], both: bilateral}",
     "side: {pairs: [[left, right]], boht: [bilateral]}", "side: {pairs: [[left, right]], both: [[bilateral]]}",
     "side: {pairs: [['', left]]}", "side: {pairs: [ab]}", "side: {pairs: [[mild, severe], [mild, massive]]}",
     "side: {pairs: [[Left, left]]}", "side: {pairs: [['left.', 'right.']]}"],
)  # fmt: skip
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "twins.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=r"^dfat\.twins: .*twins\.yaml: must hold kinds"):
        Turns(file)
