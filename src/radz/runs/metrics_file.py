"""metrics.json of a run: results per set, coverage, subgroups, retrieval, cost, and the protocol in words."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules import privacy
from data_modules.datamodule import StudyDataModule
from data_modules.files import read_json
from data_modules.leaks import leaked
from radz.config.files import published_prompts
from radz.config.schema import Experiment
from radz.config.scoring import BY_SENTENCES, ScoringConfig
from radz.methods.validation import KEY as VALIDATION
from radz.methods.vqa_answers import unread
from radz.metrics.choice import choice, chosen
from radz.metrics.estimates import RULES
from radz.metrics.frequency import group
from radz.metrics.ranking import undefined_reason
from radz.metrics.retrieval import precision, retrieval
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.split_results import results
from radz.metrics.subgroups import groups_of, subgroups
from radz.metrics.validation_rules import Rules
from radz.metrics.wordings import in_prompt_sets, in_wordings
from radz.models.retrieval_features import Kept
from radz.models.zero_shot import pair_similarity
from radz.report.run_report import Case
from radz.runs.task import NO_PATHOLOGY, UNREACHABLE
from radz.runs.trained_rules import rules_for
from radz.training.run_folder import read_environment
from radz.training.trainer import MONITOR

log = logging.getLogger(__name__)
NOT_PROTOCOL = (
    "pixel_baseline", "cases", "retrieval", "wordings", "age_bands", "subgroup_least", "choice", "frequency_limits"
)  # fmt: skip
"""Keys of `scoring` that add numbers and change none."""


def write_results(
    experiment: Experiment, data: StudyDataModule, splits: dict[str, list[ScoreTable]], seen: dict[str, str],
    headline: str, world_size: int, run_dir: Path, trained: Path | None = None, kept: Kept | None = None,
    cost: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """predictions/*.csv and private/ids.csv from the tables of each split; returns what metrics.json will hold.

    `trained`: the run that is scored on other data. Its validation gives the thresholds where these data have no
    validation split. `leaked` is then null: what it was trained on is not at hand. `kept`: features of the test split,
    for retrieval.
    """
    own = trained is None or read_environment(trained).get("data_digest") == data.table.digest()
    coverage = data.table.coverage
    account = coverage.to_dict()
    account["reasons"] = account.pop("skipped")
    found: dict[str, Any] = {}
    own_rules = {t.corpus: Rules.of(t, str(data.table.modality[t.rows[0]])) for t in splits.get("val", []) if len(t)}
    for split, scored in splits.items():
        for table in scored:
            table.write_csv(prediction_file(run_dir, table.key))
            if split != "test":
                continue
            groups = {n: seen[n] for n in table.findings}
            primary = experiment.scoring.of_macro(groups)
            given = rules_for(table, data, own_rules, experiment.scoring, trained)
            rules = given.rules
            often = frequency(data, table, experiment.scoring.frequency_limits)
            entry = results(
                table, groups, primary, rules.thresholds if rules else None,
                experiment.scoring.replicates, experiment.scoring.seed, headline=headline,
                calibrations=rules.calibrations if rules else None, sets=rules.sets if rules else None,
                coverage={"skipped": coverage.skipped(table.corpus), **account},
                frequency=often and often["groups"], denied=_denied(experiment.scoring, table),
            )  # fmt: skip
            entry |= {"frequency": often} if often else {}
            given.note_in(entry)
            for values in entry["scorers"].values():
                values["excluded"] |= _not_scored(experiment, data, table.findings)
            for name, count in unread(table.scores).items():
                entry["scorers"][name]["unread"] = count
            entry["subgroups"] = within_subgroups(experiment, data, table, headline, primary)
            entry |= _beside(experiment, kept, table, primary)
            found[table.key] = entry
    write_private_ids(data, splits, run_dir)
    described = protocol(experiment, data, splits["test"])
    before = (read_json(run_dir / "metrics.json", "delete it") or {}).get("test_evaluations", 0)
    return {
        "schema": 1,
        "headline_scorer": headline,
        "monitor": MONITOR,
        "protocol_digest": hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12],
        "protocol": described | _published(experiment.scoring, splits["test"]),
        "world_size": world_size,
        "test_evaluations": before + 1,
        "leaked": leaked(data) if own else None,
        "pixels": described["pixels"],
        "cost": cost,
        VALIDATION: {corpus: rules.plain() for corpus, rules in own_rules.items()},
        "results": found,
    }


def _beside(
    experiment: Experiment, kept: Kept | None, table: ScoreTable, primary: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """The choice among findings, retrieval, other wordings and published prompts, where they were asked."""
    scoring = experiment.scoring
    asked = scoring.choice
    parts = {
        "choice": choice(table, asked, scoring.replicates, scoring.seed, _denied(scoring, table)) if asked else None,
        "retrieval": retrieved(experiment, kept, table),
        "wordings": in_wordings(table, primary, scoring.replicates, scoring.seed),
        "prompt_sets": in_prompt_sets(table, primary),
    }
    return {name: part for name, part in parts.items() if part is not None}


def _denied(scoring: ScoringConfig, table: ScoreTable) -> dict[str, list[str]]:
    return dict.fromkeys(BY_SENTENCES, scoring.denied(table.findings))


def protocol(experiment: Experiment, data: StudyDataModule, scored: Sequence[ScoreTable]) -> dict[str, Any]:
    """All that decides how scores and their metrics are made of features: corpora and splits, classes and their label
    policies, prompts, scorers, threshold rules, resampling, pixels."""
    settings = asdict(experiment.scoring)
    return {
        "scored": {table.key: list(table.findings) for table in scored},
        "scoring": {key: value for key, value in settings.items() if key not in NOT_PROTOCOL},
        "scorers": sorted({scorer for table in scored for scorer in table.scores}),
        "threshold_rules": list(RULES),
        "policies": [asdict(corpus.policy) for corpus in experiment.data.corpora],
        "pixels": data.recipe.settings(data.modalities),
    }


def _published(scoring: ScoringConfig, scored: Sequence[ScoreTable]) -> dict[str, Any]:
    """Which published set the prompts are, and form and source of those that were asked too; the digest of a protocol
    has the sentences themselves, and so no need of these."""
    published = published_prompts()
    own = None if scoring.class_prompts else published.name_of(scoring.prompts, scoring.negative_prompts)
    asked = sorted({name for table in scored for name in table.prompt_sets})
    return {
        **({"prompt_set": own} if own else {}),
        **({"prompt_sets": {name: asdict(published.sets[name]) for name in asked}} if asked else {}),
    }


def _not_scored(experiment: Experiment, data: StudyDataModule, scored: Collection[str]) -> dict[str, str]:
    """Why findings were not scored: asked for without a label column in these data, or without a known test label."""
    if asked := experiment.scoring.findings:
        return {name: UNREACHABLE for name in asked if name not in data.findings}
    labels = data.metric_labels(data.table.rows("test"))
    others = [(column, name) for column, name in enumerate(data.findings) if name not in (*scored, *NO_PATHOLOGY)]
    return {name: reason for column, name in others if (reason := undefined_reason(labels[:, column])) is not None}


def write_private_ids(data: StudyDataModule, splits: dict[str, list[ScoreTable]], run_dir: Path) -> None:
    """private/ids.csv (0600): table row, corpus ids and salted hash of every scored study."""
    salt = privacy.salt(data.cache_dir)
    lines: list[list[Any]] = [["row", "corpus", "split", "study_id", "patient", "hash"]]
    for table in itertools.chain.from_iterable(splits.values()):
        for row, study in zip(table.rows, table.study_id, strict=True):
            hashed = privacy.pseudonym(table.corpus, study, salt)
            lines.append([row, table.corpus, table.split, study, data.table.patient[row], hashed])
    privacy.write_private(run_dir / "private" / "ids.csv", lines)


def cases(data: StudyDataModule, scored: list[ScoreTable], headline: str, each: int) -> list[Case]:
    """Per finding the `each` best and worst studies under the headline scorer, half of them positive.

    Texts name row and hash.
    """
    salt = privacy.salt(data.cache_dir)
    found = []
    for table in scored:
        for finding in table.findings:
            labels, scores = table.column(headline, finding)
            if np.isnan(scores).any():
                continue
            picks = best_and_worst(labels, scores, max(1, each // 2))
            for kind, positions in picks.items():
                for i in positions:
                    row = int(table.rows[i])
                    picture = data.cache.picture(int(data.table.image_offsets[row]))
                    text = f"row {row}, {privacy.pseudonym(table.corpus, table.study_id[i], salt)}"
                    found.append(Case(finding, kind, float(scores[i]), int(labels[i]), picture, text))
    return found


def best_and_worst(labels: NDArray[Any], scores: NDArray[Any], half: int) -> dict[str, list[int]]:
    """Rows of a finding to look at: `half` of either class that are sure and right (best), sure and wrong (worst).

    Worst are the positives scored lowest, no higher than all negatives; best those scored highest, higher than most
    negatives, that are not among the worst. Of the negatives likewise, the other way round.
    """
    picks: dict[str, list[int]] = {"best": [], "worst": []}
    for label, sign in ((1, 1), (0, -1)):
        order = np.argsort(sign * scores, kind="stable")
        own, other = order[labels[order] == label], sign * scores[labels == 1 - label]
        level = sign * scores[own]
        worst = own[level <= other.max(initial=-np.inf)][:half]
        right = own[level > (np.median(other) if len(other) else -np.inf)]
        picks["worst"] += worst.tolist()
        picks["best"] += [row for row in right[::-1].tolist() if row not in worst][:half]
    return picks


def within_subgroups(
    experiment: Experiment, data: StudyDataModule, table: ScoreTable, headline: str, primary: Sequence[str]
) -> dict[str, Any]:
    """The headline scorer by sex, age band, view and whatever else the study table holds."""
    settings = experiment.scoring
    columns = {name: [str(cells[row]) for row in table.rows] for name, cells in data.table.attributes.items()}
    columns |= {"view": data.table.views(table.rows)} if "view" in columns else {}
    groups = groups_of(columns, settings.age_bands)
    return subgroups(
        table, headline, groups, primary, settings.subgroup_least, settings.replicates, settings.seed
    )  # fmt: skip


def retrieved(experiment: Experiment, kept: Kept | None, table: ScoreTable) -> dict[str, Any] | None:
    """Retrieval among the studies of one table that have a report; None when fewer than two distinct reports."""
    part = kept.take(table.rows) if kept is not None else None
    if part is None or len(part.text.overall) < 2:
        return None
    place = {row: number for number, row in enumerate(table.rows.tolist())}
    at = [place[row] for row in part.rows.tolist()]
    patients = [table.patient[number] for number in at]
    settings = experiment.scoring

    def similarity(rows: Tensor) -> Tensor:
        return pair_similarity(part.image.rows(rows), part.text, settings.prompt_features, experiment.dfat)

    reports, drawn = len(part.text.overall), (settings.replicates, settings.seed)
    found = retrieval(part.owner, reports, patients, similarity, *drawn)
    if settings.choice and set(settings.choice) <= set(table.findings):
        of_table = np.full(len(table), -1)
        alone, which = chosen(table, settings.choice)
        of_table[alone] = which
        truth = of_table[at]
        if (truth >= 0).any():
            found["precision"] = precision(part.owner, reports, patients, truth, similarity, *drawn)
    return {"features": settings.prompt_features, **found}


def frequency(data: StudyDataModule, table: ScoreTable, limits: Sequence[float]) -> dict[str, Any] | None:
    """Share of the training list of the table's corpus that has each scored finding, and its group by `limits`.

    None without a training split.
    """
    if (shares := data.training_shares.get(table.corpus)) is None:
        return None
    often = {name: float(shares[data.findings.index(name)]) for name in table.findings}
    groups = {name: group(share, limits) for name, share in often.items()}
    return {"limits": list(limits), "training": often, "groups": groups}


def cost(module: Any) -> dict[str, Any] | None:
    """Time from pixels on the device to scores, of this process; None for a module that takes no time."""
    timed = getattr(module, "timed", [])
    if not timed:
        return None
    # The first batch warms up: it counts only when it is alone.
    images, seconds = np.array(timed[1:] or timed).sum(axis=0)
    return {"images": int(images), "latency_ms_per_image": 1e3 * seconds / images, "device": str(module.device)}
