"""COVIDx CXR-2 and CXR-4 (Wang et al., Sci Rep 2020; Wu et al. 2023, arXiv 2311.17677), forms A and B of the labels.

Lists as in github.com/lindawangg/COVID-Net, folder labels. Many images are those of RSNA, hence of NIH, and the RSNA
"patients" are images: never test on COVIDx after training on those.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import read_list
from data_modules.corpora.official import BINARY_CODING, Layout, hold_out, words
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched

LAYOUT = Layout(
    reader="covidx",
    title="COVIDx CXR",
    access="Kaggle, terms of each source: https://www.kaggle.com/datasets/andyczhao/covidx-cxr2",
    tree="""
train.txt, test.txt     one image a line: patient, file, class, source; no header
val.txt                 CXR-4 only; without it patients of train are held out
train/FILE, test/FILE
val/FILE                with val.txt
""",
    # BenchX reads 67,862, 8,472 and 8,481, taking each first line for a header; 84,818 in all, as the paper says.
    published={"train": 67_863, "val": 8_473, "test": 8_482},
)
WITHOUT_VAL = replace(LAYOUT, published={"test": 400})
"""V9B, the last lists of CXR-2; the size of train depends on what is held out of it."""
NAMES = ("patient", "file", "class", "origin")
WORDS = words("covidx")
# A negative of form B is anything but COVID-19, other pneumonia included: it says nothing of the other findings.
CLASSES = {"A": (("COVID-19", "normal", "pneumonia"), tuple(WORDS)), "B": (("positive", "negative"), ("covid19",))}
FORMS = {
    form: {finding: {name: int(name in WORDS[finding]) for name in classes} for finding in findings}
    for form, (classes, findings) in CLASSES.items()
}
"""Form -> finding -> class -> 1 or 0."""
TYPOS = {"rnsa": "rsna"}


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image; `keep: {origin: [rsna]}` keeps the images of one source."""
    splits = ["train", "val", "test"] if watched(root / "val.txt").exists() else ["train", "test"]
    frame = pd.concat([load_list(LAYOUT.find(root, key, f"{split}.txt"), split) for split in splits])
    frame["origin"] = frame["origin"].replace(TYPOS)
    frame["image"] = frame["split"] + "/" + frame["file"]
    layout = LAYOUT
    if "val" not in splits:
        frame["split"], layout = hold_out(frame, config), WITHOUT_VAL
    findings = FORMS[_form(frame)]
    for finding, classes in findings.items():
        states = frame["class"].map({name: str(state) for name, state in classes.items()})
        frame[finding] = states.fillna("unknown class")  # outside the coding, for bad.on_bad_label to judge
    labels = {finding: LabelRule(finding, numeric=dict(BINARY_CODING)) for finding in findings}
    return layout.studies(config, root, frame, root / "train.txt", labels, ontology, salt, key)


def load_list(path: Path, split: str) -> pd.DataFrame:
    """Return the columns of NAMES, `split` and `source` (the path) of one list; the index holds line numbers from 1.

    InputError for a file that is not UTF-8, a line of another number of words than four, or no line at all.
    """
    words = {row: line.split() for row, line in read_list(path).items()}
    if not words:
        raise InputError(f"{path}: is empty; lines of patient, file, class and source are needed")
    for row, found in words.items():
        if len(found) != len(NAMES):
            raise InputError(
                f"{path} row {row}: has {len(found)} words where patient, file, class and source are four; "
                "correct the line"
            )
    frame = pd.DataFrame(list(words.values()), index=list(words), columns=list(NAMES), dtype=object)
    return frame.assign(split=split, source=str(path))


def _form(frame: pd.DataFrame) -> str:
    """A where the classes are those of form A, else B; InputError for lists of both."""
    found = {form: frame["class"].isin(list(findings["covid19"])) for form, findings in FORMS.items()}
    if found["A"].any() and found["B"].any():
        row, source = frame.index[found["B"]][0], frame["source"][found["B"]].iloc[0]
        raise InputError(
            f"{source} row {row}: is positive or negative, other rows are normal, pneumonia or COVID-19; "
            "use lists of one form"
        )
    return "A" if found["A"].any() else "B"
