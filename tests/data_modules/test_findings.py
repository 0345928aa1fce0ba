from __future__ import annotations

import numpy as np
import pytest
import torch

from data_modules.corpus_config import LabelPolicy, Unmentioned
from data_modules.errors import InputError
from data_modules.findings import (
    ABSENT,
    PRESENT,
    PROVING,
    UNCERTAIN,
    UNMENTIONED,
    Finding,
    Ontology,
    complete,
    ontology,
    policy_table,
)

CHEXPERT = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
NIH = [
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "No Finding", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
]  # fmt: skip
CT_RATE = [
    "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
    "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis", "Lung nodule",
    "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
    "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
]  # fmt: skip


def floats(values: list) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_every_finding_is_consistent() -> None:
    for finding in ontology():
        assert finding.name == finding.name.lower() and " " not in finding.name
        assert finding.text == finding.text.strip() != ""
        for labels in finding.aliases.values():
            assert labels and set(labels.values()) <= {"exact", "parent", "child", "loose"}
        assert set(finding.aliases.get("common", {}).values()) <= {"exact"}
        assert not set(finding.aliases.get("common", {})) & set(ontology().names), "a short name hides a finding"


def test_every_alias_is_unambiguous_in_its_corpus() -> None:
    corpora = {corpus for finding in ontology() for corpus in finding.aliases}
    assert {"common", "chexpert", "nih", "padchest", "rsna", "covidx", "openi", "vindr", "ct_rate"} <= corpora
    for corpus in corpora:
        labels = {label for finding in ontology() for label in finding.aliases.get(corpus, {})}
        for label in labels:
            # A wider or a loose label may stand beside several findings. One that proves several, such as
            # hydropneumothorax, is not given to both a finding and what the finding implies.
            proving = [name for name, relation in ontology().find(corpus, label).items() if relation in PROVING]
            assert all(not ontology().ancestors(name) & set(proving) for name in proving), (corpus, label, proving)
            assert sum(ontology().find(corpus, label)[name] == "exact" for name in proving) <= 1, (corpus, label)


@pytest.mark.parametrize(("corpus", "labels"), [("chexpert", CHEXPERT), ("nih", NIH), ("ct_rate", CT_RATE)])
def test_official_label_sets_map_exactly_and_one_to_one(corpus: str, labels: list[str]) -> None:
    exact = [[n for n, relation in ontology().find(corpus, label).items() if relation == "exact"] for label in labels]
    assert all(len(names) == 1 for names in exact)
    assert len({names[0] for names in exact}) == len(labels)


def test_look_up_by_short_name_and_families() -> None:
    assert ontology()["effusion"].name == "pleural_effusion" and "effusion" in ontology()
    assert ontology()["pleural_effusion"].text == "pleural effusion"
    assert set(ontology().children("pneumonia")) == {"bacterial_pneumonia", "viral_pneumonia"}
    assert set(ontology().children("lung_lesion")) == {"nodule", "mass"}
    assert {"viral_pneumonia", "pneumonia", "lung_opacity"} == ontology().ancestors("covid19")
    with pytest.raises(InputError, match="nearest is 'pneumothorax'"):
        ontology()["pneumotorax"]


def test_cycles_and_unknown_parents_are_refused() -> None:
    with pytest.raises(InputError, match="own ancestor"):
        Ontology([Finding("a", "a", ("b",)), Finding("b", "b", ("a",))])
    with pytest.raises(InputError, match="unknown parent 'c'"):
        Ontology([Finding("a", "a", ("c",))])


def test_extension_adds_findings_and_refuses_what_exists() -> None:
    own = ontology().extended({"lipoid_pneumonia": {"parent": "pneumonia"}, "x_rare": {"text": "rare x"}})
    assert own["lipoid_pneumonia"].text == "lipoid pneumonia" and own["x_rare"].text == "rare x"
    assert "lipoid_pneumonia" in own.children("pneumonia") and "lipoid_pneumonia" not in ontology()
    assert own.extended({"lipoid_pneumonia": {"parent": "pneumonia"}}).names == own.names
    for new, message in (
        ({"mass": {"parent": "nodule"}}, "findings.mass: the ontology already has"),
        ({"effusion": {}}, "findings.effusion: the ontology already has"),
        ({"a": {"parent": "pnuemonia"}}, "findings.a.parent: .*nearest is 'pneumonia'"),
        ({"a": {"parnet": "pneumonia"}}, "findings.a.parnet: unknown key; nearest is 'parent'"),
    ):
        with pytest.raises(InputError, match=message):
            ontology().extended(new)


def test_complete_by_hand() -> None:
    findings = ["no_finding", "covid19", "viral_pneumonia", "pneumonia", "mass", "support_devices"]
    a, p, u, n = ABSENT, PRESENT, UNCERTAIN, UNMENTIONED
    states = np.array(
        [
            [p, n, n, n, n, n],  # normal: pathologies absent, devices say nothing
            [n, p, n, n, n, n],  # child present: unmentioned ancestors present
            [n, p, u, a, n, p],  # given labels are never overruled
            [n, n, n, p, n, n],  # a parent says nothing of its children
            [p, u, n, n, p, a],
        ],
        dtype=np.int8,
    )
    expected = [[p, a, a, a, a, n], [n, p, p, p, n, n], [n, p, u, a, n, p], [n, n, n, p, n, n], [p, u, a, a, p, a]]
    before = states.copy()
    assert complete(states, findings, ontology()).tolist() == expected
    assert (states == before).all(), "the input is not changed"


def test_policies_by_hand_in_numpy_and_torch() -> None:
    findings = ["edema", "mass"]
    policies = [
        LabelPolicy(uncertain="ignore", unmentioned=Unmentioned("absent", "unknown")),
        LabelPolicy(uncertain="per_finding", per_finding={"edema": "present"}, unmentioned=Unmentioned("unknown")),
        LabelPolicy(uncertain="absent", unmentioned=Unmentioned("absent", "absent")),
    ]
    nan = np.nan
    loss = policy_table(policies, findings, "loss")
    assert loss.dtype == np.float32 and loss.shape == (3, 2, 4)
    np.testing.assert_equal(loss[0, 0], floats([0, 1, nan, 0]))
    np.testing.assert_equal(loss[1], floats([[0, 1, 1, nan], [0, 1, nan, nan]]))
    np.testing.assert_equal(loss[2, 1], floats([0, 1, 0, 0]))
    metrics = policy_table(policies, findings, "metrics")
    np.testing.assert_equal(metrics[:, 0, UNMENTIONED], floats([nan, nan, 0]))
    corpus, states = np.array([0, 1, 2]), np.array([[2, 3], [2, 2], [3, 1]])
    by_numpy = loss[corpus[:, None], np.arange(2), states]
    by_torch = torch.from_numpy(loss)[torch.tensor(corpus)[:, None], torch.arange(2), torch.tensor(states)]
    np.testing.assert_equal(by_numpy, floats([[nan, 0], [1, nan], [0, 1]]))
    np.testing.assert_equal(by_numpy, by_torch.numpy())


def test_a_finding_that_a_corpus_never_labels_is_unknown_there() -> None:
    policy = LabelPolicy(unmentioned=Unmentioned("absent", "absent"))
    table = policy_table([policy, policy], ["edema", "mass"], "loss", coded=[("edema",), ("edema", "mass")])
    assert np.isnan(table[0, 1, UNMENTIONED]) and table[1, 1, UNMENTIONED] == 0 and table[0, 0, UNMENTIONED] == 0
    assert table[0, 1, PRESENT] == 1, "what its children imply still counts"
