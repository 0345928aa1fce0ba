"""Whether DICOM headers are of one patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import normalize

from pydicom import Dataset

from data_modules.dicom_header import raw
from data_modules.errors import InputError

PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
"""what tells one patient from another; empty in a header it tells nothing"""


def check_one_patient(headers: Sequence[Dataset], where: str) -> None:
    """InputError where DICOM headers name several patients."""
    numbers = said(headers, "PatientID")
    spelt = len(numbers) == 1 and numbers != {""}  # of one number a name may be spelt in two ways
    for keyword in PATIENT:
        if len(said(headers, keyword) - {""}) > 1 and not (spelt and keyword == "PatientName"):
            raise InputError(f"{where}: its files differ in {keyword}; put those of one patient together")


def said(headers: Sequence[Dataset], keyword: str) -> set[str]:
    """Return the values of an element of text; empty where it is absent.

    Capitals and padding do not count, nor what stands between the words of a name or the numbers of a date; of a name
    in several scripts the first counts.
    """
    texts = {normalize("NFKC", str(raw(header, keyword) or "")).strip(" \0").casefold() for header in headers}
    if keyword == "PatientName":
        first = (text.strip("=").partition("=")[0].replace("'", "") for text in texts)
        return {" ".join(re.findall(r"\w+", text)) for text in first}
    return {re.sub(r"\D", "", text) for text in texts} if keyword == "PatientBirthDate" else texts
