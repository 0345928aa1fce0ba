"""What a run is made of, by digests: whether data, pixels, backbone and anchors are those that its folder notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radz.backbones.folder import base_change
from radz.config.schema import Experiment

DIGESTS = {
    "data_digest": "the data (studies, splits, reports or labels under data.corpora.<i>.root)",
    "pixel_digest": "the pixels (image files, or how they are decoded)",
    "base_digest": "the backbone (backbone.path, or its modality tokens; of a CLIP, clip.path)",
    "anchors_digest": "the anchors (descriptions, or the backbone that encodes them)",
}


def changed(experiment: Experiment, before: Mapping[str, Any], now: Mapping[str, Any], bits: bool) -> str | None:
    """The first of `DIGESTS` that is another one now, in words; None where none is. One that either lacks is not
    compared: an earlier radz noted fewer.

    Args:
        before: of environment.json. now: the same of now.
        bits: whether numbers that are computed must be the same too. Anchors are floats, and so are the weights of a
            tiny backbone, which is made anew: on another machine their last bits may differ, and the numbers tell.
    """
    for key, what in DIGESTS.items():
        rounded = key == "anchors_digest" or (key == "base_digest" and _made_anew(experiment, before, now))
        if key in before and key in now and before[key] != now[key] and (bits or not rounded):
            cause = f": {base_change(before[key], str(now[key]))}" if key == "base_digest" else ""
            return f"{what} changed since{cause} ({key}: {now[key]} is not {before[key]})"
    return None


def _made_anew(experiment: Experiment, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether both runs made a tiny backbone from its seed, of one kind."""
    named = experiment.backbone.path is not None or experiment.clip.path is not None
    one, other = (str(digests.get("base_digest", "")).split("-")[1:] for digests in (before, now))
    return not named and one == other
