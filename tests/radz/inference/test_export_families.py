"""Every backbone family, exported, gives the engine's features through plain transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from sections import base_encoder
from small_run import SMALL
from tiny_families import COUNTS, NAMES, token_types
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from radz import Radz
from radz.config.files import load_experiment, to_yaml
from radz.inference.export import export_run
from radz.methods import dkam
from radz.methods.dfat import DFAT
from radz.models import factory
from radz.models.anchor_bank import AnchorBank, BankInfo
from radz.models.labels import LabelView
from radz.training.checkpoint_io import write_checkpoint

WORDS = ["Small left pleural effusion.", "Normal.", "The heart is enlarged. No pneumothorax is seen."]
FINDINGS = ("no_finding", "edema", "mass")


def trained(base: Path, place: Path, *more: str) -> Path:
    """A run folder as training leaves it, with weights that have moved at random."""
    run = place / "run"
    keys = [
        f"backbone.path={base}", "backbone.train=lora", "backbone.lora_rank=4", "dfat.image_tokens=2",
        "dfat.text_tokens=3", "dkam.category=softmax", f"cache_dir={place / 'cache'}", *more,
    ]  # fmt: skip
    experiment = load_experiment("demo", [*SMALL, *keys])
    encoder, digest = base_encoder(experiment)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(len(FINDINGS), encoder.backbone.hidden_size, generator=generator)
    info = BankInfo("decoder", ("location",), "test", "", "", digest, "", 0)
    bank = AnchorBank(FINDINGS, ("a", "b", "c"), vectors, info)
    file = dkam.descriptions_file(experiment.dkam, run)
    view = LabelView((), (), torch.zeros(1, 0, 4), torch.zeros(1, 0, 4))
    texts = factory.class_texts(FINDINGS, file, experiment.data, experiment.dkam.aspects)
    settings = experiment.dfat, experiment.dkam, experiment.scoring
    module = DFAT(encoder, bank, view, texts, texts, vectors, *settings, ["chest_xray"])
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    checkpoint: dict[str, Any] = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    write_checkpoint(checkpoint, run / "checkpoints/best.ckpt")
    bank.save(run / "anchors")
    (run / "config.yaml").write_text(to_yaml(experiment))
    (run / "metrics.json").write_text(
        json.dumps({"headline_scorer": "anchor", "results": {"x/test": {"scorers": {"anchor": {}}}}})
    )
    return run


class Plain:
    """An export folder through transformers, peft and safetensors alone."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family, self.about = family, json.loads((folder / "radz.json").read_text())
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder / "backbone", dtype=torch.float32)
        if not self.about["backbone"]["merged"]:
            self.model = PeftModel.from_pretrained(self.model, str(folder / "adapter"))
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "backbone")
        self.square = AutoImageProcessor.from_pretrained(folder / "square")
        self.processor = AutoImageProcessor.from_pretrained(folder / "backbone")
        self.heads = load_file(folder / "heads.safetensors")

    @torch.no_grad()
    def feature(self, ids: list[int], kind: str, images: dict[str, Any]) -> NDArray[np.float32]:
        tokens = list(self.about["tokens"][kind].values())
        rows = torch.tensor([[*ids, *tokens]])
        if images:
            images = {**images, **token_types(self.family, rows == self.about["tokens"]["image_placeholder"])}
        out = self.model(input_ids=rows, output_hidden_states=True, use_cache=False, **images)
        states = out.hidden_states[self.about["feature_layer"]][0, -len(tokens) :]
        mean = (states @ self.heads[f"{kind}.weight"].T + self.heads[f"{kind}.bias"]).mean(0)
        return (mean / mean.norm()).numpy()

    def text(self, words: str) -> NDArray[np.float32]:
        bos = self.tokenizer.bos_token_id
        return self.feature(
            [*([] if bos is None else [bos]), *self.tokenizer(words, add_special_tokens=False).input_ids], "text", {}
        )

    def study(self, *paths: Path) -> NDArray[np.float32]:
        mark = self.tokenizer.convert_ids_to_tokens(self.about["tokens"]["image_placeholder"])
        part = self.about["image_part"]
        prompt = self.about["image_prompts"]["chest_xray"].replace(part, part * len(paths))
        prompt = prompt.replace(mark, mark * self.about["tokens"]["per_image"])
        squares = list(self.square(images=[Image.open(path) for path in paths], return_tensors="np")["pixel_values"])
        found = self.processor(images=squares, return_tensors="pt")
        images = {key: value for key, value in found.items() if key not in COUNTS}
        return self.feature(self.tokenizer(prompt).input_ids, "image", images)


# test_export.py has LLaVA on a trained run.
@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("llava", ["backbone.train=full", "backbone.train_tower=true"]),
        pytest.param("llava", ["backbone.train=frozen"], marks=pytest.mark.slow),
        ("qwen2_5_vl", []),
        *[pytest.param(name, [], marks=pytest.mark.slow) for name in NAMES if name not in ("llava", "qwen2_5_vl")],
    ],
)
def test_the_export_of_a_family_is_a_plain_folder(
    family: str, keys: list[str], family_folders: dict[str, Path], tmp_path: Path
) -> None:
    run = trained(family_folders[family], tmp_path, *keys)
    engine = Radz.from_pretrained(run)
    shade = np.random.default_rng(0)
    pictures = []
    for name, shape in (("tall", (97, 50)), ("wide", (51, 90)), ("square", (64, 64))):
        pictures.append(tmp_path / f"{name}.png")
        rows, columns = np.mgrid[: shape[0], : shape[1]] / 40
        level = 120 + 60 * np.sin(3 * rows + columns) + shade.normal(0, 5, shape)
        Image.fromarray(level.clip(0, 255).astype(np.uint8)).save(pictures[-1])
    texts, images = engine.embed_texts(WORDS), engine.embed_images(pictures)
    assert np.ptp(texts, axis=0).max() > 1e-2 and np.ptp(images, axis=0).max() > 1e-2
    for merge in (True, False):
        out = export_run(str(run), str(tmp_path / f"out{merge}"), merge)
        plain, again = Plain(family, out), Radz.from_pretrained(out)
        assert np.abs(np.stack([plain.text(words) for words in WORDS]) - texts).max() < 1e-4
        found = np.stack([plain.study(path) for path in pictures])
        # LLaVA-NeXT's own tiles differ from the engine's by a level of 255 at most (test_backbone_families).
        assert (found * images).sum(1).min() > 0.9999 if family == "llava_next" else np.abs(found - images).max() < 1e-4
        together = engine.embed_studies([engine.study(pictures[1:])], ["chest_xray"])[0]
        assert together @ plain.study(*pictures[1:]) > 0.9999 > together @ images[1]
        # A merged matrix is rounded to float32 once more than matrix and adapter apart, which are the very same.
        most = 2e-5 if merge else 5e-6  # some processors round a product by where its numbers lie in memory
        assert np.abs(again.embed_texts(WORDS) - texts).max() < most
        assert np.abs(again.embed_images(pictures) - images).max() < most
        scores = [one.score(pictures, ["edema", "fracture"], "anchor") for one in (engine, again)]
        assert np.abs(scores[0] - scores[1]).to_numpy().max() < 1e-5
    card = (out / "README.md").read_text()
    assert NAMES[family] in card and ('from_pretrained("square")' in card) == (family != "llava")
