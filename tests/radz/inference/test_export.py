"""`radz export`: the folder gives the engine's features through nothing but transformers, peft and safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from sections import backbone_folder
from small_run import SMALL
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from data_modules.errors import InputError
from radz import Radz
from radz.cli.command_line import main
from radz.config.backbone import BackboneConfig
from radz.config.files import load_experiment
from radz.inference import export as exporting
from radz.inference.export import _image_part
from radz.inference.image_processor import write_processors
from radz.inference.model_card import _use
from radz.methods.trained import run_digest
from radz.methods.validation import validations
from radz.metrics.score_table import ScoreTable
from radz.models.zero_shot import SCORERS
from radz.runs.trained_rules import rules_for
from radz.training.run_folder import load_run

TEXTS = ["Small left pleural effusion.", "Normal.", "The heart is enlarged. No pneumothorax is seen, and no nodule."]
NAMES = ["edema", "mass", "tuberculosis", "pleural_effusion"]
SIZES = {"tall": (140, 61), "wide": (50, 133), "square": (64, 64)}


class Plain:
    """An export folder as its model card says to use it without radz."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.about = json.loads((folder / "radz.json").read_text())
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder / "backbone", dtype=dtype)
        if not self.about["backbone"]["merged"]:
            self.model = PeftModel.from_pretrained(self.model, str(folder / "adapter"))
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "backbone")
        self.processor = AutoImageProcessor.from_pretrained(folder / "backbone")
        self.heads = load_file(folder / "heads.safetensors")
        assert self.about["experiment"]["dfat"]["head"] == "linear"

    @torch.no_grad()
    def _feature(self, ids: list[int], kind: str, **images: Any) -> NDArray[np.float32]:
        tokens = list(self.about["tokens"][kind].values())
        out = self.model(input_ids=torch.tensor([ids]), output_hidden_states=True, **images)
        picked = out.hidden_states[self.about["feature_layer"]][0, -len(tokens) :].float()
        assert ids[-len(tokens) :] == tokens
        mean = (picked @ self.heads[f"{kind}.weight"].T + self.heads[f"{kind}.bias"]).mean(0)
        return (mean / mean.norm()).numpy()

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[N, d]."""
        names = list(self.about["tokens"]["text"])
        assert self.tokenizer.convert_tokens_to_ids(names) == list(self.about["tokens"]["text"].values())
        return np.stack([self._feature([*self.tokenizer(t).input_ids, *self.about["tokens"]["text"].values()], "text")
                         for t in texts])  # fmt: skip

    def images(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """[N, d], a study each."""
        return np.stack([self.study([path]) for path in paths])

    def study(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """[d]."""
        prompt, part = self.about["image_prompts"]["chest_xray"], self.about["image_part"]
        placeholder = self.tokenizer.convert_ids_to_tokens(self.about["tokens"]["image_placeholder"])
        prompt = prompt.replace(part, part * len(paths))
        prompt = prompt.replace(placeholder, placeholder * self.about["tokens"]["per_image"])
        ids = [*self.tokenizer(prompt).input_ids, *self.about["tokens"]["image"].values()]
        pixels = self.processor(images=[Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
        return self._feature(ids, "image", pixel_values=pixels.to(self.model.dtype))


@pytest.fixture(scope="module")
def exports(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Merged and not."""
    place = tmp_path_factory.mktemp("exports")
    assert main(["export", str(trained_run), f"out={place / 'merged'}"]) == 0
    assert main(["export", str(trained_run), f"out={place / 'apart'}", "merge=false"]) == 0
    return {True: place / "merged", False: place / "apart"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Gray PNG pictures, taller and wider than square: smooth shapes with some noise."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    for name, (height, width) in SIZES.items():
        rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
        waves = np.sin(2 * np.pi * (2 * rows + columns)) + np.cos(9 * columns * rows)
        shade = 120 + 50 * waves + generator.normal(0, 6, waves.shape)
        Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in SIZES}


@pytest.mark.parametrize("merge", [True, False])
def test_plain_transformers_gives_the_features_of_the_engine(
    engine: Radz, exports: dict[bool, Path], pictures: dict[str, Path], merge: bool
) -> None:
    plain = Plain(exports[merge])
    of_texts, of_image = engine.embed_texts(TEXTS), engine.embed_images([pictures["square"]])
    assert np.ptp(of_texts, axis=0).max() > 1e-2
    assert np.abs(plain.texts(TEXTS) - of_texts).max() < 1e-4
    assert np.abs(plain.images([pictures["square"]]) - of_image).max() < 1e-4
    for count in (2, 3):
        study = list(pictures.values())[:count]
        together = engine.embed_studies([engine.study(study)], ["chest_xray"])[0]
        assert np.abs(plain.study(study) - together).max() < 1e-4
        assert plain.study(study) @ plain.study(study[::-1]) < 1 - 1e-6  # order counts
    if not merge:
        with plain.model.disable_adapter():
            assert np.abs(plain.texts(TEXTS) - of_texts).max() > 1e-2
    # All layers are there, more than the engine computes.
    core = plain.model.model if merge else plain.model.get_base_model().model
    assert len(core.language_model.layers) == 6 == 1 + len(engine.encoder.backbone.decoder.layers)
    assert AutoProcessor.from_pretrained(exports[merge] / "backbone").image_processor.do_center_crop


@pytest.mark.parametrize("merge", [True, False])
def test_the_engine_needs_nothing_but_the_export(
    engine: Radz, exports: dict[bool, Path], pictures: dict[str, Path], tmp_path: Path, merge: bool
) -> None:
    moved = shutil.copytree(exports[merge], tmp_path / "moved")
    other = Radz.from_pretrained(moved)
    files = list(pictures.values())
    for scorer in (None, *SCORERS):
        expected = engine.score(files, NAMES, scorer)
        # Merged weights round in another place, and some processors more than others.
        assert np.abs(other.score(files, NAMES, scorer) - expected).to_numpy().max() < 3e-5
        assert expected.to_numpy().std() > 0
    assert np.abs(other.embed_texts(TEXTS) - engine.embed_texts(TEXTS)).max() < 3e-5
    with pytest.raises(InputError, match="swallowed coin has no description"):
        other.score(files, ["swallowed coin"], "anchor")
    assert np.isfinite(other.score(files, ["swallowed coin"], "prompt")).to_numpy().all()


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
def test_the_image_processor_resizes_as_the_engine(
    engine: Radz, exports: dict[bool, Path], pictures: dict[str, Path], trained_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, resize: str,
) -> None:  # fmt: skip
    data = replace(engine.data, resize=resize)
    monkeypatch.setattr(engine, "data", data)
    write_processors(backbone_folder(load_run(trained_run)), data, tmp_path, tmp_path / "square", {})
    plain = Plain(exports[True])
    plain.processor = AutoImageProcessor.from_pretrained(tmp_path)
    paths = list(pictures.values())
    mine, theirs = engine.embed_images(paths), plain.images(paths)
    assert (mine * theirs).sum(1).min() > 0.99999
    monkeypatch.setattr(engine, "data", replace(data, resize="crop" if resize != "crop" else "pad"))
    other = (engine.embed_images(paths) * theirs).sum(1)
    assert other[:2].min() < 0.9999 and other[2] > 0.9999, "the resize does not show in the features"


def test_bfloat16_keeps_the_features(
    engine: Radz, trained_run: Path, tmp_path: Path, pictures: dict[str, Path]
) -> None:
    assert main(["export", str(trained_run), f"out={tmp_path / 'half'}", "dtype=bfloat16"]) == 0
    plain = Plain(tmp_path / "half", torch.bfloat16)
    weights = load_file(tmp_path / "half/backbone/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert (plain.texts(TEXTS) * engine.embed_texts(TEXTS)).sum(1).min() > 0.999
    square = [pictures["square"]]
    assert (plain.images(square) * engine.embed_images(square)).sum(1).min() > 0.999


def test_float16_and_shards(engine: Radz, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "SHARD", "200KB")
    out = exporting.export_run(str(trained_run), str(tmp_path / "out"), dtype="float16")
    files = sorted(path.name for path in (out / "backbone").glob("*.safetensors"))
    assert len(files) > 1 and (out / "backbone/model.safetensors.index.json").is_file()
    other = Radz.from_pretrained(out)
    assert (other.embed_texts(TEXTS) * engine.embed_texts(TEXTS)).sum(1).min() > 0.999


def test_what_the_folder_holds(exports: dict[bool, Path], trained_run: Path, cache_dir: Path) -> None:
    for folder in exports.values():
        found = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert found == {".json", ".safetensors", ".md", ".yaml", ".jinja"}  # no pickle
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".safetensors":
                text = path.read_text()
                assert str(trained_run) not in text and str(cache_dir) not in text and "test-0000" not in text, path
        assert folder.stat().st_mode & 0o077 == 0o055
    about = json.loads((exports[True] / "radz.json").read_text())
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert about["thresholds"]["phantom/test"] == metrics["results"]["phantom/test"]["thresholds"]
    assert about["feature_layer"] == 5 and about["backbone"]["merged"] and "adapter" not in about
    assert about["base"]["digest"] == json.loads((trained_run / "environment.json").read_text())["base_digest"]
    adapter = load_file(exports[False] / "adapter/adapter_model.safetensors")
    assert adapter and all(".lora_" in name for name in adapter)
    config = json.loads((exports[False] / "adapter/adapter_config.json").read_text())
    assert config["trainable_token_indices"] is None and config["peft_type"] == "LORA"
    card = (exports[True] / "README.md").read_text()
    macro = metrics["results"]["phantom/test"]["scorers"]["fused"]["macro"]["auroc"]
    for words in (
        "not a medical", "| phantom | train | 24 | 22 | 24 |", "data use agreement", "Procedural; no patients",
        f"{macro['value']:.3f} [{macro['low']:.3f}, {macro['high']:.3f}]", "`pad` to 64 pixels", "hidden_states[5]",
    ):  # fmt: skip
        assert words in card, words
    assert (
        "adapter" not in card
        and 'PeftModel.from_pretrained(model, "adapter")' in (exports[False] / "README.md").read_text()
    )


def test_the_card_says_how_studies_of_several_images_and_ct_are_made(exports: dict[bool, Path]) -> None:
    content = json.loads((exports[True] / "radz.json").read_text())
    assert content["image_part"] == "<image>\n"
    content["image_prompts"]["chest_ct"] = "USER: <image>\nFindings of this chest CT. ASSISTANT:"
    data = load_experiment("demo_ct", ["data.ct.slices=16", "data.ct.windows=[lung, 350/40, pe]"]).data
    for how, last in (("joint", "holds them all."), ("mean", "Scores are the mean of those of each image alone.")):
        content["experiment"]["scoring"]["aggregate"] = how
        text = _use(content, data, BackboneConfig(), True)
        for words in (
            r'- chest_xray: `"USER: <image>\nFindings of this chest X-ray. ASSISTANT:"`',
            r'- chest_ct: `"USER: <image>\nFindings of this chest CT. ASSISTANT:"`', last + "\n",
            r'share it: `"<image>\n"` (`image_part`)', "the middles of 16 equal parts of the slices that show lung",
            "lung (centre -600, width 1500 HU), 350/40 (centre 40, width 350 HU), pe (centre 400, width 1000 HU)",
        ):  # fmt: skip
            assert words in text, words


@pytest.mark.parametrize(
    ("prompts", "part"),
    [
        (("U: <i>\nA", "U: <i>\n<i>\nA", "U: <i>\n<i>\n<i>\nA"), "<i>\n"),
        (("U: a <i>b", "U: a <i>a <i>b", "U: a <i>a <i>a <i>b"), "a <i>"),
        (("U: 1 <i>", "U: 1 <i> 2 <i>", "U: 1 <i> 2 <i> 3 <i>"), None),
    ],
)
def test_what_stands_once_per_image(prompts: tuple[str, str, str], part: str | None) -> None:
    assert _image_part(*prompts) == part


def test_predict_takes_an_export(
    exports: dict[bool, Path], engine: Radz, pictures: dict[str, Path], tmp_path: Path
) -> None:
    folder = next(iter(pictures.values())).parent
    out = tmp_path / "scores.csv"
    assert main(["predict", str(exports[False]), f"input={folder}", f"out={out}", "findings=edema,mass"]) == 0
    found = pd.read_csv(out, index_col="file")
    assert len(found) == 3
    files = [folder / name for name in found.index]
    assert np.abs(found[["edema", "mass"]] - engine.score(files, ["edema", "mass"]).to_numpy()).to_numpy().max() < 1e-4
    probability = engine.probabilities(files, ["edema"])["edema"].to_numpy()
    assert np.abs(found["edema/probability"] - probability).max() < 1e-3 and probability.min() > 0


def test_eval_takes_an_export(exports: dict[bool, Path], trained_run: Path, cache_dir: Path, tmp_path: Path) -> None:
    """The scores of the run itself, without the run."""
    out = tmp_path / "scored"
    keys = [f"run={exports[True]}", f"cache_dir={cache_dir}", f"run_dir={out}", "data.limit.val=1"]
    before = {path: path.stat().st_mtime_ns for path in exports[True].rglob("*")}
    assert main(["eval", "demo", *SMALL, "scoring.headline=fused", "scoring.pixel_baseline=false", *keys]) == 0
    found, expected = (pd.read_csv(f / "predictions/phantom_test.csv") for f in (out, trained_run))
    scores = [name for name in found.columns if name.startswith(tuple(f"{scorer}/" for scorer in SCORERS))]
    assert len(scores) > 20 and found.study_id.tolist() == expected.study_id.tolist()
    assert np.abs(found[scores].to_numpy() - expected[scores].to_numpy()).max() < 1e-4
    metrics = [json.loads((f / "metrics.json").read_text())["results"]["phantom/test"] for f in (out, trained_run)]
    seen = [{name: of["seen"] for name, of in m["scorers"]["fused"]["findings"].items()} for m in metrics]
    assert seen[0] == seen[1]
    assert {path: path.stat().st_mtime_ns for path in exports[True].rglob("*")} == before


def test_validation_comes_along(exports: dict[bool, Path], trained_run: Path) -> None:
    of_run = validations(trained_run)
    assert list(of_run) == ["phantom"] and of_run["phantom"].calibrations["fused"]["edema"].slope
    assert validations(exports[True]) == validations(exports[False]) == of_run
    digest = json.loads((trained_run / "environment.json").read_text())["config_digest"]
    assert run_digest(exports[True]) == run_digest(trained_run) == digest
    # Data without validation are called and calibrated by it, as they are with the run itself.
    table = ScoreTable.read_csv(trained_run / "predictions/phantom_test.csv")
    scoring, scores = load_run(trained_run).scoring, {"fused": table.scores["fused"]}
    table = replace(table, corpus="another", scores=scores, rows=np.zeros(len(table), dtype=np.int64))
    data = SimpleNamespace(table=SimpleNamespace(modality=np.array(["chest_xray"])))
    for folder, what in ((exports[True], "exported"), (trained_run, "trained")):
        given = rules_for(table, data, {}, scoring, folder)  # type: ignore[arg-type]
        assert given.source == f"phantom/val of the {what} run" and given.lost == {} and given.rules is not None
        assert given.rules.calibrations == {"fused": of_run["phantom"].calibrations["fused"]}


def test_refusals_are_one_line(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = shutil.copytree(trained_run, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    cnn = shutil.copytree(trained_run, tmp_path / "cnn")
    text = (cnn / "config.yaml").read_text()
    (cnn / "config.yaml").write_text(text.replace("method: dfat", "method: cnn"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("kept")
    for arguments, words in (
        ([str(trained_run)], "out: missing"),
        ([str(trained_run), "out=x", "merge=yes"], "merge=yes: must be true or false"),
        ([str(trained_run), f"out={tmp_path / 'x'}", "dtype=int8"], "dtype=int8: unknown; use auto, float32"),
        ([str(trained_run), f"out={tmp_path / 'full'}"], "there and not empty"),
        ([str(trained_run), f"out={tmp_path / 'full/mine'}"], "there and not empty"),
        ([str(unfinished), f"out={tmp_path / 'x'}"], "no metrics.json; the run is not finished"),
        ([str(cnn), f"out={tmp_path / 'x'}"], "method cnn has no backbone"),
        ([str(tmp_path), f"out={tmp_path / 'x'}"], "not a run folder"),
    ):
        assert main(["export", *arguments]) == 2
        shown = capsys.readouterr().err.splitlines()
        assert words in shown[-1] and shown[-1].startswith("radz: "), shown
    assert not (tmp_path / "x").exists() and (tmp_path / "full/mine").read_text() == "kept"


def test_an_interrupted_export_leaves_nothing(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(exporting, "write_card", fail)
    with pytest.raises(OSError, match="no space"):
        exporting.export_run(str(trained_run), str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


FAULTS = [
    (lambda f: edit(f / "radz.json", schema=2), "schema 2 is not known"),
    (lambda f: (f / "radz.json").write_text("{"), "not valid JSON"),
    (lambda f: edit(f / "radz.json", backbone=None), "radz.json: damaged"),
    (lambda f: edit(f / "radz.json", base={"digest": None}), "radz.json: damaged"),
    (lambda f: edit(f / "radz.json", experiment={"backbone": {}, "dfatt": 1}), "dfatt: unknown key in .*radz.json"),
    (lambda f: shutil.rmtree(f / "backbone"), "backbone: no such folder"),
    (lambda f: edit(f / "backbone/config.json", extra=1), "backbone: not as it was exported"),
    (lambda f: (f / "heads.safetensors").write_bytes(b"x"), "not the heads of this export"),
    (lambda f: save_file({"image.weight": torch.zeros(2)}, f / "heads.safetensors"), "not the heads of this export"),
    (lambda f: edit(f / "adapter/adapter_config.json", r=4), None),
    (lambda f: bend(f / "adapter/adapter_model.safetensors"), "adapter: not as it was exported"),
    (lambda f: edit(f / "radz.json", base={"digest": "0" * 12}), "encoded by another backbone"),
    (lambda f: shutil.rmtree(f / "anchors_other"), None),
]


def bend(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(("change", "words"), FAULTS)
def test_a_changed_export_is_refused(exports: dict[bool, Path], tmp_path: Path, change: Any, words: str | None) -> None:
    folder = shutil.copytree(exports[False], tmp_path / "changed")
    change(folder)
    if words is None:  # nothing that features depend on
        assert Radz.from_pretrained(folder).embed_texts(["edema"]).shape == (1, 32)
        return
    with pytest.raises(InputError, match=words) as fault:
        Radz.from_pretrained(folder)
    assert "\n" not in str(fault.value)


def test_modality_tokens_of_another_number_are_refused(exports: dict[bool, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(exports[True], tmp_path / "changed")
    about = json.loads((folder / "radz.json").read_text())
    about["experiment"]["dfat"]["image_tokens"] += 1
    (folder / "radz.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"keep, but the tokenizer holds \d+ modality tokens"):
        Radz.from_pretrained(folder)
