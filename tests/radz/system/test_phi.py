"""Fault 18: what identifies a patient stays where rule 9 lets it stand, whatever a run writes or says."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from small_run import SMALL

from radz.cli.command_line import main

SENTINEL = "ZQXPHI"
TAGS = (
    "PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientComments", "PatientBirthName",
    "AccessionNumber", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName", "OperatorsName",
    "PerformingPhysicianName", "StudyDescription", "SeriesDescription", "StudyID", "ProtocolName", "ImageComments",
    "RequestedProcedureDescription", "DeviceSerialNumber", "StationName", "AdditionalPatientHistory", "Occupation",
)  # fmt: skip
"""Of the basic confidentiality profile (DICOM PS3.15, table E.1-1), those that hold free text."""


def radiograph(path: Path, number: int) -> None:
    """A DICOM file whose tags all identify the patient."""
    shade = np.random.default_rng(number).integers(0, 4096, (40, 40)).astype(np.uint16)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 40, 40, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    for tag in TAGS:
        setattr(ds, tag, f"{SENTINEL}{number}")
    ds.PixelData = shade.tobytes()
    ds.save_as(path, enforce_file_format=True)


def corpus(root: Path) -> Path:
    """Twenty such files, their table and the experiment that reads it."""
    folder = root / "images" / SENTINEL
    folder.mkdir(parents=True)
    with (root / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "study", "patient", "notes", "edema", "mass"])
        for i in range(20):
            radiograph(folder / f"{SENTINEL}-{i}.dcm", i)
            report = f"Mr {SENTINEL} has an effusion, number {i}."
            name = f"{SENTINEL}/{SENTINEL}-{i}.dcm"
            writer.writerow([name, f"{SENTINEL}.{i}", f"{SENTINEL}{i}", report, i % 2, (i % 3 == 0 and 1) or 0])
    coding = {0: "absent", 1: "present"}
    content = {
        "base": "demo",
        "data": {
            "corpora": [
                {"reader": "table", "name": "ours", "csv": "table.csv", "image_folder": "images",
                 "columns": {"image": "file", "study": "study", "patient": "patient", "report": "notes"},
                 "labels": {n: {"column": n, "numeric": coding} for n in ("edema", "mass")},
                 "split_fractions": {"train": 0.5, "val": 0.25, "test": 0.25}}
            ]
        },
        "dkam": {"findings": ["no_finding", "edema", "mass"]},
    }  # fmt: skip
    (root / "ours.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.fault(18)
def test_what_identifies_a_patient_stays_where_it_may(
    tmp_path: Path, cache_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on such files, from their unreadable image to its report: stdout, stderr, logs, W&B folder, checkpoints,
    cache, metrics and page are searched. Allowed are predictions, private/ids.csv and the kept study table (0600)."""
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    images, run, cache = corpus(tmp_path / "ours"), tmp_path / "run", tmp_path / "cache"
    cache.mkdir()
    for folder in ("phantom", "tiny"):  # these hold no patient
        if (cache_dir / folder).is_dir():
            os.symlink(cache_dir / folder, cache / folder)
    keys = [key for key in SMALL if not key.startswith(("data.corpora", "wandb"))]
    places = [f"data.corpora.0.root={tmp_path / 'ours'}", f"run_dir={run}", f"cache_dir={cache}", "data.batch_size=4"]
    command = ["train", str(tmp_path / "ours/ours.yaml"), *keys, *places, "wandb.mode=offline"]
    whole = (images / f"{SENTINEL}-3.dcm").read_bytes()
    (images / f"{SENTINEL}-3.dcm").write_bytes(whole[:700])
    assert main(command) == 2
    (images / f"{SENTINEL}-3.dcm").unlink()
    assert main(command) == 2
    (images / f"{SENTINEL}-3.dcm").write_bytes(whole)
    assert main(command) == 0
    wandb.teardown()
    shown = capfd.readouterr()
    assert SENTINEL not in shown.out + shown.err and "unreadable" in shown.err and "no image file" in shown.err
    allowed = [run / "predictions", run / "private", cache / "tables"]
    kinds = set()
    for file in [*run.rglob("*"), *cache.rglob("*")]:
        assert SENTINEL not in file.name, file
        if file.is_file() and not any(place in file.parents for place in allowed):
            kinds.add(file.suffix)
            assert SENTINEL.encode() not in file.read_bytes(), file
    assert {".ckpt", ".html", ".json", ".csv", ".yaml", ".wandb"} <= kinds
    assert SENTINEL in (run / "private/ids.csv").read_text(), "the sentinel is in use"
    for file in (cache / "tables").rglob("*"):
        assert not file.is_file() or file.stat().st_mode & 0o077 == 0, file
