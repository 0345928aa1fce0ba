"""What a wheel holds: every package, and every file that code reads beside itself."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
FOLDERS = {"radz": ROOT / "src" / "radz", "data_modules": ROOT / "data_modules"}


def packages() -> dict[str, Path]:
    """Folders that hold code, by the name of the package."""
    found = {}
    for name, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = file.parent.relative_to(folder).parts
            found[".".join((name, *parts))] = file.parent
    return found


def test_every_package_is_listed() -> None:
    listed = set(SETUP["options"]["packages"].split())
    assert listed == {*packages(), "radz.experiments"}
    assert all((folder / "__init__.py").is_file() for folder in packages().values())


def test_every_file_beside_the_code_is_listed() -> None:
    patterns = {
        name: [one.strip() for one in value.split(",")] for name, value in SETUP["options.package_data"].items()
    }
    held = {
        file
        for name, folder in packages().items()
        for pattern in patterns.get(name, [])
        for file in folder.glob(pattern)
    }
    every = {
        file
        for folder in FOLDERS.values()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and ".egg-info" not in str(file)
    }
    assert {str(file.relative_to(ROOT)) for file in every - held} == set()


def test_every_experiment_is_listed() -> None:
    patterns = [one.strip() for one in SETUP["options.package_data"]["radz.experiments"].split(",")]
    folder = ROOT / "experiments"
    held = {file for pattern in patterns for file in folder.glob(pattern)}
    assert {file for file in folder.rglob("*.yaml")} == held
