"""Experiment files: find, inherit, override, check.

A file may name a `base:` file, beside it or below an experiments folder; maps merge, lists replace. `key=value`
overrides come last. A fault is one line that names the key, the file that set it and, for an unknown key, the nearest
known one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data_modules.errors import InputError, nearest
from radz.config.overrides import apply_override, check_keys, displace, instantiate, read_layer, set_keys
from radz.config.schema import Experiment


def experiment_roots() -> list[Path]:
    """Folders searched for experiments and their files: working directory, installed package, checkout."""
    package = Path(__file__).parents[1]
    roots = [Path("experiments"), package / "experiments", package.parents[1] / "experiments"]
    return [root for root in roots if root.is_dir()]


def find_experiment(name: str) -> Path:
    """A path, or a name below an experiments folder without `.yaml`."""
    direct = Path(name)
    if direct.is_file():
        return direct
    for root in experiment_roots():
        if (root / f"{name}.yaml").is_file():
            return root / f"{name}.yaml"
    known = sorted({str(p.relative_to(r).with_suffix("")) for r in experiment_roots() for p in r.glob("**/*.yaml")})
    raise InputError(f"experiment {name!r}: no such file or name{nearest(name, known)}")


def find_resource(name: str) -> Path:
    """A data file named in an experiment: a path, or a path below an experiments folder."""
    for candidate in [Path(name), *(root / name for root in experiment_roots())]:
        if candidate.is_file():
            return candidate
    raise InputError(f"{name}: no such file here or below {', '.join(map(str, experiment_roots()))}")


def load_experiment(name: str, overrides: typing.Sequence[str] = ()) -> Experiment:
    """Resolve an experiment and its overrides.

    Raises:
        InputError: unknown key, wrong type, missing file, conflicting keys.
    """
    path = find_experiment(name)
    origin: dict[str, str] = {}
    merged = OmegaConf.create()
    for file in reversed(_chain(path)):
        layer = read_layer(file)
        layer.pop("base", None)
        check_keys(layer, Experiment, "", str(file), origin)
        merged = typing.cast(DictConfig, OmegaConf.merge(merged, layer))
        displace(merged, set_keys(layer))
    displace(merged, set().union(*(apply_override(merged, item, origin) for item in overrides)))
    if not merged.get("name"):
        merged["name"] = path.stem
    return instantiate(merged, origin, str(path))


def to_yaml(experiment: Experiment) -> str:
    """The resolved experiment as YAML that `load_experiment` reads back to an equal object."""
    return OmegaConf.to_yaml(OmegaConf.structured(experiment))


def from_plain(content: dict[str, Any], source: str) -> Experiment:
    """An experiment from plain values; keys that are not there have their defaults.

    Raises:
        InputError: naming the key and `source`.
    """
    origin: dict[str, str] = {}
    check_keys(content, Experiment, "", source, origin)
    return instantiate(OmegaConf.create(content), origin, source)


NEWER = {
    "dfat": ("token_norm", "centre", "temperature_warmup", "projector_warmup_steps", "projector_warmup_rate"),
}
"""Keys that came after the first release: at their default, which changes nothing, they leave digests as they were."""


def digest(experiment: Experiment) -> str:
    """First 8 hex digits of the digest of the config without places, device count and what changes no number.

    Descriptions, and reports rewritten elsewhere, enter with their text: an edit of their file is another experiment.
    """
    plain = dataclasses.asdict(experiment)
    for key in ("run_dir", "cache_dir", "overwrite", "run"):
        plain.pop(key)
    for key in ("devices", "num_nodes", "strategy", "checkpoint_every_n_steps", "timeout_minutes", "profiler"):
        plain["trainer"].pop(key)
    plain["data"].pop("workers")
    for corpus in plain["data"]["corpora"]:
        corpus.pop("root")
    for section, keys in NEWER.items():
        for key in keys:
            if plain[section][key] == getattr(type(getattr(experiment, section)), key):
                plain[section].pop(key)
    if experiment.dfat.rewrite.file:
        plain["dfat"]["rewrite"]["file"] = _content(experiment.dfat.rewrite.file)
    if experiment.method == "dfat":
        plain["dkam"]["sources"] = [_content(name) for name in experiment.dkam.sources]
        if not experiment.dkam.write:
            plain["dkam"]["descriptions"] = _content(experiment.dkam.descriptions)
    return hashlib.sha256(json.dumps(_text_keys(plain), sort_keys=True, default=str).encode()).hexdigest()[:8]


def run_folder(experiment: Experiment) -> Path:
    """`run_dir`, else runs/<experiment>/seed<seed>-<digest>."""
    if experiment.run_dir is not None:
        return Path(experiment.run_dir).expanduser()
    return Path("runs") / experiment.name / f"seed{experiment.seed}-{digest(experiment)}"


def _content(name: str) -> str:
    """The digest of a data file; its name where it is gone."""
    try:
        return hashlib.sha256(find_resource(name).read_bytes()).hexdigest()
    except InputError:
        return name


def _text_keys(value: Any) -> Any:
    """The same with all keys as text: a label coding mixes numbers and words, which do not sort."""
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _chain(path: Path) -> list[Path]:
    """The file and its bases, nearest first. A base is looked for beside its file, then below the experiment roots."""
    chain = [path]
    while base := read_layer(chain[-1]).get("base"):
        name = str(base) if str(base).endswith(".yaml") else f"{base}.yaml"
        places = [chain[-1].parent, *experiment_roots()]
        parent = next((place / name for place in places if (place / name).is_file()), None)
        if parent is None:
            raise InputError(
                f"base: {base}: no such file beside {chain[-1]} or below {', '.join(map(str, places[1:]))}"
            )
        if parent.resolve() in [p.resolve() for p in chain]:
            raise InputError(f"base: {base}: {chain[-1]} inherits from itself")
        chain.append(parent)
    return chain
