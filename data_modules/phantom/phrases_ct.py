"""The wording of the phantom's CT reports, where a CT is described otherwise than a radiograph. Plain data."""

from __future__ import annotations

from data_modules.phantom import phrases

OPEN = (
    "CT of the chest without contrast.",
    "Unenhanced CT of the chest.",
    "Non-contrast chest CT.",
    "Chest CT, axial slices, no intravenous contrast.",
    "Computed tomography of the chest.",
    "",
)
CLOSE = (
    "Clinical correlation advised.",
    "Follow-up as clinically indicated.",
    "Comparison with earlier CT is suggested.",
    "Follow-up CT recommended.",
)
BUBBLE = (
    "The stomach holds air above fluid.",
    "Stomach air with a fluid level below the left hemidiaphragm.",
    "Normal air-fluid level of the stomach.",
)
NORMAL = (
    "The lungs are clear and well expanded.",
    "Both lungs are clear.",
    "Lung parenchyma is normal with normal vessels.",
    "No focal opacity in either lung.",
    "Clear lungs from apex to base.",
    "The lungs are normally aerated and the pleural spaces are free.",
)
NORMAL_END = (
    "normal chest CT",
    "no acute cardiopulmonary abnormality",
    "no acute finding",
    "normal study",
    "no active disease of the chest",
    "unremarkable CT of the chest",
)

DESCRIBE: dict[str, tuple[str, ...]] = phrases.DESCRIBE | {
    "cardiomegaly": (
        "The heart is enlarged with a cardiothoracic ratio of {ratio}.",
        "{Grade} enlargement of the heart.",
        "The heart is wide and reaches towards the left chest wall, ratio {ratio}.",
        "Heart size is increased, cardiothoracic ratio {ratio} on axial slices.",
        "The heart is broad and globular, with a smooth well defined border.",
        "Dilated heart above the diaphragm, more than half of the chest width.",
    ),
    "pleural_effusion": (
        "{Grade} homogeneous layer of fluid in the dependent {side} pleural space, thickest at the base.",
        "{Grade} {side} pleural fluid along the posterior chest wall.",
        "A crescent of fluid attenuation lies behind the {side} lung, thicker at the base.",
        "Dependent fluid at the {side} base with a concave border.",
        "{Grade} dense homogeneous crescent of fluid between the {side} lung and the posterior chest wall.",
    ),
    "pleural_effusion both": (
        "Fluid layers in both dependent pleural spaces.",
        "Dependent fluid behind both lungs, thickest at the bases.",
        "Bilateral crescents of fluid along the posterior chest wall.",
    ),
    "pneumothorax": (
        "A thin sharp visceral pleural line with air and no vessels in front of it on the {side}.",
        "{Grade} collection of air in front of and beside the {side} lung, rim {size}, without lung vessels in it.",
        "Free air along the {side} chest wall and apex; a sharp lung edge, {size} from the wall.",
        "Air in the {side} pleural space with a visible lung edge and a {size} lucent rim.",
    ),
    "consolidation": (
        "Ill defined patchy opacity in the {side} {zone}.",
        "Patchy air-space opacity in the {side} {zone} with hazy ground glass borders.",
        "Confluent patchy opacities in the {side} {zone}.",
        "The {side} {zone} shows a cluster of ill defined dense opacities.",
        "Patchy ill defined increase of attenuation in the {side} {zone}.",
        "Irregular air-space disease in the {side} {zone}, patchy with hazy margins.",
    ),
    "consolidation retrocardiac": (
        "Patchy ill defined opacity behind the heart in the left lower zone.",
        "Hazy dense opacities behind the heart, above the left hemidiaphragm.",
        "Ill defined patchy air-space opacity in the left lower zone, behind the heart.",
    ),
    "edema": (
        "Bilateral perihilar ground glass opacity with prominent vessels.",
        "Hazy bat-wing ground glass opacities around both hila and engorged vessels.",
        "Symmetrical ill defined perihilar ground glass opacity, vessels are wide and blurred.",
        "Prominent pulmonary vessels and bilateral perihilar haze.",
        "Both perihilar regions are hazy, the vessels are enlarged.",
    ),
    "edema lines": (
        "Interlobular septal thickening at both lateral bases.",
        "Thick linear septa reach the periphery of both bases.",
        "Fine linear septal opacities at the periphery.",
    ),
    "nodule": (
        "A well defined rounded opacity of {size} in the {side} {zone}.",
        "Small rounded dense opacity in the {side} {zone}, {size} in diameter.",
        "A {size} round well defined solid opacity lies in the {side} {zone}.",
        "Solitary rounded opacity with a smooth border in the {side} {zone}, {size}.",
        "Small round opacity of {size} with sharp margins in the {side} {zone}.",
        "Rounded, slightly lobulated dense opacity of {size} in the {side} {zone}.",
    ),
    "emphysema": (
        "The lungs are hyperinflated with many small air spaces of low attenuation and flat hemidiaphragms.",
        "Small lucent areas without walls in both lungs and few peripheral vessels.",
        "Centrilobular low attenuation in both lungs, narrow heart, low flat hemidiaphragms.",
        "Decreased attenuation of both lungs with sparse vessels and flattening of the hemidiaphragms.",
    ),
    "aortic_enlargement": (
        "The aortic arch is wide and the descending aorta is tortuous.",
        "Dilated ascending aorta and arch, with a smooth bulge of the left upper mediastinum.",
        "Smooth dilatation of the aortic arch.",
        "Unfolded and widened thoracic aorta with a large arch.",
        "The aortic arch is dilated and reaches far to the left of the mediastinum.",
    ),
    "tuberculosis": (
        "Patchy ill defined opacities in the {side} {zone} with a cavity.",
        "A thick walled cavity with surrounding patchy opacity in the {side} {zone}.",
        "Cavity and ill defined patchy ground glass at the {side} {zone}.",
    ),
}

DEVICES: dict[str, tuple[str, ...]] = phrases.DEVICES | {
    "pacemaker": (
        "A metallic pacemaker generator lies in the {side} chest wall, with a lead to the right ventricle.",
        "{Side} sided pacemaker with a metallic lead ending in the heart.",
        "Metallic cardiac device in the {side} upper chest wall with one tubular lead.",
    ),
    "line": (
        "A {side} central venous line ends in the superior vena cava.",
        "{Side} jugular central line with its tip in the superior vena cava.",
        "Thin dense tubular line from the {side} neck, tip in the superior vena cava.",
    ),
    "line and tube": (
        "Endotracheal tube above the carina and a {side} central venous line in the superior vena cava.",
        "{Side} central line and endotracheal tube are in place.",
        "Tubes and lines: endotracheal tube in the trachea, {side} central line in the cava.",
    ),
}

NEGATE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("pneumothorax",), ("No pneumothorax.", "No pneumothorax is seen.", "There is no pneumothorax.")),
    (("pleural_effusion",), ("No pleural effusion.", "No pleural fluid.", "There is no pleural effusion.")),
    (
        ("pleural_effusion", "pneumothorax"),
        ("No pleural effusion or pneumothorax.", "Neither effusion nor pneumothorax."),
    ),
    (("consolidation",), ("No consolidation.", "No focal consolidation.", "No patchy air-space opacity.")),
    (("consolidation", "edema"), ("No ground glass opacity.",)),
    (("edema",), ("No pulmonary edema.", "No edema.", "No septal thickening.")),
    (("edema", "emphysema"), ("Pulmonary vessels are normal.",)),
    (("emphysema",), ("No emphysema.",)),
    (("cardiomegaly",), ("Heart size is normal.", "The heart is not enlarged.", "No cardiomegaly.")),
    (("aortic_enlargement",), ("The aorta is normal in calibre.", "The thoracic aorta is not dilated.")),
    (("nodule",), ("No nodule.", "No rounded opacity is seen.")),
    (("pleural_thickening",), ("No pleural thickening.",)),
    (("atelectasis",), ("No atelectasis.",)),
    (("support_devices",), ("No support devices.", "No lines or tubes.")),
    (
        (),
        (
            "The bony thorax is intact.",
            "No rib fracture.",
            "The trachea and main bronchi are patent.",
            "No enlarged lymph nodes.",
        ),
    ),
)
