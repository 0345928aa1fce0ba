"""docs/configuration.md from the schema: every key with its default and its help text (`make docs`)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radz.config.schema import Experiment
from radz.evidence.config import EvidenceConfig

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
<!-- written by docs/write_configuration.py; run `make docs` after a change of the schema -->
# Configuration

Every key that an experiment file or the command line (`key=value`) may set, with its default and meaning. An unknown
key is refused with its nearest neighbour; `radz train EXP --print-config` shows what an experiment resolves to.

A file inherits from `base:`, a file beside it or below `experiments/`, or from a list of them, of which the later wins:
maps merge, lists replace. All shipped experiments begin with `experiments/base.yaml`. `with=recipes/NAME[,NAME]` on the
command line lays files of `experiments/recipes/` over the experiment ([backbones.md](backbones.md)).
`${data.image_size}` in a value is the value of that key. Where two keys exclude each other (`trainer.max_epochs` and
`trainer.max_steps`), the one of the later file or of the command line counts. `<i>` is a position in a list
(`data.corpora.0.root=DIR`), `<name>` a name that you choose.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    every = list(rows(Experiment))
    sections = list(dict.fromkeys(key.partition(".")[0] for key, _, _ in every if "." in key))
    parts.append(_table("The experiment", "", [row for row in every if "." not in row[0]]))
    kinds = typing.get_type_hints(Experiment)
    for name in sections:
        own = [row for row in every if row[0].startswith(f"{name}.")]
        parts.append(_table(f"`{name}`", inspect.getdoc(kinds[name]) or "", own))
    about = "Keys of the verb, not of an experiment ([evidence.md](evidence.md))."
    parts.append(_table("`radz evidence`", about, list(rows(EvidenceConfig))))
    return "\n".join(parts)


def rows(kind: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, default as JSON, help) of all fields of a dataclass and of those inside it."""
    hints, helps = typing.get_type_hints(kind), _helps(kind)
    for field in dataclasses.fields(kind):
        key, inner = f"{prefix}{field.name}", hints[field.name]
        arguments = [one for one in (inner, *typing.get_args(inner)) if dataclasses.is_dataclass(one)]
        if typing.get_origin(inner) in (list, dict) or not arguments:
            yield key, json.dumps(_default(field), ensure_ascii=False), helps.get(field.name, "")
        elif field.name in helps and prefix:
            yield key, "null" if _default(field) is None else "", helps[field.name]
        if arguments:
            place = {list: ".<i>", dict: ".<name>"}.get(typing.get_origin(inner) or object, "")
            yield from rows(typing.cast(type, arguments[0]), f"{key}{place}.")


def _helps(kind: type) -> dict[str, str]:
    """The string below each field, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }  # fmt: skip


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default  # type: ignore[misc]


def _table(title: str, about: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"## {title}", *([about, ""] if about else []), "| key | default | meaning |", "|---|---|---|"]
    for key, default, text in rows:
        lines.append(f"| `{key}` | {_escaped(f'`{default}`') if default else ''} | {_escaped(text)} |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text that ends no cell of a table and opens no tag."""
    outside = [part.replace("<", "&lt;") if n % 2 == 0 else part for n, part in enumerate(text.split("`"))]
    return "`".join(outside).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
