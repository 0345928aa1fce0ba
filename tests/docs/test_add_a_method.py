"""The method that docs/add_a_method.md shows, added and run as the page says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import ROOT, blocks
from small_run import SMALL

from radz.config import schema
from radz.config.files import load_experiment


@pytest.mark.slow
def test_the_method_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {language: content for language, content, _ in blocks(ROOT / "docs/add_a_method.md") if language}
    module = ModuleType("radz.methods.brightness")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(shown["python"], "brightness.py", "exec"), module.__dict__)
    monkeypatch.setattr(schema, "METHODS", (*schema.METHODS, "brightness"))
    file = tmp_path / "demo_brightness.yaml"
    file.write_text(shown["yaml"])
    from radz.runs.train import train

    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={tmp_path / 'cache'}"]
    folder = train(load_experiment(str(file), [*SMALL, *places]))
    results = json.loads((folder / "metrics.json").read_text())
    assert results["headline_scorer"] == "brightness" and (folder / "report.html").is_file()
