"""What a few labelled studies add to a trained, frozen model: image prototypes of findings beside their text anchors.

A prototype is the mean feature of studies with a finding less that of studies without it (Snell et al. 2017, arXiv
1703.05175, compare with class means; here it is a difference, since findings do not exclude each other). It is scored
alone, in the mean with the anchor, and beside a logistic regression on the same studies. Nothing is trained.

Shapes: N studies, C scored findings, e feature width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.evidence import few_shot_item, prototypes
from radz.evidence.few_shot_item import ANCHOR, KINDS, Arm, Measured
from radz.evidence.items import Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.evidence.prototypes import Numbers, Shots, Values
from radz.methods import logistic_regression
from radz.metrics.estimates import Estimates
from radz.models.losses import normalise

log = logging.getLogger(__name__)
SHOTS = (1, 2, 4, 8, 16)
Drawn = dict[str, Shots]
"""finding -> its shots in one draw"""


@dataclass(frozen=True)
class Studies:
    """What the frozen model gives of N studies."""

    features: Values
    """[N, e], L2-normalised"""
    anchor: Values
    """[N, C], scores of the text anchors; NaN for a finding without one"""


def compute(run: Opened) -> Item:
    """Draw shots of every finding from training studies, score the split's studies by them."""
    settings = run.settings
    train, test = run.rows("train", settings.train_studies), run.rows(settings.split, settings.studies)
    if not len(train):
        raise InputError("evidence: fewshot: these data have no training split to draw from; leave it out of only=")
    draws = [drawn(run, train, draw) for draw in range(settings.draws)]
    reach = {name: min(len(of.positives), len(of.absent)) for name, of in draws[0]["plain"].items()}
    left_out, numbers = usable(run, reach)
    names = [name for name in run.findings if name not in left_out]
    if not names:
        raise InputError("evidence: fewshot: no finding stands in training studies and lacks in others; take more")
    near, far = encoded(run, train), encoded(run, test)
    scores = {ANCHOR: far.anchor}
    for draw, kinds in enumerate(draws):
        for kind, of in kinds.items():
            for number in numbers:
                chosen = {run.findings.index(name): of[name].first(number) for name in names}
                for reading, values in scored(near, far, chosen, settings.probe_strength).items():
                    scores[Arm(kind, reading, number).scorer(draw)] = values
        log.info("few shots: draw %d of %d", draw + 1, settings.draws)
    # The intervals of AUROC take no resamples, and nothing else is read here.
    estimates = Estimates(run.table(test, scores), {}, {}, 1, settings.seed)
    for name in names:
        if len(estimates.of(ANCHOR, [name])) == 0 or any(not estimates.of(scorer, [name]) for scorer in scores):
            left_out[name] = f"no description, or not both labels in {settings.split}"
    names = [name for name in names if name not in left_out]
    if not names:
        raise InputError(f"evidence: fewshot: no finding that was drawn has both labels in {settings.split}; take more")
    positives = {name: len(draws[0]["plain"][name].positives) for name in names}
    measured = Measured(estimates, names, numbers, settings.draws, positives)
    return few_shot_item.item(measured, left_out, likeness(run, near, train, draws, names), len(train), len(test))


def drawn(run: Opened, train: RowNumbers, draw: int) -> dict[str, Drawn]:
    """Kind -> finding -> its shots, in an order of the training studies that is this draw's own."""
    order = np.random.default_rng([run.settings.seed, draw]).permutation(len(train))
    labels, people, every = run.data.loss_labels(train), run.data.table.people[train], run.data.findings
    found: dict[str, Drawn] = {kind: {} for kind in KINDS}
    for name in run.findings:
        own = labels[:, every.index(name)]
        others = labels[:, prototypes.company_of(name, every, run.data.ontology)] == 1
        found["plain"][name] = prototypes.plain(own, people, order)
        found["curated"][name] = prototypes.curated(own, others, people, order)
    return found


def usable(run: Opened, reach: Mapping[str, int]) -> tuple[dict[str, str], list[int | None]]:
    """Why findings are left out, and the numbers of shots; None is all.

    So that every number is of the same findings, those count that have the largest number of SHOTS that half of the
    findings with positives have.

    Args:
        reach: positives of each finding, or studies without it where those are fewer; a study of each patient.
    """
    present = run.data.trained_findings()
    having = sorted(reach[name] for name in run.primary if reach[name])
    median = having[len(having) // 2] if having else 0
    most = max((number for number in SHOTS if number <= median), default=1)
    left_out = {}
    for name in run.findings:
        if name not in present:
            left_out[name] = "no positive training study"
        elif name not in run.primary:
            left_out[name] = "the run was not trained on its labels"
        elif reach[name] < most:
            left_out[name] = f"fewer than {most} patients with it, or without it, among the training studies looked at"
    return left_out, [*(number for number in SHOTS if number <= most), None]


def encoded(run: Opened, rows: RowNumbers) -> Studies:
    """Global features and anchor scores of studies, by the frozen model."""

    def both(batch: StudyBatch) -> Tensor:
        modalities = run.modalities(batch)
        images = run.classifier.encode(batch.pixels, batch.image_counts, modalities)
        features = normalise(run.classifier.study_features(images, batch.image_counts).overall)
        anchor = run.classifier.score_features(images, batch.image_counts, modalities)["anchor"]
        return torch.cat([features.float(), anchor.float()], dim=1)

    values = run.over(rows, both)
    width = values.shape[1] - len(run.findings)
    return Studies(values[:, :width], values[:, width:])


def scored(
    near: Studies, far: Studies, chosen: Mapping[int, tuple[Numbers, Numbers]], strength: float
) -> dict[str, Values]:
    """Scores [n, C] in [0, 1] of the studies `far`, by reading; NaN for findings without shots.

    In the mean with the anchor both are standardised by the training studies, so that a score does not depend on which
    others are scored.

    Args:
        near: training studies. chosen: column of the finding -> positives and absent among them.
        strength: inverse regularisation C of the regression.
    """
    nothing = np.full_like(far.anchor, np.nan)
    alone, beside, regression = nothing.copy(), nothing.copy(), nothing.copy()
    labels = np.full((len(near.features), len(chosen)), np.nan, np.float32)
    for column, (k, (positives, absent)) in enumerate(chosen.items()):
        direction = prototypes.prototype(near.features, positives, absent)
        own, other = (prototypes.cosines(studies.features, direction) for studies in (near, far))
        alone[:, k] = (other + 1) / 2
        beside[:, k] = expit((_standard(other, own) + _standard(far.anchor[:, k], near.anchor[:, k])) / 2)
        labels[positives, column], labels[absent, column] = 1, 0
    rows, columns = np.flatnonzero(~np.isnan(labels).all(1)), list(chosen)
    fitted = logistic_regression.fit(near.features[rows], labels[rows], None, [strength], strength, "few shots")
    regression[:, columns] = fitted.scores(far.features)
    return dict(zip(few_shot_item.READINGS, (alone, beside, regression), strict=True))


def _standard(values: Values, of: Values) -> Values:
    standard: Values = (values - of.mean()) / max(float(of.std()), 1e-6)
    return standard


def likeness(
    run: Opened, near: Studies, train: RowNumbers, draws: list[dict[str, Drawn]], names: list[str]
) -> dict[str, float]:
    """Kind -> mean cosine of a finding's prototype with that of the finding that most often stands beside it.

    Of all positives, over findings and draws; nothing where no finding stands beside another.
    """
    every = run.data.findings
    present = run.data.loss_labels(train)[:, [every.index(name) for name in names]] == 1
    pairs: list[tuple[str, str]] = []
    for k, name in enumerate(names):
        company = prototypes.company_of(name, every, run.data.ontology)[[every.index(other) for other in names]]
        beside = present[present[:, k]].sum(0) * company
        if beside.any():
            pairs.append((name, names[int(beside.argmax())]))
    found: dict[str, list[float]] = {kind: [] for kind in KINDS} if pairs else {}
    for kind, values in found.items():
        for of in (draw[kind] for draw in draws):
            made = {name: prototypes.prototype(near.features, *of[name].first(None))[None] for name in names}
            values += [float(prototypes.cosines(normalised(made[one]), made[other][0])[0]) for one, other in pairs]
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def normalised(rows: NDArray[np.float32]) -> Values:
    """Rows [n, e] of length 1; a row of zeros stays."""
    unit: Values = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
