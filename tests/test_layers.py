"""The house of radz: which room may import from which. Every import is read, those inside functions too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from radz.config.schema import METHODS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"radz": ROOT / "src" / "radz", "data_modules": ROOT / "data_modules"}
GROUND = ("data_modules", "version", "distributed", "stopping")
TRAINING = ("training", "metrics", "config")
MODELS = ("methods", "models", "backbones", *TRAINING)
MAY = {
    "data_modules": (),
    **dict.fromkeys(GROUND[1:], ()),
    "config": (),
    "metrics": (),
    "training": ("metrics", "config"),
    "backbones": ("config",),
    "report": TRAINING,
    "models": ("backbones", "metrics", "config"),
    "methods": ("models", "backbones", *TRAINING),
    "runs": ("report", *MODELS),
    "inference": ("report", *MODELS),
    "evidence": ("inference", "runs", "report", *MODELS),
    "radz": ("inference",),
    "multirun": ("evidence", "runs", "report", *TRAINING),
    "cli": ("multirun", "evidence", "inference", "runs", "radz", "report", *MODELS),
    "__main__": ("cli",),
}
"""Rooms from the ground up, and those that each may import from, beside itself and the ground."""
WITH_EXPERIMENT = ("config", "runs", "multirun", "cli", "inference.engine", "inference.export")
"""rooms and files whose functions may take the whole `Experiment`; below `methods` those called `build` may"""
WITH_METHOD = ("config", "methods")
"""rooms that may compare the name of a method"""
LIMIT_FILE, LIMIT_FUNCTION = 400, 60


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    named = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            named[".".join(part for part in parts if part != "__init__")] = path
    return named


MODULES = modules()


def room(module: str) -> str:
    package, *rest = module.split(".")
    return rest[0] if package == "radz" and rest else package


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every import of ours, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their module in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.append(full if full in MODULES else str(node.module))
        for name in names:
            if name.partition(".")[0] in PACKAGES:
                yield node.lineno, name  # type: ignore[attr-defined]


def upward(module: str, source: str) -> list[str]:
    """Imports of a module's source that do not run down."""
    own = room(module)
    return [
        f"{module}, line {line}: {own} may not import {name}"
        for line, name in imported(ast.parse(source))
        if room(name) not in (own, *MAY[own], *(GROUND if own not in GROUND else ()))
    ]


def test_imports_run_down() -> None:
    assert {room(module) for module in MODULES} == set(MAY)
    assert [line for module, path in MODULES.items() for line in upward(module, path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("radz.models.losses", "def f():\n    from radz.training import trainer"),
        ("radz.config.dkam", "if TYPE_CHECKING:\n    from radz.metrics.ranking import Ranking"),
        ("radz.report.figures", "import radz"),
        ("data_modules.batch", "from radz.config import Experiment"),
    ],
)  # fmt: skip
def test_an_import_up_or_sideways_is_seen(module: str, source: str) -> None:
    assert len(upward(module, source)) == 1
    assert upward("radz.cli.verbs", "from radz.models import losses\nfrom radz.cli import paper") == []


def whole_experiments(module: str, source: str) -> list[str]:
    """Parameters of a module's source that are a whole `Experiment` where a section is to be taken."""
    place = module.partition(".")[2]
    if place.startswith(WITH_EXPERIMENT):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and not (node.name == "build" and room(module) == "methods"):
            given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            taken = [ast.unparse(parameter.annotation) for parameter in given if parameter.annotation]
            if any(re.search(r"\bExperiment\b", annotation) for annotation in taken):
                found.append(f"{module}, line {node.lineno}: {node.name} takes the whole Experiment")
    return found


def compared_methods(module: str, source: str) -> list[str]:
    """Comparisons of a module's source with the name of a method, where the registry is to be asked."""
    if room(module) in WITH_METHOD:
        return []
    return [
        f"{module}, line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        and re.search(r"\bmethod\b", ast.unparse(node))
        and any(isinstance(part, ast.Constant) and part.value in METHODS for part in ast.walk(node))
    ]


def test_functions_take_sections_and_methods_are_asked() -> None:
    sources = {module: path.read_text() for module, path in MODULES.items()}
    for check in (whole_experiments, compared_methods):
        assert [line for module, source in sources.items() for line in check(module, source)] == []
    assert [name for name in METHODS if not hasattr(import_module(f"radz.methods.{name}"), "build")] == []


def test_a_whole_experiment_and_a_compared_method_are_seen() -> None:
    for annotation in ("Experiment", '"Experiment | None"', "schema.Experiment"):
        source = f"def f(a: int, *, b: {annotation}) -> None: ..."
        assert len(whole_experiments("radz.models.factory", source)) == 1
        assert whole_experiments("radz.inference.engine", source) == []
    assert whole_experiments("radz.methods.cnn", "def build(experiment: Experiment) -> CNN: ...") == []
    for source in ('experiment.method != "dfat"', 'settings.method in ("dfat", "vqa")', 'method == "clip"'):
        assert len(compared_methods("radz.runs.train", source)) == 1
        assert compared_methods("radz.methods.registry", source) == []
    assert compared_methods("radz.multirun.sweep.search", 'sweep.method == "bayes"') == []


def test_no_circle_of_files() -> None:
    """Depth first; a package stands for its `__init__` alone."""
    edges = {module: [name for _, name in imported(ast.parse(path.read_text()))] for module, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for name in edges[module]:
                walk(name, (*way, module))
            done.add(module)

    for module in edges:
        walk(module, ())


def floors() -> int:
    """The longest chain of rooms, each of which may import from the next."""

    def height(room: str) -> int:
        below = [name for name in (*MAY[room], *(GROUND if room not in GROUND else ())) if name != room]
        return 1 + max((height(name) for name in below), default=0)

    return max(height(room) for room in MAY)


def test_the_house_stays_small() -> None:
    rooms = {path for path in PACKAGES["radz"].iterdir() if (path / "__init__.py").is_file()}
    loose = {path.stem for path in PACKAGES["radz"].glob("*.py")} - {"__init__", "__main__"}
    assert len(rooms) <= 12 and len(loose) <= 4 and floors() <= 10
    long = []
    for module, path in MODULES.items():
        text = path.read_text()
        long += [f"{module}: {count} lines"] if (count := text.count("\n")) > LIMIT_FILE else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LIMIT_FUNCTION:
                long.append(f"{module}.{node.name}")
    assert long == []
