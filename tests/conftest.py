"""What the tests of both floors share, and what the quick suite leaves out of a test.

With `-m "not slow"`, figures are drawn only in tests marked `figures`, which look at them, and all panels of another
figure are one: panels and drawing are three quarters of the processor time of a small run. Property tests that name no
number of examples try 25. `make test-full` draws and tries all.
"""

from __future__ import annotations

import gc
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

QUICK, DRAWN = pytest.StashKey[bool](), pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[QUICK] = "not slow" in config.option.markexpr
    # No deadlines: how long an example takes says how busy the machine is.
    hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
    hypothesis.settings.register_profile("whole", max_examples=150, deadline=None)
    hypothesis.settings.load_profile("quick" if config.stash[QUICK] else "whole")


def pytest_collection_finish() -> None:
    gc.freeze()  # pytest collects garbage several times at its end, which would look at every object of torch each time


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[DRAWN] = item.get_closest_marker("figures") is not None


@pytest.fixture(scope="session", autouse=True)
def _blank_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures become one empty drawing in the quick suite, and their panels one."""
    if not request.config.stash[QUICK]:
        yield
        return
    from matplotlib.figure import Figure

    png = io.BytesIO()
    Image.new("RGB", (1, 1)).save(png, "PNG")
    draw, panels = Figure.savefig, Figure.subplots

    def savefig(self: Figure, target: Any, *, format: str, **settings: Any) -> None:
        if request.config.stash[DRAWN]:
            draw(self, target, format=format, **settings)
        elif format == "svg":
            target.write('<svg width="1pt" height="1pt" viewBox="0 0 1 1"></svg>')
        else:
            Path(target).write_bytes(png.getvalue())

    def subplots(self: Figure, nrows: int = 1, ncols: int = 1, *, squeeze: bool = True, **settings: Any) -> Any:
        if request.config.stash[DRAWN] or squeeze:
            return panels(self, nrows, ncols, squeeze=squeeze, **settings)
        return np.full((nrows, ncols), self.add_subplot(), dtype=object)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        patch.setattr(Figure, "subplots", subplots)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems of a size such as 200k; `remount(place, options)` changes one. Skips where nobody may."""
    places: list[Path] = []

    def mount(size: str, place: Path | None = None) -> Path:
        place = place or tmp_path / f"disk{len(places)}"
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, check=False, capture_output=True)
        except OSError:
            pytest.skip("no mount command here")
        if done.returncode:
            pytest.skip("this machine mounts no file system for tests")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


@pytest.fixture
def remount() -> Callable[[Path, str], None]:
    """Changes the options of a `small_disk`, such as ro or size=4m."""

    def change(place: Path, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True, capture_output=True)

    return change
