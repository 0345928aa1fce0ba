"""The worklist of a folder of images: scored while it is looked at, as `radz predict` does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_modules.counting import counted
from data_modules.decode import Recipe
from data_modules.errors import InputError
from radz.evidence.view.model import LAST, PAUSE, Model
from radz.evidence.view.settings import ViewSettings
from radz.evidence.view.worklist import File, Listed, Worklist
from radz.inference.engine import Radz
from radz.inference.predict import folder_of, scored, studies_below
from radz.inference.scope import NO
from radz.inference.studies import Study
from radz.methods.trained import knowledge
from radz.models.labels import MODALITY_TEXT
from radz.runs.task import seen_groups

log = logging.getLogger(__name__)


def worklist_of_folder(
    engine: Radz, run: Path, settings: ViewSettings
) -> tuple[Worklist, list[Study], Mapping[Path, str]]:
    """The studies below `settings.input` without scores yet, and what `Scorer` needs to give them theirs.

    `run`: the run or export that the engine was loaded from.

    Raises:
        InputError: no folder, no images, unknown `findings` or `studies` that do not fit.
    """
    assert settings.input is not None
    folder = folder_of(str(settings.input))
    listing, grouped, left_out = studies_below(folder, settings.studies)
    given = settings.findings
    names = engine.names(given) if given else [name for name in engine.bank.names if name != "no_finding"]
    readings = engine.readings(names, corpus=settings.corpus)
    listed = [
        Listed(study.name, MODALITY_TEXT[modality], modality, tuple(File(path) for path in study.files))
        for study in grouped
        for modality in [engine.modality(study.files[0])]
    ]
    # Modalities stand for corpora here: each is read by the validation of its own.
    thresholds = {
        MODALITY_TEXT[modality]: {name: one.threshold for name, one in own.items() if one.threshold is not None}
        for modality, own in readings.items()
    }
    scores = np.full((len(listed), len(names)), np.nan, dtype=np.float32)
    about = counted(len(listed), "study")
    if left_out:
        about += f", {counted(left_out, 'file of another kind', 'files of other kinds')} left out"
    worklist = Worklist(
        folder.name, about, engine.experiment.scoring.headline, tuple(names), listed, Recipe.of(engine.data), scores,
        thresholds=thresholds, seen=seen_groups(names, knowledge(run)["seen"]),
    )  # fmt: skip
    return worklist, grouped, listing.faults


class Scorer(threading.Thread):
    """Scores the studies of a folder, a few at a time, between the questions of the page."""

    def __init__(self, model: Model, studies: list[Study], faults: Mapping[Path, str]) -> None:
        super().__init__(daemon=True)
        self.model, self.studies, self.faults = model, studies, faults
        self.fault = ""
        """why the scoring ended early"""

    def end(self) -> None:
        """Wait for the step in hand, once the model has been told to end."""
        self.join(LAST)

    def run(self) -> None:
        """Until all are scored or the page is closed."""
        worklist = self.model.worklist
        with self.model.lock:
            found = scored(self.model.engine(), self.studies, list(worklist.findings), self.faults)
        number = 0
        try:
            while not self.model.ending.is_set():
                with self.model.lock:
                    _, error, verdict, scores = next(found)
                worklist.settle(number, error, scores, verdict.reason if verdict.in_scope == NO else "")
                number += 1
                self.model.ending.wait(PAUSE)
        except StopIteration:
            failed = sum(bool(study.error) for study in worklist.studies)
            log.info("%d of %s scored, %d cannot be read", number - failed, counted(number, "study"), failed)
        except InputError as error:
            self.fault = f"scoring stopped: {error}"
            log.warning("view: %s", self.fault)
        except Exception as error:
            self.fault = f"scoring stopped: {type(error).__name__}"
            log.exception("view: scoring stopped")
        finally:
            found.close()
