"""Experiment files: find, inherit, override, check.

A file may name a `base:` file, beside it or below an experiments folder; maps merge, lists replace. `key=value`
overrides come last. A fault is one line that names the key, the file that set it and, for an unknown key, the nearest
known one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError, nearest
from radz.config import Experiment

COMMAND_LINE = "the command line"


def experiment_roots() -> list[Path]:
    """Folders searched for experiments and their files: working directory, installed package, checkout."""
    package = Path(__file__).parent
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
        layer = _read(file)
        layer.pop("base", None)
        _check(layer, Experiment, "", str(file), origin)
        merged = typing.cast(DictConfig, OmegaConf.merge(merged, layer))
    for item in overrides:
        _override(merged, item, origin)
    if not merged.get("name"):
        merged["name"] = path.stem
    return _instantiate(merged, origin, str(path))


def to_yaml(experiment: Experiment) -> str:
    """The resolved experiment as YAML that `load_experiment` reads back to an equal object."""
    return OmegaConf.to_yaml(OmegaConf.structured(experiment))


def from_plain(content: dict[str, Any], source: str) -> Experiment:
    """An experiment from plain values; keys that are not there have their defaults.

    Raises:
        InputError: naming the key and `source`.
    """
    origin: dict[str, str] = {}
    _check(content, Experiment, "", source, origin)
    return _instantiate(OmegaConf.create(content), origin, source)


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
    if experiment.dfat.rewrite.file:
        plain["dfat"]["rewrite"]["file"] = _content(experiment.dfat.rewrite.file)
    if experiment.method == "dfat":
        plain["dkam"]["sources"] = [_content(name) for name in experiment.dkam.sources]
        if not experiment.dkam.write:
            plain["dkam"]["descriptions"] = _content(experiment.dkam.descriptions)
    return hashlib.sha256(json.dumps(_text_keys(plain), sort_keys=True, default=str).encode()).hexdigest()[:8]


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
    while base := _read(chain[-1]).get("base"):
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


def _read(path: Path) -> dict[str, Any]:
    """YAML as plain containers; scalars of string fields keep the text the user wrote (`0123`, `no`)."""
    try:
        text = path.read_text(encoding="utf-8")
        typed = OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else {}
        raw = yaml.load(text, Loader=_Texts) if text.strip() else {}
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        # ValueError: an impossible date, which YAML tries to read.
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(typed, dict):
        raise InputError(f"{path}: an experiment file holds a map of keys")
    return typing.cast(dict[str, Any], _keep_strings(typed, raw, Experiment))


class _Texts(yaml.SafeLoader):
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


def _bare(kind: Any) -> Any:
    """`X | None` as `X`."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(arg for arg in typing.get_args(kind) if arg is not type(None))
    return kind


def _child(kind: Any, key: str) -> Any:
    """Type of `key` inside a schema type; Any where the schema does not say."""
    kind = _bare(kind)
    if dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind).get(key, Any)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return arguments[1]
    return arguments[0] if typing.get_origin(kind) is list else Any


def _check(value: Any, kind: Any, prefix: str, source: str, origin: dict[str, str]) -> None:
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
            _check(item, _child(kind, key), name, source, origin)
    elif typing.get_origin(kind) is list and isinstance(value, dict):
        raise InputError(f"{prefix}: expected a list, got a map of keys (in {source})")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(item, _child(kind, str(key)), f"{prefix}.{key}", source, origin)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, _child(kind, str(i)), f"{prefix}.{i}", source, origin)


def _override(config: DictConfig, item: str, origin: dict[str, str]) -> None:
    """Apply one `key=value`; the value is YAML unless the field is a string."""
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
            typed: Any = OmegaConf.to_container(OmegaConf.create(f"v: {text}"))
            value = _keep_strings(typed["v"], yaml.load(f"v: {text}", Loader=_Texts)["v"], kind)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError):
            raise InputError(f"{key}: {text[:80]!r} is not valid YAML (on {COMMAND_LINE})") from None
        _check(value, kind, key, COMMAND_LINE, origin)
    origin[key] = COMMAND_LINE
    try:
        OmegaConf.update(config, key, value, merge=True)
    except (OmegaConfBaseException, IndexError, ValueError, TypeError):
        raise InputError(f"{key}: no such place in the experiment (on {COMMAND_LINE})") from None


def _instantiate(merged: DictConfig, origin: dict[str, str], path: str) -> Experiment:
    """Types, interpolations and the checks of the dataclasses."""
    try:
        structured = OmegaConf.merge(OmegaConf.structured(Experiment), merged)
        OmegaConf.resolve(structured)
        return typing.cast(Experiment, OmegaConf.to_object(structured))
    except OmegaConfBaseException as error:
        key, reason = _place(error)
        for number, corpus in enumerate(_corpora(merged)):
            # OmegaConf names a key inside a list from the list's item on.
            try:
                OmegaConf.merge(OmegaConf.structured(CorpusConfig), corpus)
            except OmegaConfBaseException as inner:
                key, reason = _place(inner)
                key = f"data.corpora.{number}.{key}"
                break
        raise InputError(f"{key}: {reason} (in {_source(key, origin, path)})") from None
    except InputError as error:
        key = re.split(r"[:=\s]", str(error), maxsplit=1)[0]
        raise InputError(f"{error} (in {_source(key, origin, path)})") from None


def _place(error: OmegaConfBaseException) -> tuple[str, str]:
    """Dotted key and reason of an error."""
    return (error.full_key or "").replace("[", ".").replace("]", ""), str(error.msg or error).splitlines()[0]


def _corpora(merged: DictConfig) -> list[Any]:
    """The corpora as written; [] when they are no list of maps."""
    found = OmegaConf.to_container(merged).get("data", {}).get("corpora")  # type: ignore[union-attr]
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _source(key: str, origin: dict[str, str], path: str) -> str:
    """The file that set `key` or its closest parent."""
    while key and key not in origin:
        key = key.rpartition(".")[0]
    return origin.get(key, path) if key else path
