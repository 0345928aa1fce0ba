from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_corpus import SALT, Corpus, read

from data_modules.corpora import table
from data_modules.corpus_config import BadRows, Columns, LabelPolicy, LabelRule, SplitFile, SplitFractions
from data_modules.errors import InputError, MissingCorpus
from data_modules.findings import ABSENT, PRESENT, UNMENTIONED, ontology
from data_modules.privacy import pseudonym


def refused(corpus: Corpus, **changes: Any) -> str:
    """The error text: one line, and no identifier of a row in it."""
    with pytest.raises(InputError) as caught:
        read(corpus, **changes)
    message = str(caught.value)
    assert "\n" not in message
    for row in corpus.rows:
        assert row["filename"] not in message or row["filename"] == ""
    return message


def test_the_contract_in_one_table(corpus: Corpus) -> None:
    found = read(
        corpus,
        keep={"view": ["PA", "AP"]},
        labels={
            "covid19": LabelRule("finding", contains="COVID-19"),
            "effusion": LabelRule("tokens", token="Effusion"),
            "edema": LabelRule("edema", numeric={1: "present", 0: "absent"}),
            "fungal_pneumonia": LabelRule("finding", equals="Fungal"),
        },
        findings={"fungal_pneumonia": {"parent": "pneumonia"}},
    )
    assert len(found) == 11 and found.corpora == ("ours",) and found.findings[1] == "pleural_effusion"
    assert found.study_id[0] == "img1.png" and found.patient[0] == "00" and found.source_rows[0] == 3
    assert found.reports[0] == "Report 1." and found.attributes["view"][0] == "PA"
    assert found.states[:3].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert {s: len(found.rows(s)) for s in ("train", "val", "test")} == {"train": 5, "val": 2, "test": 4}
    assert found.coverage.filtered == {"ours: keep.view": 1} and found.coverage.skipped() == 0
    assert Path(found.image_paths[0]).is_file() and found.coded == (found.findings,)


def test_no_cell_is_guessed(corpus: Corpus) -> None:
    for i, (patient, note) in enumerate([("0123", "NA"), ("0123", "null"), ("1e3", "NaN"), ("1e3", "1.0")]):
        corpus.rows[i].update(patientid=patient, notes=note)
    found = read(corpus)
    assert found.patient[:4].tolist() == ["0123", "0123", "1e3", "1e3"]
    assert found.reports[:4] == ["", "", "", "1.0"]


def test_a_report_that_is_a_word_for_nothing_is_empty_and_counted(corpus: Corpus) -> None:
    words = ["NA", "NULL", "<NA>", "-", ".", "#N/A", "nil", "missing", "None", "nan"]
    for row, word in zip(corpus.rows, words, strict=False):
        row["notes"] = word
    found = read(corpus)
    assert found.reports[:11] == [""] * 10 + ["Report 10."] and not any(found.told[:10]) and found.told[10]
    assert found.coverage.to_dict()["counted"] == {"empty report": 10}
    with pytest.raises(InputError, match=r"empty report \(10 such row"):
        read(corpus, bad=BadRows(on_empty_report="error"))


def test_reports_that_were_decoded_wrongly_are_mended_and_told(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    for row in corpus.rows[:3]:
        row["notes"] = "Pleuraerg\u00c3\u00bcsse."
    assert read(corpus).reports[2] == "Pleuraergüsse."
    told = [record.getMessage() for record in caplog.records if "UTF-8" in record.getMessage()]
    assert len(told) == 1 and "3 reports" in told[0]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"columns": Columns(image="filname", patient="patientid")}, ("metadata.csv", "columns.image", "'filename'")),
        ({"columns": Columns(image="filename", patient="pid")}, ("columns.patient", "'pid'")),
        ({"keep": {"veiw": ["PA"]}}, ("keep.veiw", "nearest is 'view'")),
        ({"keep": {"view": ["XX"]}}, ("keep leaves no row", "view removed 12 of 12", "'PA'")),
        ({"labels": {"mass": LabelRule("findings", equals="x")}}, ("labels.mass.column", "nearest is 'finding'")),
        ({"labels": {"covid20": LabelRule("finding", equals="x")}}, ("labels.covid20", "nearest is 'covid19'")),
        (
            {"labels": {k: LabelRule("tokens", token="Effusion") for k in ("effusion", "pleural_effusion")}},
            ("labels", "same finding, pleural_effusion"),
        ),
        (
            {"policy": LabelPolicy("per_finding", {"edemma": "present"})},
            ("policy.per_finding.edemma", "nearest is 'edema'"),
        ),
        ({"split_csv": SplitFile("splits.csv", "filename")}, ("split_csv.file", "splits.csv")),
        ({"split_csv": SplitFile("split.csv", "file")}, ("split.csv", "split_csv.key", "nearest is 'filename'")),
        ({"split_csv": SplitFile("split.csv", "filename", "fold")}, ("split_csv.split", "'fold'")),
        ({"columns": Columns(image="filename"), "split_csv": None}, ("columns.patient is not set", "split_csv")),
        ({"csv": None}, ("data.corpora.0.csv is not set",)),
    ],
)
def test_faults_of_the_experiment(corpus: Corpus, changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refused(corpus, **changes)
    assert all(part in message for part in parts), message


def test_missing_corpora_have_a_type_of_their_own(corpus: Corpus) -> None:
    for changes, part in (({"root": None}, "root is not set"), ({"root": "/no/where"}, "no such folder")):
        with pytest.raises(MissingCorpus, match=f"data.corpora.3.*{part}"):
            table.read(corpus.config(**changes), ontology(), SALT, "data.corpora.3")
    corpus.write()
    with pytest.raises(MissingCorpus, match="csv: there is no file"):
        table.read(corpus.config(csv="meta.csv"), ontology(), SALT)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b"filename,patientid\n", "no rows"),
        (b"filename,patientid\na.png,\xff\xfe\n", "not UTF-8"),
        (b"filename,patientid\na.png,1\nb.png,2,3\n", "row 3: has 3 cells where the header has 2"),
        (b'filename,patientid\na.png,"1\nb.png,2\n', "row 2: does not parse"),
        (b"filename,view,view\na.png,1,2\n", "2 columns called 'view'"),
        (b"filename,patientid,notes\na.png,1,x\nb.png\n", "row 3: has 1 cell where the header has 3"),
    ],
)
def test_damaged_tables(corpus: Corpus, content: bytes, part: str) -> None:
    corpus.write()
    (corpus.root / "metadata.csv").write_bytes(content)
    with pytest.raises(InputError, match=part):
        table.read(corpus.config(), ontology(), SALT)


def test_row_numbers_are_those_of_a_spreadsheet(corpus: Corpus) -> None:
    """A blank line and a cell of several lines are one row each; spaces around names and cells do not count."""
    corpus.write()
    text = ' filename , patientid,finding,view,notes\nimg1.png, 1 ,No Finding,PA,"a\nb"\n\nimg2.png,1,No Finding,PA,c\n'
    (corpus.root / "metadata.csv").write_text(text)
    (corpus.root / "split.csv").write_text("filename,split\nimg1.png,train\nimg2.png,training\n")
    found = table.read(corpus.config(), ontology(), SALT)
    assert found.source_rows.tolist() == [2, 4] and found.patient.tolist() == ["1", "1"]
    assert found.reports == ["a b", "c"]


def test_missing_image(corpus: Corpus) -> None:
    corpus.rows[4]["filename"] = corpus.splits[4]["filename"] = "gone.png"
    corpus.write()
    (corpus.root / "images" / "gone.png").unlink()
    with pytest.raises(InputError) as caught:
        table.read(corpus.config(), ontology(), SALT)
    message = str(caught.value)
    assert f"metadata.csv row 6 (image {pseudonym('ours', 'gone.png', SALT)})" in message and "gone" not in message
    assert "data.corpora.0.bad.on_missing_image=skip" in message
    found = table.read(corpus.config(bad=BadRows(on_missing_image="skip")), ontology(), SALT)
    assert len(found) == 11 and found.coverage.to_dict()["rows"] == [["ours", 6, "there is no image file"]]


def test_value_outside_the_coding(corpus: Corpus) -> None:
    corpus.rows[7]["edema"] = "7"
    labels = {"edema": LabelRule("edema", numeric={1: "present", 0: "absent"})}
    message = refused(corpus, labels=labels)
    assert "row 9" in message and "'7' in column 'edema'" in message and "labels.edema" in message
    found = read(corpus, labels=labels, bad=BadRows(on_bad_label="skip"))
    assert len(found) == 11 and found.coverage.skipped("ours") == 1
    # A row that the filter removes is neither judged nor shown.
    corpus.rows[0]["edema"] = "9"
    assert "row 9" in (message := refused(corpus, labels=labels, keep={"view": ["PA"]})) and "'7'" in message
    corpus.rows[0]["edema"] = "0"
    corpus.rows[7]["view"] = "L"
    assert len(read(corpus, labels=labels, keep={"view": ["PA"]})) == 10


def test_no_cell_of_a_patient_column_is_shown(corpus: Corpus) -> None:
    """Whatever rule or filter is pointed at it by mistake; other cells are shown cut to 30 characters."""
    coding = {1: "present", 0: "absent"}
    columns = Columns(image="filename", patient="patientid", study="study", report="notes")
    for i, row in enumerate(corpus.rows):
        row.update(patientid=f"MRN{i}", study=f"ACC{i}", notes=f"Mister Miller {i}", view="z" * 50)
    for name in ("patientid", "study", "notes", "filename"):
        for changes in ({"labels": {"edema": LabelRule(name, numeric=coding)}}, {"keep": {name: ["nobody"]}}):
            message = refused(corpus, columns=columns, **changes)
            assert name in message and "not shown" in message
            assert not any(word in message for word in ("MRN", "ACC", "Miller"))
    message = refused(corpus, columns=columns, labels={"edema": LabelRule("view", numeric=coding)})
    assert "row 2" in message and f"'{'z' * 30}' in column 'view'" in message
    for row, split in zip(corpus.rows, corpus.splits, strict=True):
        split["who"] = row["patientid"]
    message = refused(corpus, columns=columns, split_csv=SplitFile("split.csv", "filename", "who"))
    assert "split.csv row 2" in message and "column 'who'" in message and "MRN" not in message


def test_empty_report(corpus: Corpus) -> None:
    corpus.rows[5]["notes"] = " ___ "
    kept = read(corpus)
    assert len(kept) == 12 and kept.coverage.to_dict()["counted"] == {"empty report": 1}
    assert len(read(corpus, bad=BadRows(on_empty_report="skip"))) == 11
    assert "row 7" in refused(corpus, bad=BadRows(on_empty_report="error"))


def test_split_orphans_are_judged_before_the_filter(corpus: Corpus) -> None:
    corpus.splits.append({"filename": "other.png", "split": "test"})
    message = refused(corpus)
    assert "split.csv row 14" in message and "on_split_orphan" in message
    assert pseudonym("ours", "other.png", SALT) in message
    found = read(corpus, bad=BadRows(on_split_orphan="skip"))
    assert found.coverage.to_dict()["skipped"] == {"row of split.csv without its study": 1}
    # img0 has view L: its split row has a study, although the filter removes it.
    corpus.splits.pop()
    assert len(read(corpus, keep={"view": ["PA"]})) == 11


def test_row_without_a_split(corpus: Corpus) -> None:
    corpus.splits.pop(3)
    assert "row 5" in refused(corpus)
    assert len(read(corpus, bad=BadRows(on_split_orphan="skip"))) == 11


def test_split_words(corpus: Corpus) -> None:
    for word in ("validate", "valid", "Validation"):
        corpus.splits[6]["split"] = word
        assert read(corpus).split[6] == "val"
    corpus.splits[6]["split"] = "tset"
    assert "split.csv row 8: column 'split'" in (message := refused(corpus)) and "tset" not in message
    corpus.splits[6]["split"] = "val"
    corpus.splits.append({"filename": "img6.png", "split": "test"})
    assert "split.csv row 14" in refused(corpus)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../secret.png"])
@pytest.mark.fault(15)
def test_an_image_path_never_leaves_root(corpus: Corpus, name: str) -> None:
    corpus.rows[2]["filename"] = corpus.splits[2]["filename"] = name
    message = refused(corpus, bad=BadRows(on_missing_image="skip"))
    assert "row 4" in message and "data.corpora.0.root" in message


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "name", ["img2.png\r\nradz: all is well", "img2\n.png", "x" * 90_000 + ".png", "x" * 200_000, "img\0.png"]
)
def test_a_hostile_image_name_is_refused_by_row(corpus: Corpus, name: str) -> None:
    corpus.write()
    corpus.rows[2]["filename"] = corpus.splits[2]["filename"] = name
    corpus.write(images=False)
    with pytest.raises(InputError, match=r"row \d") as caught:
        table.read(corpus.config(), ontology(), SALT)
    message = str(caught.value)
    assert "\n" not in message and "all is well" not in message and len(message) < 600


@pytest.mark.fault(15)
def test_a_link_out_of_root_is_refused_and_one_inside_is_followed(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write()
    first, second = (corpus.root / "images" / f"img{i}.png" for i in (1, 2))
    first.unlink()
    first.symlink_to(second)
    assert len(table.read(corpus.config(), ontology(), SALT)) == 12
    (tmp_path / "secret.png").write_bytes(second.read_bytes())
    first.unlink()
    first.symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match=r"row 3 .*outside data\.corpora\.0\.root"):
        table.read(corpus.config(bad=BadRows(on_missing_image="skip")), ontology(), SALT)
    linked = tmp_path / "linked"
    linked.symlink_to(corpus.root)  # root itself may be a link
    first.unlink()
    first.write_bytes(second.read_bytes())
    assert len(table.read(corpus.config(root=str(linked)), ontology(), SALT)) == 12


def test_rows_of_one_study_become_one(corpus: Corpus) -> None:
    for i, row in enumerate(corpus.rows):
        row.update(study=f"s{i // 2}", notes=f"Report {i // 2}.", finding="COVID-19" if i // 2 % 2 else "No Finding")
    columns = Columns(image="filename", patient="patientid", study="study", report="notes")
    found = read(corpus, columns=columns)
    assert found.study_id.tolist() == [f"s{i}" for i in range(6)] and found.image_offsets.tolist() == [*range(0, 13, 2)]
    assert found.states[:, 0].tolist() == [ABSENT, PRESENT] * 3 and found.source_rows.tolist() == [*range(2, 14, 2)]
    corpus.rows[3]["notes"] = "Another report."
    assert "row 5" in (message := refused(corpus, columns=columns)) and "differs in its report" in message
    corpus.rows[3].update(notes="Report 1.", finding="No Finding")
    assert "differs in its label covid19" in refused(corpus, columns=columns)


@pytest.mark.fault(15)
def test_an_image_listed_twice_counts_once(corpus: Corpus) -> None:
    """As in tables with one row per box."""
    corpus.rows.insert(1, dict(corpus.rows[0]))
    found = read(corpus)
    assert len(found) == 12 and len(found.image_ids) == 12
    assert found.coverage.to_dict()["counted"] == {"image listed again": 1}


def test_empty_patient_is_never_one_common_person(corpus: Corpus) -> None:
    corpus.rows[5]["patientid"] = ""
    assert "row 7" in (message := refused(corpus)) and "patient column is empty" in message


def test_without_patients_each_study_is_one_if_the_split_is_given(corpus: Corpus) -> None:
    found = read(corpus, columns=Columns(image="filename"))
    assert found.patient.tolist() == found.study_id.tolist() and found.reports == [""] * 12
    assert found.coverage.to_dict()["counted"] == {}, "no report column is no fault of a row"


def test_split_by_patient_is_seeded_and_ignores_row_order_and_filter(corpus: Corpus) -> None:
    def splits(**changes: Any) -> dict[str, str]:
        found = read(corpus, split_csv=None, split_fractions=SplitFractions(0.5, 0.17, 0.33), **changes)
        found.check_splits(SALT)
        return dict(zip(found.patient, found.split, strict=True))

    first = splits()
    assert sorted(first.values()) == ["test"] * 2 + ["train"] * 3 + ["val"]
    assert len({tuple(sorted(splits(split_seed=seed).items())) for seed in range(6)}) > 1
    assert splits(keep={"view": ["PA"]}) == first
    corpus.rows.reverse()
    assert splits() == first


def test_blank_cells_of_text_rules_are_unmentioned(corpus: Corpus) -> None:
    corpus.rows[0]["finding"] = ""
    assert read(corpus).states[0].tolist() == [UNMENTIONED, UNMENTIONED]


def test_compressed_and_tab_separated_tables(corpus: Corpus) -> None:
    corpus.write()
    text = (corpus.root / "metadata.csv").read_text(encoding="utf-8-sig")
    (corpus.root / "metadata.tsv.gz").write_bytes(gzip.compress(text.replace(",", "\t").encode()))
    plain = table.read(corpus.config(), ontology(), SALT)
    assert table.read(corpus.config(csv="metadata.tsv.gz"), ontology(), SALT).digest() == plain.digest()


def test_a_cell_with_line_breaks_is_shown_on_one_line(corpus: Corpus) -> None:
    corpus.rows[3]["edema"] = "2\r\nradz: all is well"
    rule = {"edema": LabelRule("edema", numeric={1: "present", 0: "absent"})}
    assert r"'2\r\nradz: all is well'" in refused(corpus, labels=rule)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patients=st.lists(CELLS, min_size=4, max_size=4), notes=st.lists(CELLS, min_size=4, max_size=4), edema=CELLS)
def test_any_cells_are_read_as_they_are_or_refused_in_one_line(
    corpus: Corpus, patients: list[str], notes: list[str], edema: str
) -> None:
    for row, patient, note in zip(corpus.rows, patients, notes, strict=False):
        row.update(patientid=patient, notes=note)
    corpus.rows[0]["edema"] = edema
    corpus.splits = [{"filename": row["filename"], "split": "test"} for row in corpus.rows]
    corpus.write(images=not (corpus.root / "images").is_dir())
    rule = {"edema": LabelRule("edema", numeric={1: "present", 0: "absent"})}
    try:
        found = table.read(corpus.config(labels=rule), ontology(), SALT)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and "metadata.csv" in message
        assert "row" in message or "column" in message
        # A cell of a label may be repeated, a patient never; short ones occur in any sentence.
        assert all(len(one) < 8 or one in edema or one not in message for one in patients)
        return
    assert len(found) == 12 and all(patients)
    assert [text.strip() for text in found.reports[:4]] == [note.strip() for note in notes]
    assert found.states[0, 0] == {"1": PRESENT, "0": ABSENT, "": UNMENTIONED}[edema.strip().removesuffix(".0")]
