"""Which language a report is in, and that one without rules gives no labels."""

from __future__ import annotations

from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


@pytest.mark.parametrize(
    "report",
    [
        "Het hart is niet vergroot. Er is geen pneumothorax of pleuravocht zichtbaar.",
        "Geen pleuravocht. Cardiomegalie met stuwing.",
        "Geen aanwijzingen voor pneumonie. Kleine atelectase links basaal.",
        "Silueta cardíaca dins de la normalitat. No s'observen vessaments ni pneumotòrax amb els pulmons clars.",
        "Fără pneumotorax sau pleurezie. Cord de dimensiuni normale, fără opacități pulmonare în evoluție.",
        "Sağ akciğerde konsolidasyon izlendi. Pnömotoraks saptanmadı. Kalp boyutu olağan.",  # noqa: RUF001
        "Hjärtat är inte förstorat. Ingen pneumothorax och inga infiltrat.",
        "Nie stwierdzono pneumothorax ani płynu. Serce jest niepowiększone.",
        "Sydän ei ole laajentunut, eikä pneumothoraxia tai atelektaaseja ole.",
        "两肺野清晰，未见气胸。心影不大。",  # noqa: RUF001
        "両肺に浸潤影なし。Pneumothorax なし。",
        "Сердце не увеличено. Пневмоторакс не выявлен.",
        "Patient came on Monday morning by bus",
        "",
        "12.03. 14:50",
    ],
)
def test_language_without_rules_gives_no_labels(report: str) -> None:
    assert labeller().language(report) is None
    assert labeller().label(report) == {}


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ("Mild cardiomegaly.", "en"),
        ("No pneumothorax.", "en"),
        ("Bibasilar atelectasis, small left effusion.", "en"),
        ("Kardiomegalie.", "de"),
        ("Cardiomegalia.", "es"),
        ("Pneumotorace sinistro.", "it"),
        ("Pneumotórax.", "pt"),
        ("Épanchement pleural.", "fr"),
    ],
)
def test_telegrams_are_known_by_their_terms(report: str, code: str) -> None:
    assert labeller().language(report) == code
    assert len(labeller().label(report)) >= 1
