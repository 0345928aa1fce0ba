"""README.md of an export folder: what the model is, what it learned from, under which terms, how well, how to use it.

The header follows the model cards of the Hugging Face hub.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_modules.config import DataConfig
from data_modules.corpora import LAYOUTS
from radz.config.backbone import BackboneConfig
from radz.inference.image_processor import limits
from radz.metrics.estimates import in_words

OWN_DATA = "A corpus of the user's own; its terms are not known to radz."
NO_DATA_USE = "Procedural; no patients."
CAUTION = (
    "Weights can hold traces of what they were trained on. Where a corpus is given under a data use agreement or to\n"
    "credentialed users only, such as those of PhysioNet, weights trained on it may fall under the same agreement:\n"
    "ask its owner before you share them. The terms of the backbone count as well."
)


def write_card(
    path: Path, content: Mapping[str, Any], metrics: Mapping[str, Any], environment: Mapping[str, Any],
    data: DataConfig, backbone: BackboneConfig,
) -> None:  # fmt: skip
    """Write the card.

    Args:
        content: of radz.json. data, backbone: sections of the experiment.
        metrics, environment: metrics.json and environment.json of the run.
    """
    merged = content["backbone"]["merged"]
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: zero-shot-image-classification\ntags: [radiology, radz]\n---",
        f"# {content['experiment']['name']}, exported by radz {content['radz']}",
        f"A {content['architecture']} whose decoder features of chest images and of sentences were aligned with each "
        "other\n(DFAT) and with described findings (DKAM), after LLaVA-RadZ (arXiv 2503.07487). "
        "For research only; it is not a medical\ndevice and must not be used to diagnose or treat.",
        _parts_table(content, merged),
        "## Training data\n" + _data(data, environment),
        "## Terms\n" + CAUTION,
        "## Results\n" + _results(metrics),
        "## Use\n" + _use(content, data, backbone, merged),
    ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _parts_table(content: Mapping[str, Any], merged: bool) -> str:
    rows = [
        ("backbone/", f"Hugging Face folder, {content['backbone']['dtype']}, all layers, modality tokens included"),
        *([] if merged else [("adapter/", "LoRA as PEFT keeps it")]),
        ("square/", "image processor that only makes square images, as training did, for that of backbone/"),
        ("heads.safetensors", "heads of image, text and anchors"),
        (
            "anchors/, anchors_other/",
            "findings of the training bank, and other described ones: vectors before the head",
        ),
        ("scope.safetensors", "what training images look like, by which `radz predict` says what is out of scope"),
        ("radz.json", "token ids, feature layer, prompts, heads, thresholds, fits of validation, preprocessing"),
    ]
    return "\n".join(["| part | holds |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in rows)])


def _data(data: DataConfig, environment: Mapping[str, Any]) -> str:
    lines = ["| corpus | split | studies | patients | images |", "|---|---|---|---|---|"]
    for name, splits in environment.get("counts", {}).items():
        for split, of in splits.items():
            lines.append(f"| {name} | {split} | {of['studies']} | {of['patients']} | {of['images']} |")
    lines.append("")
    for reader in dict.fromkeys(corpus.reader for corpus in data.corpora):
        layout = LAYOUTS.get(reader)
        if layout is not None:
            access = " ".join(layout.access.split())
            lines.append(f"- {layout.title}: {access}")
        else:
            lines.append(f"- {reader}: {NO_DATA_USE if reader == 'phantom' else OWN_DATA}")
    return "\n".join(lines)


def _results(metrics: Mapping[str, Any]) -> str:
    scorer = metrics["headline_scorer"]
    unit = "patient" if metrics.get("leaked") == [] else "patient; the test was not free of training data"
    lines = [
        f"Scorer `{scorer}`, 95 % interval by {unit}; a finding is *seen* by its training label, by its name in "
        "training\ntexts only, or not at all.",
        "",
        "| test | finding | seen | positives / studies | AUROC | AUPRC |",
        "|---|---|---|---|---|---|",
    ]
    for key, result in metrics["results"].items():
        measured = result["scorers"].get(scorer, {})
        macro = measured.get("macro", {})
        lines.append(f"| {key} | **macro** | | | {in_words(macro.get('auroc'))} | {in_words(macro.get('auprc'))} |")
        for name, of in measured.get("findings", {}).items():
            support = f"{of['positives']} / {of['studies']}"
            values = f"{in_words(of['auroc'])} | {in_words(of['auprc'])}"
            lines.append(f"| {key} | {name} | {of['seen']} | {support} | {values} |")
        excluded = ", ".join(f"{name} ({why})" for name, why in measured.get("excluded", {}).items())
        if excluded:
            lines.append(f"\nNot in the table of {key}: {excluded}.\n")
    return "\n".join(lines)


def _less_mean(content: Mapping[str, Any]) -> str:
    """What `dfat.token_norm` and `dfat.centre` do to a feature, in words of the paragraph on it."""
    dfat = content["experiment"]["dfat"]
    kind = dfat["token_norm"]
    normed = f"of states scaled to {kind} length before the head, " if kind != "none" else ""
    if dfat["centre"] == "none":
        return normed
    white = " times the whitening of `centre.image_overall_second`," if dfat["centre"] == "whiten" else ""
    return (
        f"{normed}less its mean in training (`centre.image_overall` of heads.safetensors divided by "
        f"`centre.image_weight`, likewise `text`;\nclass prompts lose the mean of those of the training bank "
        f"instead),{white} "
    )


def _of_several(content: Mapping[str, Any]) -> str:
    """How the images of a study come into its sequence."""
    part, how = content["image_part"], content["experiment"]["scoring"]["aggregate"]
    shared = (
        "Its template counts images; that of several is made by `Radz` alone."
        if part is None
        else f"The images of a study, such as the slices of a CT, share it: `{json.dumps(part)}` (`image_part`)\n"
        "stands there once per image, in their order, and `pixel_values` holds them all."
    )
    return shared if how == "joint" else f"{shared} Scores are the {how} of those of each image alone."


def _use(content: Mapping[str, Any], data: DataConfig, backbone: BackboneConfig, merged: bool) -> str:
    prompts = "\n".join(f"- {name}: `{json.dumps(text)}`" for name, text in content["image_prompts"].items())
    adapter = "" if merged else 'model = PeftModel.from_pretrained(model, "adapter")  # from peft\n'
    per_image, layer = content["tokens"]["per_image"], content["feature_layer"]
    listed = "\n".join(f"- {line}." for line in limits(data, backbone))
    step = (
        "The image processor resizes"
        if content["architecture"] == "LlavaForConditionalGeneration"
        else '`AutoImageProcessor.from_pretrained("square")` makes square images for that of `backbone/`, and resizes'
    )
    return f"""\
```python
from radz import Radz

model = Radz.from_pretrained("this_folder")
scores = model.score(["a.dcm"], ["pleural_effusion"])  # in [0, 1]
```
Without radz, by transformers alone:
```python
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

model = AutoModelForImageTextToText.from_pretrained("backbone")
{adapter}tokenizer, images = AutoTokenizer.from_pretrained("backbone"), AutoImageProcessor.from_pretrained("backbone")
```
A study is one sequence, the prompt of its modality (`image_prompts` of radz.json):
{prompts}

{_of_several(content)}
Each placeholder is repeated {per_image} times (`tokens.per_image`); the tokens of `tokens.image` follow, without an end
token. A sentence is BOS (where there is one), its words, and the tokens of `tokens.text`. The feature is
`hidden_states[{layer}]` at these tokens, through the head (`experiment.dfat.head`, `head_order`), averaged,
{_less_mean(content)}of unit length.

{step} as training did (`{data.resize}` to {data.image_size} pixels). What transformers
alone does not do:
{listed}"""
