"""What `make paper` runs: a file of `experiments/paper/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_modules.errors import InputError, nearest
from data_modules.parsing import parse_yaml, yaml_fault
from radz.config.files import experiment_roots
from radz.config.reasons import place


@dataclass
class Section:
    """A table or figure; exactly one of `sets`, `group`, `arms` and `evidence` says which."""

    title: str
    about: str = ""
    sets: dict[str, list[str]] = field(default_factory=dict)
    """corpus: names of protocols that the base run is scored by"""
    group: str = ""
    """of `experiments/ablations/`"""
    arms: list[str] = field(default_factory=list)
    """experiments beside the base"""
    scorer: str = ""
    """of a group or of arms: the scorer that is compared; empty is the headline of each run"""
    evidence: list[str] = field(default_factory=list)
    """items of `radz evidence` on the base run"""


@dataclass
class Plan:
    """One preset."""

    note: str
    """said under the title: what the numbers must not be taken for"""
    base: str
    seeds: list[int]
    sections: list[Section]
    keys: list[str] = field(default_factory=list)
    """overrides of every training, and of every evaluation but for those of the corpus"""
    layout: dict[str, int] = field(default_factory=dict)
    """studies of each split where a set is written as the phantom"""


def read_plan(preset: str) -> Plan:
    """The plan of a preset.

    Raises:
        InputError: no such preset; an unknown key, a wrong type, or a section of no kind or of several.
    """
    presets = {file.stem: file for root in experiment_roots() for file in sorted((root / "paper").glob("*.yaml"))}
    if preset not in presets:
        raise InputError(f"PRESET={preset}: no such preset{nearest(preset, sorted(presets))}")
    file = presets[preset]
    try:
        if not isinstance(parse_yaml(text := file.read_text(encoding="utf-8")), dict):
            raise InputError(f"{file}: a plan holds a map of keys")
        plan: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Plan), OmegaConf.create(text)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid YAML: {yaml_fault(error)}") from None
    except OmegaConfBaseException as error:
        key, reason = place(error)
        raise InputError(f"{file}: {key}: {reason}") from None
    for section in plan.sections:
        kinds = [kind for kind in ("sets", "group", "arms", "evidence") if getattr(section, kind)]
        if len(kinds) != 1:
            raise InputError(f"{file}: section {section.title!r} must have one of sets, group, arms and evidence")
    if not plan.seeds or not plan.sections:
        raise InputError(f"{file}: name one seed and one section at least")
    return plan
