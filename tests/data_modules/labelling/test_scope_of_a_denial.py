"""How far a denial, a doubt or a normal phrase reaches: its sides, its gaps, its limits, and what turns it.

Each row was labelled wrongly once, but for those that hold the other side of a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller
from data_modules.labelling.rules import _file, languages

STATES = {"+": "present", "-": "absent", "?": "uncertain", ".": None}
NAMES = {
    "ptx": "pneumothorax", "pe": "pleural_effusion", "card": "cardiomegaly", "con": "consolidation", "ed": "edema",
    "nod": "nodule", "op": "lung_opacity", "pn": "pneumonia", "at": "atelectasis", "ao": "aortic_enlargement",
    "sd": "support_devices", "fx": "fracture", "nf": "no_finding", "les": "lung_lesion",
}  # fmt: skip


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


def check(report: str, marks: str) -> None:
    assert labeller().language(report) is not None
    found = labeller().label(report)
    wanted = {NAMES[mark[:-1]]: STATES[mark[-1]] for mark in marks.split()}
    assert {name: found[name].state if name in found else None for name in wanted} == wanted


JUDGING = re.compile(
    r"norm|clear|clair|chiar|klar|clar|frei|lib[er]|livre|limp|tran?sparent|a[ei]?re|aerat|ventila|bel[u\u00fc]f|"
    r"entfaltet|expan|espans|unremarkable|natural|habitual|unauff|regelrecht|schlank|mittelst|centrad|asse|sharp|open|spitz|scharf|"
    r"agud|aigu|acut|einsehbar|despejad|permeable|pervi|preserv|conserv|adecuad|homogen|harmoni|regolar|indenn|limit|dentro|"
    r"erhalten|altersent|kompensiert|negativ|"
    r"\b(?:no|not|without|kein|nicht|kaum|weder|o b|ohne|sans|pas|non|absence|sin|senza|assenza|sem|nao|ausencia)\b"
    r"|kein"
)
"""Words of which each reading of a phrase that denies findings must hold one."""


def denying(code: str) -> Iterator[str]:
    """Phrases that deny what they do not name: `normal` ones, and those of groups."""
    rules = _file(f"{code}_findings.yaml")
    for group in rules["groups"]:
        yield from group["says"]
    for kinds in rules["findings"].values():
        for some in (kinds, kinds.get("chest_ct", {}), kinds.get("chest_xray", {})):
            yield from some.get("normal", ())


@pytest.mark.parametrize("code", languages())
def test_no_reading_of_a_phrase_that_denies_is_without_a_word_that_judges(code: str) -> None:
    for phrase in denying(code):
        items = re.findall(r"\([^)]*\)|\S+", re.sub("<[^>]*>", "", phrase))
        judged = [all(map(JUDGING.search, item.strip("()").split("|"))) for item in items]
        assert any(judged), f"{code}: {phrase}"


@pytest.mark.parametrize(("report", "marks"), [
    # nothing is said of a size
    ("The aorta is calcified. The heart is normal.", "ao."),
    ("The aorta is.", "ao."),
    ("The aorta is normal.", "ao-"),
    ("The aortic arch is within normal limits.", "ao-"),
    ("The aorta is not enlarged.", "ao-"),
    ("The aorta is markedly dilated.", "ao+"),
    ("The aorta is calcified and tortuous.", "ao+"),
    ("The aorta is not tortuous.", "ao-"),
    ("The aorta is normal in caliber but tortuous.", "ao+"),
    ("Der Patient ist kardiopulmonal dekompensiert mit Pleuraerguss.", "ed+ pe+"),
    ("Der Patient ist kardiopulmonal auffällig bei einem Pleuraerguss.", "ed. pe+"),
    ("Der Patient ist kardiopulmonal kompensiert.", "ed-"),
    ("The aorta is not tortuous or ectatic.", "ao-"),
    ("The aorta is calcified but normal in caliber.", "ao-"),
    ("The aorta is atherosclerotic but not enlarged.", "ao-"),
])  # fmt: skip
def test_a_normal_phrase_judges(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("The heart is enlarged with normal pulmonary vascularity.", "card+"),
    ("Heart enlarged with normal vascularity.", "card+"),
    ("The cardiac silhouette is enlarged with normal mediastinum.", "card+"),
    ("Heart size enlarged and the lungs normal.", "card+"),
    ("The heart is larger than normal.", "card+"),
    ("Heart size is above normal.", "card+"),
    ("Heart size is slightly greater than normal.", "card+"),
    ("The heart size is not normal.", "card."),
    ("The heart is no longer normal in size.", "card."),
    ("The heart is grossly within normal limits.", "card-"),
    ("The heart and great vessels are normal.", "card-"),
    ("The heart is not enlarged and is normal.", "card-"),
    ("Stable heart with normal sized heart.", "card-"),
    ("The lungs are not clear.", "con. pn. at."),
    ("Lungs appear to be clear other than a nodule on the left.", "nod+"),
    ("The lungs have minimal atelectasis and are clear.", "at+ con."),
    ("The lungs are well expanded and clear.", "at- con-"),
    ("Das Herz ist verbreitert bei normaler Lunge.", "card+"),
    ("Das Herz ist größer als normal.", "card."),
    ("Das Herz ist nicht verbreitert und normal konfiguriert.", "card-"),
    ("Das Herz ist normal groß.", "card-"),
    ("La silueta cardíaca está aumentada con pulmones normales.", "card+"),
    ("La silueta cardíaca es mayor de lo normal.", "card."),
    ("La silhouette cardiaque est augmentée avec un médiastin normal.", "card+"),
    ("La silhouette cardiaque n'est pas normale.", "card."),
    ("L'ombra cardiaca è ingrandita con mediastino nella norma.", "card+"),
    ("A área cardíaca está aumentada com mediastino normal.", "card+"),
    ("Herz bei liegender Aufnahme nicht vergrößert.", "card-"),
    ("Das Herz ist bei Inspiration nicht vergrößert.", "card-"),
    ("Das Herz ist nicht über die Norm vergrößert.", "card-"),
    ("Heart size is smaller than prior and normal.", "card-"),
    ("Heart size with AP technique is within normal limits.", "card-"),
    ("The cardiac silhouette with pacemaker leads is normal.", "card-"),
    ("The lungs are without infiltrates and clear.", "con- at-"),
    ("The lungs are increased in volume but clear.", "con- at-"),
    ("Heart size is slightly increased but within normal limits.", "card-"),
    ("Le coeur est plus petit et normal.", "card-"),
    ("The heart is enlarged but the lungs are normal.", "card+"),
])  # fmt: skip
def test_what_stands_in_the_gap_of_a_normal_phrase(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("No evidence to suggest pneumonia.", "pn-"),
    ("No radiographic evidence to suggest pneumonia.", "pn-"),
    ("No focal opacity concerning for pneumonia.", "op- pn-"),
    ("No consolidation, effusion, or opacity suggestive of pneumonia.", "con- pe- op- pn-"),
    ("There is no opacity that raises concern for pneumonia.", "op- pn-"),
    ("Nothing to suggest pneumonia.", "pn-"),
    ("Findings do not suggest pneumonia.", "pn-"),
    ("The opacity is not suggestive of pneumonia.", "pn-"),
    ("Without findings suspicious for pneumonia.", "pn-"),
    ("Patchy opacity at the left base is concerning for pneumonia.", "op+ pn?"),
    ("No effusion, opacity suggestive of pneumonia.", "pe- pn?"),
    ("No effusion, but opacity worrisome for pneumonia.", "pe- op+ pn?"),
    ("Findings suggest pneumonia.", "pn?"),
    ("No effusion, possible pneumonia.", "pe- pn?"),
    ("Kein Verdacht auf eine Pneumonie im linken Unterlappen.", "pn-"),
    ("Verdacht auf eine Pneumonie im linken Unterlappen.", "pn?"),
    ("Sin sospecha de neumonía en el lóbulo inferior.", "pn-"),
    ("Sospecha de neumonía en el lóbulo inferior.", "pn?"),
    ("Sin opacidades sugestivas de neumonía.", "op- pn-"),
    ("Opacidades sugestivas de neumonía en el lóbulo inferior.", "op+ pn?"),
    ("Pas de suspicion de pneumonie dans le lobe inférieur.", "pn-"),
    ("Suspicion de pneumonie dans le lobe inférieur.", "pn?"),
    ("Non immagini suggestive di polmonite.", "pn-"),
    ("Quadro suggestivo di polmonite.", "pn?"),
    ("Sem opacidades sugestivas de pneumonia nos pulmões.", "op- pn-"),
    ("Opacidades sugestivas de pneumonia nos pulmões.", "op+ pn?"),
    ("Bilateral opacities without effusion concerning for pneumonia.", "op+ pe- pn?"),
    ("Perihilar fullness without pleural effusion suggesting mild edema.", "pe- ed?"),
    ("Lack of lung markings at the apex suggests pneumothorax.", "ptx?"),
    ("Absence of lung markings is concerning for pneumothorax.", "ptx?"),
    ("There is no opacity concerning for pneumonia.", "op- pn-"),
    ("Bilateral opacities without effusion to suggest edema.", "op+ ed-"),
    ("Infiltrat links ohne Erguss verdächtig auf eine Pneumonie.", "pn?"),
    ("Opacidad basal sin derrame pleural sugestiva de neumonía.", "pn?"),
    ("Opacité basale sans épanchement suspecte de pneumopathie.", "pn?"),
    ("Addensamento senza versamento pleurico suggestivo di polmonite.", "pn?"),
    ("Opacidade basal sem derrame pleural sugestiva de pneumonia.", "pn?"),
])  # fmt: skip
def test_a_link_whose_head_is_denied(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("Left lung is clear. Complete white-out of the right lung.", "con. pn. at. nod. op."),
    ("The right lung is clear. Left lung shows extensive disease.", "con. at."),
    ("The right costophrenic angle is clear, the left is not included.", "pe."),
    ("The lung apices are clear.", "con. at."),
    ("The lungs are clear at the bases.", "con. at."),
    ("The lungs are clear on the left.", "con. at."),
    ("The left upper lung is clear.", "con. at."),
    ("The right lung is clear. The left lung is clear.", "con- at-"),
    ("Right and left lungs are clear.", "con- at-"),
    ("The right lung and left lung are clear.", "con- at-"),
    ("The lungs are clear at the left base.", "con. at."),
    ("Chest CT is normal in a left nephrectomized case.", "nf+"),
    ("Clear lungs from apex to base.", "con- at-"),
    ("Both lungs are clear.", "con- at-"),
    ("Small effusion on the left. The lungs are clear.", "pe+ con-"),
    ("The heart is enlarged to the left, lungs are clear.", "con-"),
    ("The right and left costophrenic angles are sharp.", "pe-"),
    ("Der rechte Randwinkel ist frei einsehbar, der linke nicht abgebildet.", "pe."),
    ("Die Randwinkel sind beidseits frei einsehbar.", "pe-"),
    ("Seno costofrénico derecho borrado e izquierdo libre en la radiografía.", "pe+"),
    ("Seno costofrénico derecho libre en la radiografía.", "pe."),
    ("Senos costofrénicos derecho e izquierdo libres en la radiografía.", "pe-"),
    ("Le cul de sac costo-diaphragmatique droit est libre.", "pe."),
    ("Il seno costofrenico destro è libero.", "pe."),
    ("O seio costofrênico direito está livre.", "pe."),
])  # fmt: skip
def test_what_is_said_of_one_side_or_zone(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("Small right pleural effusion, none on the left.", "pe+"),
    ("Effusion on the right, not seen on the left.", "pe+"),
    ("Small right and no left effusion.", "pe+"),
    ("Moderate right, no left pleural effusion.", "pe+"),
    ("There is a small right but no left pleural effusion.", "pe+"),
    ("Effusion not seen on the right, small on the left.", "pe+"),
    ("Bilateral pleural effusions have resolved on the right and decreased on the left.", "pe+"),
    ("The right effusion has resolved, the left is unchanged.", "pe+"),
    ("No left effusion.", "pe-"),
    ("No right and no left effusion.", "pe-"),
    ("No right or left effusion.", "pe-"),
    ("Effusion is not seen on the right or the left.", "pe-"),
    ("Opacity on the right and no left effusion.", "op+ pe-"),
    ("No right effusion, small left pneumothorax.", "pe- ptx+"),
    ("The right effusion has resolved, stable left rib deformity.", "pe-"),
    ("The right effusion has resolved and the left is no longer seen.", "pe-"),
    ("Kleiner rechtsseitiger, kein linksseitiger Pleuraerguss zu sehen.", "pe+"),
    ("Der Pleuraerguss ist rechts nicht nachweisbar, links gering ausgeprägt.", "pe+"),
    ("Pleuraerguss rechts, links nicht nachweisbar.", "pe+"),
])  # fmt: skip
def test_one_side_denied_beside_the_other(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("Pneumonia is felt to be less likely.", "pn?"),
    ("Effusion is less likely.", "pe?"),
    ("Pneumonia less likely.", "pn?"),
    ("Opacity at the base, less likely pneumonia.", "op+ pn?"),
    ("Pneumonia is less likely than atelectasis.", "pn? at?"),
    ("This is unlikely to represent pneumonia.", "pn-"),
    ("Opacity at the base is unlikely pneumonia.", "op+ pn-"),
    ("Pneumonia is unlikely.", "pn-"),
    ("Pneumonia is considered unlikely.", "pn-"),
    ("Pneumonia is not likely.", "pn-"),
    ("A small left effusion is likely.", "pe?"),
    ("A small left effusion is likely present.", "pe?"),
    ("Small left effusion likely.", "pe?"),
    ("Mild edema is likely.", "ed?"),
    ("Bibasilar atelectasis, likely.", "at?"),
    ("Likely bibasilar atelectasis.", "at?"),
    ("Left basilar opacity, likely atelectasis.", "op+ at?"),
    ("Bibasilar atelectasis, likely chronic.", "at+"),
    ("Rib fractures, follow up if possible.", "fx+"),
    ("A small pneumothorax is difficult to exclude.", "ptx?"),
    ("It is difficult to exclude a small pneumothorax.", "ptx?"),
    ("No large effusion, small pneumothorax cannot be excluded.", "ptx?"),
    ("Pneumonia should be considered in the right clinical setting.", "pn?"),
    ("Consider pneumonia.", "pn?"),
    ("Left upper lobe nodule, consider CT.", "nod+"),
    ("Consider CT of the left upper lobe nodule.", "nod+"),
    ("Pneumonia must be excluded.", "pn."),
    ("Pneumonia has to be ruled out.", "pn."),
    ("Pneumothorax has been excluded.", "ptx-"),
    ("Pneumothorax is ruled out.", "ptx-"),
    ("Pneumothorax excluded.", "ptx-"),
    ("Please correlate clinically for pneumonia.", "pn."),
    ("Eine Pneumonie im Unterlappen muss ausgeschlossen werden.", "pn."),
    ("Eine Pneumonie im Unterlappen wurde ausgeschlossen.", "pn-"),
    ("Eine Pneumonie im Unterlappen ist schwer auszuschließen.", "pn?"),
    ("La neumonía del lóbulo inferior derecho debe ser descartada en el control.", "pn."),
    ("La neumonía del lóbulo inferior derecho ha sido descartada en el control.", "pn-"),
    ("La pneumonie du lobe inférieur doit être exclue.", "pn."),
    ("La polmonite del lobo inferiore deve essere esclusa.", "pn."),
    ("A pneumonia do lobo inferior deve ser excluída.", "pn."),
    ("Ha desaparecido el derrame pleural derecho.", "pe-"),
    ("El derrame pleural derecho ha desaparecido.", "pe-"),
    ("Se ha resuelto el derrame pleural.", "pe-"),
    ("L'épanchement pleural a disparu.", "pe-"),
    ("È scomparso il versamento pleurico destro.", "pe-"),
    ("Desapareceu o derrame pleural direito.", "pe-"),
    ("Pneumonia is unlikely given small effusion.", "pn- pe+"),
    ("Pneumonia is unlikely with bilateral effusions.", "pn- pe+"),
    ("Pneumonia unlikely - atelectasis favored.", "pn- at+"),
    ("Pneumonia is less likely given bilateral effusions.", "pn? pe+"),
    ("Opacity is less likely due to pneumonia.", "op+ pn?"),
    ("Consider oblique views for nodule.", "nod+"),
    ("Consider removing the tube.", "sd+"),
    ("Mild cardiomegaly with edema likely.", "card+ ed?"),
    ("Left apical pneumothorax, tension possible.", "ptx+"),
    ("Left lung nodule, hamartoma likely.", "nod+"),
    ("Right upper lobe nodule, malignancy should be excluded.", "nod+"),
    ("Left base opacity with pneumonia to be excluded.", "op+ pn."),
    ("Ha desaparecido el neumotórax derecho, derrame pleural izquierdo.", "ptx- pe+"),
    ("È scomparso lo pneumotorace, versamento pleurico sinistro.", "ptx- pe+"),
    ("O dreno foi retirado com pneumotórax residual.", "sd- ptx+"),
    ("Opacité suspecte du lobe supérieur droit.", "op?"),
])  # fmt: skip
def test_doubt_advice_and_what_is_gone_before_or_behind(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize("verb", ["has been", "have been", "was", "were", "is", "has since been", "has now been"])
def test_what_was_taken_out(verb: str) -> None:
    check(f"The endotracheal tube {verb} removed.", "sd-")


@pytest.mark.parametrize(("report", "marks"), [
    ("The left opacity is no longer apparent.", "op-"),
    ("The previously noted left lower lobe opacity is no longer clearly seen.", "op-"),
    ("The effusion has been resolved.", "pe-"),
    ("Pneumothorax has been ruled out.", "ptx-"),
    ("The effusion has not been demonstrated.", "pe-"),
    ("The tube has not been removed.", "sd+"),
    ("The tube should be removed.", "sd+"),
    ("The tube has been partially removed.", "sd+"),
    ("The tube has been placed.", "sd+"),
    ("The endotracheal tube has been withdrawn 2 cm.", "sd+"),
    ("The catheter has been removed and replaced.", "sd+"),
])  # fmt: skip
def test_auxiliaries_of_what_looks_back(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("FINDINGS: Small left effusion, unchanged.\nIMPRESSION: No new effusion or consolidation.", "pe+ con-"),
    ("FINDINGS: Small pneumothorax.\nIMPRESSION: No evidence of new or enlarging pneumothorax.", "ptx+"),
    ("FINDINGS: 8 mm nodule.\nIMPRESSION: No suspicious nodule.", "nod+"),
    ("FINDINGS: 8 mm nodule.\nIMPRESSION: The suspicious nodule is not seen.", "nod-"),
    ("FINDINGS: Small pneumothorax.\nIMPRESSION: No tension pneumothorax.", "ptx+"),
    ("FINDINGS: Old healed rib fracture.\nIMPRESSION: No new fracture.", "fx+"),
    ("FINDINGS: Small left effusion.\nIMPRESSION: No increasing effusion.", "pe+"),
    ("FINDINGS: Mild edema.\nIMPRESSION: No worsening edema.", "ed+"),
    ("FINDINGS: Patchy consolidation.\nIMPRESSION: No lobar consolidation.", "con+"),
    ("FINDINGS: Small left effusion.\nIMPRESSION: No larger effusion.", "pe+"),
    ("FINDINGS: Possible edema.\nIMPRESSION: No significant edema.", "ed-"),
    ("FINDINGS: Small left effusion.\nIMPRESSION: No effusion or new consolidation.", "pe-"),
    ("FINDINGS: Small left effusion.\nIMPRESSION: No effusion.", "pe-"),
    ("FINDINGS: The heart is normal.\nIMPRESSION: No new effusion.", "pe-"),
    ("Befund: Kleiner Pleuraerguss links.\nBeurteilung: Kein neuer Pleuraerguss.", "pe+"),
    ("Befund: Kleiner Pleuraerguss links.\nBeurteilung: Kein Pleuraerguss.", "pe-"),
    ("IMPRESSION: Small pneumothorax.\nADDENDUM: On review, no pneumothorax is present.", "ptx-"),
    ("IMPRESSION: No pneumothorax.\nADDENDUM: On review, a small pneumothorax is present.", "ptx+"),
    ("IMPRESSION: Small pneumothorax.\nCORRECTION: No pneumothorax.", "ptx-"),
    ("IMPRESSION: Small pneumothorax.\nCorrected report: No pneumothorax.", "ptx-"),
    ("IMPRESSION: Small pneumothorax.\nADDENDUM: The heart is normal.", "ptx+ card-"),
    ("IMPRESSION: Small pneumothorax.\nADDENDUM: The preliminary report stated no pneumothorax.", "ptx+"),
    ("IMPRESSION: Small pneumothorax.\nADDENDUM: The original impression of no pneumothorax is wrong.", "ptx+"),
])  # fmt: skip
def test_a_limited_denial_and_the_last_word(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("Patchy opacity, atelectasis versus pneumonia.", "op+ at? pn?"),
    ("Left effusion with adjacent atelectasis versus consolidation.", "pe+ at? con?"),
    ("Worsening bilateral airspace opacities concerning for pneumonia versus edema.", "op+ pn? ed?"),
    ("Opacity at the base, aspiration versus pneumonia.", "op+ pn?"),
    ("Effusion versus pleural thickening.", "pe?"),
    ("Small left effusion and atelectasis versus pneumonia.", "pe+ at? pn?"),
    ("Pneumonia vs. aspiration.", "pn?"),
    ("Blunted left costophrenic angle, scarring versus effusion.", "pe?"),
    ("The effusion is smaller versus prior.", "pe+"),
    ("Left basilar atelectasis, versus pneumonia.", "at? pn?"),
    ("Edema, pneumonia, versus hemorrhage.", "ed+ pn?"),
    ("Pneumonia versus, less likely, edema.", "pn? ed?"),
])  # fmt: skip
def test_versus_leaves_the_two_beside_it_open(report: str, marks: str) -> None:
    check(report, marks)


@pytest.mark.parametrize(("report", "marks"), [
    ("Heart: Normal", "card-"),
    ("Heart: Enlarged", "card+"),
    ("Heart size: Mildly enlarged.", "card+"),
    ("Cardiac size: increased", "card+"),
    ("Heart size: within normal limits.", "card-"),
    ("Aorta: tortuous", "ao+"),
    ("Aorta: normal", "ao-"),
    ("Lungs: clear", "at- con-"),
    ("Costophrenic angles: blunted", "pe+"),
    ("Pleural spaces: normal", "pe-"),
    ("Heart: no enlargement. Effusion: no.", "card. pe-"),
    ("Herz: vergrößert. Lunge: frei.", "card+ con-"),
    ("Vascularización pulmonar: normal. La silueta: aumentada.", "ed-"),
])  # fmt: skip
def test_the_colon_of_a_form_stands_for_is(report: str, marks: str) -> None:
    check(report, marks)
