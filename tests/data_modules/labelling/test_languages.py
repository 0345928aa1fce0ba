"""Reports in German, French, Spanish, Italian and Portuguese, and what they say of findings."""

from __future__ import annotations

from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller
from data_modules.labelling.rules import languages

STATES = {"+": "present", "-": "absent", "?": "uncertain"}
LUNG = (
    "lung_opacity",
    "consolidation",
    "pneumonia",
    "edema",
    "atelectasis",
    "nodule",
    "mass",
    "infiltration",
    "lung_lesion",
)
GROUPS = {"CLEAR": LUNG, "NORMAL": (*LUNG, "pneumothorax", "pleural_effusion", "cardiomegaly")}
"""what clear lungs and a normal chest deny"""


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


def expected(marks: str) -> dict[str, str]:
    """{finding: state} of marks such as `CLEAR edema+ nodule?`."""
    wanted: dict[str, str] = {}
    for mark in marks.split():
        wanted |= dict.fromkeys(GROUPS[mark], "absent") if mark in GROUPS else {mark[:-1]: STATES[mark[-1]]}
    return wanted


GERMAN = [
    (
        "Herz nicht sicher vergrößert, kein Pneumothorax nach ZVK-Anlage.",
        "cardiomegaly- pneumothorax- support_devices+",
    ),
    ("Im Vergleich unveränderte Stauung, die Ergüsse sind rückläufig.", "edema+ pleural_effusion+"),
    ("Keine Lungenembolie, jedoch Perikarderguss.", "pulmonary_embolism- pericardial_effusion+"),
    ("Kein Pleuraerguss, kein Pneumothorax.", "pleural_effusion- pneumothorax-"),
    ("Ein Pleuraerguss ist nicht nachweisbar.", "pleural_effusion-"),
    ("Das Herz ist nicht vergrößert.", "cardiomegaly-"),
    ("Herz nicht verbreitert, keine Stauungszeichen.", "cardiomegaly- edema-"),
    ("Kein Pneumothorax, aber kleiner Pleuraerguss links.", "pneumothorax- pleural_effusion+"),
    ("V.a. Pneumonie im rechten Unterlappen.", "pneumonia?"),
    ("Verdacht auf einen kleinen Rundherd im linken Oberlappen.", "nodule? lung_lesion?"),
    ("Z.n. Pneumonie, aktuell kein Infiltrat.", "lung_opacity- infiltration-"),
    ("Herz normal groß. Lungen frei belüftet. Kein Erguss.", "CLEAR cardiomegaly- pleural_effusion-"),
    ("Weder Erguss noch Pneumothorax.", "pleural_effusion- pneumothorax-"),
    ("Pneumothorax und Pleuraerguss sind nicht nachweisbar.", "pneumothorax- pleural_effusion-"),
    (
        "Kein Hinweis auf Erguss, Pneumothorax oder Infiltrat.",
        "pleural_effusion- pneumothorax- lung_opacity- infiltration-",
    ),
    ("Kein Erguss, das Herz ist vergrößert.", "pleural_effusion- cardiomegaly+"),
    ("Das Herz ist vergrößert, ein Erguss liegt nicht vor.", "cardiomegaly+ pleural_effusion-"),
    ("Pleuraerguss links, Pneumothorax ausgeschlossen.", "pleural_effusion+ pneumothorax-"),
    ("Infiltrat im rechten Mittellappen nicht sicher auszuschließen.", "lung_opacity? infiltration?"),
    ("Verschattung rechts basal, DD Infiltrat, DD Atelektase.", "lung_opacity+ infiltration? atelectasis?"),
    ("Der Pleuraerguss links hat sich vollständig zurückgebildet.", "pleural_effusion-"),
    ("Keine wesentliche Änderung des bekannten Pleuraergusses rechts.", "pleural_effusion+"),
    ("Kein größerer Pleuraerguss.", ""),
    (
        "Geringe Minderbelüftung basal beidseits, keine umschriebenen Infiltrate.",
        "atelectasis+ lung_opacity- infiltration-",
    ),
    ("Regelrecht liegender ZVK, kein Pneumothorax.", "support_devices+ pneumothorax-"),
    ("Unauffälliger Herz-Lungen-Befund.", "NORMAL no_finding+"),
    (
        "Indikation: V.a. Pneumonie.\nBefund: Herz normal groß. Kein Infiltrat.\nBeurteilung: Keine Pneumonie.",
        "cardiomegaly- lung_opacity- infiltration- pneumonia-",
    ),
    (
        "Fragestellung: Pneumothorax?\n"
        "Befund: Fragliche Verschattung links basal.\n"
        "Beurteilung: Pneumonie im linken Unterlappen.",
        "lung_opacity? pneumonia+",
    ),
    ("Kein Erguss bei kleinem Pneumothorax links apikal.", "pleural_effusion- pneumothorax+"),
    ("Atelektase am ehesten im linken Unterlappen.", "atelectasis+"),
    (
        "Thorakale Skoliose, ältere Rippenfraktur links, Aortensklerose.",
        "scoliosis+ fracture+ arterial_wall_calcification+",
    ),
    ("Herzverbreiterung ohne Stauung.", "cardiomegaly+ edema-"),
    (
        "Keine Lungenembolie. Koronarsklerose. Hiatushernie.",
        "pulmonary_embolism- coronary_artery_wall_calcification+ hiatal_hernia+",
    ),
    ("Zum Ausschluss Pneumonie.", ""),
    ("Keine pneumonischen Infiltrate, keine kardiale Stauung.", "pneumonia- lung_opacity- infiltration- edema-"),
    ("Zunehmender Pleuraerguss rechts mit angrenzender Kompressionsatelektase.", "pleural_effusion+ atelectasis+"),
    (
        "Pneumothorax links apikal mit einer Breite von 2 cm, die Drainage ist regelrecht gelegen.",
        "pneumothorax+ support_devices+",
    ),
    ("Das Herz ist global verbreitert, die Lungengefäße sind gestaut.", "cardiomegaly+ edema+"),
    ("Eine Fraktur lässt sich nicht abgrenzen.", "fracture-"),
    ("Flaue Verschattung im linken Unterfeld, vereinbar mit einer beginnenden Pneumonie.", "lung_opacity+ pneumonia+"),
    ("Rundherd im rechten Oberlappen, metastasenverdächtig.", "nodule+ lung_lesion+"),
    ("Der vorbeschriebene Erguss links ist nicht mehr nachweisbar.", "pleural_effusion-"),
    ("Ausgeprägtes Lungenemphysem, Hiatushernie, kein Rundherd.", "emphysema+ hiatal_hernia+ nodule- lung_lesion-"),
    ("Z.n. Pneumonie, kleiner Erguss links.", "pleural_effusion+"),
    ("Herzgröße grenzwertig. Erguss möglich.", "cardiomegaly? pleural_effusion?"),
    (
        "Fragestellung: Pleuraerguss, Pneumothorax?\n"
        "Befund: Möglicher kleiner Erguss links. Herzgröße normal.\n"
        "Beurteilung: Kein Pleuraerguss.",
        "pleural_effusion- cardiomegaly-",
    ),
]
FRENCH = [
    ("Micronodule non calcifié du lobe moyen à contrôler dans six mois.", "nodule+ lung_lesion+"),
    ("Doute sur une fracture du 7e arc costal gauche.", "fracture?"),
    ("Le pneumothorax gauche a disparu après drainage.", "pneumothorax-"),
    ("Pas d'épanchement pleural ni de pneumothorax.", "pleural_effusion- pneumothorax-"),
    ("Absence d'épanchement pleural. Silhouette cardiaque de taille normale.", "pleural_effusion- cardiomegaly-"),
    ("Le cœur n'est pas augmenté de volume.", "cardiomegaly-"),
    ("Cardiomégalie modérée sans surcharge vasculaire.", "cardiomegaly+ edema-"),
    ("Pas de pneumothorax, mais petit épanchement pleural gauche.", "pneumothorax- pleural_effusion+"),
    ("Suspicion de pneumopathie basale droite.", "pneumonia?"),
    ("Opacité basale gauche pouvant évoquer une pneumopathie.", "lung_opacity+ pneumonia?"),
    ("Antécédents de tuberculose. Séquelles apicales bilatérales.", "fibrosis+"),
    ("Les poumons sont clairs. Culs-de-sac pleuraux libres.", "CLEAR pleural_effusion-"),
    ("Épanchement pleural droit en régression complète.", "pleural_effusion-"),
    ("Un pneumothorax ne peut être formellement exclu.", "pneumothorax?"),
    (
        "Atélectasie en bande du lobe inférieur gauche, pas de foyer de condensation.",
        "atelectasis+ consolidation- lung_opacity-",
    ),
    ("Fracture ancienne de la 6e côte droite, aorte calcifiée.", "fracture+ arterial_wall_calcification+"),
    ("Le cœur est augmenté de volume, il n'existe pas d'épanchement.", "cardiomegaly+ pleural_effusion-"),
    ("Épanchement gauche, pneumothorax absent.", "pleural_effusion+ pneumothorax-"),
    (
        "Absence d'embolie pulmonaire. Calcifications coronaires.",
        "pulmonary_embolism- coronary_artery_wall_calcification+",
    ),
    (
        "Indication : suspicion de pneumonie.\n"
        "Résultat : Opacité de la base droite.\n"
        "Conclusion : Pneumopathie de la base droite.",
        "lung_opacity+ pneumonia+",
    ),
    ("Sonde gastrique en place, pas de pneumothorax visible.", "support_devices+ pneumothorax-"),
    ("Nodule pulmonaire de 8 mm du lobe supérieur droit, suspect.", "lung_lesion? nodule?"),
    ("Radiographie thoracique normale.", "NORMAL no_finding+"),
    ("Oedème interstitiel débutant. Hernie hiatale. Scoliose dorsale.", "edema+ hiatal_hernia+ scoliosis+"),
    ("Pas d'évolution de l'épanchement pleural droit.", "pleural_effusion+"),
    ("Les coupoles diaphragmatiques sont bien visibles, sans épanchement.", "pleural_effusion-"),
    (
        "Apparition d'un foyer de condensation du lobe moyen évocateur de pneumopathie infectieuse.",
        "consolidation+ lung_opacity+ pneumonia?",
    ),
    (
        "On ne retrouve pas de lésion nodulaire suspecte, ni adénopathie médiastinale.",
        "nodule- lung_lesion- lymphadenopathy-",
    ),
    (
        "Drain thoracique gauche en place avec un pneumothorax résiduel de faible abondance.",
        "support_devices+ pneumothorax+",
    ),
    ("Index cardio-thoracique augmenté à 0,58.", "cardiomegaly+"),
    ("Emphysème centrolobulaire des sommets et dilatations des bronches des bases.", "emphysema+ bronchiectasis+"),
    ("Aucune fracture costale visible.", "fracture-"),
    ("Épaississement pleural apical droit d'allure séquellaire.", "pleural_thickening+ fibrosis+"),
    ("Épanchement péricardique minime, pas d'épanchement pleural.", "pericardial_effusion+ pleural_effusion-"),
    ("Pas de nodule suspect. Nodule suspect de malignité.", "nodule+ lung_lesion+"),
    ("Antécédent de tuberculose, petit épanchement droit.", "pleural_effusion+"),
    (
        "Indication : recherche d'embolie pulmonaire.\n"
        "Résultats : Possible petit épanchement gauche. Cœur de taille normale.\n"
        "Conclusion : Pas d'épanchement pleural.",
        "pleural_effusion- cardiomegaly-",
    ),
]
SPANISH = [
    ("Infiltrado intersticial. No se descarta edema agudo de pulmón.", "infiltration+ lung_opacity+ edema?"),
    ("Tractos fibrosos apicales, sin nódulos ni adenopatías.", "fibrosis+ nodule- lung_lesion- lymphadenopathy-"),
    ("No se observa derrame pleural ni neumotórax.", "pleural_effusion- pneumothorax-"),
    ("Silueta cardíaca de tamaño normal. Sin derrame pleural.", "cardiomegaly- pleural_effusion-"),
    ("La silueta cardíaca no está aumentada de tamaño.", "cardiomegaly-"),
    ("Cardiomegalia leve con signos de congestión pulmonar.", "cardiomegaly+ edema+"),
    ("Sin neumotórax, pero con pequeño derrame pleural izquierdo.", "pneumothorax- pleural_effusion+"),
    ("Posible neumonía basal derecha.", "pneumonia?"),
    ("Opacidad basal izquierda compatible con neumonía.", "lung_opacity+ pneumonia+"),
    ("Antecedentes de tuberculosis. Cambios fibrocicatriciales apicales bilaterales.", "fibrosis+"),
    ("Pulmones claros. Senos costofrénicos libres.", "CLEAR pleural_effusion-"),
    ("Derrame pleural derecho resuelto.", "pleural_effusion-"),
    ("No se puede descartar neumotórax apical izquierdo.", "pneumothorax?"),
    (
        "Atelectasia laminar en base izquierda, sin infiltrados ni consolidaciones.",
        "atelectasis+ lung_opacity- infiltration- consolidation-",
    ),
    (
        "Fractura antigua de sexto arco costal derecho, aorta elongada y calcificada.",
        "fracture+ aortic_enlargement+ arterial_wall_calcification+",
    ),
    ("El corazón está aumentado de tamaño, no se observa derrame.", "cardiomegaly+ pleural_effusion-"),
    ("Derrame izquierdo, neumotórax descartado.", "pleural_effusion+ pneumothorax-"),
    (
        "No hay tromboembolismo pulmonar. Calcificaciones coronarias.",
        "pulmonary_embolism- coronary_artery_wall_calcification+",
    ),
    (
        "Indicación: descartar neumonía.\n"
        "Hallazgos: Opacidad en la base derecha.\n"
        "Conclusión: Neumonía de la base derecha.",
        "lung_opacity+ pneumonia+",
    ),
    ("Sonda nasogástrica en posición, sin neumotórax.", "support_devices+ pneumothorax-"),
    ("Nódulo pulmonar de 8 mm en lóbulo superior derecho, sospechoso.", "nodule? lung_lesion?"),
    ("Radiografía de tórax dentro de límites normales.", "NORMAL no_finding+"),
    ("Edema intersticial. Hernia de hiato. Escoliosis dorsal.", "edema+ hiatal_hernia+ scoliosis+"),
    ("Sin cambios en el derrame pleural derecho.", "pleural_effusion+"),
    (
        "Derrame pleural bilateral y atelectasias compresivas, cardiomegalia y marcapasos.",
        "pleural_effusion+ atelectasis+ cardiomegaly+ support_devices+",
    ),
    ("Hallazgos sugestivos de enfisema.", "emphysema?"),
    ("No se aprecian infiltrados ni derrame.", "lung_opacity- infiltration- pleural_effusion-"),
    ("Aumento del índice cardiotorácico con redistribución vascular.", "cardiomegaly+ edema+"),
    ("Neumotórax derecho con tubo de drenaje bien posicionado.", "pneumothorax+ support_devices+"),
    ("Consolidación en lóbulo medio en relación con neumonía.", "consolidation+ lung_opacity+ pneumonia+"),
    ("El derrame pleural izquierdo ha desaparecido por completo.", "pleural_effusion-"),
    ("Engrosamiento pleural apical bilateral y tractos fibrosos residuales.", "pleural_thickening+ fibrosis+"),
    ("No se evidencian fracturas costales, aunque se aprecia escoliosis dorsal.", "fracture- scoliosis+"),
    ("Imagen nodular de 12 mm a valorar con TC.", "nodule+ lung_lesion+"),
    ("Granuloma calcificado en lóbulo superior izquierdo.", "granuloma+ calcification+"),
    (
        "Adenopatías mediastínicas e hiliares de aspecto patológico. Derrame pericárdico leve.",
        "lymphadenopathy+ pericardial_effusion+",
    ),
    ("No se observan nódulos sospechosos.", "nodule- lung_lesion-"),
    ("Antecedente de neumonía, pequeño derrame derecho.", "pleural_effusion+"),
    (
        "Motivo: descartar tuberculosis.\n"
        "Hallazgos: Posible derrame izquierdo. Corazón normal.\n"
        "Conclusión: Sin derrame pleural.",
        "pleural_effusion- cardiomegaly-",
    ),
]
ITALIAN = [
    ("Non si osservano segni di scompenso né focolai broncopneumonici.", "edema- pneumonia-"),
    ("Non più evidente il pneumotorace apicale destro.", "pneumothorax-"),
    ("Dubbia frattura del VI arco costale sinistro.", "fracture?"),
    ("Non si osservano versamento pleurico né pneumotorace.", "pleural_effusion- pneumothorax-"),
    ("Assenza di versamento pleurico. Ombra cardiaca nei limiti della norma.", "pleural_effusion- cardiomegaly-"),
    ("Il cuore non è ingrandito.", "cardiomegaly-"),
    ("Cardiomegalia moderata senza segni di stasi.", "cardiomegaly+ edema-"),
    ("Non pneumotorace, ma piccolo versamento pleurico a sinistra.", "pneumothorax- pleural_effusion+"),
    ("Sospetta polmonite basale destra.", "pneumonia?"),
    ("Pregressa tubercolosi. Esiti fibrotici apicali bilaterali.", "fibrosis+"),
    ("I campi polmonari sono liberi. Seni costofrenici liberi.", "CLEAR pleural_effusion-"),
    ("Versamento pleurico destro risolto.", "pleural_effusion-"),
    ("Non si può escludere un piccolo pneumotorace apicale sinistro.", "pneumothorax?"),
    ("Strie disventilative basali a sinistra, non consolidamenti.", "atelectasis+ consolidation- lung_opacity-"),
    (
        "Frattura pregressa della sesta costa destra, aorta ectasica e calcifica.",
        "fracture+ aortic_enlargement+ arterial_wall_calcification+",
    ),
    ("Il cuore è ingrandito, non si osserva versamento.", "cardiomegaly+ pleural_effusion-"),
    ("Versamento sinistro, pneumotorace assente.", "pleural_effusion+ pneumothorax-"),
    (
        "Non segni di embolia polmonare. Calcificazioni coronariche.",
        "pulmonary_embolism- coronary_artery_wall_calcification+",
    ),
    (
        "Quesito clinico: sospetta polmonite.\n"
        "Referto: Addensamento in base destra.\n"
        "Conclusioni: Polmonite della base destra.",
        "lung_opacity+ pneumonia+",
    ),
    ("Sondino nasogastrico in sede, non pneumotorace.", "support_devices+ pneumothorax-"),
    ("Nodulo polmonare di 8 mm in lobo superiore destro, sospetto.", "nodule? lung_lesion?"),
    ("Radiografia del torace nei limiti della norma.", "NORMAL no_finding+"),
    ("Edema interstiziale. Ernia iatale. Scoliosi dorsale.", "edema+ hiatal_hernia+ scoliosis+"),
    ("Senza variazioni significative del versamento pleurico destro.", "pleural_effusion+"),
    ("Non evidenti lesioni pleuroparenchimali a focolaio in atto.", "CLEAR"),
    (
        "Versamento pleurico bilaterale, prevalente a destra, con disventilazione del parenchima adiacente.",
        "pleural_effusion+ atelectasis+",
    ),
    ("Non si riconoscono falde di pneumotorace.", "pneumothorax-"),
    ("Ombra cardiaca ingrandita con segni di congestione del piccolo circolo.", "cardiomegaly+ edema+"),
    (
        "Opacità in campo medio destro verosimilmente riferibile a focolaio broncopneumonico.",
        "lung_opacity+ pneumonia?",
    ),
    ("Esiti di frattura costale a sinistra, senza pneumotorace.", "fracture+ pneumothorax-"),
    (
        "Catetere venoso centrale con estremo distale in vena cava superiore. Seni liberi.",
        "support_devices+ pleural_effusion-",
    ),
    ("Linfonodi mediastinici ingranditi, alcuni calcifici.", "lymphadenopathy+ calcification+"),
    ("Versamento pericardico assente. Ernia iatale da scivolamento.", "pericardial_effusion- hiatal_hernia+"),
    ("Completa risoluzione del versamento pleurico sinistro.", "pleural_effusion-"),
    ("Non si osservano noduli sospetti.", "nodule- lung_lesion-"),
    ("Pregressa polmonite, piccolo versamento destro.", "pleural_effusion+"),
    (
        "Quesito: sospetta tubercolosi.\n"
        "Reperto: Possibile versamento sinistro. Cuore nei limiti.\n"
        "Conclusioni: Non versamento pleurico.",
        "pleural_effusion- cardiomegaly-",
    ),
]
PORTUGUESE = [
    ("O derrame pleural esquerdo não é mais visível.", "pleural_effusion-"),
    (
        "Massa no lobo superior direito suspeita de neoplasia, com atelectasia adjacente.",
        "mass+ lung_lesion+ atelectasis+",
    ),
    ("Não há fraturas, exceto achatamento de corpo vertebral dorsal.", "fracture+"),
    ("Não se observa derrame pleural nem pneumotórax.", "pleural_effusion- pneumothorax-"),
    ("Ausência de derrame pleural. Área cardíaca normal.", "pleural_effusion- cardiomegaly-"),
    ("O coração não está aumentado.", "cardiomegaly-"),
    ("Cardiomegalia leve sem sinais de congestão pulmonar.", "cardiomegaly+ edema-"),
    ("Sem pneumotórax, mas com pequeno derrame pleural à esquerda.", "pneumothorax- pleural_effusion+"),
    ("Provável pneumonia na base direita.", "pneumonia?"),
    ("Opacidade basal esquerda compatível com pneumonia.", "lung_opacity+ pneumonia+"),
    ("História de tuberculose. Estrias fibrocicatriciais apicais bilaterais.", "fibrosis+"),
    ("Pulmões limpos. Seios costofrênicos livres.", "CLEAR pleural_effusion-"),
    ("Derrame pleural direito resolvido.", "pleural_effusion-"),
    ("Não se pode excluir pneumotórax apical esquerdo.", "pneumothorax?"),
    (
        "Atelectasia laminar na base esquerda, sem infiltrados ou consolidações.",
        "atelectasis+ infiltration- lung_opacity- consolidation-",
    ),
    (
        "Fratura antiga do sexto arco costal direito, aorta alongada e calcificada.",
        "fracture+ aortic_enlargement+ arterial_wall_calcification+",
    ),
    ("O coração está aumentado, não se observa derrame.", "cardiomegaly+ pleural_effusion-"),
    ("Derrame à esquerda, pneumotórax ausente.", "pleural_effusion+ pneumothorax-"),
    (
        "Não há tromboembolismo pulmonar. Calcificações coronarianas.",
        "pulmonary_embolism- coronary_artery_wall_calcification+",
    ),
    (
        "Indicação: suspeita de pneumonia.\nAchados: Opacidade na base direita.\nConclusão: Pneumonia da base direita.",
        "lung_opacity+ pneumonia+",
    ),
    ("Sonda nasogástrica em posição adequada, sem pneumotórax.", "support_devices+ pneumothorax-"),
    ("Radiografia de tórax dentro dos limites da normalidade.", "NORMAL no_finding+"),
    ("Edema intersticial. Hérnia de hiato. Escoliose dorsal.", "edema+ hiatal_hernia+ scoliosis+"),
    ("Sem alterações do derrame pleural direito.", "pleural_effusion+"),
    ("Não há sinais de pneumotórax ou derrame.", "pneumothorax- pleural_effusion-"),
    ("Aumento da área cardíaca associado a congestão vascular pulmonar.", "cardiomegaly+ edema+"),
    (
        "Consolidação no lobo inferior direito, sugestiva de processo infeccioso.",
        "consolidation+ lung_opacity+ pneumonia?",
    ),
    ("Dreno torácico à esquerda, com pequeno pneumotórax residual.", "support_devices+ pneumothorax+"),
    (
        "Nódulo calcificado no lobo superior esquerdo, provavelmente granuloma residual.",
        "nodule+ lung_lesion+ calcification+ granuloma?",
    ),
    ("Não foram identificadas fraturas costais.", "fracture-"),
    ("Espessamento pleural apical bilateral. Enfisema centrolobular.", "pleural_thickening+ emphysema+"),
    ("Houve resolução do derrame pleural direito.", "pleural_effusion-"),
    (
        "Tromboembolismo pulmonar agudo nos ramos segmentares. Ausência de derrame pericárdico.",
        "pulmonary_embolism+ pericardial_effusion-",
    ),
    ("Linfonodos mediastinais aumentados e bronquiectasias nos lobos inferiores.", "lymphadenopathy+ bronchiectasis+"),
    ("Não se observam nódulos suspeitos.", "nodule- lung_lesion-"),
    ("Antecedente de pneumonia, pequeno derrame direito.", "pleural_effusion+"),
    (
        "Indicação: suspeita de tuberculose.\n"
        "Achados: Possível derrame à esquerda. Coração normal.\n"
        "Conclusão: Sem derrame pleural.",
        "pleural_effusion- cardiomegaly-",
    ),
]
BY_CODE = {"de": GERMAN, "fr": FRENCH, "es": SPANISH, "it": ITALIAN, "pt": PORTUGUESE}
ROWS = [(code, report, marks) for code, rows in BY_CODE.items() for report, marks in rows]


@pytest.mark.parametrize(("code", "report", "marks"), ROWS)
def test_report_in_another_language(code: str, report: str, marks: str) -> None:
    assert labeller().language(report) == code
    assert {name: proof.state for name, proof in labeller().label(report).items()} == expected(marks)


@pytest.mark.parametrize("code", [code for code in languages() if code != "en"])
def test_capitals_and_lost_accents_change_nothing(code: str) -> None:
    for report, marks in BY_CODE[code][:6]:
        found = {name: proof.state for name, proof in labeller().label(report.upper()).items()}
        assert found == expected(marks), report


@pytest.mark.parametrize(
    ("code", "report", "marks"),
    [
        ("de", "Pneumonie oder Atelektase im rechten Unterlappen.", "pneumonia? atelectasis?"),
        ("de", "Kein Erguss oder Pneumothorax.", "pleural_effusion- pneumothorax-"),
        ("de", "Erguss links und noch Pneumothorax rechts.", "pleural_effusion+ pneumothorax+"),
        ("fr", "Pneumopathie ou atélectasie de la base droite.", "pneumonia? atelectasis?"),
        ("fr", "Pas d'épanchement ou de pneumothorax.", "pleural_effusion- pneumothorax-"),
        ("es", "Neumonía o atelectasia en la base derecha.", "pneumonia? atelectasis?"),
        ("es", "Sin derrame o neumotórax.", "pleural_effusion- pneumothorax-"),
        ("it", "Polmonite o atelettasia della base destra.", "pneumonia? atelectasis?"),
        ("it", "Non versamento o pneumotorace.", "pleural_effusion- pneumothorax-"),
        ("pt", "Pneumonia ou atelectasia na base direita.", "pneumonia? atelectasis?"),
        ("pt", "Sem derrame ou pneumotórax.", "pleural_effusion- pneumothorax-"),
        ("de", "Mögliche Pneumonie, kleiner Erguss links.", "pneumonia? pleural_effusion+"),
        ("fr", "Possible pneumopathie, petit épanchement gauche.", "pneumonia? pleural_effusion+"),
        ("es", "Posible neumonía, pequeño derrame izquierdo.", "pneumonia? pleural_effusion+"),
        ("it", "Possibile polmonite, piccolo versamento a sinistra.", "pneumonia? pleural_effusion+"),
        ("pt", "Possível pneumonia, pequeno derrame à esquerda.", "pneumonia? pleural_effusion+"),
        ("de", "Herz: normal groß.", "cardiomegaly-"),
        ("de", "Herz: normal gross.", "cardiomegaly-"),
        ("de", "Das Herz ist nicht vergroessert, kein Pleuraerguss.", "cardiomegaly- pleural_effusion-"),
        ("de", "Vergroesserung des Herzens, Erguesse beidseits.", "cardiomegaly+ pleural_effusion+"),
        ("de", "Moegliche Pneumonie, nicht auszuschliessen.", "pneumonia?"),
        ("de", "Neue Pneumonie im linken Unterlappen, neuer Erguss.", "pneumonia+ pleural_effusion+"),
    ],
)  # fmt: skip
def test_choice_doubt_and_spelling(code: str, report: str, marks: str) -> None:
    assert labeller().language(report) == code
    assert {name: proof.state for name, proof in labeller().label(report).items()} == expected(marks)
