"""The page of `radz view` in a real browser: mouse, keys, sizes, a thousand studies, bad files, a server that ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, find_browser, tab
from sklearn.metrics import confusion_matrix, recall_score
from view_site import COUNT, SLICES, site_without_model

from data_modules.pixels import read_gray
from radz.evidence.view.server import Served, listen
from radz.evidence.view.worklist import Worklist

pytestmark = pytest.mark.slow
TEXT = "document.querySelector('#{}').textContent"
CHOSEN = "document.querySelector('#rows [aria-selected=true] .name')?.textContent"
READY = "document.querySelector('#message')?.hidden && document.querySelector('#corner-window').textContent !== ''"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with tab(program, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture(scope="module")
def served(view_worklist: Worklist) -> Iterator[Served]:
    with listen(0) as listener, Served(site_without_model(view_worklist), listener) as here:
        yield here


@pytest.fixture
def page(browser: Tab, served: Served) -> Tab:
    """The page, opened anew, its first study shown."""
    browser.problems.clear()
    browser.requested.clear()
    browser.open("about:blank")
    browser.open(served.address)
    browser.wait(READY)
    return browser


def choose(page: Tab, box: str, value: str) -> None:
    page.value(
        f"(() => {{ const s = document.querySelector('#{box}'); s.value = {value!r};"
        " s.dispatchEvent(new Event('change')); })()"
    )


def go_to(page: Tab, number: int) -> None:
    page.value("document.querySelector('#search').value = ''")
    page.key("/")
    page.type(f"study {number}")
    page.wait(f"!!document.querySelector('#row-{number}')")
    page.click(f"#row-{number}")
    page.wait(f"{CHOSEN} === 'study {number}'")


def pixels(page: Tab) -> np.ndarray:
    """The developed picture, uint8 [H, W], as it is before it is laid onto the screen."""
    found = page.value(
        "(async () => { const { Picture } = await import('./page/picture.js');"
        "const shown = document.querySelector('#picture'); const c = shown.getContext('2d');"
        "const d = c.getImageData(0, 0, shown.width, shown.height); const out = [];"
        "for (let i = 0; i < d.data.length; i += 4) out.push(d.data[i]);"
        "return { size: [shown.height, shown.width], out }; })()"
    )
    return np.array(found["out"], dtype=np.uint8).reshape(found["size"])


def test_nothing_is_refused_and_nothing_comes_from_elsewhere(page: Tab, served: Served) -> None:
    assert page.problems == []
    assert page.requested and all(url.startswith(served.address) for url in page.requested if "about:" not in url)


def test_a_thousand_studies_are_few_rows_and_quick(page: Tab) -> None:
    assert page.value(TEXT.format("count")) == f"{COUNT:,} of {COUNT:,} studies"
    assert 10 < page.value("document.querySelectorAll('.row').length") < 60
    page.key("End")
    page.wait(f"{CHOSEN} === 'study {COUNT - 1}'")
    assert page.value("document.querySelectorAll('.row').length") < 60
    # All that a move of the threshold draws anew, within a few frames of the screen even on a busy machine.
    spent = page.value(
        "(() => { const t = document.querySelector('#threshold'); const start = performance.now();"
        "for (let k = 0; k < 20; k++) { t.value = 300 + k; t.dispatchEvent(new Event('input')); }"
        "return (performance.now() - start) / 20; })()"
    )
    assert spent < 150


def test_the_keys(page: Tab) -> None:
    for key, study in (("j", 1), ("j", 2), ("k", 1), ("ArrowDown", 2), ("ArrowDown", 3), ("ArrowUp", 2)):
        page.key(key)
        assert page.value(CHOSEN) == f"study {study}"
    page.wait(READY)
    page.value("document.querySelector('#picture').focus()")
    assert "image 1 of 2" in page.wait(TEXT.format("corner-window"))
    page.key("ArrowDown")
    page.wait(f"{TEXT.format('corner-window')}.includes('image 2 of 2')")
    page.key("2")
    assert page.value(TEXT.format("threshold-of")) == "pneumothorax"
    page.key("f")
    assert page.value(TEXT.format("threshold-of")) == "pleural effusion"
    page.key("?")
    assert page.value("document.querySelector('#help').open")
    page.key("j")
    page.key("Escape")
    assert not page.value("document.querySelector('#help').open") and page.value(CHOSEN) == "study 2"
    page.key("t")
    before = page.value(TEXT.format("threshold-value"))
    page.key("ArrowRight")
    assert page.value(TEXT.format("threshold-value")) != before and page.value(CHOSEN) == "study 2"
    page.key("/")
    page.type("jjk study 12")
    assert page.value(TEXT.format("corner-name")).startswith("study 2\n")
    assert page.value("document.querySelector('#search').value") == "jjk study 12"
    assert page.problems == []


def test_everything_is_reached_by_tab_and_says_what_it_is(page: Tab) -> None:
    page.value("document.querySelector('#search').focus()")
    reached = set()
    for _ in range(40):
        reached.add(page.value("document.activeElement.id || document.activeElement.dataset.cell || ''"))
        page.key("Tab")
    assert {"search", "filter", "sort", "rows", "picture", "heat", "threshold", "fp", "nearest-find"} <= reached
    nameless = page.value(
        "[...document.querySelectorAll('button, input, select, [role=listbox], [role=img]')].filter(e =>"
        " !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.title)).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_windowing_by_drag_and_wheel(page: Tab, view_worklist: Worklist) -> None:
    assert page.value(TEXT.format("corner-window")).startswith("C 2000 W 899")
    page.mouse("mousePressed", 600, 400, button="left", buttons=1, clickCount=1)
    page.mouse("mouseMoved", 700, 350, button="left", buttons=1)
    page.mouse("mouseReleased", 700, 350, button="left")
    page.wait(f"!{TEXT.format('corner-window')}.includes('W 899')")
    words = page.value(TEXT.format("corner-window"))
    centre, width = map(int, re.findall(r"[CW] (\d+)", words))
    assert width > 899 and centre > 2000
    page.mouse("mouseWheel", 600, 400, deltaX=0, deltaY=-100)
    page.wait(f"{TEXT.format('corner-window')} !== {words!r}")
    assert int(re.findall(r"W (\d+)", page.value(TEXT.format("corner-window")))[0]) < width
    page.key("r")
    page.wait(f"{TEXT.format('corner-window')}.startsWith('C 2000 W 899')")
    # Zoomed in, each pixel of the file is a block of one gray: that by which the model sees it.
    for _ in range(7):
        page.key("+")
    page.wait(f"{TEXT.format('corner-window')}.includes('\\u00d74.8')")
    shown, gray = pixels(page), read_gray(view_worklist.studies[0].files[0].path)
    scale = min(shown.shape[0] / gray.shape[0], shown.shape[1] / gray.shape[1]) * 1.25**7
    places = [
        ((np.arange(count) + 0.5 - count / 2) * scale + side / 2).astype(int)
        for count, side in zip(gray.shape, shown.shape, strict=True)
    ]
    inside = [np.flatnonzero((at >= 0) & (at < side)) for at, side in zip(places, shown.shape, strict=True)]
    assert min(map(len, inside)) >= 5
    there = shown[np.ix_(places[0][inside[0]], places[1][inside[1]])]
    assert np.abs(there.astype(int) - gray[np.ix_(*inside)]).max() <= 1
    page.mouse("mouseMoved", 615, 420)
    assert re.match(r"\d+\n\d+, \d+", page.wait(TEXT.format("corner-value")))


def test_slices_scroll_by_wheel_and_keys(page: Tab) -> None:
    go_to(page, 5)
    page.wait(f"{TEXT.format('slice-label')}.startsWith('slice 8 / {SLICES}')")
    assert "the model sees it" in page.value(TEXT.format("slice-label"))
    assert page.value("document.querySelectorAll('#ticks span').length") == 4
    page.mouse("mouseMoved", 600, 400)
    page.mouse("mouseWheel", 600, 400, deltaX=0, deltaY=120)
    page.wait(f"{TEXT.format('slice-label')} === 'slice 9 / {SLICES}'")
    page.wait(f"{TEXT.format('corner-window')}.startsWith('C -600 W 1500')")
    page.key("w")
    page.wait(f"{TEXT.format('corner-window')}.startsWith('C 40 W 400')")
    page.value("document.querySelector('#picture').focus()")
    for _ in range(20):
        page.key("ArrowUp")
    page.wait(f"{TEXT.format('slice-label')} === 'slice 1 / {SLICES}'")
    page.wait(f"{TEXT.format('corner-window')}.startsWith('C 40 W 400')")  # slices keep their window
    page.mouse("mouseMoved", 616, 560)
    page.wait(f"{TEXT.format('corner-value')}.includes('HU')")


def test_the_counts_are_those_of_scikit_learn(page: Tab, view_worklist: Worklist) -> None:
    assert view_worklist.labels is not None
    for finding, steps in ((0, (None, 0, 123, 500, 777, 1000)), (1, (None, 250, 600))):
        page.key(str(finding + 1))
        labels, scores = view_worklist.labels[:, finding], view_worklist.scores[:, finding]
        known = ~np.isnan(labels) & ~np.isnan(scores)
        for step in steps:
            if step is not None:
                page.value(
                    f"(() => {{ const t = document.querySelector('#threshold'); t.value = {step};"
                    " t.dispatchEvent(new Event('input')); })()"
                )
            low, high = np.float64(np.nanmin(scores)), np.float64(np.nanmax(scores))
            first = 0.4 if finding == 0 else float(np.sort(scores[~np.isnan(scores)])[(~np.isnan(scores)).sum() // 2])
            cut = first if step is None else low + step / 1000 * (high - low)
            called = scores[known] >= np.float32(cut)
            (tn, fp), (fn, tp) = confusion_matrix(labels[known], called, labels=[0, 1])
            shown = {
                name: int(page.value(f"document.querySelector('.cell.{name}').textContent").replace(",", ""))
                for name in ("tp", "fp", "fn", "tn")
            }
            assert shown == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}, (finding, step)
            for name, positive in (("sensitivity", 1), ("specificity", 0)):
                share = recall_score(labels[known] == positive, called == positive)
                assert (
                    page.value(f"document.querySelector('[data-share={name}]').textContent") == f"{100 * share:.1f} %"
                )
    assert "1 without a label" in page.value(TEXT.format("measures"))


def test_lists_by_kind_score_and_words(page: Tab, view_worklist: Worklist) -> None:
    page.click(".cell.fn")
    shown = page.value("document.querySelector('.cell.fn').textContent")
    assert page.value(TEXT.format("count")) == f"{shown} of {COUNT:,} studies"
    assert set(page.value("[...document.querySelectorAll('.row')].map(e => e.className.trim())")) == {"row fn"}
    choose(page, "sort", "high")
    values = [float(one) for one in page.value("[...document.querySelectorAll('.row .score')].map(e => e.textContent)")]
    assert values == sorted(values, reverse=True) and max(values) < 0.4
    choose(page, "filter", "all")
    page.key("/")
    page.type("effusion no")
    page.wait(f"{TEXT.format('count')}.startsWith('{COUNT - 1} of')")  # in reports, which study 9 has none of
    page.type("thing")
    page.wait(f"{TEXT.format('count')}.startsWith('0 of')")


def test_bad_files_are_named_and_end_nothing(page: Tab) -> None:
    for number, cause in ((3, "damaged"), (4, "cannot be opened"), (9, "is gone")):
        go_to(page, number)
        page.wait(f"!document.querySelector('#message').hidden && {TEXT.format('message')}.includes({cause!r})")
        page.wait(f"document.querySelector('#row-{number}').textContent.includes({cause!r})")
    go_to(page, 0)
    page.wait(READY)
    page.key("Escape")
    page.key("h")
    page.wait(f"{TEXT.format('corner-heat')} === 'no weights here'")
    page.key("n")
    page.wait(f"{TEXT.format('nearest-progress')} === 'no weights here'")
    page.key("j")


def test_a_report_shows_its_proofs(page: Tab) -> None:
    marks = "[...document.querySelectorAll('#report mark')].map(e => `${e.className.trim()}:${e.textContent}`)"
    assert page.value(marks) == ["present chosen:Large Pleural Effusion", "absent:pneumothorax"]
    page.click(".proof.absent")
    assert page.value(TEXT.format("threshold-of")) == "pneumothorax"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (800, 600), (1920, 1080), (500, 700)])
def test_it_fits_into_any_size(page: Tab, width: int, height: int) -> None:
    page.resize(width, height)
    time.sleep(0.3)
    whole = "document.documentElement"
    assert page.value(f"{whole}.scrollWidth <= innerWidth && {whole}.scrollHeight <= innerHeight")
    canvas = "document.querySelector('#picture')"
    wide, high, *shown = page.value(f"(c => [c.width, c.height, c.clientWidth, c.clientHeight])({canvas})")
    assert [wide, high] == shown and wide > 200 and high > 200


def test_a_server_that_ends_is_told_in_words(browser: Tab, view_worklist: Worklist) -> None:
    with listen(0) as listener, Served(site_without_model(view_worklist), listener) as here:
        browser.open(here.address)
        browser.wait(READY)
    browser.key("j")
    browser.wait("!document.querySelector('#ended').hidden")
    assert "Start it again" in browser.value(TEXT.format("ended"))


def test_the_command_from_start_to_end(browser: Tab, trained_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "radz", "view", str(trained_run), "device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32,}/", address), (tmp_path / "log").read_text()
        browser.problems.clear()
        browser.open(address)
        browser.wait(READY)
        browser.key("h")
        browser.wait(f"{TEXT.format('corner-heat')}.startsWith('heat-map:')")
        browser.key("n")
        browser.wait("document.querySelectorAll('.case').length === 8")
        assert browser.problems == []
        port = address.split(":")[2].split("/")[0]
        second = subprocess.run(
            [*command, f"port={port}"], capture_output=True, text=True, env=environment, check=False
        )
        assert second.returncode == 2 and second.stderr.splitlines()[-1].startswith(f"radz: port: {port} cannot be")
        process.send_signal(signal.SIGINT)  # while the page is open
        assert process.wait(120) == 0
        assert (tmp_path / "log").read_text().splitlines()[-1] == "view: ended"
        listen(int(port)).close()
    finally:
        process.kill()
    log_text = (tmp_path / "log").read_text()
    assert address.split("/")[3] not in log_text and "Traceback" not in log_text
