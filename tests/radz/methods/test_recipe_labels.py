"""What a study's labels teach (docs/method.md 1, 2.2 and 3.4), through whole training steps under other policies."""

from __future__ import annotations

from pathlib import Path

import pytest
import recipe
import torch
from recipe_module import FINDINGS, NAN, make, plain, studies, total

from radz.models.labels import with_no_finding

BANK = (*FINDINGS, "support_devices")
POLICIES = {
    "silence unknown": {0: 0.0, 1: 1.0, 2: None, 3: None},
    "silence absent": {0: 0.0, 1: 1.0, 2: None, 3: 0.0},
    "uncertain present": {0: 0.0, 1: 1.0, 2: 1.0, 3: None},
}
# no_finding, edema, nodule, mass, support_devices; 0 absent, 1 present, 2 uncertain, 3 unmentioned.
STATES = [
    [0, 0, 0, 0, 3],  # not normal, of what the bank does not hold: no target
    [3, 0, 0, 0, 1],  # healthy with a pacemaker
    [3, 0, 0, 0, 3],  # healthy
    [3, 3, 3, 3, 1],  # a lone device says nothing of health
    [3, 3, 1, 3, 3],  # a nodule, so not healthy
    [2, 0, 0, 0, 0],  # as the policy has it, which is no statement
    [1, 3, 3, 3, 1],  # healthy, as stated, and a device
    [3, 2, 0, 0, 3],  # all but one known
]


@pytest.mark.parametrize("category", ["softmax", "sigmoid"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_step_under_each_policy(tiny_path: Path, policy: str, category: str) -> None:
    """The category loss alone, and the matches of `same_labels`."""
    settings = {"findings": BANK, "policy": POLICIES[policy]}
    module, batch = make(tiny_path, dkam={"category": category}, positives="same_labels", **settings), studies()
    batch.label_states = torch.tensor(STATES, dtype=torch.int8)
    for weight in (0.1, 0.9):
        module.dfat.alignment_weight = weight
        with torch.no_grad():
            found = module.training_step(batch, 0)
            expected = total(
                plain(tiny_path, module), batch, module.anchors, weight=weight, tau=0.05, kind="cross",
                positives="same_labels", **settings,
            )  # fmt: skip
        assert found.item() == pytest.approx(expected.item(), rel=1e-7)


def test_no_finding_of_every_combination() -> None:
    """All states of no_finding, two findings and a device, under all three policies, against the rule in words."""
    names = ("edema", "no_finding", "support_devices", "mass")
    rows = torch.cartesian_prod(*[torch.arange(4)] * 4)
    for policy in POLICIES.values():
        values = torch.tensor([NAN if policy[state] is None else policy[state] for state in range(4)])
        labels = values[rows]
        found = with_no_finding(labels, labels.masked_fill(rows >= recipe.UNCERTAIN, NAN), names)
        for row, known in zip(rows.tolist(), found, strict=True):
            wanted = recipe.target(row, names, policy)
            assert {n: v for n, v in zip(names, known.tolist(), strict=True) if v == v} == wanted, row


@pytest.mark.parametrize("policy", ["silence unknown", "uncertain present"])
def test_label_sentences_name_what_is_present(tiny_path: Path, policy: str) -> None:
    """Equal sentences are one text; a study of which nothing is known to be present has none."""
    values = POLICIES[policy]
    module = make(tiny_path, findings=BANK, policy=values, text_source="labels", alignment_weight=0.9)
    batch = studies()
    batch.label_states = torch.tensor(STATES, dtype=torch.int8)
    with torch.no_grad():
        found = module.training_step(batch, 0)
        for n, row in enumerate(STATES):
            there = [name for name, state in zip(BANK, row, strict=True) if values[state] == 1]
            listed = there[0] if len(there) == 1 else " and ".join([", ".join(there[:-1]), there[-1]]) if there else ""
            batch.reports[n] = f"This is a chest X-ray showing {listed}." if there else ""
        expected = total(
            plain(tiny_path, module), batch, module.anchors, weight=0.9, tau=0.05, kind="cross", findings=BANK,
            policy=values,
        )  # fmt: skip
    assert len(set(batch.reports)) > 3 and "" in batch.reports
    assert found.item() == pytest.approx(expected.item(), rel=1e-7)
