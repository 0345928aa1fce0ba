"""The simulations of docs/statistics.md in small, with bounds that the intervals replaced here do not keep."""

from __future__ import annotations

import pytest

from benchmarks import coverage
from data_modules.errors import InputError


def test_p_values_hold_their_level_by_patient_and_not_by_row() -> None:
    found = {name: float(value) for name, value in coverage.p_below(9, 0.8, True, 8).items()}
    assert found["p, by row"] > 0.3 and found["some p_holm, by row"] == 1
    assert found["p, by patient"] < 0.13 and found["some p_holm, by patient"] < 0.5


def test_intervals_with_few_positives_hold_the_truth() -> None:
    found = coverage.cell(8, 500, 1, 0.92, 80)
    assert found.share("radz") >= 0.89 > found.share("percentile")
    assert found.share("radz") > found.share("DeLong")


def test_intervals_over_seeds_hold_the_truth() -> None:
    spread, mean, gap = coverage.over_seeds(3, 0.1, 0.1, 30)
    assert 0.012 < spread < 0.023
    assert gap.share("radz") >= 0.85 and mean.share("radz") >= 0.85
    assert gap.share("patients only") < 0.7


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    coverage.main(["only=others", "n=2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("others: Percentile intervals") and lines[2].startswith("| positives | AUROC |")
    assert len(lines) == 11
    with pytest.raises(InputError, match="there is no table 'cels'; nearest is 'cells'"):
        coverage.main(["only=cels"])


@pytest.mark.slow
@pytest.mark.parametrize("positives", [4, 11, 29])
@pytest.mark.parametrize("auroc", [0.76, 0.92])
def test_few_positives_at_length(positives: int, auroc: float) -> None:
    found = coverage.cell(positives, 500, 1, auroc, 500)
    assert 0.89 <= found.share("radz") <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("wide", [0.0, 0.055, 0.1])
@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_seeds_at_length(wide: float, effect: float) -> None:
    """Where seeds hardly differ the interval is too wide, never too narrow."""
    _, mean, gap = coverage.over_seeds(3, wide, effect, 200)
    assert mean.share("radz") >= 0.9 and gap.share("radz") >= 0.9
    if wide:
        assert gap.share("patients only") < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("images", [3, 9])
def test_level_at_length(images: int) -> None:
    found = {name: float(value) for name, value in coverage.p_below(images, 0.8, True, 60).items()}
    assert 0.03 <= found["p, by patient"] <= 0.08 and found["some p_holm, by patient"] <= 0.17
    assert found["p, by row"] > 0.15
