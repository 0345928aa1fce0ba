"""From image cells to files: other systems' paths, other spellings of a name, and links."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from rights import shut
from small_corpus import SALT, Corpus

from data_modules.corpora import table
from data_modules.corpus_config import BadRows
from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.study import StudyTable


def read(corpus: Corpus, **changes: Any) -> StudyTable:
    corpus.write(images=False)
    return table.read(corpus.config(**changes), ontology(), SALT)


def refused(corpus: Corpus, **changes: Any) -> str:
    with pytest.raises(InputError, match=r"metadata\.csv row") as caught:
        read(corpus, **changes)
    assert "\n" not in str(caught.value) and "img" not in str(caught.value)
    return str(caught.value)


def rename(corpus: Corpus, pattern: str) -> None:
    """Cells only; the files keep their names."""
    for row, split in zip(corpus.rows, corpus.splits, strict=True):
        row["filename"] = split["filename"] = pattern.format(name=row["filename"], stem=row["filename"][:-4])


@pytest.mark.parametrize(
    ("pattern", "folder", "hint"),
    [
        ("images\\{name}", "images", "without image_folder: unset image_folder"),
        ("images/{name}", "images", "without image_folder: unset image_folder"),
        ("C:\\data\\{name}", "images", "a drive, share or address is not read"),
        ("\\\\server\\share\\{name}", "images", "a drive, share or address is not read"),
        ("s3://bucket/{name}", "images", "a drive, share or address is not read"),
        ("{stem}", "images", "there is one of its name with .png"),
        ("old/{name}", "images", "in image_folder itself: leave the folders out"),
        ("old\\sub\\x{name}", "images", "backslashes"),
        ("x{name}", "images", "bad.on_missing_image=skip"),
    ],
)
def test_a_missing_image_says_why(corpus: Corpus, pattern: str, folder: str, hint: str) -> None:
    corpus.write()
    rename(corpus, pattern)
    message = refused(corpus, image_folder=folder)
    assert "there is no image file" in message and "(12 such row(s))" in message and hint in message


def test_backslashes_part_folders_where_no_file_has_them(corpus: Corpus) -> None:
    corpus.write()
    rename(corpus, "images\\{name}")
    found = read(corpus, image_folder="")
    assert found.image_paths[3] == str(corpus.root / "images" / "img3.png")
    odd = corpus.root / "images\\img3.png"  # as some archives are unpacked
    shutil.copy(found.image_paths[3], odd)
    assert read(corpus, image_folder="").image_paths[3:5] == [str(odd), str(corpus.root / "images" / "img4.png")]


def test_an_absolute_path_is_read_where_it_lies_below_root(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write()
    shutil.copytree(corpus.root / "images", tmp_path / "elsewhere")
    rename(corpus, f"{corpus.root}/images/{{name}}")
    assert read(corpus).image_paths[3] == f"{corpus.root}/images/img3.png"
    for row, split in zip(corpus.rows, corpus.splits, strict=True):
        row["filename"] = split["filename"] = row["filename"].replace(f"{corpus.root}/images", f"{tmp_path}/elsewhere")
    assert "outside data.corpora.0.root" in refused(corpus, bad=BadRows(on_missing_image="skip"))


def test_case_and_unicode_form_of_a_name(corpus: Corpus) -> None:
    corpus.write()
    images = corpus.root / "images"
    (images / "img3.png").rename(images / "img3.PNG")
    (images / "img4.png").rename(images / unicodedata.normalize("NFD", "Brücke4.png"))
    (images / "img5.png").rename(images / unicodedata.normalize("NFC", "Brücke5.png"))
    for i, form in ((4, "NFC"), (5, "NFD")):
        name = unicodedata.normalize(form, f"Brücke{i}.png")
        corpus.rows[i]["filename"] = corpus.splits[i]["filename"] = name
    found = read(corpus)
    assert [Path(path).exists() for path in found.image_paths] == [True] * 12
    counted = found.coverage.to_dict()
    assert counted["counted"] == {"image name written in other case or Unicode form": 3}
    assert counted["rows"][0] == ["ours", 5, "image name written in other case or Unicode form"]
    shutil.copy(images / "img3.PNG", images / "IMG3.png")  # which of the two?
    assert "row 5" in refused(corpus)


def test_the_image_folder_may_be_a_link_to_another_disk(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write()
    shutil.move(corpus.root / "images", tmp_path / "disk")
    (corpus.root / "images").symlink_to(tmp_path / "disk")
    found = read(corpus)
    assert len(found) == 12 and found.image_paths[0] == str(corpus.root / "images" / "img0.png")
    # What the user has not named may not be left by a link, be it of a folder or of a file.
    rename(corpus, "images/{name}")
    message = refused(corpus, image_folder="")
    assert "outside data.corpora.0.root and image_folder" in message and "data.corpora.0.links" in message
    assert len(read(corpus, image_folder="", links=[str(tmp_path / "disk")])) == 12
    rename(corpus, "../{name}")
    assert "stay below" in refused(corpus)


def test_images_that_are_links_into_a_store(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write()
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "store2").mkdir()
    for i in range(12):
        image = corpus.root / "images" / f"img{i}.png"
        shutil.move(image, store / f"{i}.data")
        image.symlink_to(store / f"{i}.data")
    assert "data.corpora.0.links" in refused(corpus)
    assert len(read(corpus, links=[str(store)])) == 12
    moved = tmp_path / "store2" / "3.data"
    shutil.move(store / "3.data", moved)
    assert "a link to a file that is not there" in refused(corpus, links=[str(store)])
    (corpus.root / "images" / "img3.png").unlink()
    (corpus.root / "images" / "img3.png").symlink_to(moved)
    assert "row 5" in refused(corpus, links=[str(store)]), "a folder that only begins alike"


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_folder_of_images_that_may_not_be_entered_stops_the_run(corpus: Corpus, policy: str) -> None:
    """Else its advice would leave out every row of it."""
    corpus.write()
    with shut(corpus.root / "images"):
        told = refused(corpus, bad=BadRows(on_missing_image=policy))
    assert f"a folder of the image, {corpus.root}/images or one below it, may not be entered (Permission" in told
