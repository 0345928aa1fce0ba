"""Words and signs that look like a denial or a statement and are none: sizes, prior studies, partial resolution, forms.

Each row was labelled wrongly once, but for those that hold the other side of a rule.
"""

from __future__ import annotations

from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller

STATES = {"+": "present", "-": "absent", "?": "uncertain", ".": None}
NAMES = {"ptx": "pneumothorax", "pe": "pleural_effusion", "card": "cardiomegaly", "con": "consolidation", "ed": "edema",
         "nod": "nodule", "op": "lung_opacity"}  # fmt: skip
NORMAL = "The heart is normal.\n"


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


@pytest.mark.parametrize(("report", "marks"), [
    # sizes below one
    ("There is a nodule (0.8 cm) in the right upper lobe.", "nod+"),
    ("Left pleural effusion: 0.5 cm.", "pe+"),
    ("Left pneumothorax (0.7 cm apical).", "ptx+"),
    ("Right lower lobe consolidation (0.9 cm).", "con+"),
    ("In der rechten Lunge ist ein Rundherd (0,8 cm) zu sehen.", "nod+"),
    ("Il y a un nodule pulmonaire (0,8 cm) dans le lobe supérieur droit.", "nod+"),
    ("Left pleural effusion: 0 cm.", "pe-"),
    ("Left pleural effusion: 0.0 cm.", "pe-"),
    ("Left pleural effusion: 0.", "pe-"),
    # numbers
    ("Nodule no. 1 measures 8 mm in the right upper lobe.", "nod+"),
    ("Nodule (no. 1) in the right upper lobe.", "nod+"),
    ("Nodule, no. 2, in the right upper lobe is a consolidation.", "nod+ con+"),
    ("The heart is normal. Pneumothorax: no. 2 tubes are seen.", "ptx-"),
    ("1. Pneumothorax no. 2. Pleural effusion: yes", "ptx- pe+"),
    # not judged
    ("Pneumothorax cannot be assessed.", "ptx."),
    ("Pneumothorax: not assessed.", "ptx."),
    ("Pneumothorax: not applicable", "ptx."),
    ("Pneumothorax: N/A", "ptx."),
    ("Ein Pneumothorax ist nicht beurteilbar.", "ptx."),
    ("Le pneumothorax est non évaluable sur ce cliché.", "ptx."),
    ("El neumotórax no es valorable en esta radiografía.", "ptx."),
    ("El neumotórax no valorable en esta radiografía de la paciente.", "ptx."),
    ("Il pneumotorace non è valutabile in questo esame.", "ptx."),
    ("O pneumotórax não é avaliável neste exame do paciente.", "ptx."),
    # forms that are not filled in
    ("Pneumothorax:\nPleural effusion: small left", "ptx. pe+"),
    ("Pneumothorax: ___", "ptx."),
    ("Pneumothorax: yes / no", "ptx."),
    ("Pneumothorax: ?", "ptx?"),
    # boxes
    ("Pneumothorax: [ ]\nPleural effusion: [x]\nCardiomegaly: [ ]", "ptx. pe+ card."),
    ("☐ Pneumothorax\n☒ Pleural effusion", "ptx. pe+"),
    ("Pneumothorax: [ ] yes [x] no", "ptx-"),
    ("Pneumothorax: [x] yes [ ] no", "ptx+"),
    (NORMAL + "Pneumothorax: yes [x] no [ ]", "ptx+"),
    (NORMAL + "Pneumothorax: yes [ ] no [x]", "ptx-"),
    (NORMAL + "Pneumothorax [x]\nPleural effusion [ ]", "ptx+ pe."),
    (NORMAL + "[x] Pneumothorax [ ] Pleural effusion [x] Edema", "ptx+ pe. ed+"),
    (NORMAL + "Pneumothorax: [ ] Pleural effusion: [ ] Edema: [x]", "ptx. pe. ed+"),
    (NORMAL + "On a scan of ( ) the right base had a consolidation.", "con+"),
    # letters and truths
    ("Pneumothorax: N\nPleural effusion: Y", "ptx- pe+"),
    ("Pneumothorax: false\nPleural effusion: true", "ptx- pe+"),
    ("Nódulo(s) en el lóbulo izquierdo, sin derrame.", "nod+ pe-"),
    # denied of an earlier study
    ("New right effusion, not present on the previous examination.", "pe+"),
    ("New nodule in the right upper lobe, not seen previously.", "nod+"),
    ("Consolidation in the right base not seen before.", "con+"),
    ("Pleural effusion, absent on the previous radiograph.", "pe+"),
    ("Pleuraerguss rechts, in der Voruntersuchung nicht nachweisbar.", "pe+"),
    ("Pleuraerguss rechts, in der Voruntersuchung noch nicht nachweisbar.", "pe+"),
    ("Épanchement pleural droit, absent sur l'examen précédent.", "pe+"),
    ("Derrame pleural derecho, no presente en el estudio previo.", "pe+"),
    ("Versamento pleurico destro, non presente nel precedente esame.", "pe+"),
    ("Derrame pleural à direita, ausente no exame anterior.", "pe+"),
    ("The effusion seen previously is not present.", "pe-"),
    # no change, not gone, partly gone
    ("No significant interval change in the left pleural effusion.", "pe+"),
    ("There has been no significant interval change in the pleural effusion.", "pe+"),
    ("No relevant change in the left pleural effusion.", "pe+"),
    ("The pleural effusion has not resolved.", "pe+"),
    ("Pleural effusion has not completely resolved.", "pe+"),
    ("The pleural effusion has partially resolved.", "pe+"),
    ("The pleural effusion has largely resolved.", "pe+"),
    ("The pleural effusion has almost completely resolved.", "pe+"),
    ("Near-complete resolution of the pleural effusion.", "pe+"),
    ("Incomplete resolution of the pleural effusion.", "pe+"),
    ("No resolution of the pleural effusion.", "pe+"),
    ("Interval resolution of the pleural effusion.", "pe-"),
    ("The pleural effusion has completely resolved.", "pe-"),
    ("Der Pleuraerguss ist nicht vollständig resorbiert.", "pe+"),
    ("L'épanchement pleural est presque complètement résorbé.", "pe+"),
    ("Derrame pleural derecho no resuelto en el control.", "pe+"),
    ("El derrame pleural está casi resuelto.", "pe+"),
    ("Il versamento pleurico non è risolto.", "pe+"),
    ("Derrame pleural não resolvido.", "pe+"),
    # what a reviewer, and other languages, had to say of these rules
    (
        "FINDINGS: Compared with [___], the left effusion has increased.\n"
        "IMPRESSION: Increased effusion compared to [___].", "pe+",
    ),
    ("The lungs are clear. Cardiomegaly, unchanged since [__].", "card+"),
    ("Nodule measures [ ] x [ ] cm in the right upper lobe.", "nod+"),
    ("There is a pleural effusion [ ] on the left.", "pe+"),
    ("Pneumothorax discussed with Dr. [___] at 3 pm.", "ptx+"),
    ("Pneumothorax no. 5 mm nodule in the left lung.", "ptx-"),
    ("A pneumothorax is not seen on the last image of the series.", "ptx-"),
    ("Pneumothorax is not present at a previous site of chest tube.", "ptx-"),
    ("Effusion is not evident in the previous location of the drain.", "pe-"),
    ("Effusion, not seen on prior CT, has resolved.", "pe-"),
    ("A pneumothorax is not present before or after tube removal.", "ptx-"),
    ("The nodule, which cannot be adequately evaluated on this study, measures 8 mm.", "nod+"),
    ("There is a large effusion, the size of which cannot be evaluated.", "pe+"),
    ("The size of the left pleural effusion cannot be assessed.", "pe+"),
    ("The enlarged heart cannot be reliably assessed.", "card+"),
    ("Mild edema could not be evaluated on the earlier film and is now present.", "ed+"),
    ("There is an opacity at the left base, not evaluated previously.", "op+"),
    (
        "EXAMINATION: CHEST (PORTABLE AP)\nTECHNIQUE: Portable AP.\nFINDINGS: There is a pneumothorax.\n"
        "IMPRESSION: Pneumothorax.\nCORRECTED REPORT:\nEXAMINATION: CHEST PORTABLE\n"
        "FINDINGS: No pneumothorax.\nIMPRESSION: No pneumothorax.", "ptx-",
    ),
    (
        "TECHNIQUE: Helical.\nFINDINGS: There is a pneumothorax.\nIMPRESSION: Pneumothorax.\n"
        "TECHNIQUE: Helical CT.\nFINDINGS: No pneumothorax.\nIMPRESSION: No pneumothorax.", "ptx-",
    ),
    (
        "EXAM: CT CHEST\nFINDINGS:\nThere is a right pneumothorax and a small pleural effusion.\n"
        "IMPRESSION:\nPneumothorax.\n\nEXAM: CT ABDOMEN\nFINDINGS:\nThe liver is normal. No ascites.\n"
        "IMPRESSION:\nNormal abdomen.", "ptx+",
    ),
    ("Il pneumotorace non è visibile nella precedente sede del drenaggio.", "ptx-"),
    ("El neumotórax no es visible en esta radiografía.", "ptx-"),
    ("El neumotórax no está presente en la radiografía.", "ptx-"),
    ("O pneumotórax não está presente no exame.", "ptx-"),
    ("Le pneumothorax n'est pas visible sur ce cliché.", "ptx-"),
    ("Der Pneumothorax ist nicht sichtbar.", "ptx-"),
    ("Il pneumotorace non è presente.", "ptx-"),
    ("Il pneumotorace non è valutabile.", "ptx."),
    # no doubt
    ("There is no doubt about a pleural effusion.", "pe+"),
    ("Kein Zweifel an einem Pleuraerguss rechts.", "pe+"),
])  # fmt: skip
def test_what_is_said(report: str, marks: str) -> None:
    found = labeller().label(report)
    wanted = {NAMES[mark[:-1]]: STATES[mark[-1]] for mark in marks.split()}
    assert {name: found[name].state if name in found else None for name in wanted} == wanted
