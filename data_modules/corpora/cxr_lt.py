"""CXR-LT 2023 and 2024 (Holste et al. 2024, arXiv 2310.16112; Lin et al. 2025, arXiv 2506.07984): labels of a long tail
over the images of MIMIC-CXR-JPG, 26 and then 45 findings read out of the reports, or by hand in the lists of task 2.

The lists are PhysioNet's and the user's own; none comes with radz. 2024 has one training list (40 findings) and, for
each of three tasks, a development and a test list: 1 the same 40 findings, 2 the 26 of 2023 on images labelled by
hand, 3 five findings that the training list does not have. A column `task` (empty in training) serves `keep`. Where a
list has no column of a finding, that finding is unmentioned in its rows. Reports are not read here.

Files, columns and numbers: loaders of the lists in public repositories (fpath or path, dicom_id, subject_id, study_id,
ViewPosition, then one column of 0 and 1 per finding). CXR-LT 2023 is read where no list of 2024 lies below root.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from data_modules.cells import folded
from data_modules.corpora.csv_file import column, load
from data_modules.corpora.official import Layout
from data_modules.corpora.terms import CODING
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.counting import counted
from data_modules.errors import InputError, MissingCorpus
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="cxr_lt",
    title="CXR-LT 2024 or 2023",
    access="PhysioNet, credentialed users: https://physionet.org/content/cxr-lt-iccv-workshop-cvamd (lists)\n"
    "  https://physionet.org/content/mimic-cxr-jpg (images)",
    tree="""
cxr-lt-2024/train_labeled.csv                   the lists of 2024 may lie in root itself too
cxr-lt-2024/test_labeled_task1.csv              and so for tasks 2 and 3: one test list at least
cxr-lt-2024/development_labeled_task1.csv       optional, and so for tasks 2 and 3
cxr-lt-2023/train.csv, development.csv, test.csv  where there are no lists of 2024
files/p10/p10000032/s50414267/<dicom_id>.jpg    the folder of MIMIC-CXR-JPG
""",
    published={},
)
FOLDER = {"2024": "cxr-lt-2024", "2023": "cxr-lt-2023"}
TASKS = ("1", "2", "3")
IMAGES = {
    "train_labeled.csv": 258_871, "development_labeled_task1.csv": 39_293, "test_labeled_task1.csv": 78_946,
}  # fmt: skip
"""Rows of the published lists of task 1, 377,110 in all."""
IDS = ("dicom_id", "subject_id", "study_id")


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image and task; `keep: {task: ['', '1'], ViewPosition: [PA, AP]}` chooses both."""
    frames = [_list(path, split, task, key) for path, split, task in _lists(root, key)]
    check_lists(frames, ontology, "cxr_lt")
    ontology = ontology.extended(config.findings, f"{key}.findings", config.reader)
    frame = pd.concat(frames).fillna("")
    labels = rules(frame, ontology, config, "cxr_lt", Path(frame["source"].iloc[0]), key)
    config = replace(config, patients=config.patients or "mimic_cxr")
    return LAYOUT.studies(config, root, frame, Path(frame["source"].iloc[0]), labels, ontology, salt, key)


def rules(
    frame: pd.DataFrame, ontology: Ontology, config: CorpusConfig, space: str, path: Path, key: str
) -> dict[str, LabelRule]:  # fmt: skip
    """The rule of each finding that the lists have a column of; one that the user adds must have its column."""
    own = {name for name, fields in config.findings.items() if "label" in fields}
    found = {}
    for finding, names in ontology.labels(space).items():
        name = next((name for name in names if name in frame), next(iter(names)))
        if name in frame or finding in own:
            column(frame, name, path, f"{key}.root")
            found[finding] = LabelRule(name, numeric=dict(CODING))
    return found


def check_lists(frames: Sequence[pd.DataFrame], ontology: Ontology, space: str) -> None:
    """Every list by itself: what one list writes otherwise than the others would be unmentioned in all of its rows.

    Raises:
        InputError: a header that is like that of a finding which the list lacks.
    """
    findings = {name: finding for finding, names in ontology.labels(space).items() for name in names}
    anywhere = {findings[name]: name for frame in frames for name in frame if name in findings}
    for frame in frames:
        path, own = frame["source"].iloc[0], {findings[name] for name in frame if name in findings}
        lacks = {folded(name): name for name, finding in findings.items() if finding not in own}
        for header in map(str, frame):
            if header not in findings and (like := get_close_matches(folded(header), lacks, n=1, cutoff=0.85)):
                raise InputError(f"{path}: column '{header}' must be written '{lacks[like[0]]}'; correct the header")
        if not own:
            log.warning("%s: %s has no column of a finding that is known: no labels", space, Path(path).name)
        of_task = {"", "1"} if (task := frame["task"].iloc[0]) in ("", "1") else {task}
        peers = [other for other in frames if other["task"].iloc[0] in of_task]
        missing = {findings[name] for other in peers for name in other if name in findings} - own
        if missing:
            named = ", ".join(sorted(anywhere[finding] for finding in missing))
            log.warning("%s: %s has no column of %s: unmentioned in its rows", space, Path(path).name, named)


def _lists(root: Path, key: str) -> Iterable[tuple[Path, str, str]]:
    """Each list that is there with its split and task; MissingCorpus without the training list or any test list."""
    train = LAYOUT.find(
        root, key, f"{FOLDER['2024']}/train_labeled.csv", "train_labeled.csv", f"{FOLDER['2023']}/train.csv"
    )
    folder = train.parent.relative_to(root).as_posix()
    if train.name == "train.csv":
        names = {"development.csv": ("val", "1"), "test.csv": ("test", "1")}
    else:
        kinds = {"development": "val", "test": "test"}
        names = {f"{kind}_labeled_task{task}.csv": (kinds[kind], task) for task in TASKS for kind in kinds}
    tests = [name for name, (split, _) in names.items() if split == "test"]
    if not any(watched(train.parent / name).is_file() for name in tests):
        raise MissingCorpus(f"{key}.root={root}: {folder} holds no {' or '.join(tests)}", LAYOUT.help())
    yield train, "train", ""
    for name, (split, task) in names.items():
        if watched(train.parent / name).is_file():
            yield train.parent / name, split, task


def _list(path: Path, split: str, task: str, key: str) -> pd.DataFrame:
    """The rows of one list, one per image."""
    frame = load(path, f"{key}.root")
    for name in IDS:
        column(frame, name, path, f"{key}.root")
    frame["image"] = column(frame, "path" if "path" in frame and "fpath" not in frame else "fpath", path, f"{key}.root")
    if "ViewPosition" in frame:
        frame["view"] = frame["ViewPosition"]
    if path.name in IMAGES and len(frame) != IMAGES[path.name]:
        log.warning("cxr_lt/%s: %s here, %d published", path.name, counted(len(frame), "image"), IMAGES[path.name])
    # An image may be in the lists of several tasks, under other labels.
    study = frame["dicom_id"] if task in ("", "1") else frame["dicom_id"] + f"/task{task}"
    return frame.assign(patient=frame["subject_id"], study=study, split=split, task=task, source=str(path))
