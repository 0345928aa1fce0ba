"""COVIDx: CXR-4 and CXR-2, both forms of the labels, lists of exactly four words a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import edit, laid_out, picture, read, refused, states

from data_modules.corpora.covidx import NAMES, load_list
from data_modules.corpus_config import BadRows, SplitFractions
from data_modules.errors import InputError

LISTS = {
    "train": (
        "ANON56 CR.1.2.840.1003000225002.png negative actmed\n"
        "COVID_83 COVID(83).png positive sirm\n"
        "210 16745_2_1.PNG negative cohen\n"
        "c4a0e11a c4a0e11a.png negative rnsa\n"
    ),
    "val": "419639-001464 MIDRC-RICORD-1C-419639-001464-39871-0.png positive ricord\n",
    "test": "47c78742 47c78742.png negative rsna\n"
    "SITE2-000265 MIDRC-RICORD-1C-SITE2-000265-99793-1.png positive ricord\n",
}
FORM_A = {
    "train": "1 a.png COVID-19 ricord\n2 b.png normal rsna\n3 c.png pneumonia rsna\n",
    "test": "4 d.png normal rsna\n",
}


root = laid_out("covidx")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """CXR-4, form B."""
    return _release(tmp_path, LISTS)


def _release(root: Path, lists: dict[str, str]) -> Path:
    for split, text in lists.items():
        (root / f"{split}.txt").write_text(text, encoding="utf-8")
        for line in text.splitlines():
            picture(root / split / line.split()[1])
    return root


def test_states_of_lines_typed_by_hand(by_hand: Path) -> None:
    found = read("covidx", by_hand)
    assert found.split.tolist() == ["train"] * 4 + ["val"] + ["test"] * 2
    assert found.patient.tolist() == [
        "ANON56", "COVID_83", "210", "c4a0e11a", "419639-001464", "47c78742", "SITE2-000265"
    ]  # fmt: skip
    assert found.source_rows.tolist() == [1, 2, 3, 4, 1, 1, 2]
    assert states(found, "train/COVID(83).png") == {"covid19": "present"}
    assert states(found, "test/47c78742.png") == {"covid19": "absent"}
    assert found.totals().loc["covid19", "present"] == 3
    assert all(Path(path).is_file() for path in found.image_paths)


def test_the_misspelt_source_is_the_same_source(by_hand: Path) -> None:
    found = read("covidx", by_hand, keep={"origin": ["rsna"]})
    assert found.patient.tolist() == ["c4a0e11a", "47c78742"]


def test_form_a_labels_normal_and_pneumonia_too(tmp_path: Path) -> None:
    found = read("covidx", _release(tmp_path, {**FORM_A, "val": "5 e.png pneumonia rsna\n"}))
    told = {study: sorted(name for name, state in states(found, study).items() if state == "present")
            for study in ("train/a.png", "train/b.png", "train/c.png", "test/d.png")}  # fmt: skip
    assert told == {
        "train/a.png": ["covid19", "pneumonia"], "train/b.png": ["no_finding"], "train/c.png": ["pneumonia"],
        "test/d.png": ["no_finding"],
    }  # fmt: skip
    assert found.totals()[["uncertain", "unmentioned"]].to_numpy().sum() == 0


def test_without_a_val_list_patients_are_held_out(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = "".join(f"{i // 2} {i}.png {'positive' if i % 3 else 'negative'} bimcv\n" for i in range(20))
    cxr2 = _release(tmp_path, {"train": lines, "test": LISTS["test"]})
    found = read("covidx", cxr2, split_fractions=SplitFractions(train=0.6, val=0.2, test=0.2))
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [16, 4, 2]
    found.check_splits(b"s" * 32)
    assert all(path.split("/")[-2] == "train" for path in found.image_paths[:20])
    # The counts of CXR-4 are not those of CXR-2.
    assert "covidx/test: 2 images here, 400 in the published release" in caplog.text and "67863" not in caplog.text
    assert read("covidx", root).split.tolist().count("val") == 5


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("covidx", root)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [20, 5, 9]
    totals = found.totals().loc["covid19"]
    assert totals["present"] > 0 and totals["present"] + totals["absent"] == 34
    assert "rnsa" in (root / "train.txt").read_text()
    assert len(set(found.patient)) < 34


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "test.txt").unlink(), "holds no test.txt"),
        (lambda r: (r / "val.txt").write_text("\n \n"), "val.txt: is empty"),
        (lambda r: (r / "val.txt").write_bytes(b"\xff\xfe"), "val.txt: is not UTF-8"),
        (lambda r: next((r / "val").iterdir()).unlink(), "val.txt row 1 .*no image file"),
        (lambda r: _edit(r, "COVID(83)", "COVID (83)"), "train.txt row 2: has 5 words"),
        (lambda r: _edit(r, " sirm", ""), "train.txt row 2: has 3 words"),
        (lambda r: _edit(r, "positive", "postive"), "train.txt row 2 .*outside the coding.*'unknown class'"),
        (lambda r: _edit(r, "positive", "1"), "train.txt row 2 .*outside the coding.*'unknown class'"),
        (lambda r: _edit(r, "negative actmed", "normal actmed"), "train.txt row 2: is positive or negative, other"),
        (lambda r: _edit(r, "COVID(83).png", "../COVID(83).png"), "row 2 .*must be relative and stay below"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "covidx", by_hand, "83", "419639")


def test_an_unknown_class_can_be_skipped(by_hand: Path) -> None:
    _edit(by_hand, "positive", "postive")
    assert len(read("covidx", by_hand, bad=BadRows(on_bad_label="skip"))) == 6


def _edit(root: Path, old: str, new: str) -> None:
    edit(root / "train.txt", old, new)


@given(text=st.text())
def test_any_text_is_four_words_a_line_or_a_fault_of_one_line(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        frame = load_list(path, "train")
    except InputError as fault:
        assert "\n" not in str(fault)
    else:
        assert len(frame) and frame[list(NAMES)].map(lambda word: len(word.split()) == 1).to_numpy().all()
