"""Patients of several corpora: joined where a name says so, told where nobody has said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_corpus import SALT, Corpus, Make, ready

from data_modules.audit import _spread
from data_modules.corpora import READERS, table
from data_modules.corpora.splits import split_patients
from data_modules.corpus_config import Columns, CorpusConfig, PhantomConfig, SplitCounts, SplitFile, SplitFractions
from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.privacy import pseudonym
from data_modules.study import StudyTable
from data_modules.subsets import fraction_of_patients

Another = Callable[[str], Corpus]
SPLIT = Columns(image="filename", patient="patientid", split="split")


def site(corpus: Corpus, splits: str, **changes: Any) -> CorpusConfig:
    """Twelve studies of patients 00 to 05; `splits`: one letter for each patient."""
    words = {"t": "train", "v": "val", "e": "test"}
    for i, row in enumerate(corpus.rows):
        row["split"] = words[splits[i // 2]]
    corpus.write()
    settings = {"name": corpus.root.name, "columns": SPLIT, "split_csv": None} | changes
    return corpus.config(**settings)


def joined(*configs: CorpusConfig) -> StudyTable:
    return StudyTable.concat([table.read(config, ontology(), SALT) for config in configs])


def refused(*configs: CorpusConfig) -> str:
    with pytest.raises(InputError) as caught:
        joined(*configs).check_splits(SALT)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_id_in_other_splits_of_two_tables_must_be_explained(another: Another) -> None:
    one, two = site(another("a"), "tttvve"), site(another("b"), "ttteee")
    message = refused(one, two)
    assert "corpora a and b: 2 patient id(s), such as" in message
    assert "(a row 8 in val, b row 8 in test)" in message and pseudonym("a", "03", SALT) in message
    assert "data.corpora.<i>.patients" in message and "patients=own" in message
    two.patients = "own"
    joined(one, two).check_splits(SALT)
    one.patients, two.patients = "hospital one", "hospital two"
    joined(one, two).check_splits(SALT)
    one.patients = two.patients = "hospital"
    message = refused(one, two)
    assert "corpus a and b: 2 patient(s) in more than one split" in message
    assert "(a row 8 in val, b row 8 in test)" in message and pseudonym("hospital", "03", SALT) in message


def test_an_id_written_otherwise_is_seen_too(another: Another) -> None:
    second = another("b")
    for row in second.rows:
        row["patientid"] = f"{int(row['patientid'])}"
    one, two = site(another("a"), "tttvve"), site(second, "ttteee")
    assert "2 patient id(s)" in refused(one, two)
    one.patients = two.patients = "hospital"
    assert "6 patient id(s)" in (message := refused(one, two)) and "spelt in two ways" in message


def test_ids_in_the_same_split_are_told(another: Another, caplog: pytest.LogCaptureFixture) -> None:
    joined(site(another("a"), "tttvve"), site(another("b"), "tttvve")).check_splits(SALT)
    assert "corpora a and b have 6 patient id(s) in common, in the same splits" in caplog.text
    caplog.clear()
    named = [site(another(name), "tttvve", patients="hospital") for name in "ab"]
    joined(*named).check_splits(SALT)
    assert "in common" not in caplog.text


def test_images_in_place_of_patients_are_not_compared(another: Another) -> None:
    columns = Columns(image="filename", split="split")
    one, two = (site(another(name), splits, columns=columns) for name, splits in (("a", "tttvve"), ("b", "eeeeee")))
    joined(one, two).check_splits(SALT)
    one.patients = "hospital"
    with pytest.raises(InputError, match=r"data\.corpora\.0\.patients: needs data\.corpora\.0\.columns\.patient"):
        joined(one, two)


def test_a_shared_numbering_is_one_in_everything(another: Another) -> None:
    configs = [site(another(name), "tttvve", patients="hospital") for name in "ab"]
    found = joined(*configs)
    assert found.numbering == ("hospital", "hospital") and len(set(found.people)) == 6
    assert found.people[:12].tolist() == found.people[12:].tolist()
    assert found.who(3, SALT) == found.who(15, SALT) == pseudonym("hospital", "01", SALT)
    apart = joined(*(site(another(name), "tttvve") for name in "cd"))
    assert len(set(apart.people)) == 12 and apart.who(3, SALT) != apart.who(15, SALT)
    assert apart.digest() != found.digest()
    for seed in range(4):
        few = fraction_of_patients(found, 0.34, seed)
        training = [set(few.patient[few.rows("train", name)]) for name in "ab"]
        assert training[0] == training[1] and len(training[0]) == 1


def test_the_audit_counts_over_corpora(make: Make, another: Another) -> None:
    configs = [site(another(name), "tttvve", patients="hospital") for name in "ab"]
    data = ready(make(corpora=configs))
    assert _spread(data) == 0
    data.table.split[3] = "test"
    assert _spread(data) == 1


def test_patients_that_corpora_share_are_split_alike() -> None:
    shared = CorpusConfig(patients="hospital", split_fractions=SplitFractions(0.6, 0.2, 0.2))
    everyone = np.array([f"p{i}" for i in range(2000)], dtype=object)
    whole, part = split_patients(everyone, shared), split_patients(everyone[::7], shared)
    assert (whole[::7] == part).all()
    shares = [np.mean(whole == name) for name in ("train", "val", "test")]
    assert np.allclose(shares, [0.6, 0.2, 0.2], atol=0.03)
    own = split_patients(everyone, CorpusConfig(patients="own", split_fractions=SplitFractions(0.6, 0.2, 0.2)))
    assert [list(own).count(name) for name in ("train", "val", "test")] == [1200, 400, 400]


def test_a_shared_split_file_or_fraction_holds_over_corpora(make: Make, another: Another) -> None:
    seeded = [site(another(name), "tttvve", columns=Columns(image="filename", patient="patientid")) for name in "ab"]
    for config in seeded:
        config.patients, config.split_fractions = "hospital", SplitFractions(0.4, 0.3, 0.3)
    joined(*seeded).check_splits(SALT)


def test_published_corpora_have_their_reader_s_numbers(another: Another, caplog: pytest.LogCaptureFixture) -> None:
    """Two of one reader share them, two readers do not; beside a table somebody must say."""
    first, second = (
        table.read(site(another(name), s), ontology(), SALT) for name, s in (("a", "tttvve"), ("b", "eettte"))
    )
    first.numbering, second.numbering = ("chexpert",), ("padchest",)
    StudyTable.concat([first, second]).check_splits(SALT)
    second.numbering = ("chexpert",)
    with pytest.raises(InputError, match="corpus a and b: 4 patient"):
        StudyTable.concat([first, second]).check_splits(SALT)
    second.numbering = ("",)
    with pytest.raises(InputError, match="corpora a and b: 4 patient id"):
        StudyTable.concat([first, second]).check_splits(SALT)
    with caplog.at_level(logging.WARNING):
        config = another("c").config(split_csv=SplitFile("split.csv", "filename"))
    assert config.patients is None


def test_phantoms_of_one_seed_are_of_the_same_people(tmp_path: Path) -> None:
    def phantom(seed: int, **more: Any) -> StudyTable:
        small = PhantomConfig(studies=SplitCounts(2, 1, 1), image_px=64, voxels=32, seed=seed)
        return READERS["phantom"](
            CorpusConfig(reader="phantom", phantom=small, **more), ontology(), SALT, tmp_path, "k"
        )

    both = StudyTable.concat([phantom(0), phantom(0, name="b"), phantom(1, name="c")])
    assert both.numbering == ("phantom", "phantom", "phantom 1")
    assert both.people[:4].tolist() == both.people[4:8].tolist() and not set(both.people[:4]) & set(both.people[8:])
