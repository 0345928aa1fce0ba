"""CLIP and SigLIP folders against plain transformers, and a small CLIP trained from scratch."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_run import BARE
from study_batch import study_batch
from tiny_families import SHAPE, TEXTS
from transformers import AutoTokenizer, CLIPModel, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.config.clip import TinyClipConfig
from radz.config.files import load_experiment
from radz.config.schema import ClipConfig, DfatConfig
from radz.config.scoring import ScoringConfig
from radz.methods.clip import SCORER, Clip
from radz.methods.clip_huggingface import ClipEncoder, _tokenizer, write_tiny_clip
from radz.methods.dual_encoder import TwoTowers
from radz.models.labels import LabelView
from radz.models.prompts import Wording
from radz.models.zero_shot import ClassTexts
from radz.runs.evaluate import evaluate_run
from radz.runs.train import train

TINY = TinyClipConfig(vision_width=32, width=32, layers=2, projection=24, vocabulary=400, context=40)
PIXELS = torch.randint(0, 256, (6, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
WORDS = ["Small left effusion.", "The heart is enlarged, no pneumothorax is seen.", "Normal.", " ".join(TEXTS)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny folder of each kind; the SigLIP has a last position that is padding."""
    clip, siglip = (tmp_path_factory.mktemp(name) for name in ("clip", "siglip"))
    write_tiny_clip(clip, TINY, SHAPE["image_size"], TEXTS * 20)
    tokenizer = _tokenizer(TINY, TEXTS * 20)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**shape, "vocab_size": len(tokenizer), "max_position_embeddings": 40, "projection_size": 32},
        vision_config={**shape, "image_size": 64, "patch_size": 16},
    )
    torch.manual_seed(0)
    SiglipModel(config).save_pretrained(siglip)
    tokenizer.save_pretrained(siglip)
    SiglipImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(siglip)
    return {"clip": clip, "siglip": siglip}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_cosines_equal_the_logits_of_the_plain_model(folders: dict[str, Path], kind: str) -> None:
    """Pixels through the folder's own processor, texts of several lengths, the last one cut to the context."""
    folder = folders[kind]
    model, processor = (CLIPModel, CLIPImageProcessorPil) if kind == "clip" else (SiglipModel, SiglipImageProcessorPil)
    plain = model.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = True if kind == "clip" else "max_length"
    words = tokenizer(WORDS, padding=padding, truncation=True, max_length=40, return_tensors="pt")
    assert words.input_ids.shape[1] == 40
    masks = {"attention_mask": words.attention_mask} if kind == "clip" else {}
    pixels = processor.from_pretrained(folder)(
        [image.expand(3, -1, -1).numpy() for image in PIXELS], return_tensors="pt"
    )
    out = plain(input_ids=words.input_ids, pixel_values=pixels["pixel_values"], **masks)
    encoder = ClipEncoder(folder).eval()
    image = torch.nn.functional.normalize(encoder.images(PIXELS), dim=-1)
    text = torch.nn.functional.normalize(encoder.texts(WORDS), dim=-1)
    found = image @ text.T * plain.logit_scale.exp() + (plain.logit_bias if kind == "siglip" else 0)
    assert torch.allclose(found, out.logits_per_image, atol=1e-4)
    assert image.shape[1] == encoder.width
    # One text alone is the same as in a batch of longer ones.
    assert torch.allclose(encoder.texts(WORDS[:1]), encoder.texts(WORDS)[:1], atol=1e-5)


@torch.no_grad()
def test_the_tiny_one_tells_images_apart_from_the_start(tmp_path: Path) -> None:
    """A class token that sees no patch would make all images alike, and nothing could be learned from pairs."""
    write_tiny_clip(tmp_path, TinyClipConfig(), 128, TEXTS * 20)
    rows = torch.arange(128.0)[:, None] + torch.zeros(128)
    images = torch.stack([rows, rows.T, 127 - rows, (rows - 64).abs() * 2])[:, None].to(torch.uint8)
    unit = torch.nn.functional.normalize(ClipEncoder(tmp_path).images(images), dim=-1)
    apart = (unit @ unit.T)[~torch.eye(4, dtype=torch.bool)]
    assert apart.max() < 0.995


def module(folder: Path, aggregate: str = "joint", train: bool = False, **scoring: Any) -> Clip:
    policy = torch.tensor([[[0, 1, torch.nan, 0]] * 2])
    labels = LabelView(("nodule", "edema"), ("nodule", "edema"), policy, policy)
    texts = ClassTexts(("nodule", "edema"), ("nodule", "edema"), ("", ""))
    settings = ScoringConfig(aggregate=aggregate, **scoring)
    made = Clip(ClipEncoder(folder), ClipConfig(train=train), labels, texts, DfatConfig(), settings, ("chest_xray",))
    return made.eval()


def batch(counts: list[int]) -> StudyBatch:
    return study_batch(PIXELS, counts, WORDS[: len(counts)])


@torch.no_grad()
def test_scores_are_prompts_less_negative_prompts(folders: dict[str, Path]) -> None:
    prompts = {"prompts": ["A {modality} of {finding}.", "{Finding}."], "negative_prompts": ["No {finding}."]}
    made = module(folders["clip"], **prompts)
    made.begin()
    scores = made.score(batch([1, 3]))["clip"]

    def unit(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(x, dim=-1)

    images = unit(made.encoder.images(PIXELS[1:4])).mean(0)
    text = unit(made.encoder.texts(["A chest X-ray of edema.", "Edema.", "No edema."]))
    cosines = text @ unit(images)
    expected = (cosines[:2].mean() - cosines[2]) / 2
    assert scores[1, 1].item() == pytest.approx((expected.item() + 1) / 2, abs=1e-6)
    alone = module(folders["clip"], "max", **prompts)
    alone.begin()
    each = made.score(batch([1] * 4))["clip"]
    assert torch.allclose(alone.score(batch([1, 3]))["clip"][1], each[1:].amax(0), atol=1e-6)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_training_lowers_the_loss_of_its_pairs(folders: dict[str, Path], kind: str) -> None:
    """The first loss is the symmetric cross-entropy of the plain logits; all that trains has a gradient."""
    made = module(folders[kind], train=True)
    assert made.trains and made.strict_loading
    pairs = batch([1, 1, 1])
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = made.training_step(pairs, 0)
    image = torch.nn.functional.normalize(made.encoder.images(PIXELS[:3]), dim=-1)
    text = torch.nn.functional.normalize(made.encoder.texts(WORDS[:3]), dim=-1)
    logits = image @ text.T / made.encoder.temperature
    target = torch.arange(3)
    cross = torch.nn.functional.cross_entropy
    assert loss.item() == pytest.approx(((cross(logits, target) + cross(logits.T, target)) / 2).item(), abs=1e-5)
    loss.backward()
    without = {name for name, p in made.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(8):
        optimizer.zero_grad()
        made.training_step(pairs, 0).backward()
        optimizer.step()
    assert made.training_step(pairs, 0) < 0.7 * loss
    frozen = module(folders[kind])
    assert not frozen.trains and not any(p.requires_grad for p in frozen.parameters())


class Towers(TwoTowers):
    """A temperature and nothing else."""

    image_parts = ()

    def __init__(self, scale: float) -> None:
        model = torch.nn.Module()
        model.logit_scale = torch.nn.Parameter(torch.tensor([scale]))
        super().__init__(model, 64, 40, 24, [0.5] * 3, [0.5] * 3)

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def texts(self, texts: list[str]) -> torch.Tensor:
        return torch.zeros(len(texts), 24)


@pytest.mark.parametrize(("first", "least"), [(4.765, 0.0), (4.0, 0.0), (-0.5, -0.5)])
def test_learning_starts_at_the_temperature_of_the_folder(folders: dict[str, Path], first: float, least: float) -> None:
    """4.765 is that of SigLIP, beyond CLIP's limit of log 100: it has its gradient, and may fall, but not rise."""
    made = module(folders["clip"], train=True)
    made.encoder = Towers(first)
    scale, temperature = made.encoder.model.logit_scale, made.encoder.temperature
    temperature.backward()
    assert temperature.item() == pytest.approx(math.exp(-first)) == pytest.approx(-scale.grad.item())
    for moved, kept in ((first, first), (0.3, 0.3), (9.0, max(first, math.log(100))), (-9.0, least)):
        scale.data.fill_(moved)
        made.on_train_batch_end(None, batch([1]), 0)
        assert scale.item() == pytest.approx(kept)


def test_faults_of_a_folder_name_the_key(folders: dict[str, Path], tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clip\.path: .* model type llava in config.json is not one of clip, siglip"):
        ClipEncoder(tiny_path)
    with pytest.raises(InputError, match=r"clip\.path: .*no such folder"):
        ClipEncoder(tmp_path / "none")
    damaged = tmp_path / "damaged"
    shutil.copytree(folders["clip"], damaged)
    settings = json.loads((damaged / "preprocessor_config.json").read_text())
    (damaged / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": None}))
    with pytest.raises(InputError, match=r"clip\.path: .*image_mean"):
        ClipEncoder(damaged)
    with pytest.raises(InputError, match=r"data\.image_size: 96 conflicts with the CLIP's 64"):
        ClipEncoder(folders["clip"]).check_side(96)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["clip.train=false"], "clip.path: missing; name a CLIP"),
        (["clip.tiny.patch_size=24"], "clip.tiny.patch_size: 24 does not divide"),
        (["clip.tiny.heads=3"], "clip.tiny.vision_width: must be a multiple of 6"),
        (["clip.warmup=1"], "clip.warmup"),
    ],
)
def test_settings_that_cannot_be(keys: list[str], message: str, tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(InputError, match=message):
        train(load_experiment("demo_clip", [*BARE, *keys, f"cache_dir={cache_dir}", f"run_dir={tmp_path / 'run'}"]))


def test_a_folder_zero_shot_and_the_tiny_one_trained(folders: dict[str, Path], tmp_path: Path, cache_dir: Path) -> None:
    """Both as runs with retrieval; the trained one scores again from its checkpoint, and gets the same."""
    keys = [*BARE, f"cache_dir={cache_dir}"]
    own = [f"clip.path={folders['siglip']}", "clip.train=false", f"run_dir={tmp_path / 'zero'}"]
    zero = json.loads((train(load_experiment("demo_clip", [*keys, *own])) / "metrics.json").read_text())
    assert zero["headline_scorer"] == "clip"
    assert zero["results"]["phantom/test"]["retrieval"]["reports"] > 1
    assert (tmp_path / "zero/checkpoints/best.ckpt").stat().st_size < 200_000
    run = train(load_experiment("demo_clip", [*keys, "clip.tiny.vision_width=32", f"run_dir={tmp_path / 'run'}"]))
    environment = json.loads((run / "environment.json").read_text())
    assert [len(part) for part in environment["base_digest"].split("-")] == [12] * 3
    first = pd.read_csv(run / "predictions/phantom_test.csv")
    again = evaluate_run(load_experiment("demo_clip", [*keys, f"run={run}"]))
    second = pd.read_csv(again / "predictions/phantom_test.csv")
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=1e-6)
    assert {c.split("/")[0] for c in first if "/" in c} == {"label", "clip"}


@torch.no_grad()
def test_clip_is_scored_in_float32(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a step of bfloat16, 200 studies of nearly equal features keep 200 scores: those of their features."""
    made = module(folders["clip"])
    made.begin()
    generator = torch.Generator().manual_seed(0)
    base, prompts = torch.randn(64, generator=generator), torch.randn(2, 64, generator=generator)
    images = base + 0.02 * torch.randn(200, 64, generator=generator)
    made._prompts = {"chest_xray": prompts}
    monkeypatch.setattr(made.encoder, "images", lambda pixels: images)
    with torch.autocast("cpu", torch.bfloat16):
        found = made.score(batch([1] * 200))[SCORER]
    expected = torch.nn.functional.cosine_similarity(images[:, None].double(), prompts[None].double(), dim=-1)
    assert found.dtype == torch.float32 and len(found[:, 0].unique()) > 190
    assert torch.allclose(found.double(), (expected + 1) / 2, atol=1e-6)


@pytest.mark.parametrize("aggregate", ["joint", "mean", "max"])
@torch.no_grad()
def test_prompt_sets_and_wordings_read_what_was_scored(folders: dict[str, Path], aggregate: str) -> None:
    """A set has the order of a run with its sentences, whatever becomes of a study's images."""
    own = module(folders["clip"], aggregate, prompts=["{Finding}"], negative_prompts=["no {Finding}"])
    other = module(folders["clip"], aggregate)
    words = ("{Finding}",), ("no {Finding}",)
    other.wordings = {"set": Wording(*words, apart=False), "apart": Wording(*words)}
    for made in (own, other):
        made.begin()
    given = batch([1, 3, 2])
    wanted = own.score(given)["clip"]
    assert not torch.allclose(other.score(given)["clip"], wanted, atol=1e-4)
    found = other.agreement(given)
    assert torch.allclose((found["set"] / 2 + 1) / 2, wanted, atol=1e-6)
    said, denied = found["apart"].split(2, dim=1)
    if aggregate != "max":
        assert torch.allclose(said - denied, found["set"], atol=1e-6)
