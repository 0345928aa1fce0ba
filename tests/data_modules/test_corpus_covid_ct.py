"""COVID-CT: labels by folder, names as they stand, patients where a table names them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import SALT, edit, missing, picture, refused, states, write_table
from official_ct import laid_out_ct, read_by

from data_modules.corpora import covid_ct
from data_modules.corpora.covid_ct import _stem
from data_modules.corpora.csv_file import read_list
from data_modules.corpus_config import BadRows
from data_modules.phantom.layouts import covid_ct as writer

LISTS = {
    "COVID": {"train": ["2020.02.10.200215-p6-52%10.png", "a%20b.png"], "val": ["a b.png"], "test": ["c-p1-89%0.png"]},
    "NonCOVID": {"train": ["0.jpg", "10%2.jpg"], "val": ["2%1.png"], "test": ["a b.png"]},
}


root = laid_out_ct(writer.write)


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    for kind, splits in LISTS.items():
        for split, names in splits.items():
            path = tmp_path / "Data-split" / kind / f"{split}CT_{kind}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(("\r\n".join(names) + "\r\n\r\n").encode())
            for name in names:
                picture(tmp_path / "Images-processed" / f"CT_{kind}" / name)
    return tmp_path


def test_lists_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    picture(by_hand / "Images-processed/CT_COVID/unlisted.png")
    found = read_by(covid_ct, by_hand)
    assert found.study_id.tolist() == [f"CT_{kind}/{name}" for kind in LISTS for split in LISTS[kind]
                                       for name in LISTS[kind][split]]  # fmt: skip
    assert found.split.tolist() == ["train", "train", "val", "test"] * 2
    assert states(found, "CT_COVID/a b.png") == {"covid19": "present"}
    assert states(found, "CT_NonCOVID/a b.png") == {"covid19": "absent"}
    assert found.image_ids[1] == "Images-processed/CT_COVID/a%20b.png", "never decoded"
    assert all(Path(path).is_file() for path in found.image_paths) and len(set(found.patient)) == 8
    assert found.source_rows.tolist() == [1, 2, 1, 1] * 2 and set(found.modality) == {"chest_ct"}
    assert "names the patients of 8 of 8 images" in caplog.text and "4 images here, 425 in the pub" in caplog.text
    assert "1 image(s) of CT_COVID are in no list" in caplog.text and "a b.png" not in caplog.text


def test_patients_of_a_table_and_the_later_list_wins(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [["0.png", "Patient 1"], ["10%2.jpg", "Patient 2"], ["2%1.png", "Patient 2"], ["a b.png", ""]]
    write_table(by_hand / "NonCOVID-CT-MetaInfo.csv", ["image name", "patient id"], rows)
    found = read_by(covid_ct, by_hand)
    assert found.patient.tolist()[4:] == ["NonCOVID Patient 1", "NonCOVID Patient 2", "CT_NonCOVID/a b.png"]
    assert found.coverage.filtered == {"covid_ct: images of patients who are in the test or validation list too": 1}
    assert "names the patients of 5 of 8 images" in caplog.text
    found.check_splits(SALT)
    write_table(by_hand / "COVID-CT-MetaInfo.csv", ["File name", "Patient ID"], [["a b.png", "Patient 1"]])
    assert read_by(covid_ct, by_hand).patient.tolist()[2] == "COVID Patient 1", "another than of the other table"


def test_a_table_of_patients_that_cannot_be_read_is_told(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    (by_hand / "NonCOVID-CT-MetaInfo.csv").write_bytes("image name,patient id\nbrücke.png,1\n".encode("latin-1"))
    assert len(read_by(covid_ct, by_hand)) == 8
    assert "patients of CT_NonCOVID stay unknown" in caplog.text and "not UTF-8" in caplog.text


def test_images_and_lists_may_lie_in_root(by_hand: Path) -> None:
    before = read_by(covid_ct, by_hand)
    for path in [*by_hand.glob("Images-processed/*"), *by_hand.glob("Data-split/*/*.txt")]:
        path.rename(by_hand / path.name)
    after = read_by(covid_ct, by_hand)
    assert after.study_id.tolist() == before.study_id.tolist() and after.image_ids[0].startswith("CT_COVID/")


def _edit(root: Path, old: str, new: str) -> None:
    edit(root / "Data-split/COVID/trainCT_COVID.txt", old, new)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: _edit(r, "a%20b.png", "a%2Fb.png"), r"trainCT_COVID.txt row 2 .*no image file"),
        (lambda r: _edit(r, "a%20b.png", "../x.png"), r"row 2 .*must be relative"),
        (lambda r: _edit(r, "a%20b.png", "/etc/x"), r"row 2 .*no image file"),
        (lambda r: (r / "Data-split/COVID/valCT_COVID.txt").write_bytes(b"\xff\xfe"), "valCT_COVID.txt: is not UTF-8"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "covid_ct", by_hand, ".png")


def test_an_image_that_is_not_there_follows_the_policy(by_hand: Path) -> None:
    (by_hand / "Images-processed/CT_NonCOVID/0.jpg").unlink()
    assert len(read_by(covid_ct, by_hand, bad=BadRows(on_missing_image="skip"))) == 7


def test_a_root_without_a_part_shows_the_tree(by_hand: Path) -> None:
    (by_hand / "Images-processed/CT_NonCOVID").rename(by_hand / "elsewhere")
    missing("covid_ct", "unpacked from CT_COVID.zip", by_hand)


def test_phantom_in_its_layout(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = read_by(covid_ct, root)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [20, 5, 9]
    found.check_splits(SALT)
    totals = found.totals().loc["covid19"]
    assert totals["present"] > 3 and totals["absent"] > 3 and totals["present"] + totals["absent"] == 34
    names = " ".join(found.image_ids)
    assert "%20" in names and "a paper p" in names and "%2.jpg" in names
    assert caplog.text.count("1 image(s) of CT_") == 2


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)))
def test_a_list_keeps_every_line_that_is_not_blank(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("list") / "l.txt"
    path.write_bytes("\r\n".join(lines).encode())
    found = read_list(path)
    text = path.read_text(encoding="utf-8-sig")
    expected = {number: line.strip() for number, line in enumerate(text.split("\n"), start=1) if line.strip()}
    assert found.to_dict() == expected
    assert all(_stem(_stem(line)) in line for line in expected.values())
