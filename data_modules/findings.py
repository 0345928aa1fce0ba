"""Findings as data: the ontology of `findings.yaml`, the four label states and the label policies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.corpus_config import LabelPolicy
from data_modules.errors import InputError, nearest
from data_modules.parsing import parse_yaml

ABSENT, PRESENT, UNCERTAIN, UNMENTIONED = 0, 1, 2, 3
STATE_NAMES = ("absent", "present", "uncertain", "unmentioned")
PROVING = ("exact", "child")
"""Relations by which a label makes a finding present."""
SPACES = {"chestxray14": "nih", "chexpert_5x200": "chexpert", "mimic_cxr": "chexpert", "vindr_cxr": "vindr"}
"""Reader -> its label space, where that has another name."""
LISTED = ("padchest", "openi", "covidx")
"""Spaces of corpora that list what is there, so that a narrower label may stand without the wider one."""
NO_FINDING, VOCABULARY = "no_finding", "vocabulary"
VALUES = {"absent": 0.0, "present": 1.0, "ignore": float("nan"), "unknown": float("nan")}


@dataclass(frozen=True)
class Finding:
    """One canonical finding; `aliases` maps label space -> label there -> relation, `taken` names some of them.

    See `findings.yaml`. A label space is that of one corpus, or of several that share it.
    """

    name: str
    text: str
    parents: tuple[str, ...] = ()
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    pathology: bool = True
    taken: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Ontology:
    """The canonical findings by name. Short names (aliases under `common`) are accepted in look-ups."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        """Index `findings`; InputError for a parent that does not exist or a cycle of parents."""
        self._findings = {finding.name: finding for finding in findings}
        self._common = {label: f.name for f in findings for label in f.aliases.get("common", {})}
        for finding in findings:
            for parent in finding.parents:
                if parent not in self._findings:
                    raise InputError(f"finding {finding.name}: unknown parent '{parent}'{nearest(parent, self.names)}")
            if finding.name in self.ancestors(finding.name):
                raise InputError(f"finding {finding.name}: is its own ancestor; break the cycle of parents")

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names in the order of the file."""
        return tuple(self._findings)

    def __contains__(self, name: object) -> bool:
        return name in self._findings or name in self._common

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings.values())

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of a canonical or short name; InputError names the nearest."""
        canonical = self._common.get(name, name)
        if canonical not in self._findings:
            raise InputError(f"unknown finding '{name}'{nearest(name, self.names)}")
        return self._findings[canonical]

    def children(self, name: str) -> tuple[str, ...]:
        """Return the direct children of a finding."""
        canonical = self[name].name
        return tuple(finding.name for finding in self if canonical in finding.parents)

    def ancestors(self, name: str) -> set[str]:
        """Return all parents, their parents and so on."""
        found: set[str] = set()
        waiting = list(self[name].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting.extend(self._findings[parent].parents)
        return found

    def find(self, corpus: str, label: str) -> dict[str, str]:
        """Return {finding: relation} for a label of a corpus' own label space; empty when it maps to nothing."""
        aliases = ((finding.name, finding.aliases.get(corpus, {}).get(label)) for finding in self)
        return {name: relation for name, relation in aliases if relation is not None}

    def labels(self, space: str) -> dict[str, dict[str, str]]:
        """Return finding -> {label that makes it present: relation}, which is all that the readers of a corpus read.

        These are its exact and narrower labels and those that published protocols take for it. Findings without any are
        left out: the corpus does not label them. In LISTED spaces the labels of findings below are narrower ones.
        """
        own = {
            finding.name: {
                label: relation
                for label, relation in finding.aliases.get(space, {}).items()
                if relation in PROVING or label in finding.taken.get(space, ())
            }
            for finding in self
        }
        found = {name: dict(labels) for name, labels in own.items() if labels}
        for name, labels in own.items():
            for ancestor in self.ancestors(name) & found.keys() if space in LISTED else ():
                found[ancestor] |= {label: "child" for label in labels if label not in found[ancestor]}
        return found

    def disputed(self, space: str) -> dict[str, set[str]]:
        """Return finding -> labels that neither prove it nor leave room to call it absent: wider and loose ones."""
        proving = self.labels(space)
        found: dict[str, set[str]] = {name: set() for name in proving}
        for finding in self:
            for name in {finding.name, *(self.ancestors(finding.name) if space in LISTED else ())} & found.keys():
                found[name] |= finding.aliases.get(space, {}).keys() - proving[name].keys()
        return found

    def extended(self, new: Mapping[str, Mapping[str, str]], key: str = "findings", corpus: str = "") -> Ontology:
        """Return an ontology with the findings of ``{name: {"parent": p, "text": t, "label": l}}`` added, all optional.

        `label` is the finding's exact name in the label space of the reader `corpus`. `key` is the config key for error
        texts. InputError for an unknown field, or a name that means something else.
        """
        findings, known = dict(self._findings), ("parent", "text", "label")
        for name, fields in new.items():
            for unknown in set(fields) - set(known):
                raise InputError(f"{key}.{name}.{unknown}: unknown key{nearest(unknown, known)}")
            parent = fields.get("parent")
            if parent is not None and parent not in self and parent not in new:
                raise InputError(f"{key}.{name}.parent: unknown finding '{parent}'{nearest(parent, self.names)}")
            parents = () if parent is None else (self._common.get(parent, parent),)
            aliases = {SPACES.get(corpus, corpus): {fields["label"]: "exact"}} if "label" in fields else {}
            finding = Finding(name, fields.get("text") or name.replace("_", " "), parents, aliases)
            if name in self and self._findings.get(name) != finding:
                raise InputError(f"{key}.{name}: the ontology already has this finding; remove it or rename it")
            findings[name] = finding
        return Ontology(list(findings.values()))


def _finding(name: str, fields: dict[str, Any]) -> Finding:
    taken = {space: tuple(labels) for space, labels in fields.get("taken", {}).items()}
    parents, aliases = tuple(fields.get("parents", ())), fields.get("aliases", {})
    return Finding(name, fields["text"], parents, aliases, fields.get("pathology", True), taken)


@cache
def _file() -> dict[str, Any]:
    text = resources.files("data_modules").joinpath("findings.yaml").read_text(encoding="utf-8")
    return dict(parse_yaml(text))


@cache
def ontology() -> Ontology:
    """Return the shipped ontology."""
    return Ontology([_finding(name, fields) for name, fields in _file().items() if name != VOCABULARY])


def vocabulary(space: str) -> tuple[str, ...]:
    """Return the terms of a corpus' label lists that no finding has as an alias."""
    return tuple(_file()[VOCABULARY].get(space, ()))


def complete(states: NDArray[np.int8], findings: Sequence[str], ontology: Ontology) -> NDArray[np.int8]:
    """Return int8 [N, K] with what the labels imply.

    A present child makes its unmentioned ancestors present; a present no_finding makes every unmentioned pathology
    absent (not support_devices). Labels that were given are never overruled.
    """
    states = states.copy()
    index = {name: k for k, name in enumerate(findings)}
    # Read before writing: what is derived for a parent need not be derived again for its own parents.
    present = states == PRESENT
    for name, k in index.items():
        for ancestor in ontology.ancestors(name) & index.keys():
            column = states[:, index[ancestor]]
            column[present[:, k] & (column == UNMENTIONED)] = PRESENT
    if NO_FINDING in index:
        pathology = np.array([ontology[name].pathology for name in findings])
        implied = (states == UNMENTIONED) & present[:, [index[NO_FINDING]]] & pathology
        states[implied] = ABSENT
    return states


def policy_table(
    policies: Sequence[LabelPolicy],
    findings: Sequence[str],
    use: Literal["loss", "metrics"],
    coded: Sequence[Collection[str]] | None = None,
) -> NDArray[np.float32]:
    """Return float32 [C, K, 4]: the value (1, 0 or NaN) of each corpus, finding and state.

    Labels are ``table[corpus[:, None], arange(K), states]``. `coded` names the findings that each corpus labels: one
    that a corpus never labels is unknown there whatever the policy (else one corpus' silence would be another's 0).
    """
    table = np.full((len(policies), len(findings), 4), np.nan, dtype=np.float32)
    table[..., ABSENT], table[..., PRESENT] = 0.0, 1.0
    for c, policy in enumerate(policies):
        unmentioned = VALUES[policy.unmentioned.loss if use == "loss" else policy.unmentioned.metrics]
        for k, name in enumerate(findings):
            rule = policy.per_finding.get(name, "ignore") if policy.uncertain == "per_finding" else policy.uncertain
            table[c, k, UNCERTAIN] = VALUES[rule]
            if coded is None or name in coded[c]:
                table[c, k, UNMENTIONED] = unmentioned
    return table
