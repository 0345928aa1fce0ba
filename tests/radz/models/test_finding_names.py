"""How users may call a finding, and where another name is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_modules.errors import InputError
from data_modules.findings import ontology
from radz.config.schema import DkamConfig
from radz.methods.dkam import build_bank
from radz.models.descriptions import Description, finding_name, load_descriptions, save_descriptions


def test_findings_are_known_by_name_short_name_and_text() -> None:
    known = ontology().extended({"Coin": {"text": "swallowed coin"}})
    for typed in ("effusion", "Effusion", "pleural effusion", "PLEURAL_EFFUSION", "pleural  effusion"):
        assert finding_name(typed, known) == "pleural_effusion"
    assert finding_name("COVID 19", known) == "covid19" and finding_name("normal", known) == "no_finding"
    assert finding_name("Coin", known) == finding_name("swallowed coin", known) == "Coin"
    assert finding_name("Swallowed tooth", known) == "Swallowed tooth"


def test_an_own_finding_keeps_its_name(tmp_path: Path) -> None:
    own = {"Own_finding": Description("Own_finding", *[f"Some text {i}." for i in range(6)])}
    save_descriptions(tmp_path / "own.yaml", own)
    assert load_descriptions(tmp_path / "own.yaml") == own


def test_a_description_under_other_words_would_serve_nobody(tmp_path: Path) -> None:
    one = Description("Pleural Effusion", *[f"Some text {i}." for i in range(6)])
    save_descriptions(tmp_path / "own.yaml", {one.name: one})
    with pytest.raises(InputError, match="'Pleural Effusion' is called pleural_effusion here; rename"):
        load_descriptions(tmp_path / "own.yaml")


def test_a_bank_of_short_names_is_refused_before_the_model_writes(make_encoder: Any, tmp_path: Path) -> None:
    encoder = make_encoder(train="frozen", depth="full")
    with pytest.raises(InputError, match=r"dkam\.findings: 'effusion' is called pleural_effusion here") as fault:
        build_bank(encoder, DkamConfig(write=True), {"effusion": "effusion"}, tmp_path / "x.yaml", "", None)
    assert "\n" not in str(fault.value) and list(tmp_path.iterdir()) == []
