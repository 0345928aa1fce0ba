"""Shots and what is made of them: which studies stand for a finding, and its prototype.

Plain: positives as they are drawn, against studies without the finding as they are drawn. Curated against
co-occurrence: positives with the fewest other findings first, each against a study without the finding whose other
findings are most like its own. The order alone helps nothing where a finding never stands alone; the partner takes out
what the company adds, so that a finding which always stands with another does not become a copy of it.

Shapes: N training studies, K label columns, e feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.findings import NO_FINDING, Ontology

Values = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Shots:
    """Training studies for one finding in the order in which they are taken: n shots are the first n of both."""

    positives: Numbers
    absent: Numbers
    """of other patients than any positive"""

    def first(self, number: int | None) -> tuple[Numbers, Numbers]:
        """Positives and as many absent (fewer where there are no more); None is all of both."""
        return self.positives[:number], self.absent[:number]


def company_of(finding: str, findings: tuple[str, ...], ontology: Ontology) -> NDArray[np.bool_]:
    """[K], columns that count as other findings beside this one.

    Wider and narrower findings are no company: what shows the narrower one shows the wider one too. `no_finding` has
    none: that the others are absent is what it means.
    """
    if finding == NO_FINDING:
        return np.zeros(len(findings), dtype=bool)

    def related(name: str) -> bool:
        return name == finding or name in ontology.ancestors(finding) or finding in ontology.ancestors(name)

    return np.array([name != NO_FINDING and not related(name) for name in findings])


def plain(labels: Values, people: Numbers, order: Numbers) -> Shots:
    """One study of each patient as they come in `order`.

    Args:
        labels: [N] of the finding, 1, 0 or NaN.
        people: [N], number of the patient.
        order: permutation of the N studies, of one draw.
    """
    positives = _one_each(order[labels[order] == 1], people)
    return Shots(positives, _one_each(_absent(labels, people, order), people))


def curated(labels: Values, others: NDArray[np.bool_], people: Numbers, order: Numbers) -> Shots:
    """Positives with the fewest other findings first; the i-th absent study is the partner of the i-th positive.

    A partner is the study without the finding, of a patient not taken yet, whose other findings differ in the fewest.
    What `order` puts first settles ties. When partners run out, positives stay without.

    Args:
        labels, people, order: as for `plain`.
        others: [N, K'], whether the other findings are present.
    """
    alone = order[np.argsort(others[order].sum(1), kind="stable")]
    positives = _one_each(alone[labels[alone] == 1], people)
    absent = _absent(labels, people, order)
    free, far = np.ones(len(absent), dtype=bool), others.shape[1] + 1
    partners: list[int] = []
    for study in positives[: len(absent)]:
        apart = (others[absent] != others[study]).sum(1)
        if not free.any():
            break
        partner = absent[np.where(free, apart, far).argmin()]
        free &= people[absent] != people[partner]
        partners.append(int(partner))
    return Shots(positives, np.array(partners, dtype=np.int64))


def prototype(features: Values, positives: Numbers, absent: Numbers) -> Values:
    """[e], mean of the positives' L2-normalised features [N, e] less that of the absent ones."""
    mean: Values = features[positives].mean(0) - features[absent].mean(0)
    return mean


def cosines(features: Values, direction: Values) -> Values:
    """[n] of L2-normalised features [n, e] with a direction [e]; 0 for one without length."""
    found: Values = features @ (direction / max(float(np.linalg.norm(direction)), 1e-12))
    return found


def _absent(labels: Values, people: Numbers, order: Numbers) -> Numbers:
    """Studies in order that are known to lack the finding, of patients who never have it."""
    absent = order[labels[order] == 0]
    return absent[~np.isin(people[absent], people[labels == 1])]


def _one_each(studies: Numbers, people: Numbers) -> Numbers:
    """The first study of each patient, in order."""
    return studies[np.sort(np.unique(people[studies], return_index=True)[1])]
