"""Whatever looks at reports again reads of them what the labels are read from, and the training text says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import SALT, Corpus, read

from data_modules import reports
from data_modules.config import DataConfig
from data_modules.corpus_config import LabelRule
from data_modules.labelling.agreement import compare
from data_modules.labelling.labeller import Labeller
from data_modules.labelling.selected import select
from data_modules.subsets import shuffled

BOTH = ["findings", "impression"]
LABELLER = Labeller("chest_xray")
LINES = "FINDINGS:\nNo pneumothorax\nSmall left pleural effusion\nHeart size normal"
CONTRADICTED = "FINDINGS: Right basilar opacity, pneumonia. IMPRESSION: No pneumonia."
WORDS = [
    "No", "effusion", "Edema", "Kein", "größeren", "Pneumothorax", "Dr.", "and", ",", ";", ".", "\n", "\n\n", "\n- ",
    "\n1. ", "\t", "|", "FINDINGS:", "IMPRESSION:", "WET READ:", "Lungs:", "INDICATION:", "heart is big", "\u00ad", "?",
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path / "corpus")
    for i, row in enumerate(made.rows):
        row["notes"] = LINES if i % 2 else "FINDINGS:\nHeart size normal\nNo effusion"
    return made


def test_lines_without_stops_do_not_contradict_their_labels(corpus: Corpus) -> None:
    rule = {"pleural_effusion": LabelRule("edema", numeric={1: "present", 0: "absent"})}
    for i, row in enumerate(corpus.rows):
        row["edema"] = str(i % 2)
    found, conflicts = compare(read(corpus, labels=rule), DataConfig([corpus.config(labels=rule)]), SALT)
    assert [(one["both"], one["kappa"]) for one in found] == [(12, 1.0)] and conflicts == []


def test_the_impression_counts_first_wherever_a_report_is_read(corpus: Corpus) -> None:
    for row in corpus.rows:
        row["notes"] = f"INDICATION: Mrs. Miller, edema.\n{CONTRADICTED}"
        row["edema"] = "0"
    rule = {"pneumonia": LabelRule("edema", numeric={1: "present", 0: "absent"})}
    table = read(corpus, labels=rule)
    assert LABELLER.label(table.told[0])["pneumonia"].state == "absent"
    assert compare(table, DataConfig([corpus.config(labels=rule)]), SALT)[1] == []
    assert "Miller" not in table.told[0], "what is asked is not kept"
    assert shuffled(table.take([1, 0]), 0).told == table.told[:2]


def test_reports_stay_with_their_rows(corpus: Corpus) -> None:
    table = read(corpus)
    other = shuffled(table, 1)
    both = dict(zip(table.reports, table.told, strict=True))
    assert [both[text] for text in other.reports] == other.told and other.told != table.told


TEXTS = (
    st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
    | st.text("\u00adFINDINGS:\n. ab-", max_size=20)
    | st.text()
)


@given(TEXTS)
def test_what_is_kept_of_a_report_gives_its_labels(text: str) -> None:
    kept = reports.kept(text)
    assert reports.kept(kept) == kept and reports.told(kept) == reports.told(text)
    assert LABELLER.by_sentence(kept) == LABELLER.by_sentence(text) and LABELLER.label(kept) == LABELLER.label(text)


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        (LINES, "No pneumothorax. Small left pleural effusion. Heart size normal"),
        ("FINDINGS:\nNo pneumothorax\nIMPRESSION:\nSmall effusion", "No pneumothorax. Small effusion"),
        ("- No pneumothorax\n- small effusion;\n- edema", "- No pneumothorax. - small effusion; - edema"),
        ("No pneumothorax\n\nsmall effusion,\n\nedema", "No pneumothorax. small effusion. edema"),
        ("No evidence of\nPneumothorax or\nEffusion.", "No evidence of Pneumothorax or Effusion."),
        ("Kein Pneumothorax\nKein umschriebenes\nInfiltrat\nHerz normal",
         "Kein Pneumothorax. Kein umschriebenes Infiltrat. Herz normal"),
        ("Small effusion in the right lobe  \nHeart normal", "Small effusion in the right lobe. Heart normal"),
        ("FINDINGS: None\nIMPRESSION: Clear", "Clear"),
    ],
)  # fmt: skip
def test_a_line_that_ends_a_statement_ends_with_a_stop_in_the_training_text(text: str, selected: str) -> None:
    assert select(text, BOTH) == selected
    found = [[states for _, states in LABELLER.by_sentence(one)] for one in (selected, text)]
    assert found[0] == found[1]


def test_a_report_of_one_line_with_stops_is_as_it_was() -> None:
    text = "Findings: The heart is big; no effusion. Impression: Cardiomegaly."
    assert select(text.replace("Findings: ", ""), BOTH) == "The heart is big; no effusion. Cardiomegaly."
