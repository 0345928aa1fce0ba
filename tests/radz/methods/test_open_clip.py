"""Folders of open_clip against open_clip itself; without the extra, the line that names it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_run import SMALL
from tiny_families import TEXTS

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.methods.clip_open_clip import OpenClipEncoder
from radz.methods.study_features import StudyFeatures
from radz.runs.train import train

MODEL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PIXELS = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def write(folder: Path, model: dict[str, Any], weights: bool = True) -> Path:
    folder.mkdir()
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "size": 64}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess}))
    if weights:
        import open_clip

        torch.manual_seed(0)
        made = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
        save_file({k: v.contiguous() for k, v in made.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def text_tower(folder: Path) -> dict[str, Any]:
    """A text tower of transformers in `folder`, as BiomedCLIP's, with a tokenizer of its own."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted(set(" ".join(TEXTS).lower().replace(".", "").split())),
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
    return {
        **MODEL,
        "text_cfg": {
            "hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 20,
        },
    }  # fmt: skip


@pytest.mark.skipif(find_spec("open_clip") is not None, reason="the extra openclip is installed")
def test_without_the_extra_one_line_names_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "clip", MODEL, weights=False)
    keys = [*SMALL, f"clip.path={folder}", "clip.train=false", f"run_dir={tmp_path / 'run'}", f"cache_dir={tmp_path}"]
    with pytest.raises(InputError, match=r"clip\.path: .* is a folder of open_clip.*pip install 'radz\[openclip\]'"):
        train(load_experiment("demo_clip", keys))


@pytest.mark.parametrize("kind", ["own text tower", "text tower of transformers"])
@torch.no_grad()
def test_features_equal_those_of_open_clip(tmp_path: Path, kind: str) -> None:
    """Images through open_clip's own transform, texts through its own tokenizer."""
    open_clip = pytest.importorskip("open_clip")
    model = MODEL if kind == "own text tower" else text_tower(tmp_path / "bert")
    folder = write(tmp_path / "clip", model)
    if kind != "own text tower":  # open_clip looks for the tokenizer beside the weights
        for file in (tmp_path / "bert").glob("*token*"):
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "vocab.txt").write_bytes((tmp_path / "bert/vocab.txt").read_bytes())
        (folder / "config.json").write_bytes((tmp_path / "bert/config.json").read_bytes())
    plain, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    plain = plain.eval()
    images = torch.stack([transform(Image.fromarray(one[0].numpy())) for one in PIXELS])
    texts = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    encoder = OpenClipEncoder(folder).eval()
    assert torch.allclose(encoder.images(PIXELS), plain.encode_image(images), atol=1e-5)
    assert torch.allclose(encoder.texts(list(TEXTS)), plain.encode_text(texts), atol=1e-5)
    assert encoder.width == 24 and encoder.context == 20 and encoder.image_size == 64
    assert encoder.temperature.item() == pytest.approx(1 / plain.logit_scale.exp().item())


def test_a_run_scores_and_one_trains_its_image_tower_alone(tmp_path: Path, cache_dir: Path) -> None:
    pytest.importorskip("open_clip")
    folder = write(tmp_path / "clip", MODEL)
    keys = [*SMALL, f"clip.path={folder}", f"cache_dir={cache_dir}"]
    run = train(load_experiment("demo_clip", [*keys, "clip.train=false", f"run_dir={tmp_path / 'run'}"]))
    metrics = json.loads((run / "metrics.json").read_text())
    assert np.isfinite(metrics["results"]["phantom/test"]["scorers"]["clip"]["macro"]["auroc"]["value"])
    features = StudyFeatures(OpenClipEncoder(folder), "global")
    features.only_images()
    trained = {name for name, p in features.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("encoder.model.visual.") for name in trained)


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    with pytest.raises(InputError, match=r"no \*\.safetensors; pickled weights are not read"):
        OpenClipEncoder(write(tmp_path / "none", MODEL, weights=False))
    folder = write(tmp_path / "other", MODEL)
    write(tmp_path / "wide", {**MODEL, "embed_dim": 32})
    (folder / "open_clip_config.json").write_bytes((tmp_path / "wide/open_clip_config.json").read_bytes())
    with pytest.raises(InputError, match=r"open_clip cannot load it \(.*size mismatch") as raised:
        OpenClipEncoder(folder)
    assert "\n" not in str(raised.value)
