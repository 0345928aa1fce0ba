"""Joined scores and labels as what metrics.json holds: findings, macro, scale, thresholds, subgroups, notes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules import privacy
from data_modules.errors import InputError, nearest
from data_modules.findings import NO_FINDING
from radz.config.checks import canonical
from radz.metrics.choice import choice
from radz.metrics.estimates import RULES
from radz.metrics.score_table import ScoreTable
from radz.metrics.split_results import NOT_KNOWN, calibrations_from, results, sets_from, thresholds_from
from radz.metrics.subgroups import groups_of, subgroups
from radz.runs.other_scores.headers import LABEL
from radz.runs.other_scores.joined import Pairs, score_table
from radz.runs.other_scores.labels import labels_of
from radz.runs.other_scores.protocol import Protocol
from radz.runs.other_scores.request import Request
from radz.runs.other_scores.sheet import Sheet, scores_of
from radz.runs.other_scores.unit_interval import LOGITS, PERCENT, check_one_scale, to_unit_interval

log = logging.getLogger(__name__)
NO_SCORE, NO_LABEL = "no column of the scores is it", "no column of the labels is it"
READ_AS = {
    LOGITS: "and are taken as logits: the logistic function brings them into [0, 1] and keeps their order. Brier score "
    "and calibration error, which are of a line fitted to that, depend on this reading; a threshold of one half is a "
    "logit of 0.",
    PERCENT: "and none is negative or beyond 100, so they are taken as percent and divided by 100; Brier score and "
    "calibration error are of a line fitted to them, and the same on either scale. A threshold of one half is 50: if "
    "they are no percentages, leave out what is measured there, or give probabilities.",
}
MOST_VALUES = 50
"""Values of a column of subgroups; more may be identifiers, which must not stand on a page."""


class Brought:
    """Everything between two joined tables and metrics.json."""

    def __init__(self, request: Request, protocol: Protocol, test: Pairs, val: Pairs | None) -> None:
        self.request, self.protocol, self.test, self.val = request, protocol, test, val
        if val is not None and (both := test.units() & val.units()):
            raise InputError(
                f"val: {len(both)} rows of {val.scores.path} are in {test.scores.path} too; give other studies"
            )
        self.notes: list[str] = []
        self.salt = privacy.salt(request.cache_dir)
        self.settings = protocol.scoring
        self.replicates = self.settings.replicates if request.replicates is None else request.replicates
        self.seed = self.settings.seed if request.seed is None else request.seed
        self.alone = _name(request.scorer, request.scores)
        self.corpus = self._corpus()
        self.scorers = list(dict.fromkeys(column.scorer or self.alone for column in test.scores.columns))
        self.headline = self._headline()
        self._check_val()
        scored = {column.finding for column in test.scores.columns}
        labelled = list(dict.fromkeys(column.finding for column in test.labels.columns))
        wanted = protocol.findings or tuple(labelled)
        self.findings = tuple(name for name in wanted if name in scored and name in labelled)
        self.absent = {name: NO_SCORE for name in wanted if name not in scored}
        self.absent |= {name: NO_LABEL for name in wanted if name in scored and name not in labelled}
        if not protocol.findings:
            self.absent |= dict.fromkeys(sorted(scored - set(labelled)), NO_LABEL)
        self._check_findings(scored, labelled)
        if protocol.findings and (beyond := sorted(scored - set(wanted))):
            log.info("protocol=%s does not name %s; not scored", protocol.name, ", ".join(beyond))
        self.primary = self._primary()

    def _corpus(self) -> str:
        """Prediction files are called `<corpus>_<split>.csv`."""
        scores, labels = (sheet.path.name.partition(".")[0] for sheet in (self.test.scores, self.test.labels))
        of_file = scores.rpartition("_")[0] if self.test.scores.hashed else labels
        name = self.request.corpus or self.protocol.corpus or of_file or scores
        if "/" in name:
            raise InputError(f"corpus={name}: must be a name without '/'")
        return name

    def _headline(self) -> str:
        wanted = self.request.scorer
        if wanted is not None and wanted not in self.scorers:
            raise InputError(
                f"scorer={wanted}: {self.request.scores} has no such scorer{nearest(wanted, self.scorers)}"
            )
        return wanted or self.scorers[0]

    def _check_val(self) -> None:
        """InputError where validation is of other models."""
        if self.val is None:
            return
        named = {column.scorer or self.alone for column in self.val.scores.columns}
        for scorer in self.scorers:
            if scorer not in named:
                raise InputError(f"val: {self.val.scores.path} has no scores of {scorer}{nearest(scorer, named)}")

    def _check_findings(self, scored: set[str], labelled: Sequence[str]) -> None:
        """InputError without a finding in common, or for a column of labels that may be a misspelt finding."""
        labels = self.test.labels
        for name in sorted(scored - set(labelled)):
            hint = nearest(name.replace("_", " "), [header.replace("_", " ") for header in labels.unread])
            if hint.startswith("; nearest"):
                raise InputError(
                    f"{labels.path}: no column of labels is {name}, which is scored{hint}; rename that column, or "
                    "leave it out by ignore=COLUMN"
                )
        if not self.findings:
            raise InputError(
                f"{self.request.scores} and {labels.path}: have no finding in common"
                + (f" with protocol={self.protocol.name}" if self.protocol.findings else "")
                + f" (scores: {', '.join(sorted(scored))}; labels: {', '.join(labelled)})"
            )

    def _primary(self) -> list[str]:
        """Findings of the macro: as named, else all; `no_finding` only where a protocol names it, or it is alone."""
        if self.request.primary:
            chosen = canonical("primary", self.request.primary, self.protocol.ontology)
            for name in chosen:
                if name not in self.findings:
                    raise InputError(f"primary: {name} is not scored{nearest(name, self.findings)}")
            return chosen
        if self.protocol.findings:
            if self.settings.primary == "seen":
                self.notes.append(
                    "The protocol averages over the findings that training knew; since that is not known, over all."
                )
            return list(self.findings)
        return [name for name in self.findings if name != NO_FINDING] or list(self.findings)

    def tables(self) -> dict[str, ScoreTable]:
        """`test`, and `val` where it is given, on one scale for each scorer; InputError where theirs differ."""
        splits = {"test": self.test, **({"val": self.val} if self.val is not None else {})}
        raw = {split: scores_of(pairs.scores) for split, pairs in splits.items()}
        raw = {split: {(s or self.alone, f): v for (s, f), v in of.items()} for split, of in raw.items()}
        mapped: dict[str, dict[tuple[str, str], NDArray[np.float32]]] = {split: {} for split in splits}
        for scorer in self.scorers:
            cells = [(split, cell) for split, of in raw.items() for cell in of if cell[0] == scorer]
            test, val = ([raw[of][cell] for of, cell in cells if of == split] for split in ("test", "val"))
            check_one_scale(test, val, f"{self.request.val}: scores of {scorer}")
            found, scale = to_unit_interval([raw[split][cell] for split, cell in cells])
            for (split, cell), values in zip(cells, found, strict=True):
                mapped[split][cell] = values
            if scale in READ_AS:
                self._note(
                    f"Scores of {scorer} lie outside [0, 1] {READ_AS[scale]} What is made of ranks (AUROC, AUPRC, the "
                    "oracle threshold) is that of the scores as given."
                )
        return {
            split: score_table(
                pairs, self.corpus, split, self.findings, self.scorers, mapped[split],
                labels_of(pairs.labels, self.protocol.policy, self.protocol.ontology), self.request.named.patient,
                self.salt,
            )
            for split, pairs in splits.items()
        }  # fmt: skip

    def _note(self, text: str) -> None:
        log.info("%s", text)
        self.notes.append(text)

    def metrics(self, tables: Mapping[str, ScoreTable], left_out: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
        """What metrics.json holds; InputError where the headline cannot be measured for any finding."""
        test, val = tables["test"], tables.get("val")
        self._judge(test, val)
        seen = dict.fromkeys(test.findings, NOT_KNOWN)
        reasons = dict(Counter(reason for _, _, reason in left_out))
        entry = results(
            test, seen, self.primary, None if val is None else thresholds_from(val), self.replicates, self.seed,
            {"skipped": len(left_out), "reasons": reasons}, self.headline,
            None if val is None else calibrations_from(val), None if val is None else sets_from(val),
        )  # fmt: skip
        own = entry["scorers"][self.headline]
        if not own["findings"]:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(own["excluded"].items())[:5])
            raise InputError(f"{self.request.scores}: no finding of {self.headline} can be measured ({why})")
        for values in entry["scorers"].values():
            values["excluded"] |= self.absent
        entry["thresholds_from"] = None if val is None else val.key
        if asked := self.settings.choice:
            entry |= {"choice": one} if (one := choice(test, asked, self.replicates, self.seed)) else {}
        entry["subgroups"] = subgroups(
            test, self.headline, groups_of(self._attributes(), self.settings.age_bands), self.primary,
            self.settings.subgroup_least, self.replicates, self.seed,
        )  # fmt: skip
        described = self._described(test)
        return {
            "schema": 1,
            "headline_scorer": self.headline,
            "monitor": None,
            "protocol_digest": hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12],
            "protocol": described,
            "world_size": None,
            "test_evaluations": None,
            "leaked": None,
            "pixels": None,
            "cost": None,
            "given": {"notes": self.notes, "files": self._files()},
            "results": {test.key: entry},
        }

    def _judge(self, test: ScoreTable, val: ScoreTable | None) -> None:
        """Notes on what the numbers leave open."""
        if val is None:
            self._note(
                "No scores of validation were given (val=FILE), so no threshold was fixed before the test: F1, "
                "accuracy and MCC at a validation threshold, Brier score and calibration error are not there."
            )
        elif shared := len(set(test.patient) & set(val.patient)):
            self._note(f"{shared} patient(s) stand in test and in validation: thresholds have seen them.")
        unit = "image" if self.test.scores.of_images else "study"
        if self.protocol.name is not None and unit != self.settings.unit:
            self._note(
                f"Protocol {self.protocol.name} scores each {self.settings.unit}, and a row here is one {unit}: "
                "numbers do not compare with those that keep to it."
            )

    def _attributes(self) -> dict[str, list[str]]:
        """What the labels, else the scores, say of each row."""
        found: dict[str, list[str]] = {}
        for sheet, at in ((self.test.scores, self.test.at_scores), (self.test.labels, self.test.at_labels)):
            found |= {name: [cells[number] for number in at] for name, cells in sheet.attributes.items()}
        for name in self.request.named.subgroups:
            if (count := len(set(found.get(name, [])))) > MOST_VALUES:
                raise InputError(
                    f"subgroups={name}: the column has {count} values, more than {MOST_VALUES}; name one of groups"
                )
        return found

    def _described(self, test: ScoreTable) -> dict[str, Any]:
        return {
            "scored": {test.key: list(test.findings)},
            "protocol": self.protocol.name,
            "primary": self.primary,
            "scoring": {"unit": "image" if self.test.scores.of_images else "study", "replicates": self.replicates,
                        "seed": self.seed},
            "scorers": sorted(self.scorers),
            "threshold_rules": list(RULES),
            "policies": [asdict(self.protocol.policy)],
        }  # fmt: skip

    def _files(self) -> dict[str, list[str]]:
        """Use -> name and digest of each file that was read."""
        every = {"scores": self.test.scores.path, "labels": self.test.labels.path}
        if self.val is not None:
            every |= {"val": self.val.scores.path, "val_labels": self.val.labels.path}
        return {use: [path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:12]] for use, path in every.items()}

    def _role(self, sheet: Sheet, scorer: str) -> str:
        """The scorer of a column; `label` for one of labels."""
        of_labels = all(sheet is not pairs.scores for pairs in (self.test, self.val) if pairs)
        return LABEL if of_labels else scorer or self.alone

    def mapping(self) -> list[list[str]]:
        """label_mapping.csv: which column became which finding."""
        sheets = [sheet for pairs in (self.test, self.val) if pairs for sheet in (pairs.scores, pairs.labels)]
        lines = [
            [sheet.path.name, self._role(sheet, c.scorer), c.header, c.finding, c.how]
            for sheet in sheets for c in sheet.columns
        ]  # fmt: skip
        unread = [[sheet.path.name, "", header, "", "not read"] for sheet in sheets for header in sheet.unread]
        every = dict.fromkeys(map(tuple, [*lines, *unread]))
        return [["file", "holds", "column", "finding", "known_as"], *map(list, every)]


def _name(scorer: str | None, path: Path) -> str:
    """What a model is called whose table does not say so."""
    name = scorer or path.name.partition(".")[0]
    if name == LABEL or "/" in name or not name:
        raise InputError(f"scorer={name}: a model cannot be called so; give scorer=NAME, without '/'")
    return name
