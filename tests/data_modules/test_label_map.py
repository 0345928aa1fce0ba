"""The mapping of labels that a run writes beside its numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from official import COUNTS
from small_corpus import Corpus, Make, ready

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import CorpusConfig, DataConfig, LabelRule, PhantomConfig
from data_modules.label_map import label_map
from data_modules.phantom.layouts import write_layout


def test_the_words_of_an_official_corpus_with_their_relation(tmp_path: Path) -> None:
    root = tmp_path / "nih"
    write_layout("chestxray14", root, PhantomConfig(COUNTS, image_px=64, seed=1), tmp_path / "cache")
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
