"""The backbone asked about doubtful labels, beside one study with the finding and one without."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from csv_rows import rows_of

from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.findings import UNMENTIONED
from radz.backbones import Backbone
from radz.config.vqa import VqaConfig
from radz.methods.trained import load_trained
from radz.methods.vqa_questions import Question
from radz.runs import exemplars, task
from radz.runs.denoise import BACKBONE, denoise, ranked
from radz.runs.exemplars import Asker, Exemplars

NAN = float("nan")


def table(corpus: list[int], people: list[int], split: str = "", modality: str = "") -> Any:
    n = len(corpus)
    return SimpleNamespace(
        people=np.array(people),
        corpus=np.array(corpus),
        split=np.array([{"v": "val"}.get(letter, "train") for letter in split or "t" * n], dtype=object),
        modality=np.array(
            [{"c": "chest_ct"}.get(letter, "chest_xray") for letter in modality or "x" * n], dtype=object
        ),
    )


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_exemplars_are_the_most_trusted_of_other_patients_and_of_training() -> None:
    labels, trust = column(1, 1, 1, 0, 0, 0, 1), column(0.9, 0.8, 0.7, 0.6, 0.7, 0.8, NAN)
    found = Exemplars(table([0] * 7, [0, 0, 1, 2, 3, 4, 5], "tttttvt"), np.arange(7), labels, trust)
    assert found.pair((0, 0)) == (2, 4)  # neither 0 nor 1, of its own patient, nor 5, of validation
    assert found.pair((6, 0)) == (0, 4) and found.pair((4, 0)) == (0, 3)
    assert found.references((6, 0)) == [(0, 0), (2, 0), (4, 0), (3, 0)]  # two of each, of three and two
    alone = Exemplars(table([0] * 3, [0, 0, 1]), np.arange(3), labels[1:4], trust[1:4])
    assert alone.pair((0, 0)) is None
    many = Exemplars(table([0] * 20, list(range(20))), np.arange(20), column(*[1, 0] * 10), column(*range(20)) / 20)
    assert [i for i, _ in many.references((0, 0))] == [18, 12, 6, 0, 19, 13, 7, 1]


def test_exemplars_are_of_the_corpus_else_of_the_modality() -> None:
    labels, trust = column(1, 0, 1, 0, 1, 0), column(0.5, 0.5, 0.6, 0.6, 0.9, 0.9)
    kinds = table([0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5], modality="xxxxcc")
    found = Exemplars(kinds, np.arange(6), labels, trust)
    assert found.pair((1, 0)) == (2, 3) and found.pair((5, 0)) is None
    # One patient of a kind is not enough: what is asked of that study itself could have no exemplar.
    assert Exemplars(kinds, np.arange(6), labels, column(0.5, NAN, 0.6, 0.6, 0.9, 0.9)).pair((1, 0)) is None
    more = table([0, 0, 1, 1, 0, 0], [0, 1, 2, 3, 4, 5], modality="xxxxxx")
    assert Exemplars(more, np.arange(6), labels, column(0.5, 0.5, 0.6, 0.6, 0.1, 0.1)).pair((1, 0)) == (0, 5)


def test_of_a_volume_the_middle_slice_is_shown() -> None:
    images = {0: torch.arange(5).view(5, 1, 1, 1), 7: torch.tensor([[[[10]], [[11]], [[12]]]])}
    data = SimpleNamespace(
        table=SimpleNamespace(image_offsets=np.array([0, 7, 9])),
        cache=SimpleNamespace(batch=lambda chosen: images[int(chosen[0])].numpy()),
    )
    asker: Any = SimpleNamespace(data=data, backbone=SimpleNamespace(device="cpu"))
    assert Asker._images(asker, [0, 1]).flatten(1).tolist() == [[2, 2, 2], [10, 11, 12]]


@pytest.fixture(scope="module")
def backbone(trained_run: Path) -> Backbone:
    return load_trained(trained_run, accelerator="cpu", depth="full")[1].encoder.backbone


@pytest.fixture
def data(trained_run: Path) -> StudyDataModule:
    found = task.data_module(load_trained(trained_run, accelerator="cpu")[0])
    found.prepare_data()
    return found


@torch.no_grad()
def plain_log_odds(backbone: Backbone, data: StudyDataModule, finding: str, rows: list[int]) -> float:
    """By the model of transformers, with its words written out; rows: with the finding, without it, the study."""
    odds, each = [], backbone.tokens_per_image(data.config.image_size)
    for first, second, order in (
        (f"shows {finding}", f"does not show {finding}", [0, 1, 2]),
        (f"does not show {finding}", f"shows {finding}", [1, 0, 2]),
    ):
        text = (
            f"The first chest X-ray {first}. The second chest X-ray {second}. "
            f"Does the third chest X-ray show {finding}? Answer yes or no."
        )
        pixels = torch.cat([torch.from_numpy(data.cache.batch([data.table.image_offsets[rows[i]]])) for i in order])
        chat, told = backbone.chat(text, 3), {}
        for answer in ("Yes", "No"):
            said = backbone.ids(f"{chat}{'' if chat[-1].isspace() else ' '}{answer}")
            ids = [one for token in said for one in [token] * (each if token == backbone.image_token else 1)]
            model = backbone.core(input_ids=torch.tensor([ids]), pixel_values=backbone.prepare(pixels))
            logits = model.logits[0].float()
            logits[:, backbone.image_ids + backbone.text_ids] = -torch.inf
            words = logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
            # What both answers have before them is taken out by the difference.
            told[answer] = words[len(ids) - 1 - ids[::-1].index(backbone.image_token) :].sum().item()
        odds.append(told["Yes"] - told["No"])
    return sum(odds) / 2


def test_log_odds_are_those_of_plain_transformers_less_that_of_the_references(
    backbone: Backbone, data: StudyDataModule
) -> None:
    rows = data.table.rows("train")
    k, other = data.findings.index("pleural_effusion"), data.findings.index("edema")
    data.table.findings = tuple("no_finding" if name == "edema" else name for name in data.findings)
    labels = data.table.states[rows].astype(float)
    trust = np.full(labels.shape, NAN)
    with_it, without = np.flatnonzero(labels[:, k] == 1)[:2], np.flatnonzero(labels[:, k] == 0)[:2]
    trust[[*with_it, *without], k] = [0.9, 0.8, 0.9, 0.8]
    trust[:, other] = 0.5  # it has exemplars, but is no sight that an exemplar could show
    place = (int(np.flatnonzero(labels[:, k] == 0)[3]), k)
    asker = Asker(backbone, data, VqaConfig(), 1, "cpu")
    found = asker.log_odds([(0, other), place, (1, k)], Exemplars(data.table, rows, labels, trust))

    def of(has: int, lacks: int, study: int) -> float:
        return plain_log_odds(backbone, data, "pleural effusion", [int(rows[i]) for i in (has, lacks, study)])

    (a, b), (c, d) = with_it, without
    references = [of(b, c, a), of(a, c, b), of(a, d, c), of(a, c, d)]
    assert list(found) == [place]
    raw = of(a, c, place[0])
    assert found[place] == pytest.approx(raw - np.mean(references), abs=1e-4)
    assert abs(np.mean(references)) > 1e-3 < np.ptp([raw, *references])


def test_an_answer_that_knows_the_truth_brings_a_flipped_label_to_the_top(
    backbone: Backbone, data: StudyDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = data.table.rows("train")
    k, rng = data.findings.index("edema"), np.random.default_rng(0)
    data.table.states[:] = UNMENTIONED  # of the other findings
    data.table.states[rows, k] = rng.permutation(np.arange(len(rows)) % 2)
    truth = data.table.states.copy()
    features = rng.normal(truth[rows][:, [k]], 0.1, (len(rows), 3)).astype(np.float32)
    flipped = rows[4]
    features[:2] = 1.2 - 1.4 * truth[rows[:2]][:, [k]]  # two whose features lie, and more than
    features[4] = 0.2 + 0.6 * truth[flipped, k]  # those of the flipped one speak against its label
    data.table.told = [""] * len(data.table)  # which would give it away
    data.table.states[flipped, k] = 1 - truth[flipped, k]
    given = data.table.states.copy()
    asker = Asker(backbone, data, VqaConfig(), 12, "cpu")
    with torch.no_grad():
        images = [backbone.image_embeddings(backbone.prepare(asker._images([row])))[0] for row in rows]
    of = {
        question: (n, at)
        for n in range(len(data.findings))
        for at, question in enumerate(asker._questions(n, "chest_xray"))
    }

    def knowing(_: Backbone, tokens: torch.Tensor, asked: Question) -> torch.Tensor:
        """Says yes readily, the more so if the first exemplar has the finding, and less where the study lacks it."""
        finding, exchanged = of[asked]
        has, lacks, study = (
            rows[int(torch.stack([(one - image).abs().max() for image in images]).argmin())]
            for one in tokens[0].unflatten(0, (3, -1))
        )
        if exchanged:
            has, lacks = lacks, has
        assert given[has, finding] == 1 and given[lacks, finding] == 0
        assert len({data.table.patient[row] for row in (has, lacks, study)}) == 3
        return torch.tensor([[8.0 - 3 * exchanged + 2 * truth[study, finding], 0.0]])

    monkeypatch.setattr(exemplars, "log_probabilities", knowing)
    before, after = ranked(data, rows, features), ranked(data, rows, features, asker)

    def place(found: list[Any]) -> int:
        wanted = data.table.source_rows[flipped], data.findings[k]
        return next(i for i, one in enumerate(found) if (one.row, one.finding) == wanted)

    assert 0 < place(before) < 12 and place(after) == 0
    assert after[0].reason.endswith(f"{BACKBONE} {after[0].suggested}") and after[0].label != after[0].suggested
    answered = [one for one in after if not np.isnan(one.asked)]
    assert len(answered) == 12 and [one for one in answered if BACKBONE in one.reason] == [after[0]]
    assert all(one.asked == (1 if one.label == "present" else -1) for one in answered[1:])
    assert np.array_equal(data.table.states, given)


def test_the_table_says_what_was_asked(trained_run: Path, tmp_path: Path) -> None:
    lines = denoise(trained_run, tmp_path / "suspects.csv", "cpu", ask=2)
    found = rows_of(tmp_path / "suspects.csv")
    answered = [row for row in found if row["asked"]]
    assert len(answered) == 2 and lines[1].startswith("the backbone was asked about 2 and contradicts ")
    for row in answered:
        says = "present" if float(row["asked"]) > 0 else "absent"
        assert (f"{BACKBONE} {says}" in row["reason"]) == (says != row["label"])


def test_three_images_that_do_not_fit_are_told_before_all(
    backbone: Backbone, data: StudyDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "context", 60)
    with pytest.raises(InputError, match=r"ask: three images of 16 tokens .* the backbone's context of 60"):
        Asker(backbone, data, VqaConfig(), 1, "cpu")
