"""Open-I as the National Library of Medicine gives it, with the table of projections that Kaggle adds.

Traps: XXXX for words taken out, MeSH terms as paths with blanks, words that only look like a finding (subcutaneous
emphysema, cystic fibrosis), "No Indexing", a report without images, one without text, laterals.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from data_modules.phantom.layouts.case import Case, write_csv

TERMS = {
    "cardiomegaly": "Cardiomegaly/mild",
    "pleural_effusion": "Pleural Effusion/left/small",
    "pneumothorax": "Pneumothorax/apex",
    "consolidation": "Consolidation/lung/base",
    "edema": "Pulmonary Edema",
    "nodule": "Nodule/lung/upper lobe ",
    "atelectasis": "Pulmonary Atelectasis/base/left",
    "emphysema": "Pulmonary Emphysema",
    "support_devices": "Implanted Medical Device/thorax",
    "aortic_enlargement": "Aorta/tortuous",
    "pleural_thickening": "Thickening/pleura/apex/bilateral",
    "mass": "Mass/lung",
    "tuberculosis": "Tuberculosis",
    "hiatal_hernia": "Hernia, Hiatal/large",
}
ALIKE = ("Subcutaneous Emphysema/neck", "Cystic Fibrosis")


def write(cases: list[Case], out: Path) -> None:
    """Write every study with its frontal image; each fifth also has a lateral one. The last report has no image."""
    views: list[list[object]] = []
    for case in cases:
        uid, images = case.number + 1, []
        for series, view in (("1001", "Frontal"), ("2001", "Lateral")):
            if view == "Lateral" and case.number % 5:
                continue
            images.append(f"CXR{uid}_IM-{case.number:04d}-{series}")
            case.picture(out / "NLMCXR_png" / f"{images[-1]}.png")
            views.append([uid, f"{uid}_IM-{case.number:04d}-{series}.dcm.png", view])
        _report(out, uid, _terms(case), "" if case.number == 2 else case.report, images)
    _report(out, len(cases) + 1, ["normal"], "Findings: Clear lungs.", [])
    write_csv(out / "indiana_projections.csv", ["uid", "filename", "projection"], views)


def _terms(case: Case) -> list[str]:
    if case.number == 4:
        return ["No Indexing"]
    found = [TERMS[finding] for finding in sorted(case.findings)]
    alike = [ALIKE[case.number % 2]] if found and case.number % 3 == 0 else []
    return [*found, *alike] or ["normal"]


def _report(out: Path, uid: int, terms: list[str], text: str, images: list[str]) -> None:
    """One XML file; words are hidden as the corpus hides them."""
    findings, _, impression = text.partition("Impression:")
    findings = findings.rpartition("Findings:")[2].replace("The ", "XXXX ", 1)
    abstract = {"COMPARISON": "XXXX.", "INDICATION": "XXXX-year-old with chest pain", "FINDINGS": findings.strip(),
                "IMPRESSION": impression.strip()}  # fmt: skip
    parts = [f'<AbstractText Label="{label}">{escape(body)}</AbstractText>' for label, body in abstract.items()]
    major = [f"<major>{escape(term)}</major>" for term in terms]
    shown = [f'<parentImage id="{image}"><figureId>F1</figureId></parentImage>' for image in images]
    path = out / "ecgen-radiology" / f"{uid}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><meta type="rr"/><uId id="CXR{uid}"/><MedlineCitation>'
        f"<Article><Abstract>{''.join(parts)}</Abstract></Article></MedlineCitation>"
        f"<MeSH>{''.join(major)}<automatic>pneumonia</automatic></MeSH>{''.join(shown)}</eCitation>\n",
        encoding="utf-8",
    )
