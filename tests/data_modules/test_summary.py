"""What the log says of the data reads as sentences and tables."""

from __future__ import annotations

from data_modules.corpus_config import LabelPolicy, Unmentioned
from data_modules.study import Coverage
from data_modules.summary import counts_table, coverage_lines, policy_sentence


def test_counts_are_a_table() -> None:
    train = {"studies": 12, "patients": 9, "images": 14}
    counts = {"ours": {"train": train, "val": {"studies": 3, "patients": 3, "images": 3}}}
    head, first, second = counts_table(counts).splitlines()
    assert head.split() == ["studies", "patients", "images"]
    assert first.split() == ["ours/train", "12", "9", "14"] and second.split() == ["ours/val", "3", "3", "3"]


def test_coverage_is_a_sentence_for_each_reason() -> None:
    assert coverage_lines(Coverage()) == ["no row was left out or filtered"]
    coverage = Coverage(filtered={"ours: keep.view": 7})
    coverage.skip("unreadable image", 3, "ours")
    coverage.skip("unreadable image", 9, "ours")
    coverage.count("empty report", 4, "ours")
    assert coverage_lines(coverage) == [
        "2 row(s) left out: unreadable image",
        "1 row(s) kept all the same: empty report",
        "7 row(s) filtered out: ours: keep.view",
    ]


def test_a_policy_is_a_sentence() -> None:
    assert policy_sentence(LabelPolicy()) == (
        "uncertain labels are ignored; unmentioned findings count as absent in training and as unknown in scores"
    )
    own = LabelPolicy("per_finding", {"edema": "present", "mass": "absent"}, Unmentioned("unknown", "unknown"))
    assert policy_sentence(own) == (
        "uncertain labels count by finding (edema as present, mass as absent, else ignored); "
        "unmentioned findings count as unknown in training and as unknown in scores"
    )
