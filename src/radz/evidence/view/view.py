"""`radz view`: a page to look with, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from radz.evidence.view.frames import Frames
from radz.evidence.view.model import Model
from radz.evidence.view.of_folder import Scorer, worklist_of_folder
from radz.evidence.view.of_run import trained_folder, worklist_of_run
from radz.evidence.view.server import Served, Site, listen
from radz.evidence.view.settings import read_settings
from radz.inference.engine import Radz
from radz.training.environment import usable_device

log = logging.getLogger(__name__)


def view(run: Path, items: list[str], tell: Callable[[str], None]) -> None:
    """Serve the page of a run's split, or of `input=FOLDER` scored by a run or export, until KeyboardInterrupt.

    Args:
        items: key=value, see `ViewSettings`, and overrides of `data` and `cache_dir`.
        tell: is given the address once the page is there.

    Raises:
        InputError: no such run, data, device or port.
    """
    settings, overrides = read_settings(items)
    usable_device(settings.device)
    with ExitStack() as open:
        listener = open.enter_context(listen(settings.port))
        if settings.input is None:
            worklist, labellers = worklist_of_run(run, settings.split, overrides)
            frames = Frames(worklist.recipe)
            model = Model(lambda: Radz.from_pretrained(trained_folder(run), settings.device), worklist, frames)
            site = Site(worklist, frames, model, labellers)
        else:
            engine = Radz.from_pretrained(run, settings.device)
            worklist, grouped, faults = worklist_of_folder(engine, run, settings)
            frames = Frames(worklist.recipe)
            model = Model(lambda: engine, worklist, frames)
            scorer = Scorer(model, grouped, faults)
            site = Site(worklist, frames, model, {}, lambda: scorer.fault)
            scorer.start()
            open.callback(scorer.end)
        open.callback(model.end)
        served = open.enter_context(Served(site, listener))
        tell(served.address)
        log.info("view: open this address in a browser of this machine; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            log.info("view: ended")
