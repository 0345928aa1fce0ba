"""`DFAT.training_step` against docs/method.md computed anew: the loss of a batch and the gradient of every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipe_module import FINDINGS, REPORTS, compare, make, plain, studies, total

from data_modules.batch import StudyBatch
from radz.methods.dfat import DFAT
from radz.models.extra_loss import Given

Settings = dict[str, Any]
STEPS: list[Settings] = [
    {"alignment_weight": 0.2, "loss": "cross"},
    {"alignment_weight": 0.8, "loss": "global_local", "global_weight": 0.3, "head": "mlp"},
    {"alignment_weight": 0.8, "loss": "global", "positives": "diagonal", "backbone": {"train": "full"}},
    {"alignment_weight": 0.2, "loss": "cross", "positives": "same_labels", "learn_temperature": True},
    {"alignment_weight": 0.2, "dkam": {"category": "sigmoid"}, "head_order": "mean_then_head", "head": "mlp"},
    {"alignment_weight": 0.8, "dkam": {"category": "sigmoid"}, "learn_temperature": True, "local_pool": "rest"},
    {"alignment_weight": 0.8, "positives": "overlap", "loss": "global_local"},
    {"alignment_weight": 0.8, "alignment": "sigmoid", "loss": "cross", "learn_temperature": True},
    {"alignment_weight": 0.8, "alignment": "sigmoid", "positives": "overlap", "loss": "global", "gradient_cache": 3},
    {"alignment_weight": 0.2, "text_prompt": "What disease is described?", "gradient_cache": 3},
    {"alignment_weight": 0.2, "statements_weight": 0.7, "loss": "cross"},
    {"alignment_weight": 0.2, "local_weight": 0.6, "loss": "cross", "learn_temperature": True},
    {"alignment_weight": 0.2, "sentences_weight": 0.7, "loss": "cross", "sentences": 3},
    {"alignment_weight": 0.2, "sentences_weight": 0.7, "loss": "global_local", "gradient_cache": 3},
    {"alignment_weight": 0.2, "sentences_weight": 0.7, "sentences_by": "tokens", "learn_temperature": True},
    {"alignment_weight": 0.2, "local_weight": 0.6, "head": "mlp", "head_order": "mean_then_head", "gradient_cache": 3},
    {
        "alignment_weight": 0.8,
        "statements_weight": 0.4,
        "loss": "global_local",
        "global_weight": 0.3,
        "dkam": {"category": "sigmoid"},
        "gradient_cache": 3,
    },
    {
        "alignment_weight": 0.8,
        "lm_weight": 0.3,
        "backbone": {"depth": "full"},
        "head": "identity",
        "max_text_tokens": 11,
    },
]


SENTENCES = [
    "There is a small left pleural effusion with a meniscus. Possible nodule in the right apex. No edema.",
    "Normal chest radiograph.", "", "A pacemaker lies over the left chest wall. Nodule in the left lung. Severe edema.",
    "Normal chest radiograph.", "Severe edema. A mass in the left lower lobe.", "Mass in the right upper lobe. Edema.",
    "No pneumothorax is seen. Large nodule in the right apex.",
]  # fmt: skip


def drawn_of(module: DFAT, batch: StudyBatch) -> list[list[tuple[str, list[str], str]]]:
    """The sentences of the first step, (text, findings of the bank that it asserts, twin), of each study."""
    sentences: Any = module.extras["sentences"]
    given = Given(0, batch, batch.reports, ["chest_xray"] * len(batch))
    rows = [
        (one.text, [n for n in FINDINGS if n in one.findings], twin)
        for one, twin in zip(*sentences.draw(given), strict=True)
    ]
    assert sum(bool(row[2]) for row in rows) >= 4 and sum(bool(row[1]) for row in rows) >= 4
    return [rows[n : n + sentences.count] for n in range(0, len(rows), sentences.count)]


@pytest.mark.parametrize("case", STEPS, ids=lambda case: "-".join(f"{value}" for value in case.values()))
def test_loss_and_gradients_are_those_of_the_method(tiny_path: Path, case: Settings) -> None:
    module, batch = (
        make(tiny_path, temperature=0.1, **case),
        studies(told=SENTENCES if "sentences_weight" in case else REPORTS),
    )
    given = {key: case[key] for key in ("text_prompt", "head_order", "local_pool") if key in case}
    model = plain(tiny_path, module, longest=case.get("max_text_tokens", 256), **given)
    if "max_text_tokens" in case:
        lengths = [len(model.tokenizer(text, add_special_tokens=False).input_ids) for text in batch.reports]
        assert 0 < sum(length > case["max_text_tokens"] for length in lengths) < 7
    expected = total(
        model, batch, module.anchors, weight=case["alignment_weight"],
        tau=None if case.get("learn_temperature") else 0.1, kind=case.get("loss", "cross"),
        w=case.get("global_weight", 0.5), positives=case.get("positives", "same_text"),
        language=case.get("lm_weight", 0.0), located=case.get("local_weight", 0.0),
        stated=case.get("statements_weight", 0.0),
        statements=module.extras["statements"].draw("chest X-ray", 0) if "statements" in module.extras else ((), ()),
        sentenced=case.get("sentences_weight", 0.0), by=case.get("sentences_by", "trained"),
        drawn=drawn_of(module, batch) if "sentences" in module.extras else (),
    )  # fmt: skip
    compare(module, model, batch, expected)
