"""DKAM: descriptions written by the backbone's own language model, and the bank that is encoded from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from plain_trainer import plain_trainer
from small_run import SMALL
from torch import Tensor, nn

from data_modules.errors import InputError
from radz import Radz
from radz.config.files import digest, find_resource, load_experiment
from radz.config.schema import DkamConfig
from radz.inference.export import export_run
from radz.methods import dkam
from radz.methods.dkam import AnchoredEncoder, build_bank
from radz.models import factory
from radz.models.anchor_bank import AnchorBank
from radz.models.descriptions import FIELDS, Description, answer_lines, load_descriptions, writing_prompt
from radz.models.encoder import Encoder
from radz.models.zero_shot import ClassTexts
from radz.runs.train import anchors, train

OWN = {
    "edema": Description(
        "edema", "Both lungs, more around the hila.", "Broad areas without a form of their own.",
        "Hazy and fading outwards.", "A faint veil with fine lines at the periphery.",
        "Fluid that has left the vessels of the lung.", "Breathlessness when lying flat, often with a weak heart.",
    ),
    "nodule": Description(
        "nodule", "Anywhere inside a lung.", "Rounded and small, up to three centimetres.",
        "Mostly sharp, sometimes lobulated.", "Dense against the dark lung.",
        "A small solid growth or scar.", "Usually no complaint, found by chance.",
    ),
    "no_finding": Description(
        "no_finding", "Nowhere in the chest.", "The heart has its usual size and form.",
        "Both hemidiaphragms are sharp.", "The lungs are evenly dark.",
        "A radiograph without disease.", "Screening or a cough that passes.",
    ),
}  # fmt: skip
FINDINGS = {name: name.replace("_", " ") for name in OWN}


class Dictated(nn.Module):
    """A language model head that makes greedy decoding spell out given texts, one per call of `generate`."""

    def __init__(self, tokenizer: Any, texts: list[str]) -> None:
        super().__init__()
        self.words, self.size = len(tokenizer), 0
        self.queue: list[int] = []
        for text in texts:
            self.queue += [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]

    def forward(self, states: Tensor) -> Tensor:
        logits = torch.zeros(*states.shape[:-1], self.words)
        logits[:, -1, self.queue.pop(0)] = 10.0
        return logits


def dictate(encoder: Encoder, texts: list[str]) -> Dictated:
    encoder.backbone.core.lm_head = Dictated(encoder.backbone.tokenizer, texts)
    return encoder.backbone.core.lm_head


def trainer() -> pl.Trainer:
    return plain_trainer(devices=1)


def written(encoder: Encoder, file: Path, findings: dict[str, str], **settings: Any) -> AnchorBank:
    config = DkamConfig(write=True, max_new_tokens=2000, **settings)
    return build_bank(encoder, config, findings, file, "base", trainer())


@pytest.fixture
def descriptions(tmp_path: Path) -> Path:
    file = tmp_path / "ours.yaml"
    content = {name: {field: getattr(one, field) for field in FIELDS} for name, one in OWN.items()}
    file.write_text(yaml.safe_dump({"findings": content}, sort_keys=False))
    return file


@pytest.mark.parametrize(("train", "names"), [("frozen", ["edema", "nodule"]), ("lora", ["no_finding"])])
def test_a_well_formed_answer_becomes_the_bank(make_encoder: Any, tmp_path: Path, train: str, names: list[str]) -> None:
    encoder = make_encoder(train=train, depth="full").eval()
    findings, own = {name: FINDINGS[name] for name in names}, {name: OWN[name] for name in names}
    head = dictate(encoder, [answer_lines(one) for one in own.values()])
    bank = written(encoder, tmp_path / "descriptions.yaml", findings, aspects=["shape", "location"])
    assert head.queue == []  # every answer was generated to its end
    assert load_descriptions(tmp_path / "descriptions.yaml") == own
    assert bank.names == tuple(names)
    assert bank.descriptions == tuple(f"{one.shape} {one.location}" for one in own.values())
    assert bank.info.prompt == writing_prompt(FINDINGS[names[0]]) and bank.info.decoding == "greedy"
    assert bank.info.source == "descriptions.yaml"
    expected = encoder.encode_descriptions(list(bank.descriptions), "decoder")
    assert bank.vectors.dtype == torch.float32 and torch.allclose(bank.vectors, expected, atol=1e-5)
    # The user may edit the file and bring it back: the same texts give the same bank.
    config = DkamConfig(aspects=["shape", "location"])
    again = build_bank(encoder, config, findings, tmp_path / "descriptions.yaml", "base", trainer())
    assert again.digest() == bank.digest() and again.info.decoding == ""


class Recorded(SingleDeviceStrategy):
    """A strategy that tells when the model is moved to its device, as it would be to an accelerator."""

    def __init__(self) -> None:
        super().__init__(device=torch.device("cpu"), accelerator=CPUAccelerator())
        self.where = "elsewhere"

    def model_to_device(self) -> None:
        super().model_to_device()
        self.where = "on the device"

    def teardown(self) -> None:
        super().teardown()
        self.where = "elsewhere"


@pytest.mark.parametrize("anchor_encoder", ["decoder", "embedding"])
def test_writing_and_encoding_run_where_the_trainer_says(
    make_encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anchor_encoder: str
) -> None:
    encoder, strategy = make_encoder(train="frozen", depth="full").eval(), Recorded()
    places: dict[str, str] = {}

    def spy(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def told(*arguments: Any) -> Any:
            places[name] = strategy.where
            return real(*arguments)

        monkeypatch.setattr(owner, name, told)

    dictate(encoder, [answer_lines(OWN["edema"])])
    spy(dkam, "write")
    spy(encoder, "encode_descriptions")
    runner = plain_trainer(accelerator="auto", strategy=strategy)
    config = DkamConfig(write=True, max_new_tokens=2000, anchor_encoder=anchor_encoder)
    build_bank(encoder, config, {"edema": "edema"}, tmp_path / "descriptions.yaml", "base", runner)
    assert places == {"write": "on the device", "encode_descriptions": "on the device"}


@pytest.mark.parametrize(
    "answers",
    [
        ["of the of the lung lung lung"],
        [""],
        ["I am sorry, but as an AI language model I cannot help with that."],
        [answer_lines(OWN["nodule"]).rpartition("\n")[0]],
        [answer_lines(replace(OWN["nodule"], shape="Its form and size"))],
        [answer_lines(OWN["edema"]), "lung lung lung"],
    ],
    ids=["babble", "nothing", "refusal", "five lines", "prompt copied", "beside a good one"],
)
def test_a_rejected_answer_stops_in_one_line_and_writes_nothing(
    make_encoder: Any, tmp_path: Path, answers: list[str]
) -> None:
    encoder = make_encoder(train="frozen", depth="full").eval()
    dictate(encoder, answers)
    wanted = ["edema", "nodule"][-len(answers) :]
    with pytest.raises(InputError, match="description of nodule") as fault:
        written(encoder, tmp_path / "descriptions.yaml", dict(zip(wanted, wanted, strict=True)))
    assert "\n" not in str(fault.value) and list(tmp_path.iterdir()) == []


def test_an_answer_that_is_cut_is_rejected(make_encoder: Any, tmp_path: Path) -> None:
    encoder = make_encoder(train="frozen", depth="full").eval()
    dictate(encoder, [answer_lines(OWN["edema"])])
    with pytest.raises(InputError, match="description of edema"):
        build_bank(
            encoder, DkamConfig(write=True, max_new_tokens=20), {"edema": "edema"}, tmp_path / "x.yaml", "", trainer()
        )


def test_writing_needs_the_full_depth(make_encoder: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backbone\.depth"):
        written(make_encoder(train="frozen"), tmp_path / "x.yaml", FINDINGS)


WRITE = ["backbone.train=frozen", "backbone.train_tower=false", "backbone.depth=full", "dkam.max_new_tokens=2000"]


def test_the_verb_stops_without_falling_back_to_the_shipped_text(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`radz anchors write=true`: a random model babbles, so there is no bank; a good answer gives the bank of it."""
    places = [
        f"run_dir={tmp_path / 'run'}",
        f"cache_dir={cache_dir}",
        "dkam.write=true",
        "dkam.findings=[edema,nodule]",
        "scoring.headline=prompt",
    ]
    experiment = load_experiment("demo", [*SMALL, *WRITE[:-1], "dkam.max_new_tokens=8", *places])
    with pytest.raises(InputError, match="description of edema") as fault:
        anchors(experiment)
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "run/anchors").exists() and not (tmp_path / "run/descriptions.yaml").exists()

    made = factory.encoder

    def dictated(*sections: Any) -> tuple[Encoder, str]:
        encoder, base = made(*sections)
        dictate(encoder, [answer_lines(OWN["edema"]), answer_lines(OWN["nodule"])])
        return encoder, base

    monkeypatch.setattr(factory, "encoder", dictated)
    places[0] = f"run_dir={tmp_path / 'good'}"
    folder = anchors(load_experiment("demo", [*SMALL, *WRITE, *places]))
    bank = AnchorBank.load(folder / "anchors")
    assert bank.names == ("edema", "nodule") and bank.descriptions[0].startswith("Both lungs, more around the hila.")
    assert load_descriptions(folder / "descriptions.yaml")["nodule"] == OWN["nodule"]


def test_a_finding_without_description_is_named(make_encoder: Any, descriptions: Path) -> None:
    findings = {**FINDINGS, "mass": "mass"}
    with pytest.raises(InputError, match=r"dkam\.descriptions: .*ours\.yaml has no mass"):
        build_bank(make_encoder(train="frozen").eval(), DkamConfig(), findings, descriptions, "", trainer())


@pytest.mark.parametrize("anchor_encoder", ["decoder", "embedding"])
def test_findings_new_at_test_time_are_encoded_like_those_of_training(
    make_encoder: Any, descriptions: Path, anchor_encoder: str
) -> None:
    encoder = make_encoder(train="frozen").eval()
    settings = DkamConfig(anchor_encoder=anchor_encoder, aspects=["location", "density"])
    together = build_bank(encoder, settings, FINDINGS, descriptions, "base", trainer())
    training = build_bank(
        encoder, settings, {n: FINDINGS[n] for n in ("no_finding", "edema")}, descriptions, "base", trainer()
    )
    names = ("nodule", "edema", "stranger")
    described = tuple(OWN[n].text(settings.aspects) if n in OWN else "" for n in names)
    texts = ClassTexts(names, names, described)
    found = AnchoredEncoder(encoder, training, "base", descriptions).class_anchors(texts, settings, "cpu")
    place = together.names.index
    assert torch.allclose(found[0], together.vectors[place("nodule")], atol=1e-5)
    assert torch.equal(found[1], training.vectors[training.names.index("edema")])
    assert found[2].isnan().all()  # no description, no anchor; never somebody else's
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_anchor_encoders_differ_and_are_recorded(make_encoder: Any, descriptions: Path) -> None:
    encoder = make_encoder(train="frozen").eval()
    banks = [
        build_bank(encoder, DkamConfig(anchor_encoder=kind), FINDINGS, descriptions, "b", trainer())
        for kind in ("decoder", "embedding")
    ]
    assert [bank.info.encoder for bank in banks] == ["decoder", "embedding"]
    assert banks[0].digest() != banks[1].digest() and banks[0].descriptions == banks[1].descriptions


def test_the_shipped_descriptions_serve_the_demo(trained_run: Path) -> None:
    bank = AnchorBank.load(trained_run / "anchors")
    shipped = load_descriptions(find_resource("descriptions/chest_xray.yaml", "x"))
    aspects = ["location", "shape", "boundary", "density"]
    assert bank.descriptions == tuple(shipped[name].text(aspects) for name in bank.names)


@pytest.mark.parametrize("sets", ["whole", "aspects"])
def test_an_anchor_of_several_texts_is_their_mean(
    make_encoder: Any, descriptions: Path, tmp_path: Path, sets: str
) -> None:
    """Two sources, two aspects: one text of each source, or one of each aspect of each source."""
    encoder = make_encoder(train="frozen").eval()
    other = tmp_path / "other.yaml"
    other.write_text(descriptions.read_text().replace("Hazy", "Blurred").replace("sharp", "well defined"))
    config = DkamConfig(aspects=["boundary", "density"], sets=sets, sources=[str(other)])
    bank = build_bank(encoder, config, FINDINGS, descriptions, "base", trainer())
    assert bank.info.source == "ours.yaml, other.yaml"
    for name, vector, kept in zip(bank.names, bank.vectors, bank.descriptions, strict=True):
        both = [load_descriptions(file)[name] for file in (descriptions, other)]
        if sets == "whole":
            texts = [f"{one.boundary} {one.density}" for one in both]
        else:
            texts = [text for one in both for text in (one.boundary, one.density)]
        assert kept == "\n".join(texts)
        alone = torch.cat([encoder.encode_descriptions([text], "decoder") for text in texts])
        assert torch.allclose(vector, alone.mean(0), atol=1e-5) and alone.std(0).max() > 1e-3
        together = build_bank(encoder, replace(config, combine="max"), FINDINGS, descriptions, "base", trainer())
        assert torch.allclose(together.vectors[bank.names.index(name)], alone, atol=1e-5)
    other.write_text(descriptions.read_text().replace("nodule:", "mass:"))
    with pytest.raises(InputError, match=r"dkam\.sources\.0: .*other\.yaml has no nodule"):
        build_bank(encoder, config, FINDINGS, descriptions, "base", trainer())


def test_the_text_of_further_sources_is_part_of_the_experiment(descriptions: Path) -> None:
    keys = [f"dkam.descriptions={descriptions}", f"dkam.sources=[{descriptions}]"]
    before = digest(load_experiment("demo", keys))
    assert before != digest(load_experiment("demo", keys[:1]))
    descriptions.write_text(descriptions.read_text().replace("Hazy", "Blurred"))
    assert digest(load_experiment("demo", keys)) != before
    with pytest.raises(InputError, match=r"dkam\.sets: 'each'"):
        load_experiment("demo", ["dkam.sets=each"])
    with pytest.raises(InputError, match=r"dkam\.combine: max needs several texts"):
        load_experiment("demo", ["dkam.combine=max"])


@pytest.mark.slow
def test_a_run_on_sets_trains_comes_back_and_is_exported(cache_dir: Path, tmp_path: Path) -> None:
    """Checkpoint, bank and scores of a folder hold every vector; a finding beyond the bank has a set too."""
    keys = [*SMALL, f"cache_dir={cache_dir}", f"run_dir={tmp_path / 'run'}", "dkam.sets=aspects", "dkam.combine=max"]
    folder = train(load_experiment("demo", keys))
    bank = AnchorBank.load(folder / "anchors")
    assert bank.vectors.shape == (len(bank.names), 4, 32)
    image = next((cache_dir / "phantom").rglob("*.dcm"))
    names = [bank.names[1], "fracture"]
    assert names[1] not in bank.names
    found = Radz.from_pretrained(folder).score([image], names, scorer="anchor")
    export_run(str(folder), str(tmp_path / "export"))
    again = Radz.from_pretrained(tmp_path / "export").score([image], names, scorer="anchor")
    assert found[names].notna().all(axis=None)
    assert np.allclose(found[names], again[names], atol=1e-4)
