"""Copies of a DICOM file with other elements."""

from __future__ import annotations

from pathlib import Path

import pydicom


def changed(source: Path, target: Path, **tags: object) -> Path:
    """A copy of a DICOM file with other tags; None removes one."""
    dataset = pydicom.dcmread(source)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(target)
    return target
