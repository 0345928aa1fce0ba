from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNMENTIONED
from data_modules.privacy import pseudonym
from data_modules.study import Coverage, StudyTable, offsets
from data_modules.subsets import by_image


def build(name: str = "ours", findings: tuple[str, ...] = ("edema", "mass")) -> StudyTable:
    """Four studies with 1, 2, 1 and 3 images."""

    def text(*values: str) -> np.ndarray:
        return np.array(values, dtype=object)

    return StudyTable(
        corpora=(name,), corpus=np.zeros(4, np.int16), study_id=text("s0", "s1", "s2", "s3"),
        patient=text("p0", "p1", "p1", "p2"), split=text("train", "val", "val", "test"),
        modality=text(*["chest_xray"] * 4), image_paths=[f"/x/{i}" for i in range(7)],
        image_ids=[f"i{i}" for i in range(7)], rescale=np.full((7, 2), np.nan),
        image_offsets=offsets([1, 2, 1, 3]), reports=["a", "b", "c", ""],
        findings=findings, states=np.array([[1, 0], [0, 3], [1, 2], [3, 3]], np.int8), coded=(findings,),
        attributes={"view": text("PA", "AP", "PA", "")}, source_rows=np.array([2, 3, 5, 6]),
        image_views=["PA", "AP", "L", "PA", "", "L", "AP"],
    )  # fmt: skip


def test_views_counts_and_rows() -> None:
    table = build()
    assert len(table) == 4 and table.rows("val").tolist() == [1, 2] and table.rows("test", "ours").tolist() == [3]
    study = table.study(3)
    assert study.image_ids == ("i4", "i5", "i6") and study.states == {"edema": 3, "mass": 3} and study.row == 3
    assert table.totals().to_numpy().tolist() == [[1, 2, 0, 1], [1, 0, 1, 2]]
    assert list(table.totals().columns) == ["absent", "present", "uncertain", "unmentioned"]
    assert table.image_study.tolist() == [0, 1, 1, 2, 3, 3, 3]


def test_take_keeps_images_with_their_study() -> None:
    taken = build().take([3, 1])
    assert taken.image_ids == ["i4", "i5", "i6", "i1", "i2"] and taken.image_offsets.tolist() == [0, 3, 5]
    assert taken.reports == taken.told == ["", "b"] and taken.source_rows.tolist() == [6, 3]
    assert taken.attributes["view"].tolist() == ["", "AP"] and taken.states.tolist() == [[3, 3], [0, 3]]
    assert len(build().take([])) == 0


def test_views_follow_their_images() -> None:
    """First those of a study joined, in one order, then those of each image."""
    table = build()
    assert table.views([3, 1, 0]) == ["AP + L + unknown", "AP + L", "PA"]
    assert table.take([3, 1]).views([0, 1]) == ["AP + L + unknown", "AP + L"]
    assert table.without_images([0, 2, 4])[0].views([0, 1, 2]) == ["AP", "PA", "AP + L"]
    both = StudyTable.concat([table, replace(build("b"), attributes={}, image_views=[])])
    assert both.views([3, 7]) == ["AP + L + unknown", ""]
    each = by_image(table, ("val", "test"))
    assert each.views(range(len(each))) == ["PA", "AP", "L", "PA", "", "L", "AP"]
    assert by_image(table, ("test",)).views([1, 3]) == ["AP + L", ""]
    plain = replace(table, image_views=[])
    assert plain.views([0, 1, 3]) == ["PA", "AP", ""]


def test_without_images_drops_studies_that_have_none_left() -> None:
    table, kept = build().without_images([0, 2])
    assert kept.tolist() == [1, 3, 4, 5, 6]
    assert table.study_id.tolist() == ["s1", "s2", "s3"] and table.image_ids == ["i1", "i3", "i4", "i5", "i6"]
    assert table.image_offsets.tolist() == [0, 1, 2, 5]


def test_concat_unites_findings_and_keeps_what_each_corpus_codes() -> None:
    first, second = build("a"), build("b", ("mass", "nodule"))
    first.coverage.skip("missing image", 9, "a")
    second.coverage.count("empty report", 4, "b")
    both = StudyTable.concat([first, second])
    assert both.corpora == ("a", "b") and both.corpus.tolist() == [0] * 4 + [1] * 4
    assert both.findings == ("edema", "mass", "nodule") and both.coded == (("edema", "mass"), ("mass", "nodule"))
    assert both.states[0].tolist() == [PRESENT, ABSENT, UNMENTIONED]
    assert both.states[4].tolist() == [UNMENTIONED, PRESENT, ABSENT]
    assert both.image_offsets.tolist() == [0, 1, 3, 4, 7, 8, 10, 11, 14] and both.study(5).image_ids == ("i1", "i2")
    assert both.rows("val", "b").tolist() == [5, 6]
    assert both.coverage.skipped() == 1 == both.coverage.skipped("a") and both.coverage.skipped("b") == 0
    assert both.coverage.to_dict()["rows"] == [["a", 9, "missing image"], ["b", 4, "empty report"]]
    with pytest.raises(InputError, match="2 corpora are called 'a'"):
        StudyTable.concat([build("a"), build("a")])


@pytest.mark.fault(19)
def test_a_patient_in_two_splits_stops_and_is_named_by_hash() -> None:
    table = build()
    table.check_splits(b"k")
    table.split[2] = "test"
    with pytest.raises(InputError) as caught:
        table.check_splits(b"k")
    message = str(caught.value)
    assert "1 patient(s)" in message and "row 3 in val, row 5 in test" in message
    assert pseudonym("ours", "p1", b"k") in message
    assert "p1" not in message
    # The same number in another corpus is another person.
    StudyTable.concat([build("a"), build("b")]).check_splits(b"k")


def test_digest_sees_content_and_not_the_place() -> None:
    table = build()
    moved = build()
    moved.image_paths = [f"/elsewhere/{i}" for i in range(7)]
    assert table.digest() == moved.digest()
    for change in ("reports", "states", "split", "image_ids", "attributes"):
        other = build()
        if change == "reports":
            other.reports[0] = "A"
        elif change == "states":
            other.states[0, 0] = 2
        elif change == "split":
            other.split[0] = "val"
        elif change == "image_ids":
            other.image_ids[0] = "j"
        else:
            other.attributes["view"][0] = "AP"
        assert other.digest() != table.digest(), change


def test_digest_of_old_runs_stands() -> None:
    """As computed before tables knew the view of each image: else no run from then could go on."""
    assert build().digest() == "3e9fbe188dd727c505108a3701496884"
    assert by_image(build(), ("val", "test")).digest() == "72eccd2cd9626102ea17b3a0b70c88ad"


def test_digest_is_the_same_in_every_process() -> None:
    code = "from test_study_table import build; print(build().digest())"
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), *sys.path])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == build().digest()


def test_coverage_counts_by_reason() -> None:
    coverage = Coverage(filtered={"ours: keep.view": 3})
    coverage.skip("missing image", 4)
    coverage.skip("missing image", 7)
    coverage.count("empty report", 9)
    assert coverage.to_dict() == {
        "skipped": {"missing image": 2},
        "counted": {"empty report": 1},
        "filtered": {"ours: keep.view": 3},
        "rows": [["", 4, "missing image"], ["", 7, "missing image"], ["", 9, "empty report"]],
    }
