"""The trained model behind `radz view`: loaded when it is first needed, asked by one thread at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import InputError
from data_modules.placing import to_original
from radz.evidence.view.frames import Frames
from radz.evidence.view.worklist import Listed, Worklist
from radz.inference.engine import Radz
from radz.inference.studies import one_by_one
from radz.report.heatmap_picture import tint
from radz.training.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
PAUSE = 0.001
"""seconds in which whoever waits for the model gets it: a lock has no order"""
MAP_SIDE = 320
"""pixels of the longer side of a heat-map; the browser smooths it to the size of the picture"""
TOGETHER = 8
"""studies that are encoded in one go"""
NEAREST = 8
LAST = 10.0
"""seconds that a thread in the background has for the step that it is in"""
KEPT = 64
"""heat-maps held in memory"""


class Model:
    """Heat-maps, and the nearest cases by the cosine of global features.

    Args:
        load: makes the engine; its InputError is told whenever the model is asked.
    """

    def __init__(self, load: Callable[[], Radz], worklist: Worklist, frames: Frames) -> None:
        self.worklist, self.frames, self.lock = worklist, frames, threading.Lock()
        self._load, self._starting = load, threading.Lock()
        self._engine: Radz | None = None
        self._maps: dict[tuple[int, str], NDArray[np.float32]] = {}
        self._features: dict[int, NDArray[np.float32]] = {}
        self._encoder: threading.Thread | None = None
        self._tried, self._fault = 0, ""
        self.ending = threading.Event()

    def engine(self) -> Radz:
        """The engine; the caller holds `lock`."""
        if self._engine is None:
            self._engine = self._load()
        return self._engine

    def end(self) -> None:
        """Tell the threads that work in the background to stop at their next step, and wait for the encoder."""
        self.ending.set()
        if self._encoder is not None:
            self._encoder.join(LAST)

    def heat(self, number: int, frame: int, finding: str) -> NDArray[np.uint8]:
        """uint8 [h, w, 4]: colours and opacity over an image that the model sees, stretched over its whole study.

        Raises:
            InputError: the model does not see this image, cannot be loaded or has no map of the finding.
        """
        study = self.worklist.studies[number]
        seen = self.frames.seen(study)
        if frame not in seen:
            raise InputError(f"frame {frame}: the model does not see this slice; the marked ones have maps")
        maps = self._patch_maps(number, study, finding)
        height, width = self.frames.read(study, frame).levels.shape
        scale = min(1.0, MAP_SIDE / max(height, width))
        shape = max(1, round(height * scale)), max(1, round(width * scale))
        recipe = self.frames.recipe
        aspect = self.frames.aspect(study, frame)
        with self.lock:
            covered = self.engine().covered
        heat = to_original(maps[seen.index(frame)], shape, recipe.size, recipe.resize, aspect, covered)
        colour, opacity = tint(heat, float(np.median(maps)), float(maps.max()))
        return np.concatenate([colour, 255 * opacity], axis=2).round().astype(np.uint8)

    def _patch_maps(self, number: int, study: Listed, finding: str) -> NDArray[np.float32]:
        """[M, g, g]."""
        with self.lock:
            if (number, finding) not in self._maps:
                try:
                    images = self.frames.planes(study)
                    found = self.engine().patch_maps(images, study.modality, [finding])[:, 0]
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    raise InputError("heat-map: there is not enough memory for this study; try device=cpu") from None
                while len(self._maps) >= KEPT:
                    self._maps.pop(next(iter(self._maps)))
                self._maps[number, finding] = found
            return self._maps[number, finding]

    def nearest(self, number: int) -> dict[str, Any]:
        """For JSON: the cases most like a study, or how far the encoding is that the first question begins."""
        with self._starting:
            if self._encoder is None:
                self._encoder = threading.Thread(target=self._encode, daemon=True)
                self._encoder.start()
        total = len(self.worklist.studies)
        if self._fault:
            raise InputError(self._fault)
        if self._tried < total:
            return {"done": self._tried, "total": total}
        if number not in self._features:
            raise InputError("nearest cases: this study could not be encoded")
        others = [other for other in self._features if other != number]
        if not others:
            return {"done": total, "total": total, "cases": []}
        cosines = np.stack([self._features[other] for other in others]) @ self._features[number]
        order = np.argsort(-cosines, kind="stable")[:NEAREST]
        cases = [{"study": others[at], "cosine": round(float(cosines[at]), 4)} for at in order]
        return {"done": total, "total": total, "cases": cases}

    def _embedded(self, images: Mapping[int, Tensor], modalities: Sequence[str]) -> dict[int, NDArray[np.float32]]:
        """Features of studies by number, without those that the model cannot take, such as one of too many images."""
        rows = one_by_one(self.engine().embed_studies, list(images.values()), modalities)
        return {number: row for number, row in zip(images, rows, strict=True) if not isinstance(row, InputError)}

    def _encode(self) -> None:
        """All studies of the worklist, a few at a time; one that cannot be read has no features."""
        studies = self.worklist.studies
        try:
            for start in range(0, len(studies), TOGETHER):
                part = range(start, min(start + TOGETHER, len(studies)))
                images = {}
                for number in part:
                    try:
                        images[number] = self.frames.planes(studies[number])
                    except InputError:  # the worklist names it when it is looked at
                        continue
                with self.lock:
                    if self.ending.is_set():
                        return
                    modalities = [studies[number].modality for number in images]
                    if images:
                        self._features |= self._embedded(images, modalities)
                self._tried = part.stop
                self.ending.wait(PAUSE)
        except InputError as error:
            self._fault = str(error)
        except Exception as error:
            self._fault = f"nearest cases: the model failed ({type(error).__name__})"
            if not is_out_of_memory(error):
                log.exception("view: encoding the studies failed")
