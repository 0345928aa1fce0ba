"""`backbone.path` as a hub id: the cache of huggingface_hub, no network, neither code nor pickles."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import huggingface_hub
import pytest

from data_modules.errors import InputError
from radz.backbones import load_backbone
from radz.backbones.hub import HUB_ID, WANTED, resolve
from radz.config.schema import BackboneConfig

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("llava-hf/llava-1.5-7b-hf", ("llava-hf/llava-1.5-7b-hf", None)),
        ("org/name@v1.0", ("org/name", "v1.0")),
        ("org/name@refs/pr/3", ("org/name", "refs/pr/3")),
        ("/models/llava", None),
        ("./models/llava", None),
        ("../llava", None),
        ("~/llava", None),
        ("llava", None),
        ("a/b/c", None),
    ],
)
def test_what_looks_like_a_hub_id(path: str, parts: tuple[str, str | None] | None) -> None:
    match = HUB_ID.fullmatch(path)
    assert (match and (match["repo"], match["revision"])) == parts


def test_a_local_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    (tmp_path / "models/llava").mkdir(parents=True)
    assert resolve("models/llava") == Path("models/llava")
    assert resolve("/nowhere") == Path("/nowhere")


def test_neither_code_nor_pickles_are_wanted() -> None:
    files = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "chat_template.jinja",
             "tokenizer.model", "modeling_own.py", "pytorch_model.bin", "model.pt", "README.md"]  # fmt: skip
    kept = [file for file in files if any(fnmatch.fnmatch(file, pattern) for pattern in WANTED)]
    assert kept == files[:5]


def test_a_snapshot_in_the_cache_serves_offline(tiny_path: Path, tmp_path: Path) -> None:
    """In a process of its own, since huggingface_hub reads the environment when it is imported."""
    snapshot = shutil.copytree(tiny_path, tmp_path / f"home/hub/models--org--tiny/snapshots/{REVISION}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(REVISION)
    code = (
        "from radz.backbones.hub import resolve\n"
        f"print(resolve('org/tiny')); print(resolve('org/tiny@{REVISION}'))\n"
        "resolve('org/absent')"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(snapshot)] * 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        "InputError: backbone.path: org/absent: no such folder, and as a hub id it is not in the cache (HF_HOME) and "
        "cannot be fetched offline"
    )
    backbone = load_backbone(BackboneConfig(path="org/tiny", train="frozen"), snapshot, 2, 3)
    assert backbone.tokens_per_image(64) == 16


def refusing(kind: type[Exception]):
    def download(*_, **settings):
        assert settings["allow_patterns"] == WANTED and settings["revision"] == "v2"
        if issubclass(kind, huggingface_hub.errors.HfHubHTTPError):
            raise kind("refused", response=httpx.Response(403, request=httpx.Request("GET", "https://localhost")))
        raise kind("odd")

    return download


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (huggingface_hub.errors.GatedRepoError, "accounts with access only; accept its terms there and set HF_TOKEN"),
        (huggingface_hub.errors.RepositoryNotFoundError, r"refuses it as an id \(RepositoryNotFoundError\)"),
        (huggingface_hub.errors.HFValidationError, r"refuses it as an id \(HFValidationError\); check the name"),
    ],
)
def test_what_the_hub_refuses_is_one_line(kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refusing(kind))
    with pytest.raises(InputError, match=message) as fault:
        resolve("org/name@v2")
    assert "\n" not in str(fault.value) and "org/name@v2" in str(fault.value)
