"""Faults of experiment files: one line with the key, the file that set it and what is known instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import MINIMAL, Write, fault

from radz.config.files import digest, load_experiment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dfat: {losss: cross}", ["dfat.losss", "unknown key", "nearest is 'loss'"]),
        ("dfatt: {}", ["dfatt", "unknown key", "nearest is 'dfat'"]),
        ("qqqq: 1", ["qqqq", "unknown key", "known are"]),
        ("dfat: {temperature: warm}", ["dfat.temperature", "warm"]),
        ("seed: 1.5", ["seed", "1.5"]),
        ("dfat: cross", ["dfat", "expected a map"]),
        ("scoring: {prompts: 5}", ["scoring.prompts"]),
        ("dfat: {loss: triplet}", ["dfat.loss", "triplet", "cross, global, global_local"]),
        ("dfat: {head: identity, head_width: 8}", ["dfat.head_width", "conflicts", "dfat.head=identity"]),
        ("trainer: {max_epochs: 1, max_steps: 2}", ["trainer.max_steps", "conflicts", "trainer.max_epochs"]),
        ("trainer: {max_epochs: null}", ["trainer.max_epochs", "missing"]),
        ("dkam: {category: softmax, focus_absent: 4.0}", ["dkam.category", "softmax", "dkam.focus_absent"]),
        ("scoring: {choice: [edema]}", ["scoring.choice", "two findings or more"]),
        ("scoring: {choice: [edema, mas]}", ["scoring.choice", "'mas'", "nearest is 'mass'"]),
        ("scoring: {choice: [edema, mass], findings: [edema, nodule]}", ["scoring.choice", "mass", "scoring.findings"]),
        ("scoring: {frequency_limits: [0.01, 0.1]}", ["scoring.frequency_limits", "falling"]),
        ("scoring: {headline: local}", ["scoring.headline", "dfat.local_weight"]),
        ("backbone: {train: full}\ndfat: {reconstruction_weight: 1}\ntrainer: {strategy: fsdp}",
         ["dfat.reconstruction_weight", "conflicts with trainer.strategy=fsdp"]),
        ("backbone: {train: frozen, train_projector: false}\ndfat: {reconstruction_weight: 1}",
         ["dfat.reconstruction_weight", "backbone.train=frozen"]),
        ("backbone: {train: frozen}\ndfat: {keep_weight: 1}", ["dfat.keep_weight", "backbone.train=frozen"]),
        ("dfat: {reconstruction_share: 0}", ["dfat.reconstruction_share=0", "above 0"]),
        ("dfat: {reconstruction_decay: 1}", ["dfat.reconstruction_decay=1", "below 1"]),
        ("method: clip\ndfat: {alignment: sigmoid}", ["dfat.alignment", "method=clip"]),
        ("data: {sampling: balanced}", ["data.sampling", "balanced", "class_aware"]),
        ("dkam: {write: true}", ["backbone.depth", "conflicts", "dkam.write=true"]),
        ("data: {image_size: 64}", ["backbone.tiny.image_size", "conflicts", "data.image_size=64"]),
        ("data: {corpora: []}", ["data.corpora", "no corpus"]),
        ("data: {corpora: [{reader: phantom, phantom: {sed: 1}}]}", ["corpora.0.phantom.sed", "nearest is 'seed'"]),
        ("data: {corpora: [{reader: phantom, policy: {uncertain: so}}]}", ["corpora.0.policy.uncertain", "ignore"]),
        ("seed: 1\nseed: 2", ["not valid YAML: line 3, column 1: found duplicate key seed"]),
        ("seed: [1\nx: :", ["not valid YAML: line 3, column 2: did not find"]),
        ("name: \x07", ["not valid YAML", "character #x0007"]),
        ("name: !!python/object/apply:os.mkdir [ran]", ["not valid YAML", "python/object"]),
        ("name: !!python/name:os.system", ["not valid YAML"]),
        ("- 1\n- 2", ["holds a map"]),
        ("seed: ${nowhere}", ["seed", "nowhere"]),
        ("data: {mask_terms: ['']}", ["data.mask_terms"]),
        ("data: {shots: -1}", ["data.shots=-1"]),
        ("data: {shots: 4, fraction: 0.1}", ["data.shots=4", "conflicts with data.fraction=0.1"]),
        ("data: {corpora: [{reader: phantom}, {phantom: {studies: {train: many}}}]}",
         ["data.corpora.1.phantom.studies.train", "many"]),
        ("data: {corpora: [{reader: phantom, split_seed: x}]}", ["data.corpora.0.split_seed", "'x'"]),
        ("data: {corpora: [{labels: {mass: {numeric: 3}}}]}", ["data.corpora.0.labels.mass.numeric"]),
        ("data: {corpora: {reader: phantom}}", ["data.corpora: expected a list"]),
        ("seed: -1", ["seed=-1"]),
        ("seed: abc", ["seed: must be a whole number, not 'abc'"]),
        ("seed: 1.5", ["seed: must be a whole number, not '1.5'"]),
        ("seed:", ["seed: must have a value"]),
        ("dfat: {temperature: warm}", ["dfat.temperature: must be a number, not 'warm'"]),
        ("trainer: {deterministic: perhaps}", ["trainer.deterministic: must be true or false, not 'perhaps'"]),
        ("data: {corpora: phantom}", ["data.corpora: must be a list"]),
        ("data: {corpora: [{keep: view}]}", ["data.corpora.0.keep: must be a map"]),
        ("run_dir: ${oc.env:RADZ_NOWHERE}", ["run_dir: the environment variable 'RADZ_NOWHERE' is not set"]),
        ("trainer: {max_epochs: -1}", ["trainer.max_epochs=-1"]),
        ("trainer: {max_epochs: null, max_steps: 0}", ["trainer.max_steps=0"]),
        ("trainer: {validate_every_epochs: 0}", ["trainer.validate_every_epochs=0"]),
        ("trainer: {log_every_steps: 0}", ["trainer.log_every_steps=0"]),
        ("dfat: {learning_rate: -1e-3}", ["dfat.learning_rate=-0.001"]),
        ("dfat: {weight_decay: -0.1}", ["dfat.weight_decay=-0.1"]),
        ("dfat: {weight_decay: .nan}", ["dfat.weight_decay=nan"]),
        ("dfat: {warmup: 1.0}", ["dfat.warmup=1.0", "below 1"]),
        ("dfat: {temperature: .inf}", ["dfat.temperature=inf"]),
        ("dfat: {gradient_clip: 0}", ["dfat.gradient_clip=0"]),
        ("dfat: {head_width: -4}", ["dfat.head_width=-4"]),
        ("dfat: {instruction: 'Look at {finding}.'}", ["dfat.instruction", "{finding}", "allowed: {modality}"]),
        ("dfat: {instruction: 'Open {'}", ["dfat.instruction"]),
        ("dfat: {label_sentence: '{finding} {age}'}", ["dfat.label_sentence", "{age}"]),
        ("scoring: {prompts: ['{finding} {}']}", ["scoring.prompts", "{}"]),
        ("backbone: {lora_dropout: 1.0}", ["backbone.lora_dropout=1.0"]),
        ("backbone: {tiny: {heads: 0}}", ["backbone.tiny.heads=0"]),
        ("backbone: {tiny: {width: 100}}", ["backbone.tiny.width", "multiple of 8"]),
        ("cnn: {dropout: -0.1}", ["cnn.dropout=-0.1"]),
        ("cnn: {width: 0}", ["cnn.width=0"]),
        ("scoring: {findings: [edemaa]}", ["scoring.findings", "'edemaa'", "nearest is 'edema'"]),
        ("dkam: {findings: [effusion, pleural_effusion]}", ["dkam.findings", "same finding, pleural_effusion"]),
    ],
)  # fmt: skip
@pytest.mark.fault(17)
def test_a_fault_names_key_file_and_nearest(write: Write, text: str, words: list[str]) -> None:
    path = write(low=MINIMAL, top=text if text.startswith("-") else f"base: low\n{text}\n")
    line = fault(path)
    assert [word for word in words if word not in line] == [], line
    assert "top.yaml" in line or ("conflicts" in line and "low.yaml" in line), line


def test_the_file_named_is_the_one_that_set_the_key(write: Write) -> None:
    path = write(low=MINIMAL + "dfat: {loss: triplet}\n", top="base: low\nseed: 1\n")
    assert "low.yaml" in fault(path) and "top.yaml" not in fault(path)
    assert "the command line" in fault(path, "dfat.loss=pair")


def test_the_tiny_shape_is_checked_only_where_it_is_used() -> None:
    tiny = "backbone.tiny.width=99"
    assert "backbone.tiny.width" in fault("demo", tiny)
    assert load_experiment("demo", [tiny, "backbone.path=/models/llava", "data.image_size=336"]).data.image_size == 336


def test_short_names_of_findings_become_canonical() -> None:
    found = load_experiment("demo", ["scoring.findings=[effusion, hernia]", "dkam.findings=[normal, effusion]"])
    assert found.scoring.findings == ["pleural_effusion", "hiatal_hernia"]
    assert found.dkam.findings == ["no_finding", "pleural_effusion"]
    assert digest(found) == digest(
        load_experiment(
            "demo",
            ["scoring.findings=[pleural_effusion, hiatal_hernia]", "dkam.findings=[no_finding, pleural_effusion]"],
        )
    )


def test_a_finding_of_a_corpus_may_be_named() -> None:
    corpus = "data.corpora.0.findings={lipoid_pneumonia: {parent: pneumonia}}"
    assert load_experiment("demo", [corpus, "scoring.findings=[lipoid_pneumonia]"]).scoring.findings
    assert "lipoid_pneumonia" in fault("demo", "scoring.findings=[lipoid_pneumonia]")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00seed", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.yaml").write_bytes(content)
    assert "picture.yaml" in fault(str(tmp_path / "picture.yaml"))
