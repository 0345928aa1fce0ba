"""Faults put into a copy of radz, one at a time, to see whether the tests notice: `make mutants`.

    python tests/mutants/run.py [only=TEXT] [sample=N] [seed=S] [jobs=J] [check=false] [out=FILE.csv]

`mutants.yaml` lists them. A copy of the tree gets one fault and runs the tests that are named for it; a failing test
kills the mutant. Every run is a fork of one process that holds torch and the like, but nothing of radz, so that it
begins within a second. The tests must pass without a fault first, which `check=false` takes for granted.
"""

from __future__ import annotations

import compileall
import contextlib
import csv
import gc
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

import yaml

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mutants.yaml")
COPIED = ("src", "data_modules", "experiments", "benchmarks", "tests", "docs")
HEAVY = (
    "torch", "lightning.pytorch", "transformers.models.llava.modeling_llava", "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama", "peft", "torchmetrics.functional.classification", "sklearn.metrics",
    "sklearn.linear_model", "scipy.stats", "pandas", "pydicom", "nibabel", "PIL.Image", "imagecodecs", "omegaconf",
    "hypothesis", "pytest",
)  # fmt: skip
LONGEST = 600
"""seconds after which a run is ended; a fault that hangs is noticed"""


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `tests` (stems of test files) should fail; `why` it may survive."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str = ""


def mutants() -> list[Mutant]:
    """The list, in its order; a row is [old, new] or [old, new, tests] or [old, new, tests, why]."""
    found = []
    for file, block in yaml.safe_load(LIST.read_text(encoding="utf-8")).items():
        for old, new, *rest in block["mutants"]:
            tests = (rest[0] if rest and rest[0] else block["tests"]).split()
            found.append(Mutant(file, old, new, tuple(tests), rest[1] if len(rest) > 1 else ""))
    return found


def stale(all_of: Sequence[Mutant]) -> list[str]:
    """What the list says and the tree does not: old text that is not there exactly once, tests that are not there."""
    known = {path.stem for path in ROOT.glob("tests/*/**/test_*.py")}
    found = []
    for one in all_of:
        path = ROOT / one.file
        count = path.read_text(encoding="utf-8").count(one.old) if path.is_file() else 0
        if count != 1 or one.old == one.new:
            found.append(f"{one.file}: {one.old!r} stands there {count} times, not once")
        found += [f"{one.file}: {one.old!r}: no tests/**/test_{t}.py" for t in one.tests if f"test_{t}" not in known]
    return found


def copy_tree(folder: Path) -> Path:
    """The tree in `folder`, compiled so that a changed file is compiled anew whenever its content differs."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, folder)
    for name in ("src", "data_modules"):
        compileall.compile_dir(folder / name, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return folder


def begin(tree: Path, tests: Sequence[str]) -> int:
    """Start a fork that runs test files of `tree`; its process id, which is its group's too."""
    files = [str(next(tree.glob(f"tests/*/**/test_{name}.py"))) for name in tests]
    if child := os.fork():
        return child
    code = 70
    try:
        os.setsid()
        log = os.open(tree / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(tree)
        paths = [str(tree / "src"), str(tree)]
        sys.path[:] = [*paths, *(path for path in sys.path if path not in (str(ROOT), str(ROOT / "src")))]
        os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # looking for plugins reads the file lists of all packages
        sys.dont_write_bytecode = True
        import pytest

        base = tree / "basetemp"
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={base}"]
        code = int(pytest.main([*options, *files]))
        sys.stdout.flush()
        for name in ("radz", "data_modules"):
            module = sys.modules.get(name)
            if module is not None and not str(module.__file__).startswith(str(tree)):
                code = 70
    finally:
        os._exit(code)


def outcomes(
    jobs: Sequence[tuple[Mutant | None, Sequence[str]]], trees: Sequence[Path]
) -> Iterator[tuple[int, int, str]]:
    """Run each job, with its fault put in, on the first free tree: its number, exit status or -1 for time, by what."""
    free, running, waiting = list(trees), {}, list(enumerate(jobs))[::-1]
    try:
        while waiting or running:
            while waiting and free:
                number, (fault, tests) = waiting.pop()
                tree = free.pop()
                path = tree / fault.file if fault else None
                whole = path.read_text(encoding="utf-8") if path else ""
                if fault and path:
                    path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
                running[begin(tree, tests)] = number, tree, path, whole, time.monotonic() + LONGEST
            time.sleep(0.05)
            for child, (number, tree, path, whole, end) in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() < end:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                if not done:
                    os.waitpid(child, 0)
                del running[child]
                if path:
                    path.write_text(whole, encoding="utf-8")
                free.append(tree)
                yield number, os.waitstatus_to_exitcode(status) if done else -1, noticed_by(tree)
    finally:
        for child in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)


def noticed_by(tree: Path) -> str:
    """The test that failed, from the log of a run."""
    lines = (tree / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.split(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))), "")


def survivors(chosen: Sequence[Mutant], jobs: int = 1, check: bool = True, out: Path | None = None) -> list[Mutant]:
    """Run mutants, print a line for each, and return those that no test noticed.

    Raises:
        RuntimeError: the list is stale, or its tests fail without a fault.
    """
    if old := stale(chosen):
        raise RuntimeError("the list of mutants is stale:\n" + "\n".join(old))
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage several times, which would look at every object of torch each time
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        trees = [copy_tree(Path(temporary) / f"copy{job}") for job in range(jobs)]
        if check:
            files = [(None, [name]) for name in sorted({name for one in chosen for name in one.tests})]
            for number, status, by in outcomes(files, trees):
                if status:
                    raise RuntimeError(f"test_{files[number][1][0]}.py fails without any fault ({status}): {by}")
        alive = []
        with (out or Path(os.devnull)).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["state", "file", "old", "new", "tests", "by", "why"])
            for count, (number, status, by) in enumerate(outcomes([(one, one.tests) for one in chosen], trees), 1):
                one = chosen[number]
                if status not in (-1, 0, 1, 2):
                    raise RuntimeError(f"{one.file}: {one.old!r}: tests ended with {status}")
                state = {0: "survived", -1: "killed (time)"}.get(status, "killed")
                alive += [one] if status == 0 else []
                table.writerow([state, one.file, one.old, one.new, " ".join(one.tests), by, one.why])
                file.flush()
                print(f"{count:4} {state:13} {one.file}: {one.old!r} -> {one.new!r}", flush=True)
    return alive


def main(arguments: Sequence[str]) -> int:
    """The command line; 1 where a mutant survives that the list does not explain."""
    given = dict(item.partition("=")[::2] for item in arguments)
    if unknown := set(given) - {"only", "sample", "seed", "jobs", "check", "out"}:
        print(f"{sorted(unknown)[0]}: unknown; known are only, sample, seed, jobs, check and out", file=sys.stderr)
        return 2
    chosen = [one for one in mutants() if given.get("only", "") in f"{one.file}: {one.old}"]
    if "sample" in given:
        chosen = random.Random(int(given.get("seed", 0))).sample(chosen, min(int(given["sample"]), len(chosen)))
    started = time.monotonic()
    try:
        out = Path(given["out"]) if "out" in given else None
        alive = survivors(chosen, int(given.get("jobs", 1)), given.get("check") != "false", out)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    killed = len(chosen) - len(alive)
    print(f"{killed} of {len(chosen)} killed ({killed / max(1, len(chosen)):.1%}), {time.monotonic() - started:.0f} s")
    for one in alive:
        print(f"survived: {one.file}: {one.old!r} -> {one.new!r}: {one.why or 'UNEXPLAINED'}")
    return int(any(not one.why for one in alive))


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.exit(main(sys.argv[1:]))
