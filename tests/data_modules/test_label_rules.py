from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_modules.cells import folded
from data_modules.corpora.labels import OUTSIDE, remarks, state_of, states_of
from data_modules.corpus_config import LabelRule
from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNCERTAIN, UNMENTIONED

CODING = {1: "present", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(str.strip)


@pytest.mark.parametrize(
    ("rule", "cell", "state"),
    [
        (LabelRule("c", equals="No Finding"), "No Finding", PRESENT),
        (LabelRule("c", equals="No Finding"), "No Finding 2", ABSENT),
        (LabelRule("c", equals="No Finding"), "no finding", PRESENT),
        (LabelRule("c", equals="No Finding"), "No\u00a0 FINDING", PRESENT),
        (LabelRule("c", equals="COVID-19"), "Covid\u201019\u200b", PRESENT),
        (LabelRule("c", equals="COVID-19"), "\uff23\uff2f\uff36\uff29\uff24\uff0d\uff11\uff19", PRESENT),
        (LabelRule("c", equals="1"), "1.0", PRESENT),
        (LabelRule("c", equals="1"), "1,0", PRESENT),
        (LabelRule("c", equals="1"), "10", ABSENT),
        (LabelRule("c", equals="True"), "TRUE", PRESENT),
        (LabelRule("c", contains="COVID-19"), "Pneumonia/Viral/COVID-19", PRESENT),
        (LabelRule("c", contains="COVID-19"), "pneumonia, covid-19", PRESENT),
        (LabelRule("c", contains="COVID-19"), "Pneumonia", ABSENT),
        (LabelRule("c", contains="COVID-19"), "", UNMENTIONED),
        (LabelRule("c", contains="COVID-19", blank="absent"), "", ABSENT),
        (LabelRule("c", contains="effusion"), "No effusion", OUTSIDE),
        (LabelRule("c", contains="effusion"), "no pneumothorax, effusion or mass", OUTSIDE),
        (LabelRule("c", contains="effusion"), "Effusion: not seen", OUTSIDE),
        (LabelRule("c", contains="effusion"), "Large effusion. No pneumothorax", PRESENT),
        (LabelRule("c", contains="effusion"), "Large effusions", PRESENT),
        (LabelRule("c", contains="Erguss"), "Kein Erguss", OUTSIDE),
        (LabelRule("c", contains="COVID"), "non-COVID pneumonia", OUTSIDE),
        (LabelRule("c", contains="COVID"), "COVID19", PRESENT),
        (LabelRule("c", contains="normal"), "abnormal", ABSENT),
        (LabelRule("c", contains="mass"), "massive bleeding", ABSENT),
        (LabelRule("c", contains="T1"), "T12", ABSENT),
        (LabelRule("c", contains="No Finding"), "no finding today", PRESENT),
        (LabelRule("c", contains="胸水"), "両側胸水あり", PRESENT),
        (LabelRule("c", token="Effusion"), "Mass|Effusion", PRESENT),
        (LabelRule("c", token="Effusion"), "Mass | effusion ", PRESENT),
        (LabelRule("c", token="Effusion"), "Pericardial Effusion|Mass", ABSENT),
        (LabelRule("c", token="Effusion", separator=";"), "Mass|Effusion", ABSENT),
        (LabelRule("c", numeric=CODING), "1", PRESENT),
        (LabelRule("c", numeric=CODING), "1.0", PRESENT),
        (LabelRule("c", numeric=CODING), "1,0", PRESENT),
        (LabelRule("c", numeric=CODING), "-1.0", UNCERTAIN),
        (LabelRule("c", numeric=CODING), "\u22121", UNCERTAIN),
        (LabelRule("c", numeric=CODING), "\uff11", PRESENT),
        (LabelRule("c", numeric=CODING), "", UNMENTIONED),
        (LabelRule("c", numeric=CODING), "2", OUTSIDE),
        (LabelRule("c", numeric=CODING), "1,000", OUTSIDE),
        (LabelRule("c", numeric=CODING), "1_0", OUTSIDE),
        (LabelRule("c", numeric=CODING), "100%", OUTSIDE),
        (LabelRule("c", numeric=CODING), "TRUE", OUTSIDE),
        (LabelRule("c", numeric=CODING), "nan", OUTSIDE),
        (LabelRule("c", numeric=CODING | {"nan": "absent"}), "NaN", ABSENT),
        (LabelRule("c", numeric=CODING | {float("nan"): "absent"}), "nan", ABSENT),
        (LabelRule("c", numeric=CODING), "yes", OUTSIDE),
        (LabelRule("c", numeric={"1": "present"}), "1", PRESENT),
        (LabelRule("c", numeric={1: "present"}), "", OUTSIDE),
    ],
)
def test_rules_by_hand(rule: LabelRule, cell: str, state: int) -> None:
    assert state_of(rule, cell) == state


@pytest.mark.parametrize(
    ("wanted", "cells"),
    [
        ("effusion", [
            "effusion: no", "Effusion: none", "nil effusion", "effusion = 0", "effusion (-)", "unlikely effusion",
            "effusion has cleared", "effusion=N", "mass: yes; effusion: absent",
            "no longer visible effusion",
        ]),
        ("épanchement", ["aucun épanchement", "Épanchement: non", "épanchement exclu", "absence d'épanchement"]),
        ("derrame", [
            "ningún derrame pleural", "nenhum derrame pleural", "ausencia de derrame", "ausência de derrame",
            "derrame (ausente)", "descartado: derrame",
        ]),
        ("versamento", ["assenza di versamento", "versamento assente", "improbabile versamento"]),
        ("Erguss", ["Erguss: nein", "Ausschluss Erguss", "Ausschluß von Erguß", "Erguss nicht nachweisbar"]),
        ("neumotórax", ["neumotórax: negativo", "sin neumotórax"]),
        ("vocht", ["zonder vocht", "vocht afwezig"]),
        ("Pneumonie", [
            "V.a. Pneumonie", "V. a. Pneumonie", "Z.n. Pneumonie", "Pneumonie?", "Pneumonie? Erguss",
            "fragl. Pneumonie", "DD Pneumonie / Atelektase", "Pneumonie, DD Atelektase", "suspekt: Pneumonie",
            "Erguss; evtl. Pneumonie",
        ]),
        ("pneumonia", [
            "possible pneumonia", "likely pneumonia", "? pneumonia", "history of pneumonia", "h/o pneumonia",
            "family history of pneumonia", "evaluate for pneumonia", "prior pneumonia", "poss. pneumonia",
            "pneumonia vs atelectasis", "pneumonia:", "pneumonia; no pneumonia",
        ]),
    ],
)  # fmt: skip
def test_a_cell_that_does_not_call_the_text_present_is_refused(wanted: str, cells: list[str]) -> None:
    rule = LabelRule("c", contains=wanted)
    assert [cell for cell in cells if state_of(rule, cell) != OUTSIDE] == []


def test_a_cell_that_denies_something_else_is_accepted() -> None:
    for wanted, cells in {
        "effusion": [
            "effusion, no pneumothorax", "effusion and no pneumothorax", "effusion: yes", "effusion (+)",
            "effusion = 1", "mass; effusion", "mass/effusion", "Effusion|No mass", "small effusion", "effusion 2019-05",
            "mass? effusion", "other effusion", "effusion: yes, mass: no", "effusion has increased",
            "effusion, possible pneumonia", "possible pneumonia, effusion", "Status post CABG, effusion",
        ],
        "Pneumonie": ["V.a. Erguss; Pneumonie", "V.a. Erguss. Pneumonie", "Pneumonie/Atelektase"],
        "Erguss": ["Erguss, keine Stauung", "Erguss und keine Stauung", "Erguss: ja", "Erguss re. 12.5.2019"],
        "Pneumonia": ["Pneumonia/Viral/COVID-19", "todo/Pneumonia"],
        "edema": ["pneumothorax unlikely, edema"],
        "COVID-19": ["COVID-19, ARDS", "Pneumonia/Viral/COVID-19"],
    }.items():  # fmt: skip
        rule = LabelRule("c", contains=wanted)
        assert [cell for cell in cells if state_of(rule, cell) != PRESENT] == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CELLS, max_size=8), CELLS.filter(bool))
def test_equals_and_token_agree_with_plain_python(cells: list[str], wanted: str) -> None:
    """Of cells that are no numbers, which compare as such."""
    plain = [cell for cell in [*cells, wanted] if folded(cell) and not re.search(r"\d", folded(cell))]
    if wanted not in plain or "|" in wanted:
        return
    array = np.array(plain, dtype=object)
    equal = [folded(cell) == folded(wanted) for cell in plain]
    parts = [folded(wanted) in [folded(part) for part in cell.split("|")] for cell in plain]
    assert states_of(LabelRule("c", equals=wanted), array).tolist() == list(map(int, equal))
    assert states_of(LabelRule("c", token=wanted), array).tolist() == list(map(int, parts))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.sampled_from(["{}", "{}.0", "+{}", " {}", "{}e0"]))
def test_numbers_compare_as_numbers(values: list[int], form: str) -> None:
    cells = np.array([form.format(v) if v >= 0 or form != "+{}" else str(v) for v in values], dtype=object)
    by_hand = {1: PRESENT, 0: ABSENT, -1: UNCERTAIN}
    assert states_of(LabelRule("c", numeric=CODING), cells).tolist() == [by_hand.get(v, OUTSIDE) for v in values]


def told(cells: list[str], **rule: Any) -> list[str]:
    return remarks(LabelRule("finding", **rule), np.array(cells, dtype=object), "labels.x", repr)


def test_what_a_rule_makes_of_its_cells_is_told() -> None:
    assert told(["COVID-19", "Normal", "Normal"], equals="COVID-19") == []
    assert told(["covid-19", "covid-19", "Normal"], equals="COVID-19") == [
        "labels.x: 2 cell(s), such as 'covid-19', are written otherwise and count as 'COVID-19'"
    ]
    assert told(["COVID-19", "COVID 19"], equals="COVID-19") == [
        "labels.x: 1 cell(s), such as 'COVID 19', are not 'COVID-19', though like it, and count as absent"
    ]
    assert told(["Mass|effusion", "Efusion"], token="Effusion") == [
        "labels.x: 1 cell(s), such as 'effusion', are written otherwise and count as 'Effusion'",
        "labels.x: 1 cell(s), such as 'Efusion', are not 'Effusion', though like it, and count as absent",
    ]
    assert told(["abnormal", "normal"], contains="normal") == [
        "labels.x: 1 cell(s), such as 'abnormal', hold 'normal' only inside a longer word and count as absent"
    ]
    assert told(["ja", "ja, links", "ja (klein)", "fraglich", "unklar", "nein", "2"], equals="ja") == [
        "labels.x: 2 cell(s), such as 'ja, links', 'ja (klein)', hold 'ja' beside other text and count as absent",
        "labels.x: 2 cell(s), such as 'fraglich', 'unklar', leave the finding open and count as absent",
    ]
    assert told(["Effusion|Mass", "Effusion;Mass", "Effusion (small)|Mass", "possible"], token="Effusion") == [
        "labels.x: 2 cell(s), such as 'Effusion;Mass', 'Effusion (small)', hold 'Effusion' beside other text and count "
        "as absent"
    ]
    assert told(["1", "2.1", "0"], equals="1") == [], "other numbers"
    assert told(["Mass", "Edema"], equals="Hernia") == [
        "labels.x.equals: no cell of column 'finding' has 'Hernia' (it holds 'Mass', 'Edema')"
    ]
    assert told([f"v{i}" for i in range(30)], equals="Hernia")[0].endswith("(it holds many values)")
    assert told(["", ""], equals="Hernia") == [] == told(["1", "0"], numeric={1: "present"})


def test_a_rule_that_is_misspelt_is_refused() -> None:
    with pytest.raises(InputError, match="no cell of column 'finding' is 'No Findings'; nearest is 'No Finding'"):
        told(["No Finding", "Mass"], equals="No Findings")
    with pytest.raises(InputError, match="nearest is 'COVID19'"):
        told(["COVID19", "Mass"], equals="COVID-19")
    assert told(["Grade 1", "Grade 3"], equals="Grade 2")[0].startswith("labels.x.equals: no cell"), "another number"
