"""The mapping of labels that a run writes beside its numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from official import COUNTS, phantoms
from small_corpus import Corpus, Make, ready

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import DataConfig
from data_modules.corpora import (
    chestxray14,
    chexpert,
    covidx,
    ct_rate,
    inspect_ctpa,
    mimic_cxr,
    openi,
    padchest,
    vindr_cxr,
)
from data_modules.corpora.rad_chestct import _findings, meaning
from data_modules.corpora.terms import coded, plain
from data_modules.corpus_config import CorpusConfig, LabelRule, PhantomConfig
from data_modules.findings import ontology, vocabulary
from data_modules.label_map import label_map
from data_modules.phantom.layouts import write_layout


def test_the_words_of_an_official_corpus_with_their_relation(tmp_path: Path) -> None:
    root = tmp_path / "nih"
    write_layout("chestxray14", root, PhantomConfig(COUNTS, image_px=64, seed=1), phantoms(root))
    corpus = CorpusConfig(reader="chestxray14", root=str(root))
    module = ready(ChestXrayDataModule(DataConfig([corpus], image_size=16, batch_size=2), tmp_path / "cache", 0))
    found = label_map(module, {"nodule": "label", "edema": "text"}).set_index("finding")
    assert found.loc["pleural_effusion", ["label", "relation"]].tolist() == ["Effusion", "exact"]
    assert found.loc["pleural_thickening", "label"] == "Pleural_Thickening"
    assert found.loc[["nodule", "edema", "mass"], "training"].tolist() == ["label", "text", ""]
    labels = module.table.states[:, module.findings.index("edema")] == 1
    for split in ("train", "val", "test"):
        assert found.loc["edema", f"present_{split}"] == (labels & (module.table.split == split)).sum()


def test_own_rules_implied_and_unlabelled_findings(make: Make, corpus: Corpus) -> None:
    corpus.write()
    edema = {"pneumonia": LabelRule("edema", numeric={1: "present", 0: "unmentioned"}),
             "no_finding": LabelRule("finding", equals="No Finding")}  # fmt: skip
    first = corpus.config(labels={"covid19": LabelRule("finding", contains="COVID-19")})
    second = corpus.config(name="second", labels=edema)
    found = label_map(ready(make([first, second])), {}).set_index(["corpus", "finding"])["relation"]
    assert found["ours", "covid19"] == found["second", "pneumonia"] == "own rule"
    assert found["ours", "pneumonia"] == "implied", "COVID-19 is a pneumonia"
    assert found["second", "covid19"] == "implied", "absent where no_finding is present"
    assert found["ours", "no_finding"] == "not labelled"
    assert isinstance(found, pd.Series)


def made_present(space: str, label: str) -> set[str]:
    """Findings of which the mapping lists the label."""
    spelt = {finding: {plain(one) for one in labels} for finding, labels in ontology().labels(space).items()}
    return {finding for finding, labels in spelt.items() if plain(label) in labels}


def test_readers_of_terms_read_what_the_mapping_lists() -> None:
    for space, read, silent in (("padchest", padchest.names, padchest.SILENT), ("openi", openi.paths, openi.UNJUDGED)):
        labels = sorted({label for f in ontology() for label in f.aliases.get(space, {})} | set(vocabulary(space)))
        cells = [repr([label]) if space == "padchest" else label for label in labels]
        found, _ = coded(pd.Series(cells, name="x"), read, silent, space, ontology())
        assert set(found) == {f"x: {finding}" for finding in ontology().labels(space)}
        for row, label in enumerate(labels):
            there = {name.removeprefix("x: ") for name in found if found[name].iloc[row] == "1"}
            wider = {label.partition("/")[0], label} if space == "openi" else {label}
            assert there == set().union(*(made_present(space, one) for one in wider)), label


def test_the_reader_of_vindr_reads_what_the_mapping_lists() -> None:
    labels = [
        "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
        "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
        "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
        "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
        "Other disease", "No finding",
    ]  # fmt: skip
    rows = [[label, *("1" if name == label else "0" for name in labels)] for label in labels]
    frame = pd.DataFrame(rows, columns=["image_id", *labels], dtype=object)
    read = {finding: tuple(names) for finding, names in ontology().labels("vindr").items()}
    agreed = vindr_cxr._agreed(frame, read, ontology().disputed("vindr"), Path("t"), "test", 1, "k")
    agreed = agreed.rename(columns={names[0]: finding for finding, names in read.items()})
    for row, label in enumerate(labels):
        there = {finding for finding in read if agreed[finding].iloc[row] == "1"}
        assert there == made_present("vindr", label), label
        open_ = {finding for finding in read if agreed[finding].iloc[row] == ""}
        assert open_ == {finding for finding, names in ontology().disputed("vindr").items() if label in names}, label
    assert made_present("vindr", "Lung tumor") == {"lung_lesion"}
    assert made_present("vindr", "Rib fracture") == made_present("vindr", "Clavicle fracture") == {"fracture"}
    assert "emphysema" in {f for f in read if agreed[f].iloc[labels.index("COPD")] == ""}


def test_three_readers_of_vindr_agree_over_the_labels_of_a_finding() -> None:
    mass, tumor, cyst, none = ("1", "0", "0"), ("0", "1", "0"), ("0", "0", "1"), ("0", "0", "0")
    votes = {"a": [mass, tumor, none], "b": [mass, cyst, none], "c": [mass, none, none]}
    rows = [[image, f"R{k}", *cells] for image, readers in votes.items() for k, cells in enumerate(readers)]
    frame = pd.DataFrame(rows, columns=["image_id", "rad_id", "Nodule/Mass", "Lung tumor", "Lung cyst"], dtype=object)
    wanted, disputed = {"lung_lesion": ("Nodule/Mass", "Lung tumor")}, {"lung_lesion": {"Lung cyst"}}
    agreed = vindr_cxr._agreed(frame, wanted, disputed, Path("t"), "train", 3, "k")
    assert agreed["Nodule/Mass"].tolist() == ["1", "", "0"]


def test_the_reader_of_rad_chestct_reads_what_the_mapping_lists() -> None:
    wanted, disputed = meaning(ontology()), ontology().disputed("rad_chestct")
    labels = sorted({label for finding in ontology() for label in finding.aliases.get("rad_chestct", {})})
    rows = [[label, *("1" if name == label else "0" for name in labels)] for label in labels]
    wide = pd.DataFrame(rows, columns=["NoteAcc_DEID", *(f"{label}*lung" for label in labels)], dtype=object)
    found = _findings(wide, wanted, disputed, Path("t"), "k")
    for row, label in enumerate(labels):
        assert {name for name in wanted if found[name].iloc[row] == "1"} == made_present("rad_chestct", label), label
        assert {name for name in wanted if found[name].iloc[row] == ""} == {f for f in wanted if label in disputed[f]}
    assert ontology().labels("rad_chestct")["hiatal_hernia"] == {"hernia": "parent"}, "wider, yet taken for it"


def test_readers_of_columns_take_them_from_the_mapping() -> None:
    for module, space in ((chexpert, "chexpert"), (mimic_cxr, "chexpert"), (ct_rate, "ct_rate"), (chestxray14, "nih")):
        assert list(module.LABELS) == list(ontology().labels(space))
    assert {f: list(names) for f, names in inspect_ctpa.LABELS.items()} == {
        finding: list(labels) for finding, labels in ontology().labels("inspect").items()
    }
    assert inspect_ctpa.LABELS["pulmonary_embolism"][0] == "pe_positive_nlp"
    for form in covidx.FORMS.values():
        for finding, classes in form.items():
            assert {name for name, state in classes.items() if state} <= set(ontology().labels("covidx")[finding])
    assert covidx.FORMS["A"]["pneumonia"] == {"COVID-19": 1, "normal": 0, "pneumonia": 1}
    assert covidx.FORMS["B"] == {"covid19": {"positive": 1, "negative": 0}}
    assert ontology().labels("rsna") == {
        "no_finding": {"Normal": "exact"}, "lung_opacity": {"Lung Opacity": "exact"},
        "pneumonia": {"Target=1": "loose"},
    }  # fmt: skip
