"""Experiment files: find, inherit, override, check.

A file may name a `base:`, or a list of which the later wins, beside it or below an experiments folder; maps merge,
lists replace. Recipes that the command line names by `with=` come after the file, `key=value` overrides last.
A fault is one line that names the key, the file that set it and, for an unknown key, the nearest known one.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import typing
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data_modules.errors import InputError, nearest
from data_modules.keys import names
from radz.config import class_prompts, prompt_sets
from radz.config.checks import known_findings
from radz.config.layers import lay, put, value_at
from radz.config.overrides import apply_override, check_keys, displace, instantiate, read_layer, set_keys
from radz.config.schema import Experiment

RECIPES = "with="


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


def find_resource(name: str, key: str) -> Path:
    """A data file that `key` of an experiment names: a path, or a path below an experiments folder."""
    for candidate in [Path(name), *(root / name for root in experiment_roots())]:
        if candidate.is_file():
            return candidate
    raise InputError(f"{key}: {name}: no such file here or below {', '.join(map(str, experiment_roots()))}")


def find_recipe(name: str) -> Path:
    """A recipe: `NAME` or `recipes/NAME`, a file of the folder `recipes` below an experiments folder."""
    stem = name.removeprefix("recipes/")
    files = {str(p.relative_to(r / "recipes").with_suffix("")): p
             for r in reversed(experiment_roots()) for p in r.glob("recipes/**/*.yaml")}  # fmt: skip
    if stem not in files:
        raise InputError(f"with={name}: no such recipe{nearest(stem, files)}")
    return files[stem]


def split_recipes(overrides: typing.Sequence[str]) -> tuple[list[str], list[str]]:
    """What `with=NAME[,NAME]` names among overrides, and the other items."""
    given = [item for item in overrides if item.startswith(RECIPES)]
    recipes = [name for item in given for name in names(item.removeprefix(RECIPES))]
    if given and not recipes:
        raise InputError(f"{RECIPES} names no recipe; write {RECIPES}recipes/NAME, several with commas")
    return recipes, [item for item in overrides if item not in given]


def load_experiment(name: str, overrides: typing.Sequence[str] = ()) -> Experiment:
    """Resolve an experiment, the recipes and the overrides of a command line.

    Raises:
        InputError: unknown key, wrong type, missing file, conflicting keys, no such recipe.
    """
    path = find_experiment(name)
    recipes, items = split_recipes(overrides)
    origin: dict[str, str] = {}
    merged: dict[str, Any] = {}
    for first in [path, *map(find_recipe, recipes)]:
        for file, layer in _layers(first):
            check_keys(layer, Experiment, "", str(file), origin)
            lay(merged, layer)
            _make_room(merged, set_keys(layer))
    _make_room(merged, set().union(*(apply_override(merged, item, origin) for item in items)))
    if not merged.get("name"):
        merged["name"] = path.stem
    return _checked(merged, origin, str(path))


def _make_room(merged: dict[str, Any], keys: set[str]) -> None:
    """Take away what `keys`, all set by one layer, exclude."""
    displace(merged, keys)
    prompt_sets.displace_denied(merged, keys)


def _checked(merged: dict[str, Any], origin: dict[str, str], path: str) -> Experiment:
    """The experiment, with the sentences of published prompts, and of a file, in place of their name."""
    if prompt_sets.is_named(merged):
        try:
            prompt_sets.spell_out(merged, published_prompts())
        except InputError as error:
            raise InputError(f"{error} (in {origin.get(prompt_sets.PROMPTS, path)})") from None
    file = value_at(merged, class_prompts.KEY)
    if not isinstance(file, str):
        return instantiate(merged, origin, path)
    put(merged, class_prompts.KEY, {})
    known = known_findings(instantiate(merged, origin, path).data)
    try:
        own = class_prompts.read_class_prompts(find_resource(file, class_prompts.KEY), known)
    except InputError as error:
        raise InputError(f"{error} (in {origin.get(class_prompts.KEY, path)})") from None
    put(merged, class_prompts.KEY, own)
    return instantiate(merged, origin, path)


def published_prompts() -> prompt_sets.Published:
    """The published prompts that radz ships."""
    return prompt_sets.read_published(find_resource(prompt_sets.FILE, prompt_sets.PROMPTS))


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
    return _checked(copy.deepcopy(content), origin, source)


NEWER = {
    "backbone": ("family",),
    "vqa": ("embedding_instruction",),
    "data": ("labels_reviewed", "shots", "sampling"),
    "dfat": (
        "token_norm", "centre", "temperature_warmup", "projector_warmup_steps", "projector_warmup_rate",
        "statements_weight", "statements", "local_weight", "local_temperature", "sentences_weight", "sentences",
        "sentences_by", "twins",
        "alignment", "keep_weight", "reconstruction_weight", "reconstruction_share", "reconstruction_decay",
        "tower_learning_rate",
    ),
    "dkam": ("logit_adjustment", "focus_present", "focus_absent", "absent_margin"),
    "scoring": ("wordings", "choice", "frequency_limits"),
}  # fmt: skip
"""Keys that came after the first release: at their default, which changes nothing, they leave digests as they were."""


def digest(experiment: Experiment) -> str:
    """First 8 hex digits of the digest of the config without places, device count and what changes no number.

    Descriptions, statements, twins, and reports rewritten elsewhere, enter with their text: an edit of their file is
    another experiment.
    """
    plain = dataclasses.asdict(experiment)
    for key in ("run_dir", "cache_dir", "overwrite", "run"):
        plain.pop(key)
    for key in ("devices", "num_nodes", "strategy", "checkpoint_every_n_steps", "timeout_minutes", "profiler"):
        plain["trainer"].pop(key)
    plain["data"].pop("workers")
    path, cache = experiment.backbone.path, experiment.cache_dir
    if path and Path(path).is_relative_to(cache):  # of `make backbone`: the same wherever the cache lies
        plain["backbone"]["path"] = str(Path(Experiment.cache_dir) / Path(path).relative_to(cache))
    for corpus in plain["data"]["corpora"]:
        corpus.pop("root")
        for section, key in ((corpus, "terms"), (corpus["phantom"], "rare")):
            if not section[key]:
                section.pop(key)
        for rule in corpus["labels"].values():
            if rule["from_report"] is None:
                rule.pop("from_report")
    for section, keys in NEWER.items():
        for key in keys:
            if plain[section][key] == _default(type(getattr(experiment, section)), key):
                plain[section].pop(key)
    if experiment.data.labels_reviewed:
        plain["data"]["labels_reviewed"] = _content(experiment.data.labels_reviewed)
    if experiment.dfat.statements_weight:
        plain["dfat"]["statements"] = _content(experiment.dfat.statements)
    if experiment.dfat.sentences_weight and experiment.dfat.twins:
        plain["dfat"]["twins"] = _content(experiment.dfat.twins)
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


def _default(section: type, key: str) -> Any:
    """The default of a key, a list's too."""
    field = next(field for field in dataclasses.fields(section) if field.name == key)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _content(name: str) -> str:
    """The digest of a data file; its name where it is gone."""
    try:
        return hashlib.sha256(find_resource(name, "").read_bytes()).hexdigest()
    except InputError:
        return name


def _text_keys(value: Any) -> Any:
    """The same with all keys as text: a label coding mixes numbers and words, which do not sort."""
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _layers(path: Path, heirs: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases with the keys that each sets, in the order in which they are laid.

    A base is looked for beside its file, then below the experiment roots, and laid whole, with its own bases.
    """
    layer = read_layer(path)
    given = layer.pop("base", None)
    heirs = (*heirs, path.resolve())
    layers: list[tuple[Path, dict[str, Any]]] = []
    for base in given if isinstance(given, list) else [given] if given else []:
        if not base or isinstance(base, dict | list):
            raise InputError(f"base: {base!r} is no name of a file (in {path}); write a name, or a list of names")
        name = str(base) if str(base).endswith(".yaml") else f"{base}.yaml"
        places = [path.parent, *experiment_roots()]
        parent = next((place / name for place in places if (place / name).is_file()), None)
        if parent is None:
            raise InputError(f"base: {base}: no such file beside {path} or below {', '.join(map(str, places[1:]))}")
        if parent.resolve() in heirs:
            raise InputError(f"base: {base}: {path} inherits from itself")
        layers += _layers(parent, heirs)
    return [*layers, (path, layer)]
