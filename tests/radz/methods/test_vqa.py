"""The backbone asked in words: against plain transformers, and the parsing of free answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_run import SMALL
from study_batch import study_batch
from tiny_families import NAMES, PIXELS, TEXTS, inputs, plain, token_types

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.config.schema import VqaConfig
from radz.config.scoring import ScoringConfig
from radz.methods import vqa_answers, vqa_questions
from radz.methods.vqa import Asked
from radz.methods.vqa_answers import over_read_images, unread
from radz.models.encoder import Encoder
from radz.models.labels import LabelView
from radz.runs.evaluate import evaluate_run
from radz.runs.train import train

Build = Callable[..., Encoder]
ANSWERS = ("Yes", "No", "No pneumothorax", "left lung")
TEXT = "Is there a nodule in this chest X-ray?"


def model_inputs(name: str, folder: Path, ids: list[int], image_token: int, pixels: torch.Tensor) -> dict[str, Any]:
    """What the plain model takes for one sequence."""
    found = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
    return {**found, **token_types(name, found["input_ids"] == image_token), **inputs(name, folder, pixels)}


def repeated(ids: tuple[int, ...], image_token: int, each: int) -> list[int]:
    return [token for one in ids for token in ([one] * each if one == image_token else [one])]


@pytest.mark.parametrize("family", list(NAMES))
@torch.no_grad()
def test_answers_equal_a_full_forward_of_plain_transformers(
    make_family: Build, family_folders: dict[str, Path], family: str
) -> None:
    """Log-probabilities of answers of one and of several tokens, and a greedy answer; with LoRA."""
    backbone = make_family(family, depth="full").backbone.eval()
    for key, weight in backbone.named_parameters():
        if "lora_B" in key:
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(key))) / 10)
    model = plain(family, family_folders[family], backbone)
    images = backbone.image_embeddings(backbone.prepare(PIXELS[:3]))
    asked = vqa_questions.question(backbone, TEXT, 1, ANSWERS)
    assert {len(answer) for answer in asked.answers} != {1}
    found = vqa_questions.log_probabilities(backbone, images, asked)
    assert found.shape == (3, 4)
    modality = backbone.image_ids + backbone.text_ids
    each = images.shape[1]
    for study in range(3):
        pixels = PIXELS[study : study + 1]
        for column, answer in enumerate(asked.answers):
            start = repeated(asked.asked, backbone.image_token, each)
            ids = [*start, *answer]
            text = backbone.tokenizer.decode([*asked.asked, *answer])
            assert re.sub(r"\s", "", text).endswith(ANSWERS[column].replace(" ", ""))
            out = model(**model_inputs(family, family_folders[family], ids, backbone.image_token, pixels)).logits[0]
            out[:, modality] = -torch.inf
            words = out.float().log_softmax(-1)
            by_hand = sum(words[len(start) - 1 + place, token].item() for place, token in enumerate(answer))
            assert found[study, column].item() == pytest.approx(by_hand, abs=2e-4)
    # Questions in text alone, whose common beginning is read once.
    spoken = [
        vqa_questions.question(backbone, f"{TEXTS[1]} {what}", 0, ANSWERS) for what in ("Edema?", TEXT, "Hernia?")
    ]
    found = vqa_questions.text_log_probabilities(backbone, spoken)
    assert found.shape == (3, 4)
    for place, one in enumerate(spoken):
        for column, answer in enumerate(one.answers):
            ids = torch.tensor([[*one.asked, *answer]])
            out = model(**{"input_ids": ids, **token_types(family, ids == backbone.image_token)}).logits[0]
            out[:, modality] = -torch.inf
            words = out.float().log_softmax(-1)
            by_hand = sum(words[len(one.asked) - 1 + i, token].item() for i, token in enumerate(answer))
            assert found[place, column].item() == pytest.approx(by_hand, abs=2e-4)
    free = vqa_questions.question(backbone, TEXT, 1)
    texts = vqa_questions.written(backbone, images, free, 5)
    for study, text in enumerate(texts):
        ids = repeated(free.asked, backbone.image_token, each)
        start, pixels = len(ids), PIXELS[study : study + 1]
        for _ in range(5):
            out = model(**model_inputs(family, family_folders[family], ids, backbone.image_token, pixels)).logits[0, -1]
            out[modality] = -torch.inf
            ids.append(int(out.argmax()))
            if ids[-1] == backbone.tokenizer.eos_token_id:
                break
        assert text == backbone.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


@torch.no_grad()
def test_an_answer_may_hold_the_image_token(make_family: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make_family("llava", depth="full").backbone.eval()
    images = backbone.image_embeddings(backbone.prepare(PIXELS[:2]))
    steps: list[int] = []
    read: list[int] = []

    def always(
        _: Any, embeddings: torch.Tensor, patches: torch.Tensor, last: int = 1, cache: Any = None
    ) -> torch.Tensor:
        read.append(embeddings.shape[1])
        steps.append(int(patches.sum()))
        found = torch.zeros(len(embeddings), last, len(backbone.tokenizer))
        found[..., backbone.image_token] = 1
        return found

    monkeypatch.setattr(vqa_questions, "next_logits", always)
    assert vqa_questions.written(backbone, images, vqa_questions.question(backbone, TEXT, 1), 3) == ["", ""]
    assert steps == [images.shape[:2].numel()] * 3
    assert read[0] > images.shape[1] and read[1:] == [1, 1], "the question is read once"


def mapped(odds: torch.Tensor) -> torch.Tensor:
    return (1 + odds / (1 + odds.abs())) / 2


def test_sure_answers_are_not_tied() -> None:
    sure = torch.tensor([[0.0, -30.0], [0.0, -40.0], [-1.0, -1.0]])
    found = vqa_questions.scores(sure)[:, 0]
    assert found[0] < found[1] < 1 and found[2] == 0.5
    assert sure.softmax(1)[:2, 0].unique().tolist() == [1.0]


def asked(encoder: Encoder, aggregate: str = "joint", **settings: Any) -> Asked:
    policy = torch.tensor([[[0, 1, torch.nan, 0]] * 2])
    labels = LabelView(("nodule", "edema"), ("nodule", "edema"), policy, policy)
    config = VqaConfig(**settings)
    names = ("nodule", "edema")
    return Asked(
        encoder.backbone, config, labels, names, names, ("chest_xray",), ScoringConfig(aggregate=aggregate)
    ).eval()


@pytest.mark.parametrize("aggregate", ["joint", "max"])
@torch.no_grad()
def test_a_finding_and_its_denial_are_asked_alike(make_family: Build, aggregate: str) -> None:
    """What is said is scorer yes_no itself; what is denied is the question about "no" finding."""
    encoder = make_family("llava", depth="full")
    module, given = asked(encoder, aggregate, scorers=["yes_no"]), study_batch(PIXELS, [1, 2, 1])
    found = module.score(given)["vqa_yes_no"]
    agreement = module.agreement(given)["vqa.yes_no"]
    torch.testing.assert_close(agreement[:, :2], found)
    denied = asked(encoder, aggregate, scorers=["yes_no"])
    denied.names = ("no nodule", "no edema")
    torch.testing.assert_close(agreement[:, 2:], denied.score(given)["vqa_yes_no"])
    assert (agreement[:, 2:] - found).abs().max() > 1e-4
    other = asked(encoder, scorers=["choice"], headline="choice")
    other.score(given)
    assert other.agreement(given) == {}


@torch.no_grad()
def test_scores_are_normalised_answers_and_do_not_depend_on_the_batch(make_family: Build) -> None:
    """Studies of one and of three images in one batch; every scorer in [0, 1], options share one mass."""
    backbone = make_family("llava", depth="full").backbone
    module = asked(make_family("llava", depth="full"))
    whole = module.score(study_batch(PIXELS, [1, 3, 1]))
    assert set(whole) == {"vqa_yes_no", "vqa_choice", "vqa_yes_no_written", "vqa_choice_written"}
    tokens = backbone.image_embeddings(backbone.prepare(PIXELS[1:4])).flatten(0, 1)[None]
    question = vqa_questions.question(
        backbone, "Is there edema in this chest X-ray? Answer yes or no.", 3, ("Yes", "No")
    )
    lp = vqa_questions.log_probabilities(backbone, tokens, question)[0]
    assert whole["vqa_yes_no"][1, 1].item() == pytest.approx(mapped(lp[0] - lp[1]).item(), abs=1e-5)
    lines = "A. nodule\nB. edema\nC. None of these"
    text = f"Which of these does this chest X-ray show?\n{lines}\nAnswer with one of them."
    lp = vqa_questions.log_probabilities(backbone, tokens, vqa_questions.question(backbone, text, 3, ("A", "B", "C")))
    share = lp.double().softmax(1)[0, :2]
    assert torch.allclose(whole["vqa_choice"][1].double(), mapped((share / (1 - share)).log()), atol=1e-5)
    alone = asked(make_family("llava", depth="full"), "mean").score(study_batch(PIXELS, [1, 3, 1]))
    assert torch.allclose(alone["vqa_yes_no"][0], whole["vqa_yes_no"][0], atol=1e-5)
    each = asked(make_family("llava", depth="full")).score(study_batch(PIXELS, [1] * 5))["vqa_yes_no"]
    assert torch.allclose(alone["vqa_yes_no"][1], each[1:4].mean(0), atol=1e-5)
    named = asked(make_family("llava", depth="full"), answers="names", scorers=["choice"], headline="choice", none="")
    pair = named.score(study_batch(PIXELS, [1]))["vqa_choice"]
    assert torch.allclose(pair.sum(1), torch.ones(1), atol=1e-5)  # two options: their log-odds are opposite
    assert named.options == "nodule\nedema"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Yes.", 1), ("yes, there is", 1), (" No", 0), ("No, yes is wrong", 0), ("There is no effusion.", 0),
        ("I would say yes", 1), ("Yesterday's image", 0.5), ("It is not yes and not no", 0.5), ("", 0.5),
        ("unclear", 0.5),
    ],
)  # fmt: skip
def test_yes_and_no_are_read(answer: str, value: float) -> None:
    assert vqa_answers.read_yes_no(answer, "Yes", "No") == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("B", [0, 1]), ("A.", [1, 0]), ("A, B", [1, 1]), ("A and B.", [1, 1]), ("B. pleural effusion", [0, 1]),
        ("C", [0, 0]), ("A small pleural effusion is seen", [0, 1]), ("It shows a nodule.", [1, 0]),
        ("None of these", [0, 0]), ("effusion", [0.5, 0.5]), ("D", [0.5, 0.5]), ("", [0.5, 0.5]),
        ("The answer is B", [0, 1]), ("**Answer: B**", [0, 1]), ("I think option A", [1, 0]), ("B is right.", [0, 1]),
        ("A. nodule, B. pleural effusion", [1, 1]), ("I see a nodule", [1, 0]), ("C. None of these", [0, 0]),
        ("There is no nodule, but pleural effusion.", [0, 1]), ("B. Pleural effusion is not seen", [0, 0]),
        ("nodule: no. pleural effusion: yes", [0, 1]), ("It may be a nodule", [1, 0]), ("No edema. Nodule.", [1, 0]),
        ("The answer is A as it shows", [1, 0]), ("The answer is not B", [0.5, 0.5]), ("Not nodule", [0.5, 0.5]),
        ("B. Not seen", [0.5, 0.5]), ("B, not A", [0.5, 0.5]), ("No consolidation but nodule", [0.5, 0.5]),
        ("B. Pleural effusion. No other abnormality.", [0, 1]), ("A. No other abnormality.", [1, 0]),
        ("B. Fluid at the base. The lungs show no consolidation.", [0, 1]), ("A. Nodule, without edema.", [1, 0]),
        ("C. None of the above", [0, 0]), ("It shows a nodule with no consolidation.", [1, 0]),
        ("Nodule cannot be excluded.", [1, 0]), ("There is a nodule. The lungs show no disease.", [1, 0]),
        ("B. Nothing else", [0, 1]), ("A. No further findings.", [1, 0]), ("A. No additional lesion.", [1, 0]),
        ("A nodule cannot be identified.", [0.5, 0.5]), ("Nodule isn't there", [0, 0]),
        ("Nodule is not likely", [0, 0]), ("nodule: not", [0.5, 0.5]), ("A. nodule. No.", [0.5, 0.5]),
        ("A. Nodule. Not seen.", [0.5, 0.5]), ("nodule. No.", [0.5, 0.5]),
        ("A. Nodule is not what it shows", [0.5, 0.5]), ("B. No other lesion. B is not seen", [0.5, 0.5]),
        ("A. I am not certain, no other option fits", [0.5, 0.5]), ("nodule, not mass", [0.5, 0.5]),
    ],
)  # fmt: skip
def test_choices_are_read(answer: str, value: list[float]) -> None:
    names = ("nodule", "pleural effusion")
    assert vqa_answers.read_choice(answer, names, ("A", "B", "C"), "None of these") == value


def test_an_option_that_holds_a_denial_denies_nothing() -> None:
    names = ("no abnormal finding", "edema")
    for answer, value in {"No abnormal finding.": [1, 0], "B. Edema": [0, 1], "No edema": [0, 0]}.items():
        assert vqa_answers.read_choice(answer, names, ("A", "B"), "") == value


def test_longer_names_are_read_first() -> None:
    assert vqa_answers.read_choice("pleural effusion", ("effusion", "pleural effusion"), (), "") == [0, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scorers": ["yes"]}, "vqa.scorers: 'yes' is not one of"),
        ({"scorers": ["choice"]}, "vqa.headline: yes_no is not one of vqa.scorers"),
        ({"answers": "digits"}, "vqa.answers"),
        ({"yes_no": "Anything?"}, r"vqa\.yes_no: must contain \{finding\}"),
        ({"choice": "Which?"}, r"vqa\.choice: must contain \{options\}"),
        ({"yes": " "}, "vqa.yes: is empty"),
        ({"no": "yes"}, "the same answer"),
        ({"max_new_tokens": 0}, "vqa.max_new_tokens"),
    ],
)
def test_settings_that_cannot_be(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VqaConfig(**keys)


@torch.no_grad()
def test_native_scores_are_cosines_of_the_models_own_vectors(
    make_family: Build, family_folders: dict[str, Path]
) -> None:
    """By plain transformers: the last state of the chat, the instruction as system, in both sides alike."""
    encoder = make_family("qwen3_vl", depth="full")
    backbone, folder = encoder.backbone, family_folders["qwen3_vl"]
    found = asked(encoder, scorers=["native"], headline="native").score(study_batch(PIXELS, [1, 2, 1]))
    model = plain("qwen3_vl", folder, backbone).model

    def vector(said: str, pixels: torch.Tensor | None = None) -> torch.Tensor:
        chat = "<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\n"
        ids = backbone.tokenizer(f"{chat}{said}<|im_end|>\n<|im_start|>assistant\n").input_ids
        given = {"input_ids": torch.tensor([ids])}
        if pixels is not None:
            given = model_inputs("qwen3_vl", folder, ids, backbone.image_token, pixels)
        return torch.nn.functional.normalize(model(**given).last_hidden_state[0, -1], dim=0)

    image = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    studies = torch.stack([vector(image, PIXELS[:1]), vector(image * 2, PIXELS[1:3]), vector(image, PIXELS[3:4])])
    prompts = [text.format(finding="edema", modality="chest X-ray") for text in ScoringConfig().prompts]
    expected = (studies @ torch.stack([vector(text) for text in prompts]).T).mean(1)
    assert set(found) == {"vqa_native"} and expected.std() > 1e-3
    torch.testing.assert_close(found["vqa_native"][:, 1], (expected + 1) / 2, atol=1e-5, rtol=1e-5)


def test_letters_end_and_one_option_is_no_choice(make_family: Build) -> None:
    with pytest.raises(InputError, match=r"vqa\.none: empty leaves one option"):
        policy = torch.zeros(1, 1, 4)
        labels = LabelView(("edema",), ("edema",), policy, policy)
        backbone = make_family("llava", depth="full").backbone
        Asked(backbone, VqaConfig(none=""), labels, ("edema",), ("edema",), ("chest_xray",), ScoringConfig())
    with pytest.raises(InputError, match="letters end before 27 options; use names"):
        vqa_answers.letters(27)


def test_a_truncated_decoder_and_a_long_question_are_refused(make_family: Build) -> None:
    with pytest.raises(InputError, match="depth: feature conflicts with asking in words"), torch.no_grad():
        asked(make_family("llava")).score(study_batch(PIXELS, [1]))
    module = asked(
        make_family("llava", depth="full"), choice="long " * 300 + "{options}", scorers=["choice"], headline="choice"
    )
    with pytest.raises(InputError, match="exceeds the backbone's context of 256"), torch.no_grad():
        module.score(study_batch(PIXELS, [1]))
    module = asked(make_family("llava", depth="full"), yes_no="<image> {finding}?")
    with pytest.raises(InputError, match="image placeholders"), torch.no_grad():
        module.score(study_batch(PIXELS, [1]))


@pytest.mark.slow
def test_a_run_asks_and_reports_what_it_could_not_read(tmp_path: Path, cache_dir: Path, trained_run: Path) -> None:
    """`radz train demo_vqa`, then `radz eval demo_vqa` of a run, whose LoRA and projector change the answers."""
    few = ["vqa.max_new_tokens=2", "scoring.findings=[cardiomegaly,pleural_effusion]", "scoring.pixel_baseline=false"]
    keys = [*SMALL, f"cache_dir={cache_dir}", *few]
    experiment = load_experiment("demo_vqa", [*keys, f"run_dir={tmp_path / 'run'}"])
    run = train(experiment)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["headline_scorer"] == "vqa_yes_no" and metrics["cost"]["images"] > 0
    entry = metrics["results"]["phantom/test"]
    scores = pd.read_csv(run / "predictions/phantom_test.csv")
    for name in ("vqa_yes_no_written", "vqa_choice_written"):
        values = scores[[c for c in scores if c.startswith(f"{name}/")]].to_numpy()
        assert entry["scorers"][name]["unread"] == {"answers": values.size, "unread": int((values == 0.5).sum())}
    assert "unread" not in entry["scorers"]["vqa_yes_no"]
    assert "could not be read" in (run / "report.html").read_text()
    assert train(experiment) == run  # finished
    asked_run = evaluate_run(load_experiment("demo_vqa", [*keys, f"run={trained_run}"]))
    again = pd.read_csv(asked_run / "predictions/phantom_test.csv")
    column = next(c for c in scores if c.startswith("vqa_yes_no/"))
    assert (again["study_id"] == scores["study_id"]).all()
    assert (again[column] - scores[column]).abs().max() > 1e-6
    itself = evaluate_run(load_experiment("demo_vqa", [*keys, f"run={run}"]))
    assert (itself / "predictions/phantom_test.csv").read_bytes() == (run / "predictions/phantom_test.csv").read_bytes()


def test_answers_about_several_images_are_those_that_were_read() -> None:
    """Half yes and half no is not taken for an answer that could not be read."""
    values = torch.tensor([[1.0, 0.5], [0.0, 0.5], [0.5, 1.0], [1.0, 0.5], [0.0, 0.0]])
    counts = torch.tensor([2, 2, 1])
    mean, largest = (over_read_images(values, counts, how) for how in ("mean", "max"))
    assert mean.tolist() == [[pytest.approx(0.5), 0.5], [1, 1], [0, 0]] and mean[0, 0] > 0.5
    assert largest.tolist() == [[1, 0.5], [1, 1], [0, 0]]
    assert unread({"vqa_choice_written": mean.numpy()})["vqa_choice_written"] == {"answers": 6, "unread": 1}
