"""The command line against the contract: verbs, options, exit codes, and one line for every fault of the user."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_run import SMALL

from radz import __version__
from radz.cli import command_line
from radz.cli.command_line import main

ROOT = Path(__file__).parents[3]
OPTIONS = {"-h", "--help"}
VERBS = {
    "train": (["experiment", "keys"], OPTIONS | {"--print-config", "--dry-run"}),
    "anchors": (["experiment", "keys"], OPTIONS | {"--print-config"}),
    "eval": (["experiment", "keys"], OPTIONS | {"--print-config"}),
    "predict": (["run", "keys"], OPTIONS),
    "data": (["action", "keys"], OPTIONS),
    "export": (["run", "keys"], OPTIONS),
    "import": (["src", "keys"], OPTIONS),
    "assemble": (["keys"], OPTIONS),
    "sweep": (["sweep", "keys"], OPTIONS),
    "bench": (["keys"], OPTIONS),
    "report": (["run", "keys"], OPTIONS),
    "evidence": (["run", "keys"], OPTIONS),
    "rerun": (["run", "keys"], OPTIONS),
    "compare": (["run", "keys"], OPTIONS),
    "score": (["scores", "keys"], OPTIONS),
    "view": (["run", "keys"], OPTIONS),
}
"""The surface that users rely on; a flag or a verb more has to be written here."""
CONTRACT = {
    "train", "anchors", "eval", "predict", "data", "export", "import", "report", "compare", "rerun", "sweep", "bench",
    "evidence", "assemble", "score", "view",
}  # fmt: skip
TARGETS = {"setup", "test", "test-full", "lint", "paper", "ablate", "wheelhouse", "mutants", "docs", "help", "backbone"}


# ---- The surface ---------------------------------------------------------------------------------------------------


def subparsers() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in command_line.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_verbs_positionals_and_options_are_those_of_the_contract() -> None:
    found = {
        name: (
            [a.dest for a in one._actions if not a.option_strings],
            {option for a in one._actions for option in a.option_strings},
        )
        for name, one in subparsers().items()
    }
    assert found == VERBS and set(VERBS) <= CONTRACT
    top = {option for action in command_line.parser()._actions for option in action.option_strings}
    assert top == OPTIONS | {"--version"}


def test_make_targets_map_to_verbs() -> None:
    text = (ROOT / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z-]+):.*##", text, re.M))
    assert documented <= set(VERBS) | TARGETS and set(VERBS) <= documented
    for verb in VERBS:
        assert f"$(BIN)/radz {verb} " in text


def test_help_names_every_verb_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^\s+{verb}\s+\w", shown, re.M) for verb in VERBS) and "Exit codes: 0 done, 2" in shown
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert "key=value" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"radz {__version__}"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from radz.cli import main; assert main(sys.argv[1:]) == 0; "
        "heavy = {'torch', 'numpy', 'pandas', 'lightning', 'transformers', 'omegaconf', 'yaml', 'pydicom'}; "
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "usage: radz" in done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train"], ["train", "demo", "--fast"]])
def test_a_wrong_command_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: radz" in capsys.readouterr().err


def test_python_m_radz_returns_the_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "radz", "train", "demmo"], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "radz: experiment 'demmo': no such file or name; nearest is 'demo'\n"


def test_print_config_is_the_resolved_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("train", "anchors", "eval"):
        assert main([verb, "demo", "seed=5", "--print-config"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown["seed"] == 5 and shown["name"] == "demo"
        assert shown["backbone"]["tiny"]["image_size"] == shown["data"]["image_size"]
    assert main(["anchors", "demo", "write=true", "backbone.depth=full", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["dkam"]["write"] is True


def test_dry_run_prints_counts_and_trains_nothing(
    tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", "demo", "--dry-run", *SMALL, f"run_dir={run}", f"cache_dir={cache_dir}"]) == 0
    shown = capsys.readouterr().out
    assert "'studies': 24" in shown and "steps per epoch: 3" in shown and str(run) in shown
    assert re.search(r"total\s+[\d,]+ trainable of\s+[\d,]+", shown) and "pleural_effusion (label)" in shown
    assert "mass (none)" in shown and "anchors: 12" in shown
    flops = float(re.search(r"FLOPs per pair: (\S+) \(", shown)[1])  # type: ignore[index]
    assert 1e7 < flops < 1e10 and re.search(r"peak memory: about \d+\.\d GB", shown)
    assert re.search(r"hours of training: about 0\.\d+, 3 steps of \S+ s on this machine", shown)
    assert not run.exists()


def test_a_fast_run_tries_every_part_and_keeps_nothing(
    tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = [*SMALL, f"run_dir={run}", f"cache_dir={cache_dir}", "trainer.fast_dev_run=true"]
    assert main(["train", "demo", *arguments]) == 0
    shown = capsys.readouterr()
    assert "one batch of training, validation and test went through" in shown.err and shown.out == "nothing kept\n"
    assert not run.exists() and not list(Path().glob("lightning_logs"))


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [(KeyboardInterrupt(), 3, "radz: stopped"), (type("Stopped", (Exception,), {})("resumable"), 3, "radz: resumable")],
)
def test_a_signal_ends_with_three(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_: Any) -> None:
        raise error

    monkeypatch.setitem(command_line.VERBS, "report", command_line.Verb(("RUN",), "x", stop))
    assert main(["report", "x"]) == code
    assert capsys.readouterr().err.startswith(text)


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setitem(command_line.VERBS, "report", command_line.Verb(("RUN",), "x", fail))
    with pytest.raises(RuntimeError, match="ours"):  # Python itself then exits with 1
        main(["report", "x"])


# ---- Faults of the experiment, before anything is built ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "demoo"], ["demoo", "nearest is 'demo'"]),
        (["train", "demo", "dfat.los=cross"], ["dfat.los", "command line", "nearest is 'loss'"]),
        (
            ["train", "demo", "data.corpora.0.phantom.sed=1"],
            ["phantom.sed", "nearest is 'seed'"],
        ),
        (["train", "demo", "seed=abc"], ["seed", "abc", "command line"]),
        (["train", "demo", "dfat.loss=triplet"], ["dfat.loss", "triplet", "cross", "command line"]),
        (["train", "demo", "trainer.max_steps=5", "trainer.max_epochs=1"], ["trainer.max_steps", "trainer.max_epochs"]),
        (["train", "demo", "seed"], ["seed", "key=value"]),
        (["train", "demo", "dkam.write=true"], ["backbone.depth", "dkam.write"]),
        (["eval", "demo"], ["run", "missing"]),
        (["eval", "demo", "run=nowhere"], ["nowhere", "no such folder"]),
        (["report", "nowhere"], ["nowhere", "no such folder"]),
        (["report", "nowhere", "seed=1"], ["seed=1", "unknown"]),
        (["predict", "nowhere", "input=."], ["out", "missing"]),
        (["predict", "nowhere", "input=.", "out=x.csv", "finding=[a]"], ["finding=[a]", "findings"]),
        (["predict", "nowhere", "input=nofolder", "out=x.csv"], ["nofolder", "no such folder"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in VERBS else "",
)
@pytest.mark.fault(17)
def test_faults_of_the_experiment(arguments: list[str], words: list[str], fails: Callable[..., str]) -> None:
    line = fails(*arguments, alone=True)
    assert [word for word in words if word not in line] == []


def test_a_full_standard_output_is_named(tmp_path: Path) -> None:
    """Whether Python notices as it writes or at the end."""
    (tmp_path / "reports.csv").write_text("id,report\n" + "1,Small left effusion. No edema.\n" * 9)
    keys = [f"csv={tmp_path / 'reports.csv'}", "text=report", f"out={tmp_path / 'labels.csv'}"]
    for unbuffered in ("", "1"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "radz", "data", "label", *keys], stdout=full, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("radz: standard output: cannot be written (No space left")
