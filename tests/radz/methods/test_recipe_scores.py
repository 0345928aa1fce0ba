"""Zero-shot scores of a trained module against docs/method.md 4 computed anew, with a learned temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipe import cosine
from recipe_module import DESCRIBED, FINDINGS, make, plain, studies
from torch import Tensor

NAMES = FINDINGS
PROMPTS, NEGATIVE = ["This is a {modality} showing {finding}.", "{Finding} is seen."], ["No {finding}."]


def profile(vector: Tensor, axes: list[Tensor]) -> Tensor:
    """Cosines [K] with the anchors."""
    return torch.stack([cosine(vector, axis) for axis in axes])


@pytest.mark.parametrize(
    ("form", "negative", "case"),
    [
        ("centred", NEGATIVE, {"loss": "cross"}),
        ("authors", [], {"loss": "cross"}),
        ("centred", [], {"loss": "global"}),
        ("authors", NEGATIVE, {"loss": "global_local", "global_weight": 0.3}),
    ],
)
def test_every_scorer_is_what_the_method_says(
    tiny_path: Path, form: str, negative: list[str], case: dict[str, Any]
) -> None:
    scoring = {"prompts": PROMPTS, "negative_prompts": negative, "fused": form}
    module = make(tiny_path, scoring=scoring, learn_temperature=True, temperature=0.05, **case).eval()
    module.log_scale.data.fill_(torch.tensor(1 / 0.3).log())  # moved from .05 to .3
    model, batch = plain(tiny_path, module), studies(rows=(0, 3, 5))
    model.merge()
    with torch.no_grad():
        module.begin()
        found = module.score(batch)
        images = [model.image(one) for one in batch.pixels.split(batch.image_counts.tolist())]
        classes = {
            name: [
                [model.text(p.format(finding=name, Finding=name.capitalize(), modality="chest X-ray")) for p in side]
                for side in (PROMPTS, negative)
            ]
            for name in NAMES
        }
        described = [model.text(text) for text in DESCRIBED]
        axes = [model.head("anchor", raw) for raw in module.anchors]

    def similar(image: tuple[Tensor, Tensor], text: tuple[Tensor, Tensor]) -> Tensor:
        """docs/method.md 4: the pairs that the loss trained."""
        if case["loss"] == "cross":
            return (cosine(image[0], text[1]) + cosine(image[1], text[0])) / 2
        w = case.get("global_weight", 1.0)
        return w * cosine(image[0], text[0]) + (1 - w) * cosine(image[1], text[1])

    def mean_less_mean(values: list[list[Tensor]]) -> Tensor:
        ours, others = (torch.stack(side).mean(0) if side else 0.0 for side in values)
        return ours - others

    span = 2.0 if negative else 1.0
    for row, image in enumerate(images):
        near, logits = profile(image[0], axes), []
        for column, name in enumerate(NAMES):
            prompt = mean_less_mean([[similar(image, text) for text in side] for side in classes[name]])
            expected = {
                "prompt": (prompt / span + 1) / 2,
                "description": (similar(image, described[column]) + 1) / 2,
                "anchor": (cosine(image[0], axes[column]) + 1) / 2,
            }
            far = mean_less_mean([[profile(text[0], axes) for text in side] for side in classes[name]])
            logits.append((near / 0.3) @ (far / 0.3))
            if form == "centred":
                expected["fused"] = (cosine(near - near.mean(), far - far.mean()) + 1) / 2
            for scorer, value in expected.items():
                assert found[scorer][row, column].item() == pytest.approx(value.item(), abs=2e-6), scorer
        if form == "authors":
            torch.testing.assert_close(found["fused"][row].double(), torch.stack(logits).softmax(0), atol=2e-6, rtol=0)


@pytest.mark.parametrize("loss", ["cross", "global_local"])
def test_an_image_token_is_compared_with_the_texts_that_the_loss_paired_it_with(tiny_path: Path, loss: str) -> None:
    """Local image features meet global text features under `cross` and local ones under `global_local`."""
    module = make(tiny_path, scoring={"prompts": PROMPTS}, loss=loss).eval()
    model, patches = plain(tiny_path, module), torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).double()
    model.merge()
    with torch.no_grad():
        module.begin()
        found = module.classifier.patch_scores(patches, "chest_xray", "prompt")
        for column, name in enumerate(NAMES):
            texts = [p.format(finding=name, Finding=name.capitalize(), modality="chest X-ray") for p in PROMPTS]
            sides = [model.text(text)[int(loss == "global_local")] for text in texts]
            for row, patch in enumerate(patches):
                expected = torch.stack([cosine(patch, side) for side in sides]).mean()
                assert found[row, column].item() == pytest.approx(expected.item(), abs=1e-6)
