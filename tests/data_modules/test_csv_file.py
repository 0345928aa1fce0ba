"""Tables as spreadsheets and downloads leave them: read for what they are, or refused with a hint."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data_modules.corpora.csv_file import column, load, split_words
from data_modules.errors import InputError

PLAIN = 'filename,patient,note\nimg1.png,07,"a, b"\n\nimg2.png,8,"c\nd"\n'
CELLS = [["img1.png", "07", "a, b"], ["img2.png", "8", "c\nd"]]


def read(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> list[list[str]]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    frame = load(path, "data.corpora.0.csv")
    assert list(frame.columns) == ["filename", "patient", "note"]
    return frame.to_numpy().tolist()


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        b"\xef\xbb\xbf" + PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.replace("\n", "\r\n").replace("c\r\nd", "c\nd"),
        "sep=;\n" + PLAIN.replace(",", ";").replace("a; b", "a, b"),
        PLAIN.replace(",", ";").replace("a; b", "a, b"),
        PLAIN.replace(",", "\t").replace("a\t b", "a, b"),
        PLAIN.replace(",", "|").replace("a| b", "a, b"),
        "\n\n" + PLAIN,
        ",,,\n" + PLAIN,
        PLAIN.replace("filename,patient", " filename ,\u00a0patient\u200b"),
        PLAIN.replace("img1.png", "\u00a0img1.png\u200b "),
        PLAIN.replace('"a, b"', '"a, b",,,'),
    ],
)
def test_one_table_in_many_forms(tmp_path: Path, content: str | bytes) -> None:
    assert read(tmp_path, content) == CELLS


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,2,,\n3,4\n", "a,b,,,\n1,2\n3,4,,,\n", "a,b,\n1,2,,,,\n3,4,\n", "a,b\n1,2,\n,,,\n3,4\n"],
)
def test_blank_cells_at_the_end_of_a_line_hold_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = load(tmp_path / "t.csv", "csv")
    assert found[["a", "b"]].to_numpy().tolist() == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,\n1\n", "row 2: has 1 cell where the header has 3"),
        ("a,b\n1,2,,x\n", "row 2: has 4 cells where the header has 2"),
    ],
)
def test_cells_beyond_the_header_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load(tmp_path / "t.csv", "csv")


def test_names_of_columns_have_single_blanks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Image\u00a0 Index,x\n1,2\n", encoding="utf-8")
    assert list(load(tmp_path / "t.csv", "k").columns) == ["Image Index", "x"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"PK\x03\x04rest", "Excel workbook.*CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel workbook.*CSV UTF-8"),
        (b"\x1f\x8brest", "compressed by gzip.*[.]gz"),
        (b"PAR1rest", "Parquet"),
        (b"\n<!DOCTYPE HTML>\n<html>", "web page.*download the table again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        (PLAIN.encode("utf-16-le"), "UTF-16 without its mark"),
        ("filename,note\nimg1.png,Brücke\n".encode("cp1252"), "not UTF-8 text .line 2: .*Windows-1252.*CSV UTF-8"),
        (b"\n\n,,\n", "is empty"),
        (b"a,b\n1,2\na,b\n3,4\n", "row 3: repeats the header"),
        (b"a;b;x[1,2]\n1;2;3\n", "row 2: has 1 cell where the header has 2.*separated by semicolons"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes, part: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"t[.]csv.*{part}") as caught:
        load(tmp_path / "t.csv", "data.corpora.0.csv")
    assert "\n" not in str(caught.value)


def test_a_damaged_packed_table_is_one_line(tmp_path: Path) -> None:
    """Cut at any byte, or with any byte wrong that leaves another text."""
    whole = gzip.compress("".join(f"{n},{n * n}\n" for n in range(200)).encode(), mtime=0)
    cut = [whole[:end] for end in range(2, len(whole), 7)]
    wrong = [whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :] for at in range(10, len(whole), 7)]
    for content in (*cut, *wrong):
        (tmp_path / "t.csv.gz").write_bytes(content)
        with pytest.raises(InputError, match=r"^csv: .*t\.csv\.gz cannot be read \(.+\)$"):
            load(tmp_path / "t.csv.gz", "csv")


def test_a_table_without_a_header_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("img1.png,MRN0007,No Finding\nimg2.png,MRN0008,Mass\n")
    frame = load(tmp_path / "t.csv", "k")
    with pytest.raises(InputError, match=r"no column 'patientid' .*first row looks like values") as caught:
        column(frame, "patientid", tmp_path / "t.csv", "columns.patient")
    assert "MRN" not in str(caught.value)


def test_split_words(tmp_path: Path) -> None:
    words = ["Train", "training", "TEST", "Testing", "valid", "Validation", "validate", "VAL", "dev"]
    (tmp_path / "t.csv").write_text("\n".join(["split", *words]))
    found = split_words(load(tmp_path / "t.csv", "k"), "split", tmp_path / "t.csv", "k")
    assert found.tolist() == ["train"] * 2 + ["test"] * 2 + ["val"] * 5
    (tmp_path / "t.csv").write_text("split,x\ntrain,1\nholdout,2\n")
    with pytest.raises(InputError, match="row 3: column 'split' holds another word than train, val or test"):
        split_words(load(tmp_path / "t.csv", "k"), "split", tmp_path / "t.csv", "k")
