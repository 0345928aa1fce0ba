"""The training recipe of docs/method.md computed anew: transformers and torch, one study at a time, nothing of radz.

Weights are leaves {radz's name of a parameter: tensor}; what is not among them is as the folder has it. Loops stand
where the method speaks of studies, pairs and findings, so that every line can be held against its sentence there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.func import functional_call

INSTRUCTION = "Describe the findings of this chest X-ray."
BODY = "encoder.backbone.model."
ABSENT, PRESENT, UNCERTAIN, UNMENTIONED = range(4)


class Plain:
    """LLaVA with the modality tokens, LoRA merged by hand, and the three heads.

    Args:
        folder: of the model. leaves: float64. tokens: modality tokens of image and text. lora: alpha / rank.
        recipe: `longest`, `text_prompt`, `head_order`, `local_pool` as the dfat section names them.
    """

    def __init__(
        self, folder: Path, leaves: dict[str, Tensor], tokens: tuple[int, int], lora: float = 2.0, **recipe: Any
    ) -> None:
        from transformers import AutoTokenizer, LlavaForConditionalGeneration
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        self.leaves, self.lora = leaves, lora
        self.full: dict[str, Tensor] = {}
        self.recipe = {"longest": 256, "text_prompt": "", "head_order": "head_then_mean", "local_pool": "content"}
        self.recipe |= recipe
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        names = [f"<ImgCls_{i}>" for i in range(tokens[0])] + [f"<TxtCls_{i}>" for i in range(tokens[1])]
        self.tokenizer.add_tokens(names, special_tokens=True)
        self.model = LlavaForConditionalGeneration.from_pretrained(folder).double().eval()
        self.model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        ids = self.tokenizer.convert_tokens_to_ids(names)
        self.image_ids, self.text_ids = ids[: tokens[0]], ids[tokens[0] :]
        self.picture = CLIPImageProcessorPil.from_pretrained(folder)
        self.patch = self.model.config.image_token_id
        vision = self.model.config.vision_config
        self.patches = (vision.image_size // vision.patch_size) ** 2

    def merge(self) -> None:
        """Put the leaves into the whole model; to be called when they have moved."""
        found = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        for name, leaf in self.leaves.items():
            key = name.removeprefix(BODY).removeprefix("base_model.model.")
            if not name.startswith(BODY) or ".lora_B." in name:
                continue
            if ".lora_A." in name:
                key = key.partition(".lora_A.")[0] + ".weight"
                found[key] = found[key] + self.lora * self.leaves[name.replace(".lora_A.", ".lora_B.")] @ leaf
            elif "trainable_tokens_delta" in name:
                key = key.partition(".token_adapter.")[0] + ".weight"
                rows = torch.tensor(self.image_ids + self.text_ids)
                found[key] = found[key].index_copy(0, rows, leaf)
            else:
                assert key in found, key
                found[key] = leaf
        self.full = found

    def states(self, ids: list[int], pixels: Tensor | None = None) -> Tensor:
        """`hidden_states[-2]` [T, d] of one sequence by itself."""
        given: dict[str, Any] = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
        if pixels is not None:
            given["pixel_values"] = pixels
        out = functional_call(self.model, self.full, (), {**given, "output_hidden_states": True})
        return out.hidden_states[-2][0]

    def image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Global and local feature [e] of a study of images uint8 [M, 1, S, S]."""
        states, ids = self.image_states(pixels)
        return self.pooled("image", states, self.image_ids, ids, {self.patch})

    def image_tokens(self, pixels: Tensor) -> list[Tensor]:
        """Features [e] of its single image tokens."""
        states, ids = self.image_states(pixels)
        return [self.head("image", states[n]) for n, token in enumerate(ids) if token == self.patch]

    def image_states(self, pixels: Tensor) -> tuple[Tensor, list[int]]:
        """States [T, d] and ids of a study."""
        content = [*[{"type": "image"}] * len(pixels), {"type": "text", "text": INSTRUCTION}]
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        ids = [i for token in self.tokenizer(chat).input_ids for i in [token] * (1, self.patches)[token == self.patch]]
        ids += self.image_ids
        pictures = [Image.fromarray(np.repeat(one.numpy()[0][..., None], 3, axis=2)) for one in pixels]
        values = self.picture(pictures, do_resize=False, do_center_crop=False, return_tensors="pt").pixel_values
        return self.states(ids, values.double()), ids

    def text(self, text: str) -> tuple[Tensor, Tensor]:
        """Global and local feature [e] of a text."""
        return self.pooled("text", *self.text_states(text))

    def anchor(self, text: str) -> Tensor:
        """Raw anchor [d]: the mean state of the modality tokens after a description."""
        states, last, _, _ = self.text_states(text)
        return states[-len(last) :].mean(0)

    def text_states(self, text: str) -> tuple[Tensor, list[int], list[int], list[int]]:
        """States, ids of the modality tokens, ids, and the places of the words."""
        begin, words = [self.tokenizer.bos_token_id], self.tokenizer(text, add_special_tokens=False).input_ids
        asked = self.tokenizer(self.recipe["text_prompt"], add_special_tokens=False).input_ids
        most = self.recipe["longest"]
        if len(words) > most:  # its beginning and its end
            words = words[: most // 2] + words[len(words) - (most - most // 2) :]
        ids = [*begin, *words, *asked, *self.text_ids]
        return self.states(ids), self.text_ids, ids, list(range(1, 1 + len(words)))

    def pooled(self, side: str, states: Tensor, last: list[int], ids: list[int], content: Any) -> tuple[Tensor, Tensor]:
        """Mean at the modality tokens, mean at the content: a set of ids, or places."""
        tokens = [n for n, token in enumerate(ids) if token in last]
        local = [n for n, token in enumerate(ids) if token in content] if isinstance(content, set) else content
        if self.recipe["local_pool"] == "rest":
            local = [n for n in range(len(ids)) if n not in tokens]
        if self.recipe["head_order"] == "head_then_mean":
            states = torch.stack([self.head(side, state) for state in states])
            return states[tokens].mean(0), states[local].mean(0)
        return self.head(side, states[tokens].mean(0)), self.head(side, states[local].mean(0))

    def head(self, side: str, vector: Tensor) -> Tensor:
        """identity, linear or mlp, whichever has weights."""
        return self.network(f"heads.{side}.", vector)

    def network(self, place: str, vector: Tensor) -> Tensor:
        """The same of the leaves that have `place` in their names."""
        own = {name.partition(place)[2]: w for name, w in self.leaves.items() if place in name}
        if "weight" in own:
            return own["weight"] @ vector + own["bias"]
        if not own:
            return vector
        inner = (vector - vector.mean()) / (vector.var(correction=0) + 1e-5).sqrt() * own["0.weight"] + own["0.bias"]
        inner = own["1.weight"] @ inner + own["1.bias"]
        return own["3.weight"] @ (inner * (1 + torch.erf(inner / math.sqrt(2))) / 2) + own["3.bias"]

    def language(self, texts: Sequence[str]) -> Tensor:
        """Mean cross-entropy of every token after the first of every text, and of its end."""
        terms = []
        for text in filter(None, texts):
            words = self.tokenizer(text, add_special_tokens=False).input_ids
            end = [self.tokenizer.eos_token_id] if len(words) <= self.recipe["longest"] else []
            ids = [self.tokenizer.bos_token_id, *words[: self.recipe["longest"]], *end]
            given = {"input_ids": torch.tensor([ids])}
            logits = functional_call(self.model, self.full, (), given).logits[0]
            terms += [-logits[n].log_softmax(0)[ids[n + 1]] for n in range(len(ids) - 1)]
        return torch.stack(terms).mean()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of two vectors."""
    return (a @ b) / (a.norm() * b.norm())


def nce(first: Sequence[Tensor], second: Sequence[Tensor], match: Any, tau: Any) -> Tensor:
    """Symmetric InfoNCE: of every row, the mean log probability of its matches, weighed by `match[i][j]`."""
    terms = []
    for one, other in ((first, second), (second, first)):
        for i, mine in enumerate(one):
            log_p = torch.stack([(cosine(mine, theirs) / tau).reshape(()) for theirs in other]).log_softmax(0)
            share = [match[i][j] / sum(match[i]) for j in range(len(other))]
            terms.append(-torch.stack([own * log_p[j] for j, own in enumerate(share)]).sum())
    return torch.stack(terms).mean()


def each_pair(first: Sequence[Tensor], second: Sequence[Tensor], match: Any, tau: Any, shift: Tensor) -> Tensor:
    """SigLIP: of every row the sum over columns of a match or none, `match[i][j]` likely; mean over rows."""
    rows = []
    for i, mine in enumerate(first):
        for j, theirs in enumerate(second):
            logit = (cosine(mine, theirs) / tau + shift).reshape(())
            rows.append(-match[i][j] * F.logsigmoid(logit) - (1 - match[i][j]) * F.logsigmoid(-logit))
    return torch.stack(rows).sum() / len(first)


def aligned(
    images: Sequence[tuple[Tensor, Tensor]], texts: Sequence[tuple[Tensor, Tensor]], match: Any, tau: Any, kind: str,
    w: float, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """docs/method.md 2.6, of studies that have a text; pairs are (global, local). With a `bias`, of the sigmoid, whose
    value is that of the first step."""

    def mean(image: int, text: int) -> Tensor:
        return torch.stack([cosine(one[image], other[text]) for one in images for other in texts]).mean()

    shift = None
    if bias is not None:
        matches, every = sum(map(sum, match)), len(images) * len(texts)
        bias.data.fill_(math.log((matches + 1) / (every - matches + 1)))
        apart = {"cross": (mean(0, 1) + mean(1, 0)) / 2, "global": mean(0, 0)}
        shift = bias[0] - apart.get(kind, w * mean(0, 0) + (1 - w) * mean(1, 1)).detach() / tau

    def pair(image: int, text: int) -> Tensor:
        sides = [one[image] for one in images], [one[text] for one in texts]
        return nce(*sides, match, tau) if shift is None else each_pair(*sides, match, tau, shift)

    if kind == "cross":
        return (pair(0, 1) + pair(1, 0)) / 2
    return pair(0, 0) if kind == "global" else w * pair(0, 0) + (1 - w) * pair(1, 1)


def target(states: Sequence[int], names: Sequence[str], values: Mapping[int, float | None]) -> dict[str, float]:
    """docs/method.md 3.4: {finding: 1, 0} of what is known; `values` is the loss policy, {state: 1, 0, None}."""
    said = dict(zip(names, states, strict=True))
    known = {name: value for name, state in said.items() if (value := values[state]) is not None}
    if "no_finding" not in names or said["no_finding"] in (ABSENT, PRESENT):
        return known
    by_policy = known.pop("no_finding", None) is not None
    pathologies = [name for name in names if name not in ("no_finding", "support_devices")]
    if any(known.get(name) == 1 for name in pathologies):
        known["no_finding"] = 0.0
    elif not by_policy and pathologies and all(said[name] == ABSENT for name in pathologies):
        known["no_finding"] = 1.0
    return known


def guided(
    features: Sequence[Tensor], anchors: Mapping[str, Tensor], known: Sequence[Mapping[str, float]], tau: Any,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Category loss of studies: softmax over the known anchors, or with `bias` every known pair by itself."""
    terms = []
    for feature, labels in zip(features, known, strict=True):
        logits = {name: (cosine(feature, anchors[name]) / tau).reshape(()) for name in labels}
        present = [name for name, value in labels.items() if value == 1]
        if bias is not None:
            terms += [-F.logsigmoid((1 if labels[name] else -1) * (logits[name] + bias[0])) for name in labels]
        elif present and len(labels) >= 2:
            whole = torch.logsumexp(torch.stack(list(logits.values())), 0)
            terms.append(torch.stack([whole - logits[name] for name in present]).mean())
    return torch.stack(terms).mean()


def located(
    tokens: Sequence[Sequence[Tensor]], anchors: Mapping[str, Tensor], known: Sequence[Mapping[str, float]], tau: Any,
    sharpness: float, bias: Tensor,
) -> Tensor:  # fmt: skip
    """docs/method.md 2.9: every known pair of a study and a finding, by the tokens that the finding attends to."""
    terms = []
    for of_study, labels in zip(tokens, known, strict=True):
        for name, value in labels.items():
            found = found_by(of_study, anchors[name], sharpness)
            terms.append(-F.logsigmoid((1 if value else -1) * (found / tau + bias[0])))
    return torch.stack(terms).mean()


def kept(now: Sequence[Tensor], then: Sequence[Tensor]) -> Tensor:
    """docs/method.md 2.11: how far the centred cosine of each pair has moved, squared."""
    terms = []
    for one in range(len(now)):
        for other in range(one):
            of_now, of_then = (
                cosine(rows[one] - sum(rows) / len(rows), rows[other] - sum(rows) / len(rows)) for rows in (now, then)
            )
            terms.append((of_now - of_then) ** 2)
    return torch.stack(terms).mean()


def reconstructed(predicted: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """docs/method.md 2.12, of single masked tokens [d]: the distance, and what keeps predictions apart."""
    flat = [(row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt() for row in targets]
    distances, narrow = [], []
    for place in range(len(flat[0])):
        wanted, found = (torch.stack([row[place] for row in rows]) for rows in (flat, predicted))
        wanted = (wanted - wanted.mean()) / (wanted.var(correction=0) + 1e-4).sqrt()
        apart = (found - wanted).abs()
        distances.append(torch.where(apart < 1, apart**2 / 2, apart - 0.5).mean())
        narrow.append((0.5 - (found.var(correction=0) + 1e-4).sqrt()).clamp(min=0))
    return torch.stack(distances).mean(), torch.stack(narrow).mean()


def found_by(tokens: Sequence[Tensor], text: Tensor, sharpness: float) -> Tensor:
    """Mean cosine of a text and the tokens of a study, weighed by the exponentials of themselves."""
    near = torch.stack([cosine(token, text).reshape(()) for token in tokens])
    share = torch.exp(near / sharpness) / torch.exp(near / sharpness).sum()
    return (share * near).sum()


def near(image: tuple[Tensor, Tensor], text: tuple[Tensor, Tensor], kind: str, w: float) -> Tensor:
    """What a loss of docs/method.md 2.6 compares; pairs are (global, local)."""
    across = [cosine(image[0], text[1]), cosine(image[1], text[0])]
    along = [w * cosine(image[0], text[0]), (1 - w) * cosine(image[1], text[1])]
    if kind == "global":
        return cosine(image[0], text[0])
    return (across[0] + across[1]) / 2 if kind == "cross" else along[0] + along[1]


def sentenced(
    compared: Callable[[int, str], Tensor], reports: Sequence[str],
    drawn: Sequence[Sequence[tuple[str, Sequence[str], str]]], known: Sequence[Mapping[str, float]], tau: Any,
) -> Tensor:  # fmt: skip
    """docs/method.md 2.10: of each study the drawn sentences (text, findings of the bank that it asserts, its twin)."""
    sentences = [one for of_study in drawn for one in of_study if one[0]]
    pairs: dict[tuple[int, int], bool] = {}
    for i, report in enumerate(reports):
        for j, (text, asserts, _) in enumerate(sentences):
            if text in report:
                pairs[i, j] = True
            elif not asserts or any(known[i].get(name) == 0 for name in asserts):
                pairs[i, j] = False
    logits = {(i, j): (compared(i, sentences[j][0]) / tau).reshape(()) for i, j in pairs}
    sides = []
    for side in (0, 1):
        rows = []
        for row in sorted({pair[side] for pair in pairs}):
            ours = [pair for pair in pairs if pair[side] == row]
            whole = torch.logsumexp(torch.stack([logits[pair] for pair in ours]), 0)
            if matches := [whole - logits[pair] for pair in ours if pairs[pair]]:
                rows.append(torch.stack(matches).mean())
        sides.append(torch.stack(rows).mean())
    told = [
        -F.logsigmoid((compared(i, text) - compared(i, twin)) / tau).reshape(())
        for i, of_study in enumerate(drawn) for text, _, twin in of_study if twin
    ]  # fmt: skip
    return ((sides[0] + sides[1]) / 2 + torch.stack(told).mean()) / 2


def stated(
    images: Sequence[tuple[Tensor, Tensor]], said: Sequence[tuple[Tensor, Tensor]],
    denied: Sequence[tuple[Tensor, Tensor]], anchors: Mapping[str, Tensor], known: Sequence[Mapping[str, float]],
    tau: Any, kind: str, w: float, bias: Tensor, category_bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """docs/method.md 2.8: one statement and its denial for each of the findings that `anchors` names, in its order."""

    alone, nearer = [], {0.0: [torch.zeros(())], 1.0: [torch.zeros(())]}
    for image, labels in zip(images, known, strict=True):
        for place, name in enumerate(anchors):
            if name not in labels:
                continue
            sign = 1 if labels[name] else -1
            yes, no = near(image, said[place], kind, w), near(image, denied[place], kind, w)
            alone.append(-F.logsigmoid(sign * (yes / tau + bias[0])) / 2)
            alone[-1] = (alone[-1] - F.logsigmoid(-sign * (no / tau + bias[1])) / 2).reshape(())
            nearer[labels[name]].append(-F.logsigmoid(sign * (yes - no) / tau).reshape(()))
    of_images = torch.stack(alone).mean()
    for terms in nearer.values():
        of_images = of_images + torch.stack(terms).sum() / max(1, len(terms) - 1) / 2
    texts = [text[0] for text in (*said, *denied)]
    says = [{other: float(other == name) for other in anchors} for name in anchors] + [{name: 0.0} for name in anchors]
    return (of_images / 2 + guided(texts, anchors, says, tau, category_bias)) / 2


def factor(step: int, steps: int, warm: int) -> float:
    """Of the peak rate at update `step` (0 is the first): linear to 1 in `warm` updates, then half a cosine to 0."""
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def group(name: str) -> str:
    """Which rate a parameter has."""
    if "multi_modal_projector" in name:
        return "projector"
    if ".heads." in name or name in ("category_bias", "statement_bias"):
        return "heads"
    return "temperature" if name == "log_scale" else "base"


def clipped(gradients: Mapping[str, Tensor], most: float) -> dict[str, Tensor]:
    """All gradients as one vector, shortened to length `most`."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    return {name: g * min(1.0, most / (norm + 1e-6)) for name, g in gradients.items()}


class AdamW:
    """Loshchilov and Hutter 2019, algorithm 2, with the usual betas .9 and .999."""

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self.first = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        self.second = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        self.step = 0

    @torch.no_grad()
    def update(
        self, leaves: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rate: Mapping[str, float],
        decay: Mapping[str, float],
    ) -> None:  # fmt: skip
        """`rate` and `decay` by name of the parameter."""
        self.step += 1
        for name, leaf in leaves.items():
            g = gradients[name]
            self.first[name] = 0.9 * self.first[name] + 0.1 * g
            self.second[name] = 0.999 * self.second[name] + 0.001 * g**2
            m, v = self.first[name] / (1 - 0.9**self.step), self.second[name] / (1 - 0.999**self.step)
            leaf -= rate[name] * decay[name] * leaf
            leaf -= rate[name] * m / (v.sqrt() + 1e-8)
