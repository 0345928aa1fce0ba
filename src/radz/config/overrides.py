"""Layers of an experiment: files, then the command line; checked against the schema key by key."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import math
import re
import types
import typing
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_modules.corpus_config import FROM_REPORT, KINDS, CorpusConfig, LabelRule
from data_modules.errors import InputError, nearest
from data_modules.parsing import YamlLoader, parse_yaml, yaml_fault
from radz.config.layers import put, value_at
from radz.config.reasons import place
from radz.config.schema import Experiment

COMMAND_LINE = "the command line"
EXCLUSIVE = (
    ("trainer.max_epochs", "trainer.max_steps"),
    ("data.corpora.*.split_csv", "data.corpora.*.columns.split"),
    tuple(f"data.corpora.*.labels.*.{kind}" for kind in KINDS),
)
"""Keys of which one may be set: what a file or the command line sets takes the place of what came before it."""


def read_layer(path: Path) -> dict[str, Any]:
    """YAML as plain containers; scalars of string fields keep the text the user wrote (`0123`, `no`)."""
    try:
        layer = copy.deepcopy(_layer(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        # ValueError: an impossible date, which YAML tries to read.
        raise InputError(f"{path}: not valid YAML: {yaml_fault(error)}") from None
    if not isinstance(layer, dict):
        raise InputError(f"{path}: an experiment file holds a map of keys")
    return layer


@lru_cache(maxsize=256)  # a sweep, an ablation and the paper's tables read the same few files again and again
def _layer(text: str) -> Any:
    if not text.strip():
        return {}
    texts = parse_yaml(text, _Texts)
    typed = OmegaConf.to_container(OmegaConf.create(text))
    return _spelt_out(_keep_strings(typed, texts, Experiment), Experiment)


class _Texts(YamlLoader):
    """Leaves every scalar the text it was written as."""


for _tag in ("null", "bool", "int", "float", "timestamp"):
    _Texts.add_constructor(f"tag:yaml.org,2002:{_tag}", lambda loader, node: str(node.value))


def _keep_strings(typed: Any, raw: Any, kind: Any) -> Any:
    """Replace values of string fields by the text as written; null stays null."""
    kind = _bare(kind)
    if isinstance(typed, dict) and isinstance(raw, dict) and len(typed) == len(raw):
        # Keys that were no text (1, no) are found by their place; merge keys (<<) change places.
        texts = [raw.get(str(key), text) for key, text in zip(typed, raw.values(), strict=True)]
        return {
            key: _keep_strings(value, text, _child(kind, str(key)))
            for (key, value), text in zip(typed.items(), texts, strict=True)
        }
    if isinstance(typed, list) and isinstance(raw, list):
        inner = typing.get_args(kind)[0] if typing.get_origin(kind) is list else Any
        return [_keep_strings(a, b, inner) for a, b in zip(typed, raw, strict=True)]
    return raw if kind is str and typed is not None and isinstance(raw, str) else typed


def _spelt_out(value: Any, kind: Any) -> Any:
    """`labels: {from_report: rules}` as the rule that it stands for."""
    kind = _bare(kind)
    if isinstance(value, list):
        return [_spelt_out(item, _child(kind, "0")) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _spelt_out(item, _child(kind, str(key))) for key, item in value.items()}
    if _child(kind, FROM_REPORT) is LabelRule and isinstance(found.get(FROM_REPORT), str):
        found[FROM_REPORT] = {FROM_REPORT: found[FROM_REPORT]}
    return found


def _bare(kind: Any) -> Any:
    """`X | None` as `X`."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(arg for arg in typing.get_args(kind) if arg is not type(None))
    return kind


@cache
def _types(section: type) -> dict[str, Any]:
    """Type of each key of a section."""
    return typing.get_type_hints(section)


@cache
def _schema(section: type) -> DictConfig:
    """The section with its defaults; merging into it copies it."""
    return typing.cast(DictConfig, OmegaConf.structured(section))


def _child(kind: Any, key: str) -> Any:
    """Type of `key` inside a schema type; Any where the schema does not say."""
    kind = _bare(kind)
    if dataclasses.is_dataclass(kind):
        return _types(typing.cast(type, kind)).get(key, Any)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return arguments[1]
    return arguments[0] if typing.get_origin(kind) is list else Any


def check_keys(value: Any, kind: Any, prefix: str, source: str, origin: dict[str, str]) -> None:
    """Unknown keys of one layer, and where each key was set."""
    kind = _bare(kind)
    origin[prefix] = source
    if dataclasses.is_dataclass(kind):
        if value is None:
            return
        if not isinstance(value, dict):
            raise InputError(f"{prefix}: expected a map of keys, got {value!r} (in {source})")
        known = [field.name for field in dataclasses.fields(kind)]
        for key, item in value.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            if key not in known:
                raise InputError(f"{name}: unknown key in {source}{nearest(str(key), known)}")
            check_keys(item, _child(kind, key), name, source, origin)
    elif typing.get_origin(kind) is list and isinstance(value, dict):
        raise InputError(f"{prefix}: expected a list, got a map of keys (in {source})")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_keys(item, _child(kind, str(key)), f"{prefix}.{key}", source, origin)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check_keys(item, _child(kind, str(i)), f"{prefix}.{i}", source, origin)


def apply_override(config: dict[str, Any], item: str, origin: dict[str, str]) -> set[str]:
    """Apply one `key=value`; the value is YAML unless the field is a string. Returns the keys that it sets."""
    key, separator, text = item.partition("=")
    if not separator or not key:
        raise InputError(f"{item!r}: an override is written key=value")
    kind: Any = Experiment
    for i, part in enumerate(key.split(".")):
        if _bare(kind) in (str, int, float, bool):
            raise InputError(f"{key}: {'.'.join(key.split('.')[:i])} has no keys of its own (on {COMMAND_LINE})")
        names = [f.name for f in dataclasses.fields(_bare(kind))] if dataclasses.is_dataclass(_bare(kind)) else None
        if names is not None and part not in names:
            raise InputError(f"{key}: unknown key on {COMMAND_LINE}{nearest(part, names)}")
        if typing.get_origin(_bare(kind)) is list and not part.isdigit():
            raise InputError(f"{key}: {part!r} should be a position in the list, such as 0 (on {COMMAND_LINE})")
        kind = _child(kind, part)
    value: Any = text
    # W&B agents write Python's None and YAML's null alike.
    if text in ("null", "None", "~"):
        value = None
    elif _bare(kind) is not str:
        try:
            # OmegaConf's reader knows 1e-4 as a number.
            texts = parse_yaml(f"v: {text}", _Texts)["v"]
            typed: Any = OmegaConf.to_container(OmegaConf.create(f"v: {text}"))
            value = _keep_strings(typed["v"], texts, kind)
            value = {FROM_REPORT: value} if kind is LabelRule and isinstance(value, str) else _spelt_out(value, kind)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError):
            raise InputError(f"{key}: {text[:80]!r} is not valid YAML (on {COMMAND_LINE})") from None
        check_keys(value, kind, key, COMMAND_LINE, origin)
    origin[key] = COMMAND_LINE
    try:
        put(config, key, value)
    except (IndexError, ValueError):
        raise InputError(f"{key}: no such place in the experiment (on {COMMAND_LINE})") from None
    return set_keys(value, key)


def set_keys(layer: Any, prefix: str = "") -> set[str]:
    """The dotted keys of what a layer sets to something."""
    items = layer.items() if isinstance(layer, dict) else enumerate(layer) if isinstance(layer, list) else ()
    inner = [set_keys(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in items]
    return set().union(*inner) | ({prefix} if prefix and layer is not None else set())


def displace(merged: dict[str, Any], keys: set[str]) -> None:
    """Set to null what excludes one of `keys`, all set by one layer, unless that layer sets it too."""
    for group in EXCLUSIVE:
        for key, pattern in ((key, pattern) for key in keys for pattern in group if fnmatch.fnmatchcase(key, pattern)):
            names = [part for part, wanted in zip(key.split("."), pattern.split("."), strict=True) if wanted == "*"]
            for other in (other for other in group if other != pattern):
                place = other.replace("*", "{}").format(*names)
                if place not in keys and value_at(merged, place) is not None:
                    put(merged, place, None)


def instantiate(merged: dict[str, Any], origin: dict[str, str], path: str) -> Experiment:
    """Types, interpolations and the checks of the dataclasses."""
    try:
        structured = OmegaConf.merge(_schema(Experiment), merged)
        OmegaConf.resolve(structured)
        _check_finite(OmegaConf.to_container(structured), "")
        return typing.cast(Experiment, OmegaConf.to_object(structured))
    except TypeError as error:  # a list where a map belongs, which an interpolation may bring
        raise InputError(f"{path}: {error}") from None
    except OmegaConfBaseException as error:
        key, reason = place(error)
        corpora = value_at(merged, "data.corpora")
        corpora = corpora if isinstance(corpora, list) else []
        for number, corpus in enumerate(corpus for corpus in corpora if isinstance(corpus, dict)):
            # OmegaConf names a key inside a list from the list's item on.
            try:
                OmegaConf.merge(_schema(CorpusConfig), corpus)
            except OmegaConfBaseException as inner:
                key, reason = place(inner)
                key = f"data.corpora.{number}.{key}"
                break
        raise InputError(f"{key}: {reason} (in {_source(key, origin, path)})") from None
    except InputError as error:
        key = re.split(r"[:=\s]", str(error), maxsplit=1)[0]
        raise InputError(f"{error} (in {_source(key, origin, path)})") from None


def _check_finite(value: Any, key: str) -> None:
    """InputError naming the key of a number that is infinite or none: a rule of its range may let it pass."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key}={value}: must be a finite number")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        _check_finite(inner, f"{key}.{name}" if key else str(name))


def _source(key: str, origin: dict[str, str], path: str) -> str:
    """The file that set `key` or its closest parent."""
    while key and key not in origin:
        key = key.rpartition(".")[0]
    return origin.get(key, path) if key else path
