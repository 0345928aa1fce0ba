"""What is said in the many ways that reports are written: lines, forms, lists, contractions, copies of a PDF."""

from __future__ import annotations

from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller
from data_modules.labelling.sentences import split
from data_modules.labelling.spelling import Spelt

STATES = {"+": "present", "-": "absent", "?": "uncertain"}
NAMES = {
    "ptx": "pneumothorax", "pe": "pleural_effusion", "card": "cardiomegaly", "pn": "pneumonia", "ed": "edema",
    "con": "consolidation", "nf": "no_finding",
}  # fmt: skip
BEFORE = {
    "en": "The trachea is midline and the mediastinum is of normal width. ",
    "de": "Die Trachea ist mittelständig und das Mediastinum ist nicht verbreitert. ",
    "fr": "Le médiastin est de taille normale et les coupoles sont bien visibles. ",
    "es": "El mediastino es de tamaño normal y la tráquea está centrada. ",
    "it": "Il mediastino è nei limiti e la trachea è in asse. ",
    "pt": "O mediastino tem dimensões normais e a traqueia está centrada. ",
}
WORDS = {  # the last is the no that stands before
    "en": ("Pneumothorax", "Pleural effusion", "Cardiomegaly", "Pneumonia", "No", "Yes", "No"),
    "de": ("Pneumothorax", "Pleuraerguss", "Kardiomegalie", "Pneumonie", "Nein", "Ja", "Kein"),
    "fr": ("Pneumothorax", "Épanchement pleural", "Cardiomégalie", "Pneumonie", "Non", "Oui", "Pas de"),
    "es": ("Neumotórax", "Derrame pleural", "Cardiomegalia", "Neumonía", "No", "Sí", "Sin"),
    "it": ("Pneumotorace", "Versamento pleurico", "Cardiomegalia", "Polmonite", "No", "Sì", "Non"),
    "pt": ("Pneumotórax", "Derrame pleural", "Cardiomegalia", "Pneumonia", "Não", "Sim", "Sem"),
}


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


def said(report: str, marks: str) -> dict[str, str]:
    """{finding: state} of the findings that `marks` names, such as `ptx- card+`; `pe.` is not spoken of."""
    found = labeller().label(report)
    names = [mark[:-1] for mark in marks.split()]
    return {name: found[NAMES[name]].state if NAMES[name] in found else "." for name in names}


def wanted(marks: str) -> dict[str, str]:
    return {mark[:-1]: STATES.get(mark[-1], ".") for mark in marks.split()}


FORMS = [
    ("{ptx}: {no}\n{pe}: {no}\n{card}: {yes}", "ptx- pe- card+"),
    ("{ptx}: {yes}\n{pe}: {no}\n{card}: {yes}", "ptx+ pe- card+"),
    ("{ptx}: {no}. {pe}: {no}. {card}: {yes}.", "ptx- pe- card+"),
    ("{ptx}: {no}, {pe}: {yes}, {card}: {no}", "ptx- pe+ card-"),
    ("{ptx}: {no}; {pe}: {yes}; {card}: {no};", "ptx- pe+ card-"),
    ("{none} {pe}, {ptx}: {no}, {card}", "pe- ptx- card+"),
    ("{ptx} - {no}.\n{pe} - {yes}.", "ptx- pe+"),
    ("{ptx} ({no}), {pe} ({yes})", "ptx- pe+"),
    ("{ptx} (-), {pe} (+), {card} (-).", "ptx- pe+ card-"),
    ("{card}: (-). {pe}: (+)", "card- pe+"),
    ("{ptx}: 0. {pe}: 1. {card}: 0", "ptx- pe+ card-"),
    ("{ptx}: {no} {pe}: {yes} {card}: {no}", "ptx- pe+ card-"),
    # lines
    ("{none} {ptx_}\n{pe}\n{card}", "ptx- pe+ card+"),
    ("{none} {ptx_}\r\n{pe}", "ptx- pe+"),
    ("{none} {ptx_}<br>{pe}", "ptx- pe+"),
    ("{none} {ptx_}_x000D_\n{pe}", "ptx- pe+"),
    ("{none} {ptx_} | {pe} | {card}", "ptx- pe+ card+"),
    ("{none} {ptx_}\t{pe}", "ptx- pe+"),
    ("{none}\n{ptx_}\n{pe}", "ptx- pe+"),
    # lists
    ("1) {none} {ptx_} 2) {pe} 3) {card}", "ptx- pe+ card+"),
    ("(1) {none} {ptx_} (2) {pe}", "ptx- pe+"),
    ("a) {none} {ptx_} b) {pe}", "ptx- pe+"),
    ("1. {none} {ptx_} 2. {pe}", "ptx- pe+"),
    ("{none} {ptx_} 2) {pe} 3) {card}", "ptx- pe+ card+"),
    # doubt and none
    ("? {pn}.", "pn?"),
    ("?{pn}. {pe}.", "pn? pe+"),
    ("{pe}, ? {pn}", "pe+ pn?"),
    ("{pn}? {pe}.", "pn? pe+"),
    ("Ø {ptx}\n{pe}", "ptx- pe+"),
    ("\u2205 {ptx}, Ø {pe}", "ptx- pe-"),
    ("{ptx} Ø 3 cm", "ptx+"),
]  # fmt: skip


@pytest.mark.parametrize("code", WORDS)
@pytest.mark.parametrize(("form", "marks"), FORMS)
def test_forms_in_every_language(code: str, form: str, marks: str) -> None:
    ptx, pe, card, pn, no, yes, none = WORDS[code]
    ptx_ = ptx if code == "de" else ptx.lower()
    text = form.format(ptx=ptx, pe=pe, card=card, pn=pn, no=no, yes=yes, none=none, ptx_=ptx_)
    assert said(BEFORE[code] + "\n" + text, marks) == wanted(marks)
    assert said(BEFORE[code] + text, marks) == wanted(marks)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        # contractions
        ("There isn't any pneumothorax.", "ptx-"),
        ("There isn\u2019t a pleural effusion.", "pe-"),
        ("There aren't any effusions.", "pe-"),
        ("There wasn't any effusion.", "pe-"),
        ("The film doesn't show edema.", "ed-"),
        ("The lungs don\u2019t show consolidation.", "con-"),
        ("The lungs dont show consolidation.", "con-"),
        ("I don't see a pneumothorax.", "ptx-"),
        ("Pneumothorax isn't seen.", "ptx-"),
        ("Pneumothorax isnt seen. The heart is enlarged.", "ptx- card+"),
        ("Pleural effusion hasn't developed.", "pe-"),
        ("An effusion hasn't been seen.", "pe-"),
        ("Previously seen effusion isn't seen anymore.", "pe-"),
        ("Can't exclude pneumonia.", "pn?"),
        ("Pneumonia can't be excluded.", "pn?"),
        ("Pneumonia couldn\u2019t be excluded.", "pn?"),
        ("The heart isn't enlarged.", "card-"),
        ("The effusion hasn't changed.", "pe+"),
        ("The effusion hasn't increased, and there isn't any pneumothorax.", "pe+ ptx-"),
        ("The heart is enlarged and there isn't any pneumothorax, but there is an effusion.", "card+ ptx- pe+"),
        # answers and what is none
        ("Pneumothorax: none seen.\nEffusion: small left.", "ptx- pe+"),
        ("Pneumothorax: no evidence.\nEffusion: present", "ptx- pe+"),
        ("Pleural effusion - present\nPneumothorax - absent", "pe+ ptx-"),
        ("Pneumonia: possible.\nEffusion: yes, small", "pn? pe+"),
        ("Pneumothorax: No (see below). Effusion: Yes - small.", "ptx- pe+"),
        ("Effusion and pneumothorax: no. Cardiomegaly.", "pe- ptx- card+"),
        ("No effusion present, pneumothorax or edema.", "pe- ptx- ed-"),
        ("Pneumothorax: No effusion.", "pe-"),
        ("Pneumothorax or effusion is not seen.", "ptx- pe-"),
        ("Effusion (small) and cardiomegaly (1 of 3).", "pe+ card+"),
        ("Nil pneumothorax. Cardiomegaly.", "ptx- card+"),
        ("Nil pleural effusion or pneumothorax.", "pe- ptx-"),
        ("Zero effusion.", "pe-"),
        ("No PTX/effusion/edema.", "ptx- pe- ed-"),
        # doubt
        ("Query edema. Cardiomegaly.", "ed? card+"),
        ("Rule out pneumonia. The heart is enlarged.", "pn? card+"),
        ("Opacity at the left base, r/o pneumonia.", "pn?"),
        ("Opacity ? pneumonia. The heart is enlarged.", "pn? card+"),
        ("Recommend CT to rule out pneumonia.", "pn."),
        ("Pneumothorax was ruled out.", "ptx-"),
        ("Cannot rule out pneumonia.", "pn?"),
        # wrapped lines stay one sentence
        ("No evidence of\npneumothorax or pleural\neffusion.", "ptx- pe-"),
        ("No evidence of\nPneumothorax or\nEffusion.", "ptx- pe-"),
        ("No focal consolidation, pneumothorax,\nEffusion or edema.", "con- ptx- pe- ed-"),
        ("NO EVIDENCE OF CONSOLIDATION, OR PNEUMOTHORAX OR RIGHT\nEFFUSION. HEART ENLARGED.", "con- ptx- pe- card+"),
        ("NO PNEUMOTHORAX\nLEFT PLEURAL EFFUSION\nTHE HEART IS ENLARGED", "ptx- pe+ card+"),
        ("No pneumothorax\nLeft pleural effusion\nThe heart is enlarged.", "ptx- pe+ card+"),
        ("small left pleural effusion\nno pneumothorax\nheart enlarged", "pe+ ptx- card+"),
        ("FINDINGS: No large\npleural effusion or edema on either of both sides\nThe heart is enlarged", "ed- card+"),
        ("Possible (small\nEffusion or) edema.", "pe? ed?"),
        # lists that are none
        ("No edema (image 5) or effusion (image 6) is seen.", "ed- pe-"),
        ("No effusion (2) or edema (4) is seen.", "pe- ed-"),
        # copies
        ("There is a small left pleural e\ufb00usion. No in\ufb01ltrate, pneumothorax.", "pe+ ptx-"),
        ("Pleural ef\u00adfusion. Cardio\u00admegaly.", "pe+ card+"),
        ("There is a pleural ef-\nfusion. Cardio-\n  megaly.", "pe+ card+"),
        ("There is a left-\nsided pleural&nbsp;effusion.", "pe+"),
        # no_finding
        ("Lungs are clear. No acute findings.", "nf+"),
        ("No acute cardiopulmonary abnormality.", "nf+"),
        ("No edema, normal chest.", "nf+ ed-"),
        ("No acute cardiopulmonary abnormality. Possible effusion.", "nf. pe?"),
        ("No acute cardiopulmonary abnormality. Central line in place.", "nf+"),
        ("No acute disease. The heart is enlarged.", "nf. card+"),
        ("Lungs are clear. No pneumothorax.", "nf. ptx-"),
        ("Signs of acute pulmonary disease.", "nf."),
    ],
)  # fmt: skip
def test_english(text: str, marks: str) -> None:
    assert said(BEFORE["en"] + text, marks) == wanted(marks)
    assert said(text, marks) == wanted(marks)


@pytest.mark.parametrize(
    ("code", "text", "marks"),
    [
        ("de", "V.a. Pneumonie links.\nPleuraerguss.", "pn? pe+"),
        ("de", "Kein Nachweis eines\nPneumothorax oder\nPleuraergusses.", "ptx- pe-"),
        ("de", "Keine größeren\nInfiltrate oder\nErgüsse.", "pe-"),
        ("de", "Kein umschriebenes Infiltrat, kein Nachweis eines frischen oder alten apikalen\nPneumothorax.", "ptx-"),
        ("de", "Pneumonie: möglich.\nErguss: ja, gering", "pn? pe+"),
        ("fr", "Pneumonie : possible.\nÉpanchement pleural : oui", "pn? pe+"),
        ("es", "Neumonía: posible.\nDerrame pleural: sí", "pn? pe+"),
        ("it", "Polmonite: possibile.\nVersamento pleurico: sì", "pn? pe+"),
        ("pt", "Pneumonia: possível.\nDerrame pleural: sim", "pn? pe+"),
        ("de", "Pneumothorax: nicht nachweisbar.\nErguss: vorhanden", "ptx- pe+"),
        ("de", "Kein Pneu-\nmothorax. Pleura-\nerguss links.", "ptx- pe+"),
        ("de", "Herz und Lunge unauffällig.", "nf+"),
        ("de", "Kein akuter pathologischer Befund.", "nf+"),
        ("fr", "Pas de\npneumothorax ni d'épanche-\nment pleural.", "ptx- pe-"),
        ("fr", "Pneumothorax : non\nÉpanchement pleural : oui", "ptx- pe+"),
        ("fr", "Pneumothorax ? Épanchement pleural gauche.", "ptx? pe+"),
        ("fr", "Radiographie thoracique normale.", "nf+"),
        ("es", "No se observa\nneumotórax ni\nderrame pleural.", "ptx- pe-"),
        ("es", "Descartar neumonía.", "pn?"),
        ("es", "Para descartar neumonía.", "pn."),
        ("es", "Radiografía de tórax normal.", "nf+"),
        ("it", "Non si osserva\npneumotorace né\nversamento pleurico.", "ptx- pe-"),
        ("it", "Escludere polmonite.", "pn?"),
        ("it", "Radiografia del torace nella norma.", "nf+"),
        ("pt", "Não há\npneumotórax nem\nderrame pleural.", "ptx- pe-"),
        ("pt", "Radiografia de tórax normal.", "nf+"),
    ],
)
def test_other_languages(code: str, text: str, marks: str) -> None:
    assert said(BEFORE[code] + text, marks) == wanted(marks)


def test_proofs_are_the_words_of_the_report() -> None:
    report = "Isn\u2019t it so that the lungs don't show consolidation, and there isn't any left pneumothorax?"
    found = labeller().label("The heart isn't enlarged. There isn't any left pneumothorax and it's an effusion.")
    assert {name: found[name].words for name in ("cardiomegaly", "pneumothorax", "pleural_effusion")} == {
        "cardiomegaly": "heart isn't enlarged", "pneumothorax": "pneumothorax", "pleural_effusion": "effusion",
    }  # fmt: skip
    spelt = Spelt(report)
    for word in ("lungs", "show", "consolidation", "left", "pneumothorax?"):
        start = spelt.text.index(word)
        assert report[spelt.written(start) : spelt.written(start + len(word))] == word


def test_a_long_text_of_blanks_and_lines_is_cut_in_no_time() -> None:
    assert split(" " * 50_000 + "No\n" * 10_000 + "x |" * 1_000)
