"""What a DICOM header says of body part, view and orientation, and what the words of tables say of views.

Body parts: Defined Terms of BodyPartExamined (PS3.16 Annex L); views: those of ViewPosition (PS3.3 C.8.1.1) and the
words of published tables (`AP Supine`, `LATERAL`, `Frontal`). Machines write free words there (`PORT CHEST`, `L KNEE`),
so single words are looked at; one that is not known says nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from data_modules.dicom_header import raw
from data_modules.dicom_kind import OTHERS, kind

CHEST = ("CHEST", "THORA", "TORAX", "LUNG", "RIB", "HEART", "MEDIASTIN", "PLEURA", "BRONCH", "TRACHEA", "BODY", "TRUNK")
"""beginnings or parts of words that name the chest, what is in it, or what holds it"""
ELSEWHERE = frozenset((
    "ABDOMEN", "ABDOMENPELVIS", "ACJOINT", "ANKLE", "ANKLES", "ARM", "BLADDER", "BRAIN", "BREAST", "BUTTOCK",
    "CALCANEUS", "CALF", "CAROTID", "CEREBELLUM", "CERVIX", "CLAVICLE", "COCCYX", "COLON", "CSPINE", "DUODENUM", "EAR",
    "ELBOW", "ELBOWS", "EXM", "EXTREMITIES", "EXTREMITY", "EYE", "FACE", "FEET", "FEMUR", "FIBULA", "FINGER", "FINGERS",
    "FOOT", "FOREARM", "GALLBLADDER", "HAND", "HANDS", "HEAD", "HEADNECK", "HEEL", "HIP", "HIPS", "HUMERUS", "IAC",
    "ILIUM", "JAW", "KIDNEY", "KNEE", "KNEES", "KUB", "LEG", "LEGS", "LIMB", "LIMBS", "LIVER", "LSPINE", "LSSPINE",
    "LUMBAR", "MANDIBLE", "MAXILLA", "METACARPUS", "METATARSUS", "NASAL", "NECK", "NOSE", "ORBIT", "ORBITS", "PANCREAS",
    "PATELLA", "PELVIS", "PROSTATE", "RADIUS", "SACRUM", "SCAPULA", "SELLA", "SHOULDER", "SHOULDERS", "SIJOINT",
    "SINUS", "SINUSES", "SKULL", "SPINE", "SPLEEN", "SSPINE", "STOMACH", "TESTIS", "THIGH", "THUMB", "TIBIA", "TMJ",
    "TMJOINT", "TOE", "TOES", "TSPINE", "ULNA", "URETER", "URETHRA", "UTERUS", "WRIST", "WRISTS", "ZYGOMA",
))  # fmt: skip
"""words that name another part of the body"""
VIEWS = {
    "decubitus": ("LLD", "RLD", "DECUBITUS", "DECUB"),
    "oblique": ("LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBLIQUE", "OBL"),
    "lateral": ("LL", "RL", "L", "LAT", "LATERAL"),
    "frontal": ("AP", "PA", "FRONTAL"),
}
"""kind of view -> words for it; the first kind that is named counts, so that a LATERAL DECUBITUS is no lateral"""
TAGS = ["SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "PatientOrientation"]
ORIENTATION = re.compile(r"([LRAPHF])[LRAPHF]*\\([LRAPHF])[LRAPHF]*")
"""of PatientOrientation: where rows run, and where columns run (PS3.3 C.7.6.1.1.1)"""


@dataclass(frozen=True)
class Words:
    """Of one DICOM object; empty where it says nothing, and of a file that is no DICOM."""

    modality: str = ""
    body_part: str = ""
    view: str = ""
    orientation: str = ""

    def modality_elsewhere(self, modality: str) -> bool:
        """Whether Modality names something else than `modality` (chest_xray or chest_ct)."""
        return self.modality in OTHERS[modality]

    @property
    def body_elsewhere(self) -> bool:
        """Whether BodyPartExamined names another part of the body and not the chest beside it."""
        named = _single(self.body_part)
        return not named.isdisjoint(ELSEWHERE) and not any(part in self.body_part for part in CHEST)

    @property
    def turned(self) -> bool:
        """Whether PatientOrientation says that a radiograph is mirrored or turned; not every machine fills it rightly.

        Rows run to the patient's left, of a lateral to his front or back, and columns to his feet; who lies on his
        side may be shown lying.
        """
        found = ORIENTATION.fullmatch(self.orientation)
        return found is not None and (found[1] not in "LAP" or found[2] != "F") and view_kind(self.view) != "decubitus"


def view_kind(view: str) -> str:
    """Return the kind of VIEWS that a view is, empty for one that is not known: AP Supine is frontal."""
    named = _single(view.upper())
    return next((kind for kind, words in VIEWS.items() if not named.isdisjoint(words)), "")


def words_of(path: Path) -> Words:
    """Return what a DICOM file says, or of the slices in a folder the first one that says anything.

    Of a file that cannot be read nothing: what is wrong with it is told when its pixels are.
    """
    if not os.path.isdir(path):
        return _words_of_file(path)
    try:
        files = sorted(path.iterdir())
    except OSError:
        return Words()
    every = (_words_of_file(file) for file in files if os.path.isfile(file))
    return next((words for words in every if words != Words()), Words())


def _words_of_file(path: Path) -> Words:
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    except Exception:  # pydicom promises no exception type for what is no DICOM file
        return Words()
    return Words(kind(dataset)[0], *(_text(dataset, keyword) for keyword in TAGS[2:]))


def _text(dataset: Dataset, keyword: str) -> str:
    """The value of an element in capitals, cut to the length that its VR allows; what is not printable is left out."""
    value = raw(dataset, keyword)
    value = "\\".join(map(str, value)) if isinstance(value, MultiValue) else value
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return "".join(char for char in text.upper() if char.isprintable()).strip()[:16]


def _single(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", text))
