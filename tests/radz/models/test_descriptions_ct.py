"""The shipped descriptions of CT findings: every finding of the ontology, short, none named by its own signs."""

from __future__ import annotations

import re

import pytest
from test_descriptions import NAMES, words

from data_modules.findings import ontology
from radz.config.files import find_resource
from radz.models.descriptions import FIELDS, IMAGING, answer_lines, load_descriptions, parse_answer

SHIPPED = load_descriptions(find_resource("descriptions/chest_ct.yaml", "x"))
OWN = {
    **NAMES,
    "nodule_malignancy": "malignan.*|cancer|tumou?rs?|nodul.*|carcinoma",
    "arterial_wall_calcification": "calci.*|atheroscler.*",
    "coronary_artery_wall_calcification": "calci.*|coronar.*|atheroscler.*",
    "peribronchial_thickening": "peribronch.*|thickening|bronchitis",
    "interlobular_septal_thickening": "interlobular|septa.*|thickening|kerley",
    "mosaic_attenuation": "mosaic.*|attenuat.*|air trapping",
    **dict.fromkeys(
        ("pulmonary_embolism", "acute_pulmonary_embolism", "subsegmental_pulmonary_embolism"),
        "embol.*|thromb.*|clots?|subsegment.*|acute",
    ),
}
"""Names and synonyms that the imaging fields of a finding must not hold."""


def test_every_finding_of_the_ontology_is_described() -> None:
    assert set(SHIPPED) == set(ontology().names) == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_imaging_signs_are_short_and_never_name_the_finding(name: str) -> None:
    one = SHIPPED[name]
    assert 28 <= len(words(one.imaging)) <= 60
    assert all(3 <= len(words(getattr(one, field))) <= 30 for field in FIELDS)
    assert all(getattr(one, field).endswith(".") for field in FIELDS)
    assert re.search(rf"\b({OWN[name]})\b", one.imaging, re.I) is None
    assert parse_answer(name, answer_lines(one)) == one


def test_texts_differ_from_each_other_and_from_the_radiographs() -> None:
    texts = [one.imaging for one in SHIPPED.values()]
    assert len(set(texts)) == len(texts)
    radiographs = load_descriptions(find_resource("descriptions/chest_xray.yaml", "x"))
    for name, one in radiographs.items():
        assert not {getattr(one, field) for field in IMAGING} & {getattr(SHIPPED[name], field) for field in IMAGING}
