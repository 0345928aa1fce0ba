"""English sentences and what they say; each row was written to be read, not taken from a corpus."""

from __future__ import annotations

from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller

PRESENT, ABSENT, UNCERTAIN = "present", "absent", "uncertain"


@cache
def labeller(modality: str = "chest_xray") -> Labeller:
    return Labeller(modality)


def states(report: str, modality: str = "chest_xray") -> dict[str, str]:
    """What a report says of the findings that it names, without those that follow from clear lungs."""
    return {name: proof.state for name, proof in labeller(modality).label(report).items()}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Small left pleural effusion.", {"pleural_effusion": PRESENT}),
        ("No effusion.", {"pleural_effusion": ABSENT}),
        ("NO PLEURAL EFFUSION OR PNEUMOTHORAX", {"pleural_effusion": ABSENT, "pneumothorax": ABSENT}),
        ("No effusion, pneumothorax or edema.", dict.fromkeys(("pleural_effusion", "pneumothorax", "edema"), ABSENT)),
        ("Neither effusion nor pneumothorax.", {"pleural_effusion": ABSENT, "pneumothorax": ABSENT}),
        ("No pneumothorax but a small effusion.", {"pneumothorax": ABSENT, "pleural_effusion": PRESENT}),
        ("No effusion, mild cardiomegaly.", {"pleural_effusion": ABSENT, "cardiomegaly": PRESENT}),
        ("Mild cardiomegaly, no effusion.", {"cardiomegaly": PRESENT, "pleural_effusion": ABSENT}),
        ("The heart is enlarged and no effusion is seen.", {"cardiomegaly": PRESENT, "pleural_effusion": ABSENT}),
        (
            "Without effusion or edema, cardiomegaly is present.",
            {"pleural_effusion": ABSENT, "edema": ABSENT, "cardiomegaly": PRESENT},
        ),
        ("Pneumothorax was not observed.", {"pneumothorax": ABSENT}),
        (
            "Cardiomegaly, effusion and edema were not observed.",
            {"cardiomegaly": ABSENT, "pleural_effusion": ABSENT, "edema": ABSENT},
        ),
        ("Pneumothorax: none.", {"pneumothorax": ABSENT}),
        ("The heart is not enlarged.", {"cardiomegaly": ABSENT}),
        ("Heart size normal.", {"cardiomegaly": ABSENT}),
        ("The costophrenic angles are sharp.", {"pleural_effusion": ABSENT}),
        ("Blunting of the left costophrenic angle.", {"pleural_effusion": PRESENT}),
        ("No large pleural effusion.", {}),
        ("Large pleural effusion.", {"pleural_effusion": PRESENT}),
        ("Possible small effusion.", {"pleural_effusion": UNCERTAIN}),
        ("A small effusion cannot be excluded.", {"pleural_effusion": UNCERTAIN}),
        ("Atelectasis versus pneumonia.", {"atelectasis": UNCERTAIN, "pneumonia": UNCERTAIN}),
        ("Nodular opacity in the right midlung.", {"nodule": UNCERTAIN, "lung_opacity": PRESENT}),
        ("Subsegmental opacity (atelectasis?).", {"lung_opacity": PRESENT, "atelectasis": UNCERTAIN}),
        ("Borderline cardiomegaly.", {"cardiomegaly": UNCERTAIN}),
        ("The effusion has resolved.", {"pleural_effusion": ABSENT}),
        ("Interval resolution of edema.", {"edema": ABSENT}),
        ("The effusion is no longer seen.", {"pleural_effusion": ABSENT}),
        ("No change in the small right effusion.", {"pleural_effusion": PRESENT}),
        ("No other fractures.", {}),
        ("History of pneumothorax.", {}),
        ("Family history of lung mass.", {}),
        ("Recommend CT to exclude a nodule.", {}),
        ("Bony overlap may obscure a small nodule.", {}),
        ("Pericardial effusion.", {"pericardial_effusion": PRESENT}),
        ("Thyroid nodule.", {}),
        ("Old granuloma, thoracic scoliosis.", {"granuloma": PRESENT, "scoliosis": PRESENT}),
        ("Cardio-\nmegaly", {"cardiomegaly": PRESENT}),
        ("Effusions.", {"pleural_effusion": PRESENT}),
        ("Noeffusion noted", {}),
    ],
)  # fmt: skip
def test_one_sentence(sentence: str, expected: dict[str, str]) -> None:
    found = states(sentence)
    if "lung_opacity" not in expected:
        found.pop("lung_opacity", None)
    assert found == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("There is pneumonia or atelectasis at the right base.", {"pneumonia": UNCERTAIN, "atelectasis": UNCERTAIN}),
        ("Edema, or pneumonia.", {"edema": UNCERTAIN, "pneumonia": UNCERTAIN}),
        ("Edema or infection.", {"edema": UNCERTAIN, "pneumonia": UNCERTAIN}),
        ("No effusion or pneumothorax.", {"pleural_effusion": ABSENT, "pneumothorax": ABSENT}),
        ("Small effusion, atelectasis or pneumonia.",
         {"pleural_effusion": PRESENT, "atelectasis": UNCERTAIN, "pneumonia": UNCERTAIN}),
        ("Small effusion or small pleural effusion.", {"pleural_effusion": PRESENT}),
        ("Pneumonia is seen, effusion or edema.",
         {"pneumonia": PRESENT, "pleural_effusion": UNCERTAIN, "edema": UNCERTAIN}),
        ("Scarring or atelectasis.", {"fibrosis": PRESENT, "atelectasis": PRESENT}),  # one band, either way
        ("Possible pneumonia, small effusion.", {"pneumonia": UNCERTAIN, "pleural_effusion": PRESENT}),
        ("Possible pneumonia, effusion.", {"pneumonia": UNCERTAIN, "pleural_effusion": UNCERTAIN}),
        ("Possible pneumonia, small effusion or edema.",
         {"pneumonia": UNCERTAIN, "pleural_effusion": UNCERTAIN, "edema": UNCERTAIN}),
        ("Possible pneumonia, small effusion and edema.",
         {"pneumonia": UNCERTAIN, "pleural_effusion": UNCERTAIN, "edema": UNCERTAIN}),
        ("No effusion, mild edema or pneumothorax.",
         {"pleural_effusion": ABSENT, "edema": ABSENT, "pneumothorax": ABSENT}),
        ("Edema without gross evidence for pneumonia.", {"edema": PRESENT, "pneumonia": ABSENT}),
        ("Without significant interval change of the small effusion.", {"pleural_effusion": PRESENT}),
        ("Heart: normal in size.", {"cardiomegaly": ABSENT}),
        ("Increased kyphotic curvature of the thoracic spine.", {}),
    ],
)  # fmt: skip
def test_where_a_list_ends_and_what_an_or_leaves_open(sentence: str, expected: dict[str, str]) -> None:
    assert states(sentence) == expected


def test_what_denies_many_findings_denies_the_rest_of_its_list() -> None:
    assert states("No acute findings or pneumothorax noted.")["pneumothorax"] == ABSENT
    assert states("No acute cardiopulmonary abnormality, findings compatible with emphysema.")["emphysema"] == PRESENT


def test_clear_lungs_deny_what_nothing_else_speaks_of() -> None:
    found = states("The lungs are clear. Small nodule in the left apex.")
    assert found["nodule"] == PRESENT and found["consolidation"] == found["atelectasis"] == ABSENT
    assert "pleural_effusion" not in found
    assert states("Normal chest radiograph.")["no_finding"] == PRESENT
    assert "no_finding" not in states("Normal chest radiograph. Mild cardiomegaly.")


@pytest.mark.parametrize(
    ("report", "state"),
    [
        ("FINDINGS: Small effusion.\nIMPRESSION: No pleural effusion.", ABSENT),
        ("FINDINGS: No effusion.\nIMPRESSION: Small left effusion.", PRESENT),
        ("INDICATION: effusion?\nFINDINGS: No effusion.", ABSENT),
        ("COMPARISON: effusion on the film of 2019.\nFINDINGS: Lines in place.", None),
        ("There may be a small effusion. There is a moderate left effusion.", PRESENT),
        ("There may be a small effusion. On the lateral view there is no effusion.", ABSENT),
        ("No effusion. A small left effusion is possible.", UNCERTAIN),
        ("FINDINGS: Moderate effusion.\nIMPRESSION: Possible effusion.", PRESENT),
        ("FINDINGS: No effusion.\nIMPRESSION: Possible effusion.", UNCERTAIN),
    ],
)
def test_sections_and_later_sentences_decide(report: str, state: str | None) -> None:
    assert states(report).get("pleural_effusion") == state


def test_the_proof_of_a_cell_is_the_place_in_the_report() -> None:
    proof = labeller().label("INDICATION: cough\nIMPRESSION: 1. Stable heart. 2. No pleural  effusion.")[
        "pleural_effusion"
    ]
    assert (proof.section, proof.sentence, proof.words) == ("impression", "No pleural effusion.", "pleural effusion")
    assert proof.state == ABSENT and proof.rule.endswith("+ no")


def test_terms_of_one_modality_are_not_those_of_the_other() -> None:
    assert states("Bulla in the right apex.")["emphysema"] == UNCERTAIN
    assert states("Bulla in the right apex.", "chest_ct")["emphysema"] == PRESENT


def test_halves_of_a_term_stand_in_one_sentence() -> None:
    calcified = {"arterial_wall_calcification", "coronary_artery_wall_calcification"}
    for sentence, expected in (
        ("Calcified plaques in the thoracic aorta.", {"arterial_wall_calcification"}),
        ("Calcific plaques are observed in the coronary arteries.", {"coronary_artery_wall_calcification"}),
        ("Aorta and coronary arteries show atheroma plaques.", calcified),
        ("Plaques in the abdominal aorta.", set()),
        ("Calcified granuloma. The aorta is normal.", set()),
    ):
        assert calcified & states(sentence, "chest_ct").keys() == expected, sentence
