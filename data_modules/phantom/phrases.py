"""The wording of phantom reports on radiographs: templates per finding with side, zone and size slots. Plain data."""

from __future__ import annotations

OPEN = (
    "{view} chest radiograph.",
    "Chest X-ray, {view} view.",
    "Frontal chest radiograph, {view}.",
    "{view} view of the chest.",
    "Single {view} chest film.",
    "",
)
CLOSE = (
    "Clinical correlation advised.",
    "Follow-up as clinically indicated.",
    "Comparison with earlier films is suggested.",
    "Follow-up radiograph recommended.",
)
BUBBLE = (
    "Stomach air with a fluid level below the left hemidiaphragm.",
    "Air-fluid level of the stomach under the left hemidiaphragm.",
    "Normal gastric air bubble with a fluid level.",
)
NORMAL = (
    "The lungs are clear and well expanded.",
    "Both lungs are clear.",
    "Lung fields are clear with normal vessels.",
    "No focal opacity in either lung.",
    "Clear lungs from apex to base.",
    "The lungs are normally aerated with sharp costophrenic angles.",
)
NORMAL_END = (
    "normal chest radiograph",
    "no acute cardiopulmonary abnormality",
    "no acute finding",
    "normal study",
    "no active disease of the chest",
    "unremarkable chest",
)

DESCRIBE: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "The heart is enlarged with a cardiothoracic ratio of {ratio}.",
        "{Grade} enlargement of the cardiac silhouette.",
        "The cardiac shadow is wide, reaching towards the left chest wall, ratio {ratio}.",
        "Heart size is increased, cardiothoracic ratio {ratio}.",
        "The heart is broad and globular, with a smooth well defined border.",
        "Widened cardiac silhouette above the diaphragm, more than half of the chest width.",
    ),
    "pleural_effusion": (
        "{Grade} dense homogeneous opacity at the {side} base with a meniscus, obscuring the {side} hemidiaphragm.",
        "The {side} costophrenic angle is blunted by fluid with a curved meniscus along the chest wall.",
        "{Grade} {side} pleural fluid rises along the lateral chest wall.",
        "Dense opacity hides the {side} costophrenic angle and hemidiaphragm, with a concave fluid border.",
        "The {side} hemidiaphragm is lost behind a {grade} layer of fluid with a meniscus.",
    ),
    "pleural_effusion both": (
        "Both costophrenic angles are blunted by fluid with a meniscus on each side.",
        "Dense fluid at both bases hides both hemidiaphragms.",
        "Bilateral basal opacity with a curved meniscus on either side.",
    ),
    "pneumothorax": (
        "A thin sharp visceral pleural line with a lucent rim of air and no vessels beyond it on the {side}.",
        "{Grade} collection of air around the {side} lung, rim {size}, without lung vessels in the periphery.",
        "Lucency without vessels along the {side} chest wall and apex; a sharp lung edge, {size} from the wall.",
        "Air in the {side} pleural space with a visible lung edge and a {size} lucent rim.",
    ),
    "consolidation": (
        "Ill defined patchy opacity in the {side} {zone}.",
        "Patchy hazy air-space opacity in the {side} {zone} with ill defined borders.",
        "Confluent patchy opacities in the {side} {zone}.",
        "The {side} {zone} shows a cluster of ill defined dense opacities.",
        "Patchy ill defined shadowing of the {side} {zone}.",
        "Irregular air-space shadowing in the {side} {zone}, patchy with hazy margins.",
    ),
    "consolidation retrocardiac": (
        "Patchy ill defined opacity behind the heart in the left lower zone.",
        "Hazy dense opacities behind the heart, above the left hemidiaphragm.",
        "Ill defined patchy air-space shadowing in the left lower zone, behind the heart.",
    ),
    "edema": (
        "Bilateral hazy perihilar opacity with prominent vessels.",
        "Hazy bat-wing opacities around both hila and engorged upper vessels.",
        "Symmetrical ill defined perihilar haze, vessels are wide and blurred.",
        "Prominent pulmonary vessels and bilateral perihilar haze.",
        "Both perihilar regions are hazy, the vessels are indistinct and enlarged.",
    ),
    "edema lines": (
        "Short linear septal opacities at both lateral bases.",
        "Septal lines reach the periphery of both bases.",
        "Fine linear Kerley lines at the periphery.",
    ),
    "nodule": (
        "A well defined rounded opacity of {size} in the {side} {zone}.",
        "Small rounded dense opacity in the {side} {zone}, {size} in diameter.",
        "A {size} round well defined opacity projects over the {side} {zone}.",
        "Solitary rounded opacity with a smooth border in the {side} {zone}, {size}.",
        "Small coin-shaped opacity of {size} with sharp margins in the {side} {zone}.",
        "Rounded, slightly lobulated dense opacity of {size} in the {side} {zone}.",
    ),
    "nodule cavity": (
        "It holds a small central cavity.",
        "A lucent cavity lies in its centre.",
        "It has a thick wall around a lucent cavity.",
    ),
    "atelectasis band": (
        "Linear band-like opacity in the {side} {zone} with slight elevation of the hemidiaphragm.",
        "Band-like dense opacity crossing the {side} {zone}, with volume loss.",
        "Plate-like linear opacity at the {side} {zone}.",
        "Sharp linear band in the {side} {zone}, the {side} hemidiaphragm is raised.",
    ),
    "atelectasis wedge": (
        "Wedge shaped opacity in the {side} {zone} pointing to the hilum, with volume loss.",
        "A wedge of dense lung runs from the {side} hilum to the {zone}.",
        "Triangular wedge opacity in the {side} {zone} and a raised {side} hemidiaphragm.",
    ),
    "atelectasis retrocardiac": (
        "Triangular dense opacity behind the heart with volume loss of the left lower zone.",
        "Wedge shaped opacity with a sharp lateral border behind the heart, above the left hemidiaphragm.",
    ),
    "emphysema": (
        "The lungs are hyperinflated and lucent with flat hemidiaphragms.",
        "Large lucent lungs, flattened diaphragm and few peripheral vessels.",
        "Hyperexpanded lucent lung fields, narrow heart, low flat hemidiaphragms.",
        "Increased lucency of both lungs with sparse vessels and flattening of the hemidiaphragms.",
    ),
    "emphysema bulla": (
        "A thin walled lucent cavity of air lies in an upper zone.",
        "Rounded air-filled lucency with a thin wall at the apex.",
    ),
    "aortic_enlargement": (
        "The aortic knob is wide and the descending aorta is tortuous.",
        "Prominent aortic arch with a smooth bulge of the left upper mediastinum.",
        "Rounded smooth widening of the mediastinum at the aortic knob.",
        "Unfolded and widened thoracic aorta with a large knob.",
        "The aortic knob is enlarged, projecting to the left of the mediastinum.",
    ),
    "pleural_thickening lateral": (
        "Smooth band of opacity along the {side} lateral chest wall, {size} thick.",
        "Peripheral band-like opacity along the {side} chest wall with a well defined inner border.",
        "Dense pleural band at the {side} lateral periphery.",
        "The {side} pleura is thickened along the lateral chest wall, {size}.",
    ),
    "pleural_thickening apical": (
        "A cap of dense opacity over the {side} apex, {size} thick.",
        "The {side} apical pleura is thickened with a smooth lower border.",
        "Crescent opacity at the {side} apex along the chest wall.",
    ),
    "mass": (
        "Large rounded lobulated opacity of {size} in the {side} {zone}.",
        "A large dense rounded opacity with a lobulated border, {size}, in the {side} {zone}.",
        "Well defined lobulated dense opacity measuring {size} in the {side} {zone}.",
    ),
    "tuberculosis": (
        "Patchy ill defined opacities in the {side} {zone} with a cavity.",
        "A thick walled cavity with surrounding patchy opacity in the {side} {zone}.",
        "Cavity and ill defined patchy shadowing at the {side} {zone}.",
    ),
    "hiatal_hernia": (
        "Rounded opacity behind the heart with an air-fluid level, above the left hemidiaphragm.",
        "A smooth rounded structure behind the heart holds air above a fluid level.",
        "Air-fluid level in a rounded well defined opacity behind the heart.",
    ),
}

DEVICES: dict[str, tuple[str, ...]] = {
    "pacemaker": (
        "A metallic pacemaker generator projects over the {side} chest wall, with a lead to the right ventricle.",
        "{Side} sided pacemaker with a metallic lead ending over the heart.",
        "Metallic cardiac device in the {side} upper chest wall with one tubular lead.",
    ),
    "line": (
        "A {side} central venous line ends over the superior vena cava.",
        "{Side} jugular central line with its tip in the superior vena cava.",
        "Thin dense tubular line from the {side} neck, tip in the mediastinum over the cava.",
    ),
    "tube": (
        "Endotracheal tube with its tip above the carina.",
        "The endotracheal tube ends in the mid trachea.",
        "An endotracheal tube lies in the trachea, tip several centimetres above the carina.",
    ),
    "line and tube": (
        "Endotracheal tube above the carina and a {side} central venous line in the superior vena cava.",
        "{Side} central line and endotracheal tube are in place.",
        "Tubes and lines: endotracheal tube in the trachea, {side} central line over the cava.",
    ),
}

CONCLUDE: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("cardiomegaly", "{grade} cardiomegaly", "enlarged heart, cardiomegaly"),
    "pleural_effusion": ("{side} pleural effusion", "{grade} {side} pleural effusion", "pleural effusion ({side})"),
    "pneumothorax": ("{side} pneumothorax", "{grade} {side} pneumothorax", "pneumothorax on the {side}"),
    "consolidation": (
        "{side} {zone} consolidation",
        "consolidation in the {side} {zone}",
        "findings in keeping with {side} {zone} consolidation",
    ),
    "edema": ("pulmonary edema", "bilateral pulmonary edema", "edema", "features of pulmonary edema"),
    "nodule": ("{side} {zone} nodule", "pulmonary nodule in the {side} {zone}", "{size} nodule in the {side} lung"),
    "atelectasis": ("{side} atelectasis", "atelectasis in the {side} {zone}", "{side} {zone} atelectasis"),
    "emphysema": ("emphysema", "emphysematous lungs", "pulmonary emphysema"),
    "support_devices": (
        "support devices in place",
        "support devices as described",
        "support devices in satisfactory position",
    ),
    "aortic_enlargement": ("aortic enlargement", "enlarged thoracic aorta", "aortic enlargement and tortuosity"),
    "pleural_thickening": ("{side} pleural thickening", "pleural thickening on the {side}"),
    "mass": ("{side} {zone} mass", "lung mass in the {side} {zone}", "mass in the {side} lung"),
    "tuberculosis": (
        "{side} tuberculosis",
        "findings in keeping with tuberculosis",
        "cavitary tuberculosis of the {side} {zone}",
    ),
    "hiatal_hernia": ("hiatal hernia", "large hiatal hernia", "findings of a hiatal hernia"),
}

NEGATE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("pneumothorax",), ("No pneumothorax.", "No pneumothorax is seen.", "There is no pneumothorax.")),
    (
        ("pleural_effusion",),
        ("No pleural effusion.", "The costophrenic angles are sharp.", "There is no pleural effusion."),
    ),
    (
        ("pleural_effusion", "pneumothorax"),
        ("No pleural effusion or pneumothorax.", "Neither effusion nor pneumothorax."),
    ),
    (("consolidation",), ("No consolidation.", "No focal consolidation.", "No patchy air-space opacity.")),
    (("edema",), ("No pulmonary edema.", "No edema.")),
    (("edema", "emphysema"), ("Pulmonary vessels are normal.",)),
    (("cardiomegaly",), ("Heart size is normal.", "The heart is not enlarged.", "No cardiomegaly.")),
    (("aortic_enlargement",), ("The aorta is normal.", "The aortic knob is not enlarged.")),
    (("nodule",), ("No nodule.", "No rounded opacity is seen.")),
    (("pleural_thickening",), ("No pleural thickening.",)),
    (("atelectasis",), ("No atelectasis.",)),
    (("support_devices",), ("No support devices.", "No lines or tubes.")),
    ((), ("The bony thorax is intact.", "No rib fracture.", "The trachea is central.")),
)
