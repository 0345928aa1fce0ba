"""Pooling and padding: features depend on the study alone."""

from __future__ import annotations

import pytest
import torch

PIXELS = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
TEXTS = [
    "Small left effusion.",
    "The heart is enlarged and there is no pneumothorax. Patchy opacity in the right lower zone, ill defined.",
    "Normal.",
    "Rounded opacity, 20 mm.",
    "Small left effusion.",
    "A pacemaker lies over the left chest wall. The lungs are clear.",
    "Patchy opacity.",
    "No pneumothorax is seen.",
]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", ["content", "rest"])
@pytest.mark.parametrize("order", ["head_then_mean", "mean_then_head"])
@pytest.mark.parametrize("head", ["identity", "linear", "mlp"])
def test_batch_of_one_equals_batch_of_eight_under_either_padding(
    make_encoder, pool: str, order: str, head: str
) -> None:
    settings = {"local_pool": pool, "head_order": order, "head": head, "text_groups": 1}
    counts = torch.tensor([1, 2, 1, 3, 1])  # studies of several images pad the image side too
    reference = None
    for padding in ("right", "left"):
        encoder = make_encoder(settings, train="frozen", padding=padding).eval()
        with torch.no_grad():
            texts, images = (
                encoder.encode_texts(TEXTS),
                encoder.encode_images(PIXELS, counts, ["chest_xray"] * len(counts)),
            )
            for i, text in enumerate(TEXTS):
                alone = encoder.encode_texts([text])
                assert close(alone.overall[0], texts.overall[i]) and close(alone.local[0], texts.local[i])
            start = 0
            for i, count in enumerate(counts.tolist()):
                alone = encoder.encode_images(PIXELS[start : start + count], counts[i : i + 1], ["chest_xray"])
                assert close(alone.overall[0], images.overall[i]) and close(alone.local[0], images.local[i])
                start += count
        if reference is not None:
            assert close(reference[0].overall, texts.overall) and close(reference[1].local, images.local)
        reference = (texts, images)


def test_groups_of_like_length_change_nothing(make_encoder) -> None:
    with torch.no_grad():
        one = make_encoder({"text_groups": 1}, train="frozen").eval().encode_texts(TEXTS)
        four = make_encoder({"text_groups": 4}, train="frozen").eval().encode_texts(TEXTS)
    assert close(one.overall, four.overall) and close(one.local, four.local)
    assert torch.equal(four.overall[0], four.overall[4])  # the same text


def test_local_is_the_mean_of_report_words(make_encoder) -> None:
    encoder = make_encoder({"head": "identity"}, train="frozen").eval()
    backbone = encoder.backbone
    ids = backbone.tokenizer(TEXTS[1], add_special_tokens=False).input_ids
    sequence = torch.tensor([[backbone.tokenizer.bos_token_id, *ids, *backbone.text_ids]])
    with torch.no_grad():
        states = backbone.decode(backbone.word_embeddings(sequence), torch.ones_like(sequence).bool())[0]
        found = encoder.encode_texts([TEXTS[1]])
    assert close(found.local[0], states[1 : 1 + len(ids)].mean(0))
    assert close(found.overall[0], states[1 + len(ids) :].mean(0))


@pytest.mark.parametrize(("limit", "kept"), [(4, (2, 2)), (5, (2, 3)), (1, (0, 1))])
def test_long_reports_keep_beginning_and_end(make_encoder, limit: int, kept: tuple[int, int]) -> None:
    encoder = make_encoder({"max_text_tokens": limit, "head": "identity"}, train="frozen").eval()
    words = encoder.backbone.tokenizer(TEXTS[1], add_special_tokens=False).input_ids
    (found,) = encoder._words([TEXTS[1]])
    assert len(words) > 5 and found == [*words[: kept[0]], *words[-kept[1] :]]
    assert encoder._words(["Normal."]) == encoder._tokens(["Normal."]) or limit == 1


def test_cut_texts_are_told_in_one_sentence(make_encoder, caplog: pytest.LogCaptureFixture) -> None:
    encoder = make_encoder({"max_text_tokens": 7}, train="frozen")
    lengths = [len(encoder.backbone.tokenizer(text, add_special_tokens=False).input_ids) for text in set(TEXTS)]
    found = encoder.cut(TEXTS)
    assert found == (7, sum(length > 7 for length in lengths), max(lengths), 7) and 0 < found.cut < 7
    found.tell("phantom, train: texts", "dfat.max_text_tokens")
    encoder.cut(["Normal."]).tell("phantom, test: texts", "dfat.max_text_tokens")
    assert [record.getMessage() for record in caplog.records] == [
        f"phantom, train: texts: {found.cut} of 7 are longer than dfat.max_text_tokens=7 tokens (the longest has "
        f"{max(lengths)}); they lose their middle, and keep beginning and end"
    ]


def test_anchor_encoders(make_encoder) -> None:
    encoder = make_encoder(train="frozen").eval()
    backbone = encoder.backbone
    with torch.no_grad():
        together = encoder.encode_descriptions(TEXTS, "embedding")
        ids = torch.tensor(backbone.tokenizer(TEXTS[3], add_special_tokens=False).input_ids)
        assert close(together[3], backbone.word_embeddings(ids).mean(0))
        raw = encoder.encode_descriptions(TEXTS, "decoder")
        assert close(raw[3], encoder.encode_descriptions([TEXTS[3]], "decoder")[0])
        assert raw.shape == (8, 32)


def test_positions_that_hold_the_power_are_reported(make_encoder) -> None:
    """The longest, and the longest hundredth: of 250 positions three, of ten one."""
    encoder = make_encoder({"head": "identity"}, train="frozen").eval()
    lengths = torch.ones(2, 251)
    lengths[0, [7, 90, 200]] = torch.tensor([30.0, 20.0, 10.0])
    lengths[1, [3, 4, 5]] = torch.tensor([2.0, 3.0, 4.0])
    local = torch.ones(2, 251, dtype=torch.bool)
    local[:, -1] = False
    local[1, 10:] = False
    states = lengths[..., None] * torch.tensor([0.6, 0.8])
    found = encoder._pool(states, ~local, local, torch.ones_like(local), torch.nn.Identity()).peak_share
    first, second = 247 + 1400, 7 + 29
    expected = [(900 / first + 16 / second) / 2, (1400 / first + 16 / second) / 2]
    assert found.tolist() == pytest.approx(expected)
