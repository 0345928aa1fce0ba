"""Open-I: XML archives or Kaggle's tables, terms as paths, several images in a study, entities refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import edit, laid_out, picture, read, refused, states, write_table

from data_modules.corpora.openi import paths
from data_modules.corpus_config import SplitFractions
from data_modules.errors import InputError

BARE = "openi: reports without an image"
XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
<meta type="rr"/>
<uId id="CXR{uid}"/>
<MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">XXXX.</AbstractText>
<AbstractText Label="INDICATION">Positive TB test</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH>{major}<automatic>pneumothorax</automatic></MeSH>
{images}
</eCitation>
"""
STUDIES = {
    1: (["normal"], "No XXXX of an effusion &amp; no edema.", "Normal chest x-XXXX.",
        ["1_IM-0001-3001", "1_IM-0001-4001"]),
    2: (["Cardiomegaly/borderline", "Pulmonary Artery/enlarged"], "", "No acute findings.", ["IM-0652-1001"]),
    10: (["Nodule/lung/base ", "Cystic Fibrosis", "Subcutaneous Emphysema/neck"], "", "", ["IM-0002-1001"]),
    11: (["No Indexing"], "Limited.", "", ["IM-0003-1001"]),
    12: (["Thickening/pleura/apex", "Hernia, Hiatal", "Fractures, Bone/ribs"], "Old.", "", ["IM-0004-1001"]),
    13: (["normal"], "Clear.", "", []),
}  # fmt: skip


root = laid_out("openi")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Six reports of the archives, one without an image, two of them with words that only look like a finding."""
    root = tmp_path / "archive"
    for uid, (terms, findings, impression, images) in STUDIES.items():
        for image in images:
            picture(root / "NLMCXR_png" / f"CXR{uid}_{image}.png")
        text = XML.format(
            uid=uid, findings=findings, impression=impression,
            major="".join(f"<major>{term}</major>" for term in terms),
            images="".join(f'<parentImage id="CXR{uid}_{image}"><panel/></parentImage>' for image in images),
        )  # fmt: skip
        (root / "ecgen-radiology").mkdir(exist_ok=True)
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """The same reports as Kaggle has them."""
    root = tmp_path / "kaggle"
    reports, views = [], []
    for uid, (terms, findings, impression, images) in STUDIES.items():
        mesh = f'"{";".join(terms)}"'
        texts = [f'"{text.replace("&amp;", "&")}"' for text in (findings, impression)]
        reports.append([uid, mesh, "", "Xray Chest PA and Lateral", "Positive TB test", "XXXX.", *texts])
        for image in images:
            name = f"{uid}_{image.removeprefix('1_')}.dcm.png"
            views.append([uid, name, "Lateral" if name == "1_IM-0001-3001.dcm.png" else "Frontal"])
            picture(root / "images/images_normalized" / name)
    header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    write_table(root / "indiana_reports.csv", header, reports)
    write_table(root / "indiana_projections.csv", ["uid", "filename", "projection"], views)
    return root


@pytest.mark.parametrize("form", ["archive", "kaggle"])
def test_rows_typed_by_hand(form: str, request: pytest.FixtureRequest) -> None:
    found = read("openi", request.getfixturevalue(form))
    assert found.study_id.tolist() == found.patient.tolist() == ["1", "2", "10", "11", "12"]
    assert found.image_offsets.tolist() == [0, 2, 3, 4, 5, 6] and found.coverage.filtered == {BARE: 1}
    assert found.reports == [
        "No of an effusion & no edema. Normal chest x-.", "No acute findings.", "", "Limited.", "Old."
    ]  # fmt: skip
    assert found.coverage.to_dict()["counted"] == {"empty report": 1}  # its indication does not stand for it
    normal = states(found, "1")
    assert normal.pop("no_finding") == "present" and set(normal.values()) == {"absent"}
    there = [{name for name, state in states(found, uid).items() if state == "present"} for uid in ("2", "10", "12")]
    assert there[0] == {"cardiomegaly"}
    assert there[1] == {"nodule", "lung_lesion", "lung_opacity"}  # not emphysema, not fibrosis
    assert there[2] == {"pleural_thickening", "hiatal_hernia", "fracture"}
    assert set(states(found, "11").values()) == {"unmentioned"}
    assert states(found, "12")["no_finding"] == "absent"


def test_both_forms_agree(archive: Path, kaggle: Path) -> None:
    one, two = read("openi", archive), read("openi", kaggle)
    assert (one.states == two.states).all() and one.reports == two.reports and one.split.tolist() == two.split.tolist()
    assert one.attributes["view"].tolist() == [""] * 5
    assert two.attributes["view"].tolist() == ["Lateral", *["Frontal"] * 4]
    frontal = read("openi", kaggle, keep={"projection": ["Frontal"]})
    assert frontal.image_ids[0] == "images/images_normalized/1_IM-0001-4001.dcm.png" and len(frontal.image_ids) == 5
    # The archives with Kaggle's table of projections, and with its pictures.
    (kaggle / "indiana_projections.csv").rename(archive / "indiana_projections.csv")
    mixed = read("openi", archive, keep={"projection": ["Frontal"]})
    assert mixed.image_ids[0] == "NLMCXR_png/CXR1_1_IM-0001-4001.png" and len(mixed.image_ids) == 5
    (archive / "NLMCXR_png").rename(archive / "elsewhere")
    (kaggle / "images").rename(archive / "images")
    assert read("openi", archive).image_ids == two.image_ids


def test_split_follows_the_fractions(archive: Path) -> None:
    whole = read("openi", archive, split_fractions=SplitFractions(train=0.0, val=0.0, test=1.0))
    assert set(whole.split) == {"test"}
    parts = read("openi", archive, split_fractions=SplitFractions(train=0.4, val=0.2, test=0.4))
    assert sorted(parts.split) == ["test", "test", "train", "train", "val"]


def test_other_sections(archive: Path) -> None:
    assert read("openi", archive, report_sections=["indication"]).reports == ["Positive TB test"] * 5


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("openi", root)
    assert len(found) == 34 and len(found.image_ids) == 34 + 7 and found.coverage.filtered == {BARE: 1}
    assert {split: len(found.rows(split)) for split in ("train", "val", "test")} == {"train": 24, "val": 3, "test": 7}
    assert found.coverage.to_dict()["counted"] == {"empty report": 1}
    assert not any("XXXX" in text for text in found.reports)
    totals = found.totals()
    assert totals.loc["no_finding", "present"] > 0 and totals.loc["edema", "unmentioned"] == 1
    assert totals.loc[["pneumonia", "fibrosis", "lung_lesion"], "present"].tolist()[:2] == [0, 0]
    frontal = read("openi", root, keep={"projection": ["Frontal"]})
    assert len(frontal) == 34 == len(frontal.image_ids)


BOMB = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><eCitation><uId id="CXR2"/>&b;</eCitation>'
OUTSIDE = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><eCitation><uId id="CXR2"/>&x;</eCitation>'
PARAMETER = '<!DOCTYPE r [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><eCitation><uId id="CXR2"/></eCitation>'


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, PARAMETER])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(archive: Path, text: str, encoding: str) -> None:
    (archive / "ecgen-radiology/2.xml").write_bytes(text.encode(encoding))
    refused(r"file 2 in the order of numbers: declares an XML entity", "openi", archive, "2.xml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</eCitation>", "", "file 3 in the order of numbers: cannot be read as XML"),
        ('encoding="utf-8"', 'encoding="nonsense"', "file 3 .*cannot be read as XML"),
        ('<uId id="CXR10"/>', "", "file 3 .*has no uId"),
        ('parentImage id="CXR10', 'parentImage id="../CXR10', "ecgen-radiology row 3 .*must be relative"),
        ('parentImage id="CXR10_IM-0002', 'parentImage id="CXR10_IM-0009', "ecgen-radiology row 3 .*no image file"),
        ('<uId id="CXR10"/>', '<uId id="CXR2"/>', "row 3 .*of one study with row 2 but differs in its report"),
    ],
)
def test_faults_of_the_archives_are_one_line(archive: Path, old: str, new: str, said: str) -> None:
    edit(archive / "ecgen-radiology/10.xml", old, new)
    refused(said, "openi", archive, "10.xml", "CXR")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("indiana_reports.csv", "MeSH", "Mesh", "has no column 'MeSH'.*nearest is 'Mesh'"),
        ("indiana_reports.csv", "\n2,", "\n1,", "indiana_reports.csv row 3: its uid stands in an earlier row"),
        ("indiana_projections.csv", "\n2,", "\n77,", "indiana_projections.csv row 4: indiana_reports.csv has no row"),
        ("indiana_projections.csv", "0652", "0653", "indiana_projections.csv row 4 .*no image file"),
        ("indiana_projections.csv", "projection", "view", "has no column 'projection'"),
    ],
)
def test_faults_of_kaggles_tables_are_one_line(kaggle: Path, file: str, old: str, new: str, said: str) -> None:
    edit(kaggle / file, old, new)
    refused(said, "openi", kaggle, "IM-")


def test_a_folder_without_reports(archive: Path) -> None:
    for path in (archive / "ecgen-radiology").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no XML file there names an image"):
        read("openi", archive)


@given(st.lists(st.lists(st.text("abcO ,", min_size=1).map(str.strip).filter(bool), min_size=1)))
def test_terms_come_back_with_all_above_them(terms: list[list[str]]) -> None:
    found = paths(" ; ".join("/".join(parts) for parts in terms))
    above = {"/".join(parts[:n]).casefold() for parts in terms for n in range(1, len(parts) + 1)}
    assert found == above | {f"{parts[0]}/{part}".casefold() for parts in terms for part in parts[1:]}


@given(st.text())
def test_any_cell_gives_terms(cell: str) -> None:
    assert all(term and term == term.casefold() for term in paths(cell))
