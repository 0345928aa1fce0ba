"""Headings of radiology reports in seven languages, by the section that they open.

English as in MIMIC-CXR (names and counts: the section parser of MIT-LCP/mimic-cxr); the others are the usual words of
German, French, Italian, Spanish, Portuguese and Dutch reports.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import lru_cache

MISSPELT = 0.8
"""How like a known heading (ratio of difflib) an unknown one in capitals must be to count as its misspelling, such as
FINDNGS, IMPRESSON, COMPARISION, INDICTION or TECHNQIUE, of which MIMIC-CXR has dozens."""
_ENGLISH = {
    "findings": "findings, finding, findings/impression, findings and impression, findings & impression, observation, "
    "observations, result, results, description, report, narrative, comment, comments, radiographic findings",
    "impression": "impression, impressions, conclusion, conclusions, opinion, summary, assessment, final impression, "
    "preliminary impression, impression and recommendation, impression and recommendations, "
    "impression/recommendation, impression/recommendations, conclusion and recommendations, impression/plan, "
    "radiological diagnosis, diagnosis, final diagnosis, impresson, pfi",
    "indication": "indication, indications, history, clinical history, clinical information, clinical indication, "
    "clinical details, clinical data, clinical question, patient history, reason for exam, reason for examination, "
    "reason for study, reason for this examination, reason, hpi, symptoms, medical history",
    "comparison": "comparison, comparisons, comparison exam, comparison film, reference exam, comparison study, "
    "comparison studies, prior studies, previous studies, prior, priors",
    "technique": "technique, procedure, protocol, imaging technique, procedure comments, contrast, dose, views",
    "examination": "examination, exam, study, type of examination, type of exam, examination type, exam type, "
    "study type, modality",
    "recommendation": "recommendation, recommendations, recommendation(s), advice, follow-up, plan",
    "notification": "notification, notifications, communication, critical results",
    "addendum": "addendum, addenda, addendum report, addendum to report, corrected report, correction",
    "wet read": "wet read, wetread, preliminary report, preliminary read, prelim read",
    "administration": "date, exam date, date of exam, date of study, signed by, electronically signed by, signed, "
    "dictated by, transcribed by, reported by, approved by, verified by, radiologist, attending, resident, "
    "referring physician, ordering physician, physician, accession, accession number, patient, patient name, patient "
    "id, name, age, sex, gender, mrn, dob, date of birth, cc, report status, status, location, department, ref",
}
_OTHERS = {
    "findings": "befund, befunde, befundbericht, befund und beurteilung, befund/beurteilung, bericht, beschreibung, "
    "résultat, résultats, constatation, constatations, compte rendu, compte-rendu, analyse, aspect, "
    "referto, reperto, reperti, descrizione, risultato, risultati, esito, "
    "hallazgos, hallazgo, informe, descripción, resultado, resultados, hallazgos radiológicos, "
    "achado, achados, relatório, laudo, análise, descrição, aspectos observados, "
    "bevinding, bevindingen, verslag, beschrijving, resultaat, resultaten",
    "impression": "beurteilung, zusammenfassung, fazit, diagnose, schlussfolgerung, ergebnis, "
    "synthèse, au total, en conclusion, diagnostic, "
    "conclusione, conclusioni, giudizio diagnostico, impressione, impressione diagnostica, diagnosi, sintesi, "
    "conclusión, conclusiones, impresión, impresiones, impresión diagnóstica, juicio diagnóstico, diagnóstico, "
    "conclusão, conclusões, impressão, impressão diagnóstica, opinião, hipótese diagnóstica, "
    "conclusie, conclusies, besluit, samenvatting, indruk, beoordeling",
    "indication": "indikation, klinische angaben, klinische angabe, klinische fragestellung, fragestellung, anamnese, "
    "klinik, rechtfertigende indikation, klinische information, klinische informationen, vorgeschichte, "
    "renseignements cliniques, renseignement clinique, motif, contexte, contexte clinique, antécédents, histoire, "
    "quesito clinico, quesito diagnostico, quesito, indicazione, indicazioni, notizie cliniche, dati clinici, "
    "anamnesi, motivo dell'esame, "
    "indicación, indicaciones, motivo, motivo de consulta, antecedentes, datos clínicos, información clínica, "
    "historia clínica, sospecha diagnóstica, "
    "indicação, dados clínicos, informação clínica, informações clínicas, história clínica, motivo do exame, "
    "klinische gegevens, vraagstelling, indicatie, voorgeschiedenis, klinische inlichtingen",
    "comparison": "vergleich, voraufnahme, voraufnahmen, voruntersuchung, voruntersuchungen, "
    "comparaison, comparatif, examens antérieurs, confronto, esami precedenti, comparación, estudio previo, "
    "estudios previos, comparação, exames anteriores, exame anterior, vergelijking, vorig onderzoek, eerder onderzoek",
    "technique": "technik, untersuchungstechnik, methode, protocole, tecnica, tecnica di esame, técnica, método, "
    "techniek",
    "examination": "untersuchung, untersuchungsart, examen, type d'examen, esame, tipo di esame, exploración, estudio, "
    "tipo de estudio, exame, tipo de exame, onderzoek, soort onderzoek",
    "recommendation": "empfehlung, empfehlungen, procedere, recommandation, recommandations, raccomandazione, "
    "raccomandazioni, recomendación, recomendaciones, recomendação, recomendações, advies, aanbeveling",
    "addendum": "nachtrag, ergänzung, addenda, adenda, complément, aanvulling, integrazione",
    "administration": "datum, datum der untersuchung, arzt, date de l'examen, médecin, data, data dell'esame, medico, "
    "fecha, fecha del estudio, médico, data do exame, arts, radiologo, radiólogo, radiologista, radioloog",
}


def plain(heading: str) -> str:
    """The heading case-folded, on one line, without accents: Résultats, RESULTATS and RÉSULTATS are one."""
    parts = unicodedata.normalize("NFKD", " ".join(heading.casefold().split()))
    return "".join(sign for sign in parts if not unicodedata.combining(sign)).replace("\u2019", "'")


def _split(words: str) -> list[str]:
    return [plain(word) for word in words.split(",")]


HEADINGS = {
    heading: section
    for names in (_OTHERS, _ENGLISH)  # where languages share a word, English decides
    for section, words in names.items()
    for heading in _split(words)
}
"""Heading as of `plain` -> section."""
_SPELT = [heading for words in _ENGLISH.values() for heading in _split(words) if len(heading) > 5]
_VIEW = re.compile(
    r"\b(?:chest|cxr|portable|views?|radiographs?|x-?rays?|films?|lateral|lat|upright|supine|erect|decubitus|apical|"
    r"lordotic|ribs?|bone window|thorax|ebenen?|rontgen|radiographie|poumons? face|torace|torax|radiografia|rx|"
    r"proyeccion(?:es)?|aufnahme|opname|babygram|ct|cta|ctpa|hrct|tomography|tdm|tac)\b"
)
_PLACE = re.compile(
    r"\b(?:lungs?|pulmonary|parenchyma|pleurae?|pleural|heart|cardiac|cardiovascular|cardiomediastin\w+|mediastinum|"
    r"mediastinal|hil(?:a|um|ar|i)|bones?|bony|osseous|skelet\w+|spine|soft tissues?|lines?|tubes?|devices?|hardware|"
    r"diaphragms?|abdomen|abdominal|airways?|trachea|chest wall|vessels?|vascular\w*|aorta|thyroid|lymph nodes?|"
    r"esophagus|oesophagus|pericardium|catheters?|musculoskeletal|other|others|additional findings|support|"
    r"lower neck|neck|breasts?|liver|adrenals?|kidneys?|spleen|pneumothorax|effusions?|cardiac silhouette|"
    r"lungen?|lungenparenchym|herz|knochen|skelett|weichteile|zwerchfell\w*|fremdmaterial|"
    r"poumons?|coeur|plevres?|mediastin|os|cadre osseux|parties molles|"
    r"polmon[ei]|cuore|pleure|mediastino|ossa|scheletro|tessuti molli|"
    r"pulmon(?:es|ar)?|corazon|huesos?|partes blandas|pulmoes|pulmao|coracao|ossos?|partes moles|"
    r"longen|long|hart|botten|skelet|weke delen)\b"
)


_TAKEN = re.compile(
    rf"(?:(?:{_VIEW.pattern}|\b(?:pa|ap|lat|frontal|single|one|two|three|semi|of|the|and|an?|in|at|w|with|without|"
    r"contrast|digital|standing|sitting|bedside|de|du|del|della|di|des|do|zwei|liegend|stehend|et|profil|e|y)\b|\b\d+\b|_+(?!_)|[ap]\.?m\b)"
    r"[\s,.()/&:+-]*)+"
)


def is_view(heading: str) -> bool:
    """Whether a heading says nothing but what was taken: Chest, two views."""
    return _TAKEN.fullmatch(plain(heading)) is not None


@lru_cache(4096)
def section_of(heading: str, capitals: bool) -> str | None:
    """Return what a heading opens; None for one that is not known.

    Besides the sections of HEADINGS: `view`, where it says what was taken (CHEST, TWO VIEWS), of which the findings
    are told; `place`, where it names a part of the body (LUNGS), told within the findings. `capitals`: it was written
    in capitals, so that misspellings count.
    """
    name = plain(heading).strip(" .")
    if name in HEADINGS:
        return HEADINGS[name]
    bare = re.sub(r"\s*\([^)]*\)", "", name)  # IMPRESSION (PRELIMINARY)
    if bare in HEADINGS:
        return HEADINGS[bare]
    if _VIEW.search(name):
        return "view"
    if _PLACE.search(name):
        return "place"
    alike = difflib.get_close_matches(name, _SPELT, 1, MISSPELT) if capitals else []
    return HEADINGS[alike[0]] if alike else None
