"""RAD-ChestCT: one column per abnormality and place, the findings they mean, patients, the order of axes of the npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import KEY, SALT, edit, missing, refused, states, write_table
from official_ct import cases, hounsfield, laid_out_ct, read_by, volume

from data_modules.corpora import rad_chestct
from data_modules.corpora.rad_chestct import _findings, meaning
from data_modules.corpora.terms import MALFORMED
from data_modules.corpus_config import BadRows, SplitFractions
from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.phantom.layouts import rad_chestct as writer
from data_modules.volumes import read_volume

WANTED = meaning(ontology())
LABELS = sorted({label for labels in WANTED.values() for label in labels} | {"air_trapping", "lesion"})
TABLE = "{}_Abnormality_and_Location_Labels.csv"


root = laid_out_ct(writer.write)


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Two training scans, one of validation, one of test; 0 and 1 in two tables, 0.0 and 1.0 in the third."""
    header = ["NoteAcc_DEID", *(f"{label}*{place}" for label in LABELS for place in ("lung", "left_upper"))]

    def row(scan: str, present: str = "", one: str = "1", zero: str = "0") -> list[str]:
        return [scan, *(one if name == present else zero for name in header[1:])]

    tables = {
        "imgtrain": [row("trn00007", "nodulegr1cm*left_upper"), row("trn00003", "air_trapping*lung")],
        "imgvalid": [row("val00001", "consolidation*lung", "1.0", "0.0")],
        "imgtest": [row("tst00002", "tracheal_tube*lung")],
    }
    for name, rows in tables.items():
        write_table(tmp_path / TABLE.format(name), header, rows)
        for found in rows:
            volume(tmp_path / f"{found[0]}.npz")
    scans = [
        ["mrn9", "tst00002", "imgtest"],
        ["mrn5", "trn00007", "x"],
        ["mrn5", "trn00003", "x"],
        ["mrn1", "val00001", "x"],
    ]
    write_table(tmp_path / "Summary_3630.csv", ["MRN_DEID", "NoteAcc_DEID", "Set_Assigned"], scans)
    return tmp_path


def present(found, study: str) -> list[str]:
    return [name for name, state in states(found, study).items() if state == "present"]


def test_rows_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_by(rad_chestct, by_hand)
    assert found.study_id.tolist() == ["trn00007", "trn00003", "val00001", "tst00002"]
    assert found.patient.tolist() == ["mrn5", "mrn5", "mrn1", "mrn9"]
    assert found.split.tolist() == ["train", "train", "val", "test"] and found.source_rows.tolist() == [2, 3, 2, 2]
    assert present(found, "trn00007") == ["nodule"], "narrower, and at one place of two"
    assert present(found, "trn00003") == [], "what the ontology does not know, or knows as related only"
    # Its own column says that there is no opacity, and the parent of consolidation does not overrule it.
    assert present(found, "val00001") == ["consolidation"] and present(found, "tst00002") == ["support_devices"]
    assert set(found.totals().loc["lung_opacity"][["uncertain", "unmentioned"]]) == {0}
    assert "2 images here, 2286 in the published release" in caplog.text and found.reports == [""] * 4


def test_a_run_trained_elsewhere_may_test_on_all_scans(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_by(rad_chestct, by_hand, split_fractions=SplitFractions(train=0, val=0, test=1))
    assert set(found.split) == {"test"} and "4 images here, 3630 in the published release" in caplog.text


def test_volumes_may_lie_in_a_folder_and_patients_in_the_larger_table(by_hand: Path) -> None:
    (by_hand / "images").mkdir()
    for path in by_hand.glob("*.npz"):
        path.rename(by_hand / "images" / path.name)
    (by_hand / "Summary_3630.csv").rename(by_hand / "CT_Scan_Metadata_Complete_35747.csv")
    found = read_by(rad_chestct, by_hand)
    assert found.image_ids[0] == "images/trn00007.npz" and found.patient[0] == "mrn5"


def test_a_scan_that_is_not_there_follows_the_policy(by_hand: Path) -> None:
    (by_hand / "trn00003.npz").unlink()
    with pytest.raises(InputError, match=r"imgtrain.* row 3 .*no image file"):
        read_by(rad_chestct, by_hand)
    assert len(read_by(rad_chestct, by_hand, bad=BadRows(on_missing_image="skip"))) == 3


def _edit(name: str, old: str, new: str):
    return lambda root: edit(root / name, old, new)


def _without_masses(root: Path) -> None:
    for place in ("lung", "left_upper"):
        _edit(TABLE.format("imgtrain"), f",mass*{place}", f",masses*{place}")(root)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_masses, r"imgtrain_.*has no column 'mass\*\.\.'"),
        (_edit(TABLE.format("imgtest"), "0\n", "2\n"), "imgtest.*row 2 .*outside the coding.*'cannot be read'"),
        (_edit(TABLE.format("imgvalid"), "1.0", ""), "imgvalid.*row 2 .*outside the coding"),
        (_edit(TABLE.format("imgvalid"), "NoteAcc_DEID", "Note"), "no column 'NoteAcc_DEID'"),
        (_edit("Summary_3630.csv", "trn00003", "trn00004"), "imgtrain.*row 3: no row of Summary_3630.csv"),
        (_edit("Summary_3630.csv", "mrn1,val00001", "mrn9,trn00007"), "Summary_3630.csv row 5: .*another MRN_DEID"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "rad_chestct", by_hand, "trn000", "mrn5", "tst000")


def test_a_root_without_a_part_shows_the_tree(by_hand: Path) -> None:
    (by_hand / TABLE.format("imgvalid")).unlink()
    missing("rad_chestct", "trn00001.npz", by_hand)


def test_phantom_in_its_layout(root: Path) -> None:
    found = read_by(rad_chestct, root)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [20, 5, 9]
    found.check_splits(SALT)
    assert found.totals()[["uncertain", "unmentioned"]].to_numpy().sum() == 0
    for finding in ("nodule", "consolidation", "emphysema", "pneumothorax"):
        expected = sum(finding in case.findings for case in cases(root.parent / "volumes"))
        assert found.totals().loc[finding, "present"] == expected > 0


def test_the_npz_is_read_back_the_right_way_round(root: Path) -> None:
    found = read_by(rad_chestct, root)
    stored = np.load(found.image_paths[0])["ct"]
    assert stored.dtype == np.int16 and (stored.min(), stored.max()) == (-1000, 1000)
    back = read_volume(Path(found.image_paths[0]))
    assert (back.hu == np.clip(hounsfield(0), -1000, 1000)).all() and back.spacing == (0.8, 0.8, 0.8)


@given(st.lists(st.sampled_from(["0", "1", "0.0", "1.0", "", "2", "x"]), min_size=4, max_size=4))
def test_a_finding_is_there_where_any_place_says_so(cells: list[str]) -> None:
    names = ["nodule*lung", "nodule*hilum", "nodulegr1cm*lung", "lesion*lung"]
    frame = pd.DataFrame([["a", *cells]], columns=["NoteAcc_DEID", *names], index=[2], dtype=object)
    meaning, disputed = {"nodule": ["nodule", "nodulegr1cm"]}, {"nodule": {"lesion", "no such column"}}
    found = _findings(frame, meaning, disputed, Path("t.csv"), KEY).loc[2, "nodule"]
    judged = cells[:3]
    if any(cell in ("", "2", "x") for cell in judged):
        assert found == MALFORMED
    else:
        assert found == ("1" if any(float(cell) for cell in judged) else "" if cells[3] in ("1", "1.0") else "0")
