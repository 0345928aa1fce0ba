"""README and docs against the code: every link, path, command, experiment and Python block that a page shows exists."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from doc_pages import BY_NAME, PAGES, ROOT, blocks, prose, spans

from data_modules.phantom.layouts import LAYOUTS
from radz.cli import command_line as cli
from radz.config.files import load_experiment
from radz.config.schema import Experiment
from radz.evidence.config import read_settings
from radz.evidence.view import settings as view_settings

CHOICES = {"RUN": "runs/x", "EXP": "demo", "EXPERIMENT": "demo", "NAME": "chexpert", "<name>": "demo", "DIR": "x"}
"""what stands in a command for a word of the reader's choice"""
FREE = {"report", "export", "import", "assemble", "predict", "rerun", "compare", "bench", "sweep", "score"}
"""verbs whose keys are those that `--help` names, and no keys of an experiment"""
SHIPPED = re.compile(r"(?:src|data_modules|experiments|tests|docs|benchmarks)/[\w./-]*\w/?")


@cache
def load(name: str, keys: tuple[str, ...] = ()) -> Experiment:
    """An experiment as a command would resolve it; the many commands that differ in a path alone count once."""
    return load_experiment(name, keys)


def alike(keys: list[str]) -> tuple[str, ...]:
    """Keys whose paths are one word."""
    return tuple(re.sub(r"=(/|runs/|phantom_).*", "=x", key) for key in keys)


# ---- Links, paths, sections ----------------------------------------------------------------------------------------


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", BY_NAME)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), f"{page.name}: {target}"
        assert not anchor or anchor in headings(file), f"{page.name}: {target}"


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", (ROOT / "docs/index.md").read_text()))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked


def test_the_architecture_names_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "src/radz").glob("*/__init__.py")}
    loose = {path.stem for path in (ROOT / "src/radz").glob("*.py")} - {"__init__", "__main__"}
    table = [line for line in (ROOT / "docs/architecture.md").read_text().split("\n") if re.match(r"\| \d+ \|", line)]
    named = {name for line in table for name in re.findall(r"`([\w/]+)`", line.split("|")[2])}
    assert named == {f"{room}/" for room in rooms} | loose


@cache
def files() -> dict[str, list[str]]:
    """Name -> paths of the files of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    listed = listed if listed != [""] else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if ".venv" not in p.parts]
    found: dict[str, list[str]] = {}
    for path in listed:
        found.setdefault(Path(path).name, []).append(path)
    return found


@pytest.mark.parametrize("page", BY_NAME)
def test_every_path_and_file_that_is_named_exists(page: Path) -> None:
    for token in spans(page):
        if re.search(r"[<*{]|\.\.", token) or page.name == "configuration.md":
            continue
        for path in SHIPPED.findall(token) if not token.startswith(("make ", "radz ")) else ():
            assert (ROOT / path).exists() or path in EXAMPLES, f"{page.name}: {path}"
        for name in re.findall(r"(?<![\w/])(\w+\.py)\b", token):
            assert name in files() or name in EXAMPLES, f"{page.name}: {name}"
        if re.fullmatch(r"test_\w+", token):
            assert f"{token}.py" in files(), f"{page.name}: {token}"


EXAMPLES = {
    "experiments/mine.yaml", "experiments/mine_llava.yaml", "experiments/unlabelled.yaml",
    "experiments/demo_brightness.yaml", "src/radz/methods/brightness.py",
    "brightness.py", "experiments/ablations/temperature/temperature_020.yaml",
}  # fmt: skip
"""files that a reader is told to write"""


def test_pages_that_the_code_cites_have_the_section() -> None:
    cited = 0
    for file in [*ROOT.glob("src/**/*.py"), *ROOT.glob("data_modules/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        if file == Path(__file__):
            continue
        for folder, name, section in re.findall(r"(docs/)?(\b\w+\.md)\b(?: (\d(?:\.\d)?)\b)?", file.read_text()):
            if name in FOREIGN:
                continue
            page = ROOT / "docs" / name if folder else ROOT / name
            assert page.is_file(), f"{file}: {name}"
            titles = re.findall(r"^#+ (\d(?:\.\d)?) ", page.read_text(), re.M)
            assert not section or section in titles, f"{file}: {name} {section}"
            cited += 1
    assert cited > 20


FOREIGN = {"README.md", "SUMMARY.md"}
"""pages of other folders: the model card of an export, the page of a checkpoint"""


@pytest.mark.parametrize("page", BY_NAME)
def test_lines_are_short(page: Path) -> None:
    long = [line for line in page.read_text().split("\n") if len(line) > 120 and not line.startswith("|")]
    assert not long


# ---- Experiments and Python that a page shows ----------------------------------------------------------------------


def shown_experiments() -> Iterator[tuple[str, str]]:
    """(name, YAML) of every experiment that a page lets its reader save, and every part of one."""
    for page in PAGES:
        for number, (language, content, before) in enumerate(blocks(page)):
            if language == "yaml":
                saved = re.findall(r"`experiments/([\w/]+)\.yaml`", before)
                name = saved[-1] if "base:" in content else f"part/{page.stem}{number}"
                yield name, content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with all experiments that the pages show."""
    folder = tmp_path_factory.mktemp("docs")
    for name, content in shown_experiments():
        file = folder / "experiments" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        content = content.replace("base: ../../demo", "base: demo").replace("method: brightness", "method: cnn")
        file.write_text(content if "base:" in content else f"base: demo\n{content}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("name", [name for name, _ in shown_experiments()])
def test_every_experiment_resolves(name: str, place: Path) -> None:
    experiment = load(name)
    assert experiment.name == Path(name).name and experiment.data.corpora


@cache
def defined(module: str) -> set[str]:
    """The names that a module defines, read and not imported."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    if spec.origin is None:
        return set()  # a folder without `__init__.py`
    names: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).rpartition(".")[2])
    return names


@pytest.mark.parametrize("page", BY_NAME)
def test_python_is_python_and_what_it_imports_is_there(page: Path) -> None:
    for language, content, _ in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("radz", "data_modules")):
                for alias in node.names:
                    inside = alias.name in defined(node.module) or importlib.util.find_spec(
                        f"{node.module}.{alias.name}"
                    )
                    assert inside, f"{page.name}: {alias.name} of {node.module}"


# ---- Commands ------------------------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[str]:
    """Every `radz ..` and `make ..` of a page: lines of its blocks, and what its text says beyond the bare verb."""
    for language, content, _ in blocks(page):
        for line in content.split("\n") if language == "" else ():
            inside = re.findall(r"<\(([^)]*)\)", line) or [line]
            yield from (re.split(r"\s+#", one)[0].strip() for one in inside)
    yield from (span for span in spans(page) if span.startswith(("radz ", "make ")))


def known(verb: str) -> set[str]:
    """The keys that the help of a verb names."""
    return set(re.findall(r"\b(\w+)=", cli.VERBS[verb].keys if verb in cli.VERBS else ""))


def check(command: str) -> None:
    """AssertionError or InputError for a command that could not be given."""
    words = [re.sub(r"^[A-Z]+$|<name>|(?<==)[A-Z]+$", _chosen, word) for word in shlex.split(command)]
    start = next((n for n, word in enumerate(words) if word in ("radz", "make")), None)
    if start is None or any("=" not in word for word in words[:start] if word != "srun"):
        return  # another tool's
    tool, first, *rest = words[start:]
    assert first in (cli.VERBS if tool == "radz" else targets()), first
    if rest and ".." not in words and "<family>" not in command:
        (check_make if tool == "make" else check_radz)([first, *rest])


def _chosen(match: re.Match[str]) -> str:
    return CHOICES.get(match[0], match[0])


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))


def check_make(arguments: list[str]) -> None:
    target, *settings = arguments
    assert target in targets(), target
    given = dict(word.split("=", 1) for word in settings)
    makefile = (ROOT / "Makefile").read_text()
    for name in given:
        assert f"$({name})" in makefile or f"$(or $({name})," in makefile or f"{name} ?=" in makefile, name
    keys = [*([f"with={given['WITH']}"] if "WITH" in given else []), *shlex.split(given.get("ARGS", ""))]
    if target in cli.VERBS and target != "compare":
        first = next((given[name] for name in ("EXP", "RUN", "SRC", "SWEEP", "SCORES") if name in given), None)
        check_radz([target, *([first] if first else []), *keys])
    elif target == "ablate":
        folder = ROOT / "experiments/ablations" / given["GROUP"]
        assert list(folder.glob("*.yaml")), folder
        assert all(seed.isdecimal() for seed in given.get("SEEDS", "0").split(","))
        load(given.get("BASE", "demo"), alike([key for key in keys if key != "--dry-run"]))
    elif target == "paper":
        assert (ROOT / f"experiments/paper/{given.get('PRESET', 'quick')}.yaml").is_file()
        named = dict(word.split("=", 1) for word in keys if word != "--dry-run")
        base = named.pop("base", "demo")
        roots = [name for name in named if name.startswith("root.")]
        assert all(name.removeprefix("root.") in {*LAYOUTS, "table"} for name in roots), roots
        load(base, alike([f"{key}={value}" for key, value in named.items() if key not in roots]))


def check_radz(arguments: list[str]) -> None:
    options, rest = cli.parser().parse_known_args(arguments)
    assert not [word for word in rest if word.startswith("-")], rest
    keys = [*options.keys, *rest]
    if options.verb == "evidence":
        read_settings(keys)
    elif options.verb == "view":
        view_settings.read_settings(keys)
    elif options.verb == "data":
        check_data(options.action, keys)
    elif options.verb in ("train", "anchors", "eval"):
        keys = [f"dkam.{key}" if key.startswith("write=") else key for key in keys]
        load(options.experiment, alike(keys))
    else:
        assert options.verb in FREE
        if options.verb == "sweep":
            assert (ROOT / f"experiments/sweeps/{options.sweep}.yaml").is_file()
        own = {key.partition("=")[0] for key in keys if options.verb != "compare" or "=" in key}
        assert own <= known(options.verb), own


def check_data(action: str, keys: list[str]) -> None:
    if action == "phantom":
        given = dict(key.split("=", 1) for key in keys)
        assert given.keys() <= known("data") and given["corpus"] in LAYOUTS
    elif action == "label":
        given = dict(key.split("=", 1) for key in keys)
        assert {"csv", "text", "out"} <= given.keys() <= known("data")
    elif action == "denoise":
        assert {key.partition("=")[0] for key in keys[1:]} <= known("data") and "=" not in keys[0]
    else:
        assert action in ("check", "cache")
        if keys:
            load(keys[0], alike([key for key in keys[1:] if not key.startswith("images=")]))


@pytest.mark.parametrize("page", BY_NAME)
def test_every_command_could_be_given(page: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(page):
        try:
            check(command)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page.name}: {command}: {error!r} {capsys.readouterr().err}") from error


def test_commands_are_found_in_the_pages() -> None:
    shown = {word for page in PAGES for command in commands(page) for word in command.split()[:2]}
    assert set(cli.VERBS) <= shown and {"radz", "make", "ablate", "paper", "docs", "test-full"} <= shown
