"""Short statements on single findings, said and denied, in many wordings: what training says beside whole reports.

A report names several findings in one style; the question of a user is one finding in another. Images are compared with
"There is edema." and "There is no edema." as a report would never have both, so that neither the wording nor a mere
mention decides (hard negatives by polarity, and by finding: after NegCLIP, arXiv 2210.01936, and CARZero, arXiv
2402.17417).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from data_modules.errors import InputError
from data_modules.findings import NO_FINDING, Ontology
from data_modules.parsing import parse_yaml
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, Given
from radz.models.labels import MODALITY_TEXT, finding_text, pathologies, with_no_finding
from radz.models.losses import Features, category, cosine, global_mean, trained_pairs
from radz.models.prompts import fill

Pair = tuple[str, str]


class Statements:
    """Statements on the K findings of a bank, and the loss of studies and anchors against them."""

    def __init__(
        self, file: Path, findings: Sequence[str], known: Ontology, modalities: Sequence[str], weight: float
    ) -> None:  # fmt: skip
        """Read the wordings.

        Args:
            file: of `statements` and `normal` (those of no_finding, whose denial is not made by a "no"), each a list of
                [said, denied].
            known: its texts and short names (`common`) stand for a finding.
            modalities: of all corpora, keys of MODALITY_TEXT. weight: of the loss.

        Raises:
            InputError: another form, or a statement that does not name the finding.
        """
        statements, normal = read_wordings(file)
        self._pairs = [normal if finding == NO_FINDING else statements for finding in findings]
        self._names = [names(known, finding) for finding in findings]
        self.weight, self.modalities = weight, tuple(dict.fromkeys(modalities))
        self.labels = statement_labels(findings, known)
        """[2K, K], see `statement_labels`"""

    def reads(self, texts: Sequence[str]) -> list[str]:
        """Every wording of every name."""
        return [
            fill(wording, name, MODALITY_TEXT[modality])
            for modality in self.modalities
            for pairs, called in zip(self._pairs, self._names, strict=True)
            for name in called
            for pair in pairs
            for wording in pair
        ]

    def encode(self, encoder: Encoder, given: Given) -> dict[str, Features]:
        """{modality: features [2K, e], raw} of a statement on each finding, and then of its denial.

        All modalities, whatever a batch holds, so that ranks call the decoder equally often.
        """
        drawn = {modality: self.draw(MODALITY_TEXT[modality], given.draw) for modality in self.modalities}
        return {
            name: encoder.encode_texts([*said, *denied], raw=True, groups=1) for name, (said, denied) in drawn.items()
        }

    def loss(
        self, encoder: Encoder, given: Given, encoded: Encoded, own: dict[str, Features], bias: Tensor
    ) -> Tensor:  # fmt: skip
        """Mean of `statement_loss` of B images, each with the statements of its modality, and of the category loss of
        the statements themselves, which a name must have in common with what describes it.

        Args:
            own: of `encode`; bias: [2] as in `statement_loss`.
        """
        dfat, of_anchors, says, image = encoder.config, [], self.labels.to(encoded.anchors), encoded.image
        cosines = image.overall.new_zeros(len(image.overall), len(says))
        every = torch.ones(len(says), dtype=torch.bool, device=cosines.device)
        for name, text in own.items():
            shared = encoder.of_texts(text.overall, text.local, says.shape[1])
            overall, local = shared[0].taken_from(text.overall), shared[1].taken_from(text.local)
            spoken = replace(text, overall=overall, local=local)
            of_it = torch.tensor([one == name for one in given.modalities], device=cosines.device)
            cosines = torch.where(
                of_it[:, None], trained_pairs(cosine, image, spoken, dfat.loss, dfat.global_weight), cosines
            )
            of_anchors.append(category(overall, encoded.anchors, says, every, **encoded.settings)[0])
        said, denied = cosines.chunk(2, dim=1)
        of_images = statement_loss(said, denied, encoded.labels, encoded.settings["temperature"], bias)
        return (of_images + torch.stack(of_anchors).mean()) / 2

    def draw(self, modality: str, number: int) -> tuple[list[str], list[str]]:
        """One statement on each finding, and its denial.

        Args:
            modality: in words. number: see `Given.draw`.
        """
        rng, said, denied = random.Random(number), [], []
        for pairs, called in zip(self._pairs, self._names, strict=True):
            name, (one, other) = rng.choice(called), rng.choice(pairs)
            said.append(fill(one, name, modality))
            denied.append(fill(other, name, modality))
        return said, denied


def read_wordings(file: Path) -> tuple[list[Pair], list[Pair]]:
    """Templates of statements, and of those of no_finding; see `Statements`."""
    try:
        content: Any = parse_yaml(file.read_text(encoding="utf-8"))
        statements, normal = ([_pair(one) for one in content[key]] for key in ("statements", "normal"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError, LookupError, TypeError, ValueError):
        raise InputError(
            f"dfat.statements: {file}: must hold `statements` and `normal`, lists of [said, denied]"
        ) from None
    if not statements or not normal:
        raise InputError(f"dfat.statements: {file}: needs a pair under `statements` and one under `normal`")
    for said, _ in statements:
        if "{finding}" not in said.lower():
            raise InputError(f"dfat.statements: {file}: {said!r} must contain {{finding}} or {{Finding}}")
    return statements, normal


def _pair(entry: Any) -> Pair:
    said, denied = entry
    for text in (said, denied):
        if not isinstance(text, str):
            raise TypeError
        fill(text, "x", "x")
    return said, denied


def names(known: Ontology, finding: str) -> list[str]:
    """What a finding is called: its text, its own and its exact short names in words."""
    found = [finding_text(known, finding), finding.replace("_", " ")]
    if finding in known:
        short = known[finding].aliases.get("common", {})
        found += [label.replace("_", " ").lower() for label, relation in short.items() if relation == "exact"]
    return list(dict.fromkeys(found))


def statement_loss(
    said: Tensor, denied: Tensor, labels: Tensor, temperature: float | Tensor, bias: Tensor
) -> Tensor:  # fmt: skip
    """Whether studies agree with statements, as binary cross-entropies in nats, a mean over known pairs of all ranks.

    Each statement alone is a match or none (half of the loss); and of a statement and its denial the study is nearer
    to the one that its label says (the other half). There findings present weigh as much as findings absent: most
    studies lack a given finding, and a loss that follows the majority would have them all nearer to the denial.

    Args:
        said, denied: cosines [B, K] of studies and statements.
        labels: [B, K], 1 present, 0 absent, NaN unknown.
        bias: [2], added to the logits of what is said and of what is denied.
    """
    known, label = ~labels.isnan(), labels.nan_to_num().to(said.dtype)

    def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    of_said = cross_entropy(said / temperature + bias[0], label)
    of_denied = cross_entropy(denied / temperature + bias[1], 1 - label)
    nearer = cross_entropy((said - denied) / temperature, label)
    present, absent = (global_mean(nearer, known & (labels == value)) for value in (1, 0))
    return (global_mean((of_said + of_denied) / 2, known) + (present + absent) / 2) / 2


def statement_labels(findings: Sequence[str], known: Ontology) -> Tensor:
    """What K statements and then their K denials say of the findings, [2K, K] as `category_targets` has labels.

    A statement says its finding, of which it leaves the wider ones open, and no other; a denial says its own alone.
    No pathology, such as a support device, and no_finding leave each other open.
    """
    count, diseases = len(findings), pathologies(findings)
    said = torch.eye(count)
    for row, finding in enumerate(findings):
        wider = known.ancestors(finding) if finding in known else ()
        free = set(range(count)) - {row, *diseases} if finding == NO_FINDING else ()
        said[row, [place for place, other in enumerate(findings) if other in wider or place in free]] = torch.nan
    # That a statement names nothing else is no word on health: stated is its own finding alone.
    said = with_no_finding(said, said.masked_fill(said == 0, torch.nan), findings)
    denied = torch.full((count, count), torch.nan).fill_diagonal_(0.0)
    return torch.cat([said, denied])
