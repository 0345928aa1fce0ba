from __future__ import annotations

import numpy as np
import pytest
from small_corpus import Corpus, Make, ready

from data_modules.corpus_config import BadRows, CorpusConfig
from data_modules.errors import InputError
from data_modules.leaks import leaked


def test_unreadable_images_stop_or_are_counted(make: Make, corpus: Corpus) -> None:
    corpus.write()
    for i in (2, 9):
        (corpus.root / "images" / f"img{i}.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        make([corpus.config()]).setup()
    message = str(caught.value)
    assert "row 4" in message and "2 unreadable" in message and "img2" not in message
    assert "data.corpora.0.bad.on_unreadable_image=skip" in message
    module = ready(make([corpus.config(bad=BadRows(on_unreadable_image="skip"))]))
    assert len(module.table) == 10 == len(module.cache) and module.table.coverage.skipped("ours") == 2
    row = int(np.flatnonzero(module.table.study_id == "img10.png")[0])
    full = ready(make([corpus.config(bad=BadRows(on_unreadable_image="skip"))]))
    assert (module.cache.get(row) > 0).any() and np.array_equal(module.cache.get(row), full.cache.get(row))


@pytest.mark.parametrize(("stage", "refused"), [(None, True), ("fit", True), ("validate", True), ("test", False)])
def test_an_empty_split_stops_the_stage_that_needs_it(make: Make, corpus: Corpus, stage: str, refused: bool) -> None:
    for row in corpus.splits:
        row["split"] = "test" if row["split"] == "val" else row["split"]
    module = make()
    if refused:
        with pytest.raises(InputError, match="no study in the val split"):
            module.setup(stage)
    else:
        module.setup(stage)


def test_a_batch_larger_than_the_training_split_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match=r"data\.batch_size=7: 6 training studies"):
        make(batch_size=7).setup("fit")


def test_a_patient_in_two_splits_stops(make: Make, corpus: Corpus) -> None:
    corpus.rows[6]["patientid"] = "00"
    with pytest.raises(InputError, match=r"1 patient.* in more than one split"):
        make().setup()


@pytest.mark.parametrize(
    ("corpora", "part"),
    [
        ([], "data.corpora is empty"),
        ([CorpusConfig(reader="tabel")], "data.corpora.0.reader: .*nearest is 'table'"),
        ([CorpusConfig()], "data.corpora.0.root is not set"),
    ],
)
def test_faults_of_the_section(make: Make, corpora: list[CorpusConfig], part: str) -> None:
    with pytest.raises(InputError, match=part):
        make(corpora).setup()


def test_another_modality_is_refused(make: Make, corpus: Corpus) -> None:
    corpus.write()
    with pytest.raises(InputError, match="modality chest_ct is not one of chest_xray"):
        make([corpus.config(modality="chest_ct")]).setup()


@pytest.mark.fault(19)
def test_a_test_image_that_is_a_training_image_is_named(make: Make, corpus: Corpus) -> None:
    """Row 2 of the table (training) and row 11 (test) hold the same picture under two names."""
    corpus.write()
    module = ready(make([corpus.config()]))
    assert leaked(module) == []
    first, other = (corpus.root / "images" / f"img{i}.png" for i in (0, 9))
    other.write_bytes(first.read_bytes())
    lines = leaked(ready(make([corpus.config()])))
    assert lines == ["ours: 1 of 4 test images are training images, such as row 11 (training: row 2)"]


def test_equal_checksums_alone_are_no_leak(make: Make, corpus: Corpus) -> None:
    corpus.write()
    module = ready(make([corpus.config()]))
    module.cache._crc[:] = 7
    module.cache._checked[:] = True
    assert leaked(module) == []


def test_a_misspelt_reader_is_found_before_any_corpus_is_read(make: Make) -> None:
    with pytest.raises(InputError, match=r"data\.corpora\.1\.reader: 'tabel'"):
        make([CorpusConfig(root="/nowhere"), CorpusConfig(reader="tabel")])
