"""Statements on findings: what is drawn, what it says of the findings, and files at fault."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from data_modules.errors import InputError
from data_modules.findings import ontology
from radz.config.files import find_resource
from radz.models.statements import Statements, names, read_wordings, statement_labels

FILE = find_resource("prompts/statements.yaml", "x")
FINDINGS = ("no_finding", "edema", "lung_opacity", "consolidation", "of_my_own")


def test_each_step_draws_one_wording_of_one_name_and_its_denial() -> None:
    statements = Statements(FILE, FINDINGS, ontology(), ["chest_xray", "chest_ct", "chest_xray"], 1.0)
    assert statements.modalities == ("chest_xray", "chest_ct")
    seen: list[set[str]] = [set() for _ in FINDINGS]
    for step in range(400):
        said, denied = statements.draw("chest X-ray", step)
        assert (said, denied) == statements.draw("chest X-ray", step)
        for place, pair in enumerate(zip(said, denied, strict=True)):
            seen[place] |= {*pair}
            assert pair[0] != pair[1] and not any("{" in text for text in pair)
    assert {"Edema.", "No edema.", "Pulmonary edema.", "There is no pulmonary edema."} <= seen[1]
    assert {"Normal chest X-ray.", "Abnormal chest X-ray."} <= seen[0]
    assert not any("no no" in text.lower() for text in seen[0])
    assert "Of my own is present." in seen[4]


def test_wordings_of_training_are_none_of_those_that_measure_it() -> None:
    content = yaml.safe_load(find_resource("prompts/paraphrases.yaml", "x").read_text())["paraphrases"].values()
    measured = {text for entry in content for text in entry.values()}
    trained = {text for pairs in read_wordings(FILE) for pair in pairs for text in pair}
    assert len(content) == 12 and not measured & trained


def test_names_are_the_text_and_the_short_names() -> None:
    assert names(ontology(), "edema") == ["pulmonary edema", "edema"]
    assert names(ontology(), "of_my_own") == ["of my own"]


def test_a_statement_leaves_wider_findings_open_and_a_denial_all_others() -> None:
    assert "lung_opacity" in ontology().ancestors("consolidation")
    found, nan = statement_labels(FINDINGS, ontology()), float("nan")
    said = [[1, 0, 0, 0, 0], [0, 1, nan, 0, 0], [0, 0, 1, 0, 0], [0, 0, nan, 1, 0], [0, 0, 0, 0, 1]]
    denied = [[0.0 if row == column else nan for column in range(5)] for row in range(5)]
    torch.testing.assert_close(found, torch.tensor([*said, *denied]), equal_nan=True)


def test_a_device_and_health_say_nothing_of_each_other() -> None:
    """A support device is no pathology: who is healthy may have one, and who has one may be healthy."""
    found, nan = statement_labels(("support_devices", "no_finding", "edema"), ontology())[:3], float("nan")
    said = torch.tensor([[1, nan, 0], [nan, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(found, said, equal_nan=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("statements: 3", "must hold `statements` and `normal`"),
        ("statements: [['{Finding}.', 'No {find}.']]\nnormal: [[a, b]]", "must hold `statements` and `normal`"),
        ("statements: [['{Finding}.', 'No {}.']]\nnormal: [[a, b]]", "must hold `statements` and `normal`"),
        ("statements: [['{Finding}.', 4]]\nnormal: [[a, b]]", "must hold `statements` and `normal`"),
        ("statements: [['{Finding}.']]\nnormal: [[a, b]]", "must hold `statements` and `normal`"),
        ("statements: []\nnormal: [[a, b]]", "needs a pair"),
        ("statements: [[There., 'No {finding}.']]\nnormal: [[a, b]]", "'There.' must contain {finding}"),
    ],
)
def test_files_at_fault(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "statements.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        Statements(file, FINDINGS, ontology(), ["chest_xray"], 1.0)
