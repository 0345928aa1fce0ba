from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.labelling.selected import select
from data_modules.reports import clean, digest64, lines, mask_terms, sections

WORDS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), min_size=1, max_size=12).map(" ".join)
NAMES = st.lists(
    st.sampled_from(["findings", "impression", "indication", "comparison", "technique"]), min_size=1, unique=True
)
MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation, pleural effusion or pneumothorax.  Lines and tubes: none.
 The heart is normal.

 IMPRESSION:

 No acute process .
"""


def test_sections_of_a_mimic_report() -> None:
    found = sections(MIMIC)
    assert list(found) == ["", "examination", "indication", "comparison", "findings", "impression"]
    assert found["findings"].startswith("There is no focal") and found["findings"].endswith("normal.")
    chosen = select(MIMIC, ["impression", "findings"])
    assert chosen.startswith("No acute process. There is no focal") and "  " not in chosen and "\n" not in chosen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 52-year-old man; note: see below.", "A 52-year-old man; note: see below."),  # free text is used whole
        ("Impression: old.\nIMPRESSION: new.", "new."),  # the last occurrence corrects the first
        ("FINDINGS: clear. IMPRESSION: normal.", "clear. normal."),  # headings inside a line
        ("INDICATION: cough.\n\nHeart is large. Lungs clear.", "Heart is large. Lungs clear."),
        ("Portable chest with a tube in place.\nCOMPARISON: none", "Portable chest with a tube in place."),
        ("FINDINGS:\nIMPRESSION: normal", "normal"),
        ("___-year-old, XXXX-year-old.", "year-old, year-old."),
        ("Not given.", ""),
        (" \n ", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_select(text: str, expected: str) -> None:
    assert select(text, ["findings", "impression"]) == expected


def test_clean_removes_marks_only() -> None:
    assert clean("Mr. ___ , [**Last Name 12**] seen \ufffd\ufffd by XXXX .") == "Mr., seen by."
    assert clean("snake_case and XX stay") == "snake_case and XX stay"


@given(st.text())
def test_clean_is_idempotent_and_on_one_line(text: str) -> None:
    once = clean(text)
    assert clean(once) == once and "\n" not in once and once == once.strip()


@given(WORDS)
def test_text_without_headings_is_used_whole(text: str) -> None:
    assert select(text, ["findings", "impression"]) == clean(text)


def test_wanted_sections_of_placeholders_alone_are_empty() -> None:
    assert select("Findings: none\nImpression: N/A", ["findings", "impression"]) == ""
    assert select("FINDINGS: -\nIMPRESSION: <NA>", ["findings", "impression"]) == ""
    assert select("FINDINGS: Missing.\nIMPRESSION: A missing rib.", ["findings", "impression"]) == "A missing rib."


@pytest.mark.parametrize(
    "title", ["CHEST: 3-4-2015 0832 hours", "TWO VIEWS OF THE CHEST: 3/4/15.", "Chest 1 View, 3-4-2015"]
)
@pytest.mark.parametrize(
    "code", ["SUMMARY:2-ABNORMAL, PREVIOUSLY REPORTED", "SUMMARY: 1-NO SIGNIFICANT ABNORMALITY", ""]
)
@pytest.mark.parametrize("on_one_line", [False, True])
def test_what_surrounds_a_report_of_chexpert_plus_is_not_read(title: str, code: str, on_one_line: bool) -> None:
    """Title, end mark, code of normality, who signed, accession number: the form of Stanford's file."""
    told = "1. THE HEART IS LARGE.\n\n2. NO PNEUMOTHORAX."
    report = (
        f"NARRATIVE:\n{title}\n\nCOMPARISON: 3/2/2015.\n\nIMPRESSION:\n\n{told}\n\nEND OF IMPRESSION:\n\n"
        f"{code}\n\n"
        "I have personally reviewed the images for this examination and agree\nwith the report transcribed above.\n"
        "By: Doe, Jane\n on: 3-4-2015\n\nACCESSION NUMBER:\n194"
    )
    report = " ".join(report.split()) if on_one_line else report
    assert select(report, ["findings", "impression"]) == " ".join(told.split())


def test_a_narrative_that_tells_is_read() -> None:
    assert select("NARRATIVE:\nLungs clear\nHeart large\n\nIMPRESSION: Large heart.", ["findings"]) == (
        "Lungs clear. Heart large"
    )
    assert select("SUMMARY: 2 nodules are seen.", ["impression"]) == "2 nodules are seen."


TWO = """EXAM: CT CHEST
FINDINGS:
There is a right pneumothorax and a small pleural effusion.
IMPRESSION:
Pneumothorax.

EXAM: CT ABDOMEN
FINDINGS:
The liver is normal. No ascites.
IMPRESSION:
Normal abdomen."""


@pytest.mark.parametrize(
    "text",
    [
        TWO, TWO.replace("EXAM: ", ""), TWO.replace("EXAM: CT CHEST\n", "").replace("EXAM: CT ", ""),
        TWO.replace("EXAM: CT CHEST", "Chest:").replace("EXAM: CT ABDOMEN", "Abdomen:"),
        TWO.replace("EXAM", "TECHNIQUE"),
        TWO.replace("EXAM: CT ABDOMEN", "CT ABDOMEN\nINDICATION: pain"),
    ],
)  # fmt: skip
def test_two_examinations_are_both_told(text: str) -> None:
    found = sections(text)
    assert [line for line in found["findings"].splitlines() if "." in line] == [
        "There is a right pneumothorax and a small pleural effusion.", "The liver is normal. No ascites.",
    ]  # fmt: skip
    assert found["impression"].startswith("Pneumothorax.") and found["impression"].endswith("Normal abdomen.")


@pytest.mark.parametrize(
    "again",
    [
        "",
        "ADDENDUM: corrected.\n",
        "EXAM: CT  Chest\n",
        "COMPARISON: CT ABDOMEN\n",
        "INDICATION:\nAbdomen is painful.\n",
    ],
)
def test_a_report_that_repeats_a_heading_corrects_itself(again: str) -> None:
    first, _, second = TWO.partition("EXAM: CT ABDOMEN\n")
    found = sections(first + again + second)
    assert (found["findings"], found["impression"]) == ("The liver is normal. No ascites.", "Normal abdomen.")


@given(NAMES, st.data())
def test_sections_come_back_as_written(names: list[str], data: st.DataObject) -> None:
    bodies = {name: data.draw(WORDS) for name in names}
    upper = data.draw(st.booleans())
    text = "\n".join(f"{name.upper() if upper else name.title()}: {body}" for name, body in bodies.items())
    assert sections(text) == bodies
    wanted = data.draw(st.permutations(names))
    assert select(text, wanted) == ". ".join(part for part in (clean(bodies[name]) for name in wanted) if part)


@given(st.text(string.printable))
def test_no_section_invents_text(text: str) -> None:
    for body in sections(text).values():
        assert body.strip() and all(line.strip() in lines(text) for line in body.split("\n"))


def test_mask_terms_hides_whole_words_in_any_case() -> None:
    text = "Covid-19 and COVID; covidien tube. sars-cov-2, viral  pneumonia."
    masked = mask_terms(text, ["COVID", "COVID-19", "SARS-CoV-2", "viral pneumonia"])
    assert masked == "___ and ___; covidien tube. ___, ___."
    assert mask_terms(text, []) == text


@given(WORDS, st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=3), max_size=4))
def test_no_masked_word_stays(text: str, terms: list[str]) -> None:
    assert not set(mask_terms(text, terms).split()) & set(terms)


def test_digest_ignores_case_and_spacing_and_fits_int64() -> None:
    assert digest64("No  acute\nprocess.") == digest64("no acute process.") != digest64("No acute process")
    assert digest64("") == -1970711489451281740, "must never change: checkpoints and caches compare it"
    assert all(-(2**63) <= digest64(str(i)) < 2**63 for i in range(100))
    assert min(digest64(str(i)) for i in range(100)) < 0 < max(digest64(str(i)) for i in range(100))


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("FINDNGS", "findings"), ("FINDINS", "findings"), ("FINDIINGS", "findings"), ("IMPRESSON", "impression"),
        ("IMPRESION", "impression"), ("COMPARISION", "comparison"), ("COMPARSION", "comparison"),
        ("INDICTION", "indication"), ("TECHNQIUE", "technique"), ("EXAMINIATION", "examination"),
        ("TYPE OF EXAMINATION", "examination"), ("CLINICAL INDICATION", "indication"),
        ("REFERENCE EXAM", "comparison"), ("WET READ", "wet read"), ("ADDENDUM", "addendum"),
    ],
)  # fmt: skip
def test_misspelt_headings_of_mimic(heading: str, section: str) -> None:
    text = f"FINAL REPORT\n {heading}:  Words of the section.\n\n NOTIFICATION:  Told."
    assert sections(text)[section] == "Words of the section."


BOTH = ["findings", "impression"]


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        # sub-headings stay within what they divide
        ("FINDINGS:\nLUNGS: Clear.\nPLEURA: Fluid.\nHEART: Big.\n\nIMPRESSION:\n1. Fluid.\n2. Big heart.",
         "LUNGS: Clear. PLEURA: Fluid. HEART: Big.", "1. Fluid. 2. Big heart."),
        ("FINDINGS:\nXYZZY: Clear.\nIMPRESSION: OK.\nLINES AND TUBES: None.", "XYZZY: Clear.",
         "OK. LINES AND TUBES: None."),
        ("INDICATION: cough.\nLungs: Clear.\nHeart: Big.\nIMPRESSION: OK.", "Lungs: Clear. Heart: Big.", "OK."),
        # views
        ("INDICATION: Cough.\n \n CHEST, TWO VIEWS: Heart big.\n \n IMPRESSION: OK.", "Heart big.", "OK."),
        ("HISTORY: x.\n PA AND LATERAL VIEWS OF THE CHEST:  Clear.\n CONCLUSION: OK.", "Clear.", "OK."),
        ("PORTABLE CHEST, 5:30 A.M.: Heart big.\nOPINION: OK.", "Heart big.", "OK."),
        ("Chest, 2 views: Clear.\nSummary: OK.", "Clear.", "OK."),
        ("AP CHEST RADIOGRAPH\n\nHeart big.\n\nIMPRESSION: OK.", "Heart big.", "OK."),
        ("RIBS AND CHEST: No fracture.\nASSESSMENT: OK.", "No fracture.", "OK."),
        # languages
        ("KLINISCHE ANGABEN: Husten.\n\nBEFUND: Erguss.\n\nBEURTEILUNG: Stabil.", "Erguss.", "Stabil."),
        ("Fragestellung: Husten\nTechnik: p.a.\nBefund:\nErguss.\nZusammenfassung:\nStabil.", "Erguss.", "Stabil."),
        ("INDICATION : toux.\nRÉSULTATS : Épanchement.\nCONCLUSION : Stable.", "Épanchement.", "Stable."),
        ("Motif\u00a0: toux.\nConstatations\u202f: Épanchement.\nSynthèse\u00a0: Stable.", "Épanchement.", "Stable."),
        ("RESULTATS: E\u0301panchement.\nCONCLUSIONS: Stable.", "Épanchement.", "Stable."),
        ("QUESITO CLINICO: tosse.\n\nREPERTO: Versamento.\n\nCONCLUSIONI: Invariato.", "Versamento.", "Invariato."),
        ("Notizie cliniche: tosse.\nReferto:\nVersamento.\nConclusione: Invariato.", "Versamento.", "Invariato."),
        ("INDICACIÓN: tos.\nHALLAZGOS: Derrame.\nIMPRESIÓN DIAGNÓSTICA: Estable.", "Derrame.", "Estable."),
        ("MOTIVO: tos\nHallazgos: Derrame.\nConclusio\u0301n: Estable.", "Derrame.", "Estable."),
        ("INDICAÇÃO: tosse.\nACHADOS: Derrame.\nIMPRESSÃO: Estável.", "Derrame.", "Estável."),
        ("KLINISCHE GEGEVENS: hoest.\nBEVINDINGEN: Vocht.\nBESLUIT: Stabiel.", "Vocht.", "Stabiel."),
        # forms
        ("Indication:\r\ncough\r\n\r\nFindings\r\nHeart big.\r\n\r\nImpression\r\nOK.\r\n", "Heart big.", "OK."),
        ("FINDINGS\rHeart big.\rIMPRESSION\rOK.", "Heart big.", "OK."),
        ("**Findings:** Heart big.\n\n**Impression:** OK.", "Heart big.", "OK."),
        ("## Findings\nHeart big.\n## Impression\nOK.", "Heart big.", "OK."),
        ("1. FINDINGS: Heart big.\nII) IMPRESSION: OK.", "Heart big.", "OK."),
        ("FINDINGS - Heart big.\nIMPRESSION - OK.", "Heart big.", "OK."),
        ("FINDINGS:\\nHeart big.\\r\\nIMPRESSION:\\nOK.", "Heart big.", "OK."),
        ("FINDINGS: Heart big.<br />IMPRESSION: OK.", "Heart big.", "OK."),
        ("FINDINGS\uff1aHeart big.\nIMPRESSION\uff1aOK.", "Heart big.", "OK."),
        ("FINDINGS: LUNGS CLEAR. HEART BIG. IMPRESSION: OK.", "LUNGS CLEAR. HEART BIG.", "OK."),
        # one line
        ("FINAL REPORT EXAMINATION: CHEST INDICATION: cough FINDINGS: Clear IMPRESSION: OK.", "Clear.", "OK."),
        ("INDICATION : toux. RÉSULTATS : Épanchement. CONCLUSION : Stable.", "Épanchement.", "Stable."),
        ("DATOS CLÍNICOS: tos HALLAZGOS: Derrame. CONCLUSIÓN: Estable.", "Derrame.", "Estable."),
        # headings within a line, in any case behind a stop
        ("Indication: Cough. Findings: Clear. Impression: OK.", "Clear.", "OK."),
        ("indication: cough. findings: clear. impression: OK.", "clear.", "OK."),
        ("Indication: Cough; Findings: Clear; Impression: OK.", "Clear;", "OK."),
        ("History: Cough? Comparison: None. Technique: PA. Findings: Clear. Conclusion: OK.", "Clear.", "OK."),
        ("Clinical details: Cough. Report: Clear. Opinion: OK.", "Clear.", "OK."),
        ("Indication: Cough\nComparison: None. Findings: Clear.\nImpression: OK.", "Clear.", "OK."),
        ("Cough, fever. Findings: Clear. Impression: OK. Recommendation: CT.", "Clear.", "OK."),
        ("Indication: Cough Findings: Clear Impression: OK.", "Clear.", "OK."),
        ("Indikation: Husten. Befund: Erguss. Beurteilung: Stabil.", "Erguss.", "Stabil."),
        ("Klinische Angaben: Husten. Befund: Im Vergleich: Erguss. Beurteilung: Stabil.",
         "Im Vergleich: Erguss.", "Stabil."),
        ("Indication : toux. Résultats : Épanchement. Conclusion : Stable.", "Épanchement.", "Stable."),
        ("Motivo: tos. Hallazgos: Derrame. Conclusión: Estable.", "Derrame.", "Estable."),
        ("Quesito clinico: tosse. Reperto: Versamento. Conclusioni: Invariato.", "Versamento.", "Invariato."),
        ("Indicação: tosse. Achados: Derrame. Impressão: Estável.", "Derrame.", "Estável."),
        ("Indication: Cough. Findings: Heart. Cardiac Findings: B. Impression: OK.", "Heart. Cardiac. B.", "OK."),
        # other marks
        ("[Indication] Cough.\n[Findings] Clear.\n[Impression] OK.", "Clear.", "OK."),
        ("[Indication]: Cough. [Findings]: Clear. [Impression]: OK.", "Clear.", "OK."),
        ("INDICATION;Cough.\nFINDINGS;Clear.\nIMPRESSION; OK.", "Clear.", "OK."),
        ("<b>Indication:</b> Cough.<br><b>Findings:</b> Clear.<br><b>Impression:</b> OK.", "Clear.", "OK."),
        ("<p>Indication: Cough.</p><div class='x'>Findings:&nbsp;Clear.</div><p>Impression: OK.</p>", "Clear.", "OK."),
        ("Indication: Cough._x000D_\nFindings: Clear._x000D_\nImpression: OK.", "Clear.", "OK."),
        # text that no heading claims
        ("INDICATION: cough.\n\nHeart big.\n\nIMPRESSION: OK.", "Heart big.", "OK."),
        ("The heart is very big in both views.\n\nIMPRESSION: OK.", "The heart is very big in both views.", "OK."),
        ("OPIS: Serce.\nCONCLUSION: OK.", "OPIS: Serce.", "OK."),
        ("FINAL REPORT\nFINDINGS: Clear.\nIMPRESSION: OK.\nSIGNED BY: Dr. Who", "Clear.", "OK."),
    ],
)  # fmt: skip
def test_headings_of_many_kinds(text: str, findings: str, impression: str) -> None:
    assert select(text, BOTH) == f"{findings} {impression}"
    assert select(text, ["impression"]) == impression


def test_a_line_of_view_findings_and_impression_alone_is_whole() -> None:
    """All of it is told; what else stands before the findings is not, and goes."""
    whole = "PA chest radiograph. Findings: A big heart. Impression: OK."
    assert select(whole, BOTH) == whole and select(whole.split(". ", 1)[1], BOTH) == "A big heart. Impression: OK."
    assert select(whole.replace("PA chest radiograph", "Pneumonia"), BOTH) == "A big heart. OK."
    assert select(f"Comparison: None. {whole}", BOTH) == "A big heart. OK."


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("FINDINGS: A.\nIMPRESSION: B.\nADDENDUM: A nodule was seen later.", "A. B. A nodule was seen later."),
        ("INFORME: Primero.\nHALLAZGOS: Segundo.\nCONCLUSIÓN: C.\nOPINIÓN: D.", "Primero. Segundo. C. D."),
        ("LUNGS: A.\nIMPRESSION: B.\nCHEST, TWO VIEWS: C.", "LUNGS: A. B. CHEST, TWO VIEWS: C."),
        ("OPIS: A.\nCONCLUSION: B.\nHISTORY: x.\nOPIS: C.", "OPIS: A. OPIS: C. B."),
        ("CHEST, TWO VIEWS: A.\nHISTORY: x.\nCHEST, TWO VIEWS: B.", "A. B."),
        ("WET READ: No fluid.\nFINDINGS: A.\nIMPRESSION: B.", "A. B."),
        ("INDICATION: x.\nWET READ: No fluid.", "No fluid."),
        ("OPIS: Serce.\nWNIOSKI: Stan dobry.", "OPIS: Serce. WNIOSKI: Stan dobry."),
        ("LUNGS: Clear.\nHEART: Big.", "LUNGS: Clear. HEART: Big."),
        ("Patient 1 ? CXR: Normal", "Patient 1 ? CXR: Normal"),
        ("PORTABLE CHEST SHOWS FLUID\nNO PNEUMOTHORAX", "PORTABLE CHEST SHOWS FLUID. NO PNEUMOTHORAX"),
        ("Heart is big. Follow the plan: rest.", "Heart is big. Follow the plan: rest."),
        ("Lungs clear. Heart big. CONCLUSION: Normal.", "Lungs clear. Heart big. Normal."),
        (
            "The result: clear. Compared to the prior: stable. Age: 4 days.",
            "The result: clear. Compared to the prior: stable. Age: 4 days.",
        ),
        ("Siehe Befund: kein Erguss. Im Vergleich: stabil.", "Siehe Befund: kein Erguss. Im Vergleich: stabil."),
        ("Heart size < 5 cm & normal. See [1]; exam; report.", "Heart size < 5 cm & normal. See [1]; exam; report."),
        ("Big heart, seen first.\nLungs: Clear.\nBones: Fine.", "Big heart, seen first. Lungs: Clear. Bones: Fine."),
        ("Clear since prior\nexam.\nTime 12:30\nRatio 1:2", "Clear since prior exam. Time 12:30. Ratio 1:2"),
    ],
)
def test_no_text_is_lost_for_want_of_a_heading(text: str, chosen: str) -> None:
    assert select(text, BOTH) == chosen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("INDICATION: A.\nCOMPARISON: None.\nTECHNIQUE: PA and lateral.\nSmall effusion.\nNo mass.",
         "Small effusion.\nNo mass."),
        ("INDICATION: Cough. COMPARISON: None. The lungs are clear. No mass.", "The lungs are clear. No mass."),
        ("COMPARISON: None Lungs clear. No mass.", "Lungs clear. No mass."),
        ("COMPARISON: None\nlungs clear.", "lungs clear."),
        ("Vergleich: Keine Voraufnahmen vorhanden.", None),
        ("COMPARISON: CT chest 3/4/2011\nLungs clear. No mass.", "Lungs clear. No mass."),
        ("TECHNIQUE: PA\n1. Effusion.\n2. Mass.", "1. Effusion.\n2. Mass."),
        ("Fragestellung: Husten\nTechnik: p.a.\nErguss links.\nEMPFEHLUNG: CT.", "Erguss links."),
        # the first statement goes on
        ("TECHNIQUE: Two views were\nobtained.\nHeart big.", "Heart big."),
        ("COMPARISON: Film with a\nleft effusion.\nHeart big.", "Heart big."),
        # what is asked or known is no finding, nor what an older study showed
        ("EXAM: Chest X-ray. Clinical: effusion", None),
        ("EXAMINATION: CT CHEST.\nCLINICAL HISTORY lung cancer with effusion.", None),
        ("TECHNIQUE: PA.\nReason for study effusion.\nHeart big.", "Heart big."),
        ("COMPARISON: 2018 radiograph. It showed pneumonia and cardiomegaly.", None),
        ("INDICATION: Rule out pneumonia. Known effusion.", None),
        ("COMPARISON: None.\nINDICATION: Cough.\nKnown effusion.", None),
        ("INDICATION: Cough. Known effusion. COMPARISON: 3/4/2011.", None),
        # something is told
        ("INDICATION: A.\nTECHNIQUE: PA. Upright.\nIMPRESSION: OK.", None),
        ("INDICATION: A.\n\nHeart big.\n\nCOMPARISON: None. Upright.", "Heart big."),
    ],
)  # fmt: skip
def test_findings_behind_a_comparison_or_a_technique(text: str, seen: str | None) -> None:
    """Where nothing else is told, they begin below its first line."""
    assert sections(text).get("findings") == seen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pleural ef-\nfusion, Cardio-\n  megaly", "Pleural effusion, Cardiomegaly"),
        ("right-\nsided, well-\ndefined, catheter-\nrelated", "right-sided, well-defined, catheter-related"),
        ("Pleura-\nund Perikarderguss, Herz-\nLungen-Befund", "Pleura- und Perikarderguss, Herz- Lungen-Befund"),
        ("e\ufb00usion, in\ufb01ltrate, re\ufb02ux, di\ufb03cult", "effusion, infiltrate, reflux, difficult"),
        ("ef\u00adfusion, car\u00ad\ndiac", "effusion, cardiac"),
        ("5 cm\u00b2, 3 -\n4 mm, \u00bd", "5 cm\u00b2, 3 - 4 mm, \u00bd"),
        ("size &lt; 5&nbsp;cm, A&amp;E, <5 mm, >b", "size < 5 cm, A&E, <5 mm, >b"),
    ],
)
def test_copied_text(text: str, expected: str) -> None:
    assert clean(lines(text)) == expected
