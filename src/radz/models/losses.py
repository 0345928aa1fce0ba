"""Contrastive and category-guided losses as pure functions of tensors (docs/method.md 2.6 and 3.4).

Shapes: B studies on this rank, G = W * B studies over all W ranks, d feature dimension, K anchors.
Every mean is `W * (sum over this rank) / (count over all ranks)`, so that the mean that DDP takes over the gradients of
the ranks is the gradient of the mean over the joint batch. All arithmetic is at least fp32 and outside autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from radz.backbones.layers import at_least_fp32
from radz.distributed import gather, total, world


@dataclass
class Features:
    """Global [B, d] and local [B, d] features of one modality.

    `peak_share` [2] is the pooling diagnostic, a mean: of the squared norm behind a local feature, what the longest
    position holds, and what the longest hundredth of all positions (one at least) does. `tokens` [B, P, e] are those of
    single image tokens, zero behind the last one of a study, where a loss or a score asks for them.
    """

    overall: Tensor
    local: Tensor
    peak_share: Tensor
    tokens: Tensor | None = None

    def rows(self, index: Tensor) -> Features:
        """Features of the studies `index`, in that order."""
        tokens = None if self.tokens is None else self.tokens[index]
        return Features(self.overall[index], self.local[index], self.peak_share, tokens)

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """Features of several batches as those of one."""
        overall, local = torch.cat([part.overall for part in parts]), torch.cat([part.local for part in parts])
        share = torch.stack([part.peak_share * len(part.overall) for part in parts]).sum(0) / len(overall)
        tokens = [part.tokens for part in parts if part.tokens is not None]
        longest = max((one.shape[1] for one in tokens), default=0)
        padded = [F.pad(one, (0, 0, 0, longest - one.shape[1])) for one in tokens]
        return Features(overall, local, share, torch.cat(padded) if padded else None)


def normalise(tensor: Tensor) -> Tensor:
    """L2-normalised last dimension in at least fp32; the gradient of a zero vector stays finite."""
    return F.normalize(at_least_fp32(tensor), dim=-1, eps=1e-6)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """[N, e] and [K, e] to [N, K]. Of sets [K, S, e], the nearest of each counts."""
    cosines = normalise(first) @ normalise(second).flatten(0, -2).T
    return cosines.unflatten(1, second.shape[:-1]).amax(2) if second.dim() == 3 else cosines


def global_mean(values: Tensor, used: Tensor) -> Tensor:
    """Mean of `values` [B] or [B, K] where `used` (bool, same shape), over all ranks; 0 when no rank has one."""
    count = total(used.sum()).clamp(min=1)
    return world()[1] * torch.where(used, values, torch.zeros_like(values)).sum() / count


def positive_pairs(studies: Tensor, digest: Tensor, kind: str, labels: Tensor | None = None) -> Tensor:
    """How far pairs match, [B, G] in [0, 1]; a study always matches its own text, wherever it stands.

    Args:
        studies: int64 [B], row of each in the table; class-aware sampling may draw one twice, here or on another rank.
        digest: int64 [B], identity of each study's text.
        kind: `diagonal` (only its own), `same_text` (every study whose text is identical), `same_labels` or `overlap`
            (see there).
        labels: as for `same_labels` and `overlap`, which need them.
    """
    own = (studies[:, None] == gather(studies)[None, :]).float()
    if kind == "diagonal":
        return own
    if kind == "same_text":
        return own.maximum((digest[:, None] == gather(digest)[None, :]).float())
    assert labels is not None
    return own.maximum(overlap(labels) if kind == "overlap" else same_labels(labels).float())


def same_labels(labels: Tensor) -> Tensor:
    """Pairs of studies with the same label vector, bool [B, G].

    A study with an unknown column matches none: it may have the finding or not. Neither does one without any finding
    where nothing says that it is healthy.

    Args:
        labels: [B, K] as in `category_targets`.
    """
    present = labels == 1
    complete = ~labels.isnan().any(1) & present.any(1)
    ours, all_of = present.float(), gather(present).float()
    differing = ours @ (1 - all_of).T + (1 - ours) @ all_of.T
    return (differing == 0) & complete[:, None] & gather(complete)[None, :]


def overlap(labels: Tensor) -> Tensor:
    """Findings that two studies share, of all that one of them has, [B, G]; 0 where neither has any.

    What is unknown in one study and present in the other is not shared.

    Args:
        labels: [B, K] as in `category_targets`, no_finding among them.
    """
    present = (labels == 1).to(torch.promote_types(labels.dtype, torch.float32))
    shared = present @ gather(present).T
    either = present.sum(1)[:, None] + gather(present).sum(1)[None, :] - shared
    return shared / either.clamp(min=1)


def info_nce(first: Tensor, second: Tensor, positives: Tensor, usable: Tensor, temperature: float | Tensor) -> Tensor:
    """Symmetric InfoNCE of L2-normalised pairs against the negatives of all ranks (van den Oord 2018, CLIP 2021).

    Args:
        first, second: [B, d] features of the two sides.
        positives: [B, G], how far pairs match; the matches of a row share its mass in proportion.
        usable: bool [B]; studies without one of the sides take no part as row or as column.

    Returns:
        Scalar in nats.
    """
    first, second = normalise(first), normalise(second)
    columns = gather(usable)
    # A row that is not used still needs one finite column, or its softmax is NaN and poisons the gradient.
    columns = columns | ~columns.any()
    matches = positives * columns[None, :]
    weights = (matches / matches.sum(1, keepdim=True).clamp(min=1)).to(first.dtype)
    terms = []
    for own, other in ((first, second), (second, first)):
        logits = own @ gather(other).T / temperature
        log_p = logits.masked_fill(~columns[None, :], float("-inf")).log_softmax(1)
        picked = torch.where(matches > 0, log_p, torch.zeros_like(log_p))
        terms.append(global_mean(-(weights * picked).sum(1), usable))
    return (terms[0] + terms[1]) / 2


def sigmoid_pairs(
    first: Tensor, second: Tensor, positives: Tensor, usable: Tensor, temperature: float | Tensor, bias: Tensor
) -> Tensor:  # fmt: skip
    """Each pair of L2-normalised features by itself, a match or none (SigLIP, arXiv 2303.15343).

    Args:
        first, second, positives, usable: as in `info_nce`; a pair that matches by half is so with probability .5.
        bias: [1], added to every logit.

    Returns:
        Scalar in nats: binary cross-entropies summed over the columns of a row, mean over rows.
    """
    logits = normalise(first) @ gather(normalise(second)).T / temperature + bias
    terms = F.binary_cross_entropy_with_logits(logits, positives.to(logits.dtype), reduction="none")
    return global_mean(terms.masked_fill(~gather(usable)[None, :], 0.0).sum(1), usable)


def alignment(
    image: Features,
    text: Features,
    pairs: Tensor,
    usable: Tensor,
    *,
    loss: str,
    temperature: float | Tensor,
    global_weight: float,
    bias: Tensor | None = None,
) -> Tensor:
    """Alignment loss between the images and texts of a batch; `pairs` are those of `positive_pairs`.

    `loss`, `global_weight`: as for `trained_pairs`, of which InfoNCE is taken, or with a `bias` the sigmoid loss.
    """

    def compare(a: Tensor, b: Tensor) -> Tensor:
        if bias is None:
            return info_nce(a, b, pairs, usable, temperature)
        return sigmoid_pairs(a, b, pairs, usable, temperature, bias)

    return trained_pairs(compare, image, text, loss, global_weight)


def trained_pairs(
    compare: Callable[[Tensor, Tensor], Tensor], image: Features, text: Features, loss: str, global_weight: float
) -> Tensor:
    """`compare` of the pairs of features that a loss trains: what training aligns is what scoring compares.

    `cross`: mean of (global image, local text) and (local image, global text). `global`: (global, global).
    `global_local`: global_weight * (global, global) + (1 - global_weight) * (local, local).
    """
    if loss == "cross":
        return (compare(image.overall, text.local) + compare(image.local, text.overall)) / 2
    if loss == "global":
        return compare(image.overall, text.overall)
    if loss == "global_local":
        near, far = compare(image.local, text.local), compare(image.overall, text.overall)
        return global_weight * far + (1 - global_weight) * near
    raise ValueError(f"dfat.loss: unknown loss {loss!r}")


@dataclass(frozen=True)
class Focus:
    """How a cross-entropy leaves easy pairs alone (asymmetric loss: Ridnik et al., ICCV 2021, arXiv 2009.14119)."""

    present: float = 0.0
    """power of the probability of error by which a term of a present finding shrinks"""
    absent: float = 0.0
    """likewise of an absent one"""
    margin: float = 0.0
    """probability that is taken off an absent one first: below it the pair counts nothing"""

    def __bool__(self) -> bool:
        return bool(self.present or self.absent or self.margin)


def known_cross_entropy(logits: Tensor, labels: Tensor, focus: Focus | None = None) -> Tensor:
    """Binary cross-entropy (scalar, nats) over the known labels of all ranks: logits, labels [B, K], NaN unknown."""
    known = ~labels.isnan()
    # NaN must be gone before the loss: masking afterwards would still leave NaN in the gradient.
    target = labels.nan_to_num(0.0).to(logits.dtype)
    if not focus:
        return global_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), known)
    # 0 to a power below 1 has no gradient.
    short, wrong = (-logits).sigmoid().clamp(min=1e-12), (logits.sigmoid() - focus.margin).clamp(min=1e-12)
    absent = torch.log1p(-wrong.clamp(max=1 - 1e-7)) if focus.margin else F.logsigmoid(-logits)
    of_present = short.pow(focus.present) * F.logsigmoid(logits)
    return global_mean(-torch.where(target > 0, of_present, wrong.pow(focus.absent) * absent), known)


def category_targets(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each study's distribution over the anchors.

    Args:
        labels: [B, K], 1 present, 0 absent, NaN unknown, under the loss policy; of no_finding what
            `radz.models.labels.with_no_finding` says.

    Returns:
        target [B, K] summing to 1 where used; known bool [B, K], the columns that enter the softmax; used bool [B].
    """
    present, known = labels == 1, ~labels.isnan()
    used = (known.sum(1) >= 2) & present.any(1)
    dtype = torch.promote_types(labels.dtype, torch.float32)
    target = present.to(dtype) / present.sum(1, keepdim=True).clamp(min=1)
    return target, known, used


def category(
    features: Tensor,
    anchors: Tensor,
    labels: Tensor,
    usable: Tensor,
    *,
    temperature: float | Tensor,
    bias: Tensor | None = None,
    prior: Tensor | None = None,
    focus: Focus | None = None,
) -> tuple[Tensor, Tensor]:
    """Category-guided loss of cosine / temperature, as a softmax or, with a `bias`, as a sigmoid over the anchors.

    The softmax is the cross-entropy against the study's distribution over anchors (docs/method.md 3.4). The sigmoid is
    the binary cross-entropy of every known pair of study and anchor by itself (SigLIP, arXiv 2303.15343): findings do
    not compete, and a study without any present finding teaches too.

    Args:
        features: [B, d] global features of one modality.
        anchors: [K, d] anchor features after the anchor head, or sets of them [K, S, d], of which the nearest counts.
        labels: [B, K] as in `category_targets`.
        usable: bool [B], studies that have this modality.
        temperature: a number, or a tensor [1] that is learned.
        bias: [1] added to every logit of the sigmoid.
        prior: [K] added to the logits, as `radz.models.labels.training_prior` makes it, so that similarities need not
            say how common each finding is (logit adjustment: Menon et al., ICLR 2021, arXiv 2007.07314).
        focus: of the sigmoid.

    Returns:
        The loss (scalar, nats) and the share of studies of all ranks that were used.
    """
    target, known, used = category_targets(labels)
    logits = cosine(features, anchors) / temperature
    if prior is not None:
        logits = logits + prior
    if bias is not None:
        used = known.any(1) & usable
        loss = known_cross_entropy(logits + bias, labels.masked_fill(~usable[:, None], torch.nan), focus)
    else:
        used = used & usable
        # Unused rows may have no known column at all; give them all columns so that their softmax stays finite.
        log_p = logits.masked_fill(~(known | ~used[:, None]), float("-inf")).log_softmax(1)
        picked = torch.where(target > 0, log_p, torch.zeros_like(log_p))
        loss = global_mean(-(target.to(log_p.dtype) * picked).sum(1), used)
    return loss, total(used.sum()) / (world()[1] * used.shape[0])


def of_both_sides(
    image: Features, text: Features, anchors: Tensor, labels: Tensor, usable: Tensor, **settings: Any
) -> tuple[Tensor, Tensor]:
    """Mean of the `category` losses of images and of texts, and the share of studies that that of images used.

    Args:
        usable: bool [B], studies that have a text. settings: those of `category` by name.
    """
    of_image, used = category(image.overall, anchors, labels, torch.ones_like(usable), **settings)
    of_text, _ = category(text.overall, anchors, labels, usable, **settings)
    return (of_image + of_text) / 2, used
