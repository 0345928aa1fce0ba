"""The language model's loss on the training texts: that of plain transformers, in a step, with gradient caching."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_gradient_cache import REPORTS, apart, compare, gradients, make, studies
from tiny_families import FIRST, TEXTS

from data_modules.errors import InputError
from radz.config.files import load_experiment

FULL = {"depth": "full"}


@pytest.mark.parametrize("family", FIRST)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_it_is_the_loss_of_transformers(make_family, family: str, padding: str) -> None:
    """Of texts of several lengths, one of them twice, an empty one, against one text after the other."""
    encoder = make_family(family, depth="full", padding=padding).eval()
    tokenizer, expected, tokens = encoder.backbone.tokenizer, 0.0, 0
    texts = [TEXTS[0], "", TEXTS[1], TEXTS[0], TEXTS[2]]
    with torch.no_grad():
        found, count = encoder.language_loss(texts)
        for text in filter(None, texts):
            start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
            row = [*start, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            ids = torch.tensor([row])
            out = encoder.backbone.core(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
            expected, tokens = expected + out.loss.item() * (len(row) - 1), tokens + len(row) - 1
    assert count == tokens and found.item() == pytest.approx(expected, rel=1e-4)


def test_it_is_added_with_its_weight_and_trains_the_decoder(tiny_path: Path) -> None:
    plain, with_it = (make(tiny_path, backbone=FULL, lm_weight=weight) for weight in (0.0, 0.4))
    (value, first), (other, second) = gradients(plain, studies()), gradients(with_it, studies())
    loss, tokens = with_it.encoder.language_loss(REPORTS)
    assert other == pytest.approx(value + 0.4 * (loss / tokens).item(), rel=1e-5)
    assert (
        with_it.parts["language"].item() == pytest.approx((loss / tokens).item(), rel=1e-5)
        and apart(second, first) > 1e-3
    )


def test_a_cut_text_has_no_end(make_encoder) -> None:
    """`<s>The heart is enlar</s>` would teach to stop in mid-word; its beginning is foretold, and no end."""
    whole, cut = (make_encoder({"max_text_tokens": most}, depth="full").eval() for most in (200, 6))
    tokenizer = whole.backbone.tokenizer
    ids = [tokenizer.bos_token_id, *tokenizer(TEXTS[1], add_special_tokens=False).input_ids]
    with torch.no_grad():
        (_, every), (found, count) = whole.language_loss([TEXTS[1]]), cut.language_loss([TEXTS[1]])
        given = torch.tensor([ids[:7]])
        expected = whole.backbone.core(input_ids=given, attention_mask=torch.ones_like(given), labels=given).loss * 6
    assert every == len(ids) and count == 6 and found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_texts_alone_are_no_loss(make_encoder) -> None:
    loss, tokens = make_encoder(depth="full").language_loss(["", ""])
    assert loss.item() == 0 and tokens == 0


@pytest.mark.parametrize("recompute", ["elementwise", "none"])
def test_gradient_caching_keeps_its_gradient(tiny_path: Path, recompute: str) -> None:
    compare(tiny_path, backbone={**FULL, "recompute": recompute}, lm_weight=0.4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dfat.lm_weight=-1"], r"dfat\.lm_weight"),
        (["dfat.lm_weight=0.1"], r"backbone\.depth: feature conflicts with dfat\.lm_weight"),
        (
            ["dfat.lm_weight=0.1", "backbone.depth=full", "backbone.train=full", "trainer.strategy=fsdp"],
            r"dfat\.lm_weight: conflicts",
        ),
    ],
)
def test_the_key_is_checked(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        load_experiment("demo", overrides)
