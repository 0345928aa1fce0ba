"""Official terms: what each says of the findings, typed from the trees of PadChest and of Open-I."""

from __future__ import annotations

import pandas as pd
import pytest

from data_modules.corpora import openi, padchest
from data_modules.corpora.terms import coded, plain
from data_modules.findings import ontology, vocabulary

PADCHEST = {
    "support_devices": "central venous catheter via jugular vein, central venous catheter via subclavian vein, central "
    "venous catheter via umbilical vein, reservoir central venous catheter, central venous catheter, catheter, dual "
    "chamber device, single chamber device, electrical device, pacemaker, dai, chest drain tube, tracheostomy tube, "
    "endotracheal tube, NSG tube, gastrostomy tube, nephrostomy tube, ventriculoperitoneal drain tube, double J stent, "
    "artificial heart valve, artificial mitral heart valve, artificial aortic heart valve",
    "pleural_effusion": "pleural effusion, loculated pleural effusion, loculated fissural effusion, hydropneumothorax, "
    "empyema, hemothorax",
    "pneumothorax": "pneumothorax, hydropneumothorax",
    "atelectasis": "atelectasis, total atelectasis, lobar atelectasis, segmental atelectasis, laminar atelectasis, "
    "round atelectasis, atelectasis basal",
    "pleural_thickening": "pleural thickening, apical pleural thickening, calcified pleural thickening",
    "pleural_other": "pleural plaques, calcified pleural plaques, apical pleural thickening",
    "calcification": "calcified densities, calcified granuloma, calcified adenopathy, calcified mediastinal "
    "adenopathy, calcified pleural thickening, calcified pleural plaques, heart valve calcified, calcified "
    "fibroadenoma",
    "aortic_enlargement": "aortic elongation, descendent aortic elongation, ascendent aortic elongation, aortic button "
    "enlargement, supra aortic elongation, aortic aneurysm",
    "lung_opacity": "increased density, interstitial pattern, ground glass pattern, reticular interstitial pattern, "
    "reticulonodular interstitial pattern, miliary opacities, alveolar pattern, consolidation, infiltrates, pneumonia, "
    "atelectasis basal, pulmonary edema, multiple nodules, pulmonary mass, COVID 19",
    "lymphadenopathy": "adenopathy, calcified adenopathy, calcified mediastinal adenopathy",
    "pneumonia": "pneumonia, atypical pneumonia, viral pneumonia, COVID 19",
    "fracture": "fracture, rib fracture, callus rib fracture, clavicle fracture, humeral fracture, vertebral fracture",
    "tuberculosis": "tuberculosis, tuberculosis sequelae",
    "enlarged_cardiomediastinum": "mediastinal enlargement, superior mediastinal enlargement, cardiomegaly",
    "nodule": "nodule, multiple nodules",
    "lung_lesion": "nodule, mass, lung metastasis, lepidic adenocarcinoma",
    "no_finding": "normal",
}
"""Finding -> terms that prove it."""
OPEN = {
    "viral_pneumonia": "pneumonia, atypical pneumonia",
    "covid19": "pneumonia, viral pneumonia, COVID 19 uncertain",
    "pneumonia": "COVID 19 uncertain, abscess",
    "consolidation": "alveolar pattern, air bronchogram",
    "infiltration": "interstitial pattern, consolidation, ground glass pattern",
    "support_devices": "metal, sternotomy, suture material, osteosynthesis material, prosthesis, aortic endoprosthesis",
    "pleural_effusion": "costophrenic angle blunting, minor fissure thickening",
    "nodule": "pseudonodule, calcified granuloma, lung metastasis",
    "mass": "mediastinal mass, breast mass, pleural mass, soft tissue mass",
    "emphysema": "bullas, COPD signs, hyperinflated lung, air trapping",
    "fibrosis": "post radiotherapy changes, asbestosis signs, reticular interstitial pattern",
    "atelectasis": "volume loss, hypoexpansion basal",
    "edema": "kerley lines, heart insufficiency, hilar congestion",
    "lymphadenopathy": "hilar enlargement, mediastinal mass",
    "enlarged_cardiomediastinum": "hiatal hernia, goiter, mediastinal mass, aortic aneurysm",
    "calcification": "granuloma, aortic atheromatosis",
    "fracture": "vertebral compression",
    "no_finding": "pacemaker, nipple shadow, unchanged",
}
"""Finding -> terms beside which it is neither present nor absent."""
OPENI_PROVE = {
    "calcification": "Calcinosis/lung/hilum/right; Calcified Granuloma/lung/base; Calcinosis",
    "cardiomegaly": "Cardiac Shadow/enlarged/mild; Cardiac Shadow/mild/enlarged; Cardiomegaly/borderline",
    "pneumothorax": "Hydropneumothorax/left; Hemopneumothorax; Pneumothorax/apex",
    "pleural_effusion": "Hydropneumothorax; Hemopneumothorax/right; Pleural Effusion/bilateral",
    "support_devices": "Catheters, Indwelling/left; Implanted Medical Device/heart; Tube, Inserted; Medical Device",
    "lung_opacity": "Opacity/lung/base/left; Airspace Disease/lung/lower lobe; Infiltrate/lung; Pneumonia; OPACITY",
    "emphysema": "Bullous Emphysema; Pulmonary Emphysema/severe; pulmonary  emphysema",
    "fracture": "Fractures, Bone/ribs/healed; Fracture, Bone",
    "tuberculosis": "Tuberculosis",
    "lymphadenopathy": "Lymph Nodes/enlarged; Lymph Nodes/bilateral/enlarged",
    "aortic_enlargement": "Aorta, Thoracic/enlarged; Aorta/mild/enlarged; Aortic Aneurysm",
    "pleural_thickening": "Thickening/pleura/apex; Thickening/apex/pleura",
    "no_finding": "normal; Normal",
}
OPENI_OPEN = {
    "lung_opacity": "Density/lung; Markings/lung/interstitial; Cicatrix/lung",
    "edema": "Pulmonary Congestion; Heart Failure",
    "pleural_effusion": "Costophrenic Angle/left/blunted; Sulcus/blunted",
    "aortic_enlargement": "Aorta/tortuous",
    "cardiomegaly": "Cardiac Shadow/prominent; Heart Ventricles/enlarged",
    "nodule": "Granuloma/lung; Opacity/lung/round",
    "support_devices": "Surgical Instruments; Stents; Foreign Bodies/thorax",
    "fracture": "Deformity/ribs",
    "emphysema": "Lung/hyperdistention/mild; Pulmonary Disease, Chronic Obstructive",
    "calcification": "Granuloma; Atherosclerosis/aorta",
    "no_finding": "Catheters, Indwelling",
}


def padchest_words(*cells: str) -> pd.DataFrame:
    """Finding -> 1, 0 or blank for every cell of Labels."""
    return _words(coded(pd.Series(cells, name="L"), padchest.names, padchest.SILENT, "padchest", ontology())[0])


def openi_words(*cells: str) -> pd.DataFrame:
    """Finding -> 1, 0 or blank for every cell of MeSH."""
    return _words(coded(pd.Series(cells, name="L"), openi.paths, openi.UNJUDGED, "openi", ontology())[0])


def _words(found: pd.DataFrame) -> pd.DataFrame:
    return found.rename(columns=lambda name: name.removeprefix("L: "))


@pytest.mark.parametrize(("wanted", "word"), [(PADCHEST, "1"), (OPEN, "")])
def test_terms_of_padchest(wanted: dict[str, str], word: str) -> None:
    for finding, terms in wanted.items():
        for term in terms.split(", "):
            found = padchest_words(f"['{term}']", f"[' {term.upper()} ', 'scoliosis']", f"['x ray', '{term}']")
            assert found[finding].tolist()[:2] == [word, word], (finding, term)
            assert found[finding].tolist()[2] == word or finding == "no_finding", (finding, term)


@pytest.mark.parametrize(("wanted", "word"), [(OPENI_PROVE, "1"), (OPENI_OPEN, "")])
def test_terms_of_openi(wanted: dict[str, str], word: str) -> None:
    for finding, terms in wanted.items():
        for term in terms.split("; "):
            assert openi_words(term, f"Scoliosis;{term} ")[finding].tolist() == [word, word], (finding, term)


def test_absent_is_what_no_term_leaves_open() -> None:
    found = padchest_words(
        "['scoliosis']", "['cardiomegaly']", "['normal']", "[]", "['unchanged']", "['never heard of']"
    )
    assert set(found.iloc[0]) == {"0"} and found.loc[1, "no_finding"] == "0" and found.loc[1, "fracture"] == "0"
    assert found.loc[2, "no_finding"] == "1" and found.loc[2, "edema"] == "0"
    for row in (3, 4, 5):
        assert set(found.iloc[row]) == {""}


def test_contradictions_say_nothing_of_health() -> None:
    found = padchest_words("['normal', 'pneumonia']", "['normal', 'volume loss']", "['normal', 'pacemaker']")
    assert found["no_finding"].tolist() == ["", "", "1"] and found["pneumonia"].tolist()[0] == "1"
    assert found["atelectasis"].tolist() == ["0", "", "0"]


@pytest.mark.parametrize(
    "cell",
    ["['Pleural Effusions']", "[' pleural  effusion']", "['pleural-effusion']", "['pleural_effusion']",
     "['nodule,pleural effusion']", "['nodule; Pleural effusion']", "['PLEURAL EFFUSION', 'nodule']"],
)  # fmt: skip
def test_spellings_of_a_term(cell: str) -> None:
    assert padchest_words(cell)["pleural_effusion"].tolist() == ["1"]


def test_unknown_terms_are_told_and_prove_no_absence(caplog: pytest.LogCaptureFixture) -> None:
    found = padchest_words("['cardiomegalia']", "['nodule' 'mass']", "['nodule', 'cardiomegaly']")
    assert found["cardiomegaly"].tolist() == ["", "", "1"] and found["nodule"].tolist() == ["", "", "1"]
    assert "2 row(s), the first row 0, hold a term of 'L' that is not in the vocabulary" in caplog.text
    assert "cardiomegalia" not in caplog.text


def test_every_listed_term_is_known_and_no_related_one_reads_as_absent(caplog: pytest.LogCaptureFixture) -> None:
    for corpus, words in (("padchest", padchest_words), ("openi", openi_words)):
        known = {term for finding in ontology() for term in finding.aliases.get(corpus, {})} | set(vocabulary(corpus))
        terms = sorted(known)
        found = words(*([repr([term]) for term in terms] if corpus == "padchest" else terms))
        for finding in ontology():
            for term, relation in finding.aliases.get(corpus, {}).items():
                if finding.name in found:
                    word = found[finding.name].iloc[terms.index(term)]
                    assert word == ("1" if relation in ("exact", "child") else ""), (corpus, finding.name, term)
    assert "vocabulary" not in caplog.text
    assert len({plain(term) for term in vocabulary("padchest")} | {
        plain(term) for finding in ontology() for term in finding.aliases.get("padchest", {})
    }) >= 180  # fmt: skip
