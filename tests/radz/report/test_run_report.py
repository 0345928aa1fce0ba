"""The report page: complete, self-contained, without identifiers, and safe against hostile names."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from csv_rows import rows_of

from data_modules.errors import InputError
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.split_results import results, thresholds_from
from radz.metrics.summary import log_summary
from radz.report.run_report import Case, write_report

HOSTILE = '<script>alert("1")</script> $x_1$ & co'
FINDINGS = ("pleural_effusion", HOSTILE, "mass", "hernia")
SEEN_AS = dict(zip(FINDINGS, ("label", "text", "none", "none"), strict=True))


def score_table(split: str, seed: int) -> ScoreTable:
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 4)) < 0.3).astype(np.float32)
    labels[:, 3] = 0
    fused = (0.5 + 0.1 * np.tanh(rng.normal(size=(60, 4)) + labels)).astype(np.float32)
    pixel = rng.random((60, 4)).astype(np.float32)
    pixel[:, 2] = np.nan
    ids = [f"STUDY-{i}" for i in range(60)]
    images, patients = [f"IMAGE-{i}" for i in range(60)], [f"{i // 2:012x}" for i in range(60)]
    scores = {"fused": fused, "pixel32": pixel}
    return ScoreTable("ours", split, np.arange(60), ids, images, patients, FINDINGS, labels, scores)


def contract_run(place: Path) -> Path:
    """A run folder as the contract draws it, with hostile words wherever a user can put words."""
    run, test = place / "demo" / "seed0-00000000", score_table("test", 0)
    test.write_csv(prediction_file(run, test.key))
    rules = thresholds_from(score_table("val", 1))
    coverage = {"skipped": 2, "reasons": {"missing image": 2}}
    result = results(test, SEEN_AS, FINDINGS[:2], rules, 50, 0, coverage, headline="fused")
    metrics = {"schema": 1, "headline_scorer": "fused", "monitor": "val/auroc_macro", "protocol_digest": "9c31"}
    metrics |= {"world_size": 1, "test_evaluations": 1, "leaked": [], "results": {"ours/test": result}}
    (run / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    (run / "config.yaml").write_text(f"name: '</pre>{HOSTILE}'\n")
    (run / "environment.json").write_text(json.dumps({"radz": "0.1.0", "hardware": {"cpu": HOSTILE}}))
    lines = ["step,epoch,train/loss,train/loss_alignment,val/auroc_macro,lr"]
    lines += [f"{s},0,{3 - s / 100},{2.5 - s / 100},,{1e-3}" for s in range(100)]
    lines += ["99,0,,,0.81,", "100,1,,,nan,"]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    return run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return contract_run(tmp_path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder with its page and figures, for tests that look at them."""
    run = contract_run(tmp_path_factory.mktemp("drawn"))
    assert write_report(run, cases()) == run / "report.html"
    return run


class Page(HTMLParser):
    """Tags with their attributes, and the words outside style sheets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        self.words += "" if self._style else data


def result_of(run_dir: Path) -> Any:
    return json.loads((run_dir / "metrics.json").read_text())["results"]["ours/test"]


def cases() -> list[Case]:
    image = np.arange(64 * 48, dtype=np.uint32).reshape(64, 48).astype(np.uint8)
    return [
        Case(HOSTILE, "best", 0.5678, 1.0, image, f"Report {HOSTILE}"),
        Case(HOSTILE, "worst", 0.4321, 1.0, image),
    ]


@pytest.mark.figures
def test_page_holds_the_numbers_and_every_part(drawn: Path) -> None:
    assert not list(drawn.glob(".*"))
    words = Page((drawn / "report.html").read_text(encoding="utf-8")).words
    result = result_of(drawn)
    for scorer in result["scorers"].values():
        for values in (scorer["macro"]["auroc"], *(f["auroc"] for f in scorer["findings"].values())):
            assert f"{values['value']:.3f}" in words
            assert f"{values['low']:.3f}\N{EN DASH}{values['high']:.3f}" in words
    # Head line, seen groups, exclusions with reasons, coverage, rule labels, cases, environment.
    gain = result["differences"]["pixel32"]["auroc"]["value"]
    assert f"{abs(gain):.3f}" in words and "difference, paired" in words
    assert "named in training labels" in words and "never named in training" in words
    assert "no positive among 60 known labels" in words and "scorer not available for this finding" in words
    assert "reasons: missing image 2" in words
    assert all(rule in words for rule in ("F1 oracle", "F1 validation", "F1 half", "Half: 0.5"))
    assert "0.568" in words and "0.432" in words and f"Report {HOSTILE}" in words
    assert "0.1.0" in words and "best 0.810 at step 99" in words


@pytest.mark.figures
def test_page_is_self_contained_and_safe(drawn: Path) -> None:
    text = (drawn / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"}
    assert "http://" not in text and "https://" not in text and "@import" not in text
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("data:image/png;base64,", "#")), (tag, name, value)
    # The hostile name is shown as what it is (findings lose their underscores), and no drawing reads it as a formula.
    drawings = [text[text.index("<svg") :].split("<svg")[i].split("</svg>")[0] for i in (1, 2)]
    assert all(Page(drawing).words.count(HOSTILE.replace("_", " ")) == 1 for drawing in drawings)
    assert page.words.count(HOSTILE.replace("_", " ")) == 10
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    assert f"</pre>{HOSTILE}" in page.words


@pytest.mark.figures
def test_page_and_figures_hold_no_identifier(drawn: Path) -> None:
    table = score_table("test", 0)
    texts = [file.read_text(encoding="utf-8") for file in (drawn / "report.html", *drawn.glob("figures/*.csv"))]
    for text in texts:
        assert "STUDY-" not in text and "IMAGE-" not in text
        assert not [patient for patient in table.patient if patient in text]


@pytest.mark.figures
def test_figures_stand_beside_with_their_data(drawn: Path) -> None:
    names = {f"{kind}_ours_test" for kind in ("roc", "pr", "confusion", "intervals")} | {"training"}
    assert {p.stem for p in (drawn / "figures").iterdir()} == names
    assert all((drawn / "figures" / f"{n}.png").read_bytes().startswith(b"\x89PNG") for n in names)
    lines = rows_of(drawn / "figures" / "roc_ours_test.csv")
    for scorer, finding in (("fused", "mass"), ("pixel32", HOSTILE)):
        mine = [line for line in lines if (line["scorer"], line["finding"]) == (scorer, finding)]
        x, y = ([float(line[f"{k}_positive_rate"]) for line in mine] for k in ("false", "true"))
        expected = result_of(drawn)["scorers"][scorer]["findings"][finding]["auroc"]["value"]
        assert np.trapezoid(y, x) == pytest.approx(expected, abs=1e-5)
    validation = [
        line["value"] for line in rows_of(drawn / "figures" / "training.csv") if line["series"] == "val/auroc_macro"
    ]
    assert validation == ["0.81"]


@pytest.mark.figures
def test_writing_again_gives_the_same_page(drawn: Path) -> None:
    first = (drawn / "report.html").read_bytes()
    assert write_report(drawn, cases()).read_bytes() == first


def test_a_bare_run_still_has_a_page(run_dir: Path) -> None:
    for name in ("metrics.csv", "environment.json", "config.yaml", "predictions/ours_test.csv"):
        (run_dir / name).unlink()
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics |= {"leaked": ["3 patients in training and test"]}
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    words = Page(write_report(run_dir).read_text(encoding="utf-8")).words
    assert "Leaked: 3 patients in training and test" in words
    assert "logged no training curves" in words and "so no curves" in words and "Not recorded." in words
    assert "Best: sure and right" not in words


def test_nothing_defined_still_has_a_page(run_dir: Path) -> None:
    empty = score_table("test", 0).take([])
    result = results(empty, SEEN_AS, FINDINGS[:1], None, 10, headline="fused")
    (run_dir / "metrics.json").write_text(json.dumps({"headline_scorer": "fused", "results": {"ours/test": result}}))
    with pytest.raises(InputError, match=r"ours_test\.csv: holds 60 studies, metrics\.json was made of 0"):
        write_report(run_dir)
    empty.write_csv(prediction_file(run_dir, empty.key))
    words = Page(write_report(run_dir).read_text(encoding="utf-8")).words
    assert "no known label" in words and "undefined" in words


def test_faults_are_one_line(run_dir: Path) -> None:
    score_table("test", 0).take(range(5)).write_csv(run_dir / "predictions" / "other.csv")
    (run_dir / "predictions" / "other.csv").rename(run_dir / "predictions" / "ours_test.csv")
    text = (run_dir / "predictions" / "ours_test.csv").read_text()
    (run_dir / "predictions" / "ours_test.csv").write_text(text.replace("pixel32/", "pixel/"))
    with pytest.raises(InputError, match=r"ours_test\.csv: no scores of 'pixel32'"):
        write_report(run_dir)
    (run_dir / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: not valid JSON"):
        write_report(run_dir)
    (run_dir / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"no metrics\.json; the run is not finished"):
        write_report(run_dir)


def test_page_says_how_its_intervals_are_made(run_dir: Path) -> None:
    """Rows of one patient, few patients, training; a folder of an earlier radz is not said to have tests by patient."""
    words = " ".join(Page(write_report(run_dir).read_text(encoding="utf-8")).words.split())
    assert (
        "60 rows are of 30 patients, up to 2 of one: every interval and p takes the rows of a patient together."
        in words
    )
    assert "leave out the variance of training: these are scores of one training" in words
    assert "DeLong, variance by patient (Obuchowski 1997), two-sided" in words
    few = result_of(run_dir)["scorers"]["fused"]["findings"]["pleural_effusion"]["few"]
    assert few.endswith("patients with a positive, fewer than 30") and few in words
    metrics = json.loads((run_dir / "metrics.json").read_text())
    del metrics["results"]["ours/test"]["inference"]
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    words = " ".join(Page(write_report(run_dir).read_text(encoding="utf-8")).words.split())
    assert "DeLong's test, rows taken as independent; score the run again" in words


def test_a_mean_over_fewer_findings_says_so(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The baseline cannot score `mass`, and validation gave no threshold for it."""
    test, rules = score_table("test", 0), thresholds_from(score_table("val", 1))
    del rules["fused"]["mass"]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics["results"] = {"ours/test": results(test, SEEN_AS, FINDINGS[:3], rules, 50, 0, headline="fused")}
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    text = (write_report(run_dir)).read_text(encoding="utf-8")
    words = " ".join(Page(text).words.split())
    assert "over 3 findings; the pixel32 baseline reaches" in words and "over the 2 of them that it can score." in words
    assert "pixel32, 2 of 3 findings" in words and "pixel32over 2 of 3" in words and "macro, 3 findings" in words
    assert text.count("<small>over 2 of 3</small>") == 1 + 3, "the scorer; F1, accuracy and MCC"
    with caplog.at_level("INFO"):
        log_summary(metrics)
    assert caplog.text.count("(over 2 of 3)") == 1


def test_hours_are_of_all_processes(run_dir: Path) -> None:
    (run_dir / "metrics.csv").write_text("step,pairs_per_second\n3600,16\n")
    (run_dir / "config.yaml").write_text("data: {batch_size: 2}\ntrainer: {devices: 4, num_nodes: 3}\n")
    words = " ".join(Page(write_report(run_dir).read_text(encoding="utf-8")).words.split())
    assert "(pairs / median rate)1.500" in words
