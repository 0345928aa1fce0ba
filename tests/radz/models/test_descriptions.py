"""The descriptions file, the shipped texts, and the check of written answers."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.phantom.findings import SEEN, UNSEEN
from data_modules.phantom.report import training_reports
from radz.models.descriptions import (
    EXAMPLES,
    FIELDS,
    Description,
    answer_lines,
    finding_name,
    load_descriptions,
    parse_answer,
    save_descriptions,
    writing_prompt,
)

SHIPPED = Path(__file__).parents[3] / "experiments" / "descriptions" / "chest_xray.yaml"
# Names and synonyms (regular expressions, whole words) that the imaging fields of a finding must not hold.
NAMES = {
    "no_finding": "normal|no findings?|no abnormalit(y|ies)|unremarkable|healthy|no disease",
    "atelectasis": "atelecta.*|collapsed?|volume loss|loss of volume",
    "cardiomegaly": "cardiomegaly|enlarged?|enlargement|large heart|big heart",
    "consolidation": "consolidat.*|pneumonia|airspace disease",
    "edema": "o?edema.*|congest.*|overload|heart failure",
    "emphysema": "emphysema.*|copd|hyperinflat.*|overinflat.*|bullae?|obstructive",
    "enlarged_cardiomediastinum": "cardiomediastin.*|mediastin.*|enlarged?|widen.*",
    "fibrosis": "fibro.*|scar.*|interstitial|honeycomb.*",
    "fracture": "fractur.*|broken|breaks?",
    "hiatal_hernia": "hernia.*|hiat.*|stomach|gastric",
    "infiltration": "infiltrat.*",
    "lung_lesion": "lesions?|nodul.*|mass(es)?|tumou?rs?|cancer",
    "lung_opacity": "opaci.*|opaque",
    "mass": "mass(es)?|tumou?rs?|cancer|neoplas.*|lesions?|nodul.*",
    "nodule": "nodul.*|mass(es)?|tumou?rs?|cancer|lesions?|granuloma",
    "pleural_effusion": "pleura.*|effusions?|hydrothorax",
    "pleural_other": "pleura.*|plaques?",
    "pleural_thickening": "pleura.*|thicken.*",
    "pneumonia": "pneumoni.*|infect.*|consolidat.*",
    "pneumothorax": "pneumothora.*|collapsed?|pleura.*",
    "support_devices": "devices?|tubes?|catheters?|pacemakers?|wires?|leads?|drains?|electrodes?",
    "tuberculosis": "tubercul.*|tb|mycobacteri.*|infect.*",
    "aortic_enlargement": "aort.*|enlarge.*|aneurysm.*|ectasia|dilat.*",
    "bacterial_pneumonia": "pneumoni.*|bacteri.*|infect.*",
    "viral_pneumonia": "pneumoni.*|vir(al|us)|infect.*",
    "covid19": "covid.*|corona.*|sars.*|vir(al|us)|pneumoni.*|infect.*",
    "calcification": "calci.*",
    "bronchiectasis": "bronchiecta.*|dilat.*",
    "lymphadenopathy": "lymph.*|adenopath.*|nodes?",
    "pericardial_effusion": "pericard.*|effusions?",
}
ANSWER = Description(
    name="pleural_effusion",
    location="At the base of one lung.",
    shape="A meniscus along the chest wall.",
    boundary="Smooth and curved upper edge.",
    density="Dense opacity without air.",
    definition="Fluid between lung and chest wall.",
    clinical="Breathlessness in heart failure.",
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:-[a-z]+)*", text.lower())


# ---- The shipped file ----------------------------------------------------------------------------------------------


def test_shipped_file_holds_the_findings_of_the_demo_and_the_usual_corpora() -> None:
    assert set(load_descriptions(SHIPPED)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_imaging_signs_are_short_and_never_name_the_finding(name: str) -> None:
    one = load_descriptions(SHIPPED)[name]
    assert 28 <= len(words(one.imaging)) <= 48
    assert all(3 <= len(words(getattr(one, field))) <= 30 for field in FIELDS)
    assert all(getattr(one, field).endswith(".") for field in FIELDS)
    found = re.search(rf"\b({NAMES[name]})\b", one.imaging, re.I)
    assert found is None, found


def test_shipped_imaging_signs_never_name_a_finding_of_the_test_split() -> None:
    named = "|".join(NAMES[name] for name in UNSEEN)
    for one in load_descriptions(SHIPPED).values():
        assert not re.search(rf"\b({named})\b", one.imaging, re.I), one.name


def test_shipped_texts_differ() -> None:
    shipped = load_descriptions(SHIPPED)
    texts = [getattr(one, field) for one in shipped.values() for field in ("definition", "clinical")]
    texts += [one.imaging for one in shipped.values()]
    assert len(set(texts)) == len(texts)


def test_signs_of_unseen_findings_use_only_words_of_training_reports() -> None:
    shipped = load_descriptions(SHIPPED)
    known = {word for report in training_reports(400, seed=0) for word in words(report)}
    for name in UNSEEN:
        assert set(words(shipped[name].imaging)) <= known, name
    for name in SEEN:  # these should sound like the reports too, if not word for word
        text = words(shipped[name].imaging)
        assert sum(word in known for word in text) >= 0.8 * len(text), name


def test_shipped_texts_would_pass_the_check_of_written_answers() -> None:
    for name, one in load_descriptions(SHIPPED).items():
        assert parse_answer(name, answer_lines(one)) == one


# ---- Description ---------------------------------------------------------------------------------------------------


def test_text_joins_the_aspects_in_the_order_given_as_sentences() -> None:
    one = replace(ANSWER, density="Dense opacity", shape="Is it round?")
    assert one.text(["density", "shape"]) == "Dense opacity. Is it round?"
    assert one.imaging == "At the base of one lung. Is it round? Smooth and curved upper edge. Dense opacity."


def test_text_refuses_unknown_and_no_aspects() -> None:
    with pytest.raises(InputError, match=r"pleural_effusion.*'densty'.*'density'"):
        ANSWER.text(["densty"])
    with pytest.raises(InputError, match="no aspects"):
        ANSWER.text([])


# ---- Loading and saving --------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def entry(**changes: str | None) -> str:
    fields = {**{field: f"Some text on {field}." for field in FIELDS}, **changes}
    lines = [f"    {field}: {value}" for field, value in fields.items() if value is not None]
    return "findings:\n  nodule:\n" + "\n".join(lines) + "\n"


BAD_FILES = {
    "unknown field": (entry(boundry="Sharp edge here."), r"'nodule'.*unknown field 'boundry'.*'boundary'"),
    "missing field": (entry(shape=None), r"'nodule'.*'shape' is missing"),
    "empty field": (entry(shape=""), r"'nodule'.*'shape' is empty"),
    "blank field": (entry(shape="'  '"), r"'nodule'.*'shape' is empty"),
    "not a text": (entry(shape="3"), r"'nodule'.*'shape' is not a text"),
    "boolean name": ("findings:\n  no: {}\n", r"finding False: .*quotes"),
    "not fields": ("findings:\n  nodule: text\n", r"'nodule'.*must hold"),
    "no entries": ("findings:\n", r"no entries"),
    "other top": ("finding:\n  a: b\n", r"`findings`"),
    "list": ("- a\n", r"`findings`"),
    "broken": ("findings: [\n", r"not valid YAML: line \d+"),
    "impossible date": (entry(shape="2020-13-45"), r"not valid YAML"),
    "colon": (entry(shape="Round: small."), r"not valid YAML: line 4"),
    "short name": (entry().replace("nodule", "effusion"), r"'effusion' is called pleural_effusion here; rename"),
    "twice": (entry() + entry().split("\n", 1)[1], r"'nodule' stands twice"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, case: str) -> None:
    text, message = BAD_FILES[case]
    with pytest.raises(InputError, match=message) as caught:
        load_descriptions(write(tmp_path, text))
    assert "own.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_descriptions(tmp_path / "none.yaml")
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_descriptions(tmp_path / "own.yaml")


texts = st.text(st.characters(codec="utf-8"), min_size=1).map(lambda t: " ".join(t.split())).filter(bool)
names = texts.filter(lambda name: finding_name(name, ontology()) == name)
descriptions = st.builds(Description, name=names, **{field: texts for field in FIELDS})


@given(st.lists(descriptions, min_size=1, max_size=4, unique_by=lambda one: one.name), st.text(max_size=40))
def test_what_is_saved_loads_unchanged(
    tmp_path_factory: pytest.TempPathFactory, many: list[Description], top: str
) -> None:
    path = tmp_path_factory.mktemp("descriptions") / "deep" / "own.yaml"
    header = "".join(c for c in top if c.isprintable() or c == "\n")
    save_descriptions(path, {one.name: one for one in many}, header=header)
    loaded = load_descriptions(path)
    assert list(loaded.values()) == many
    assert list(path.parent.iterdir()) == [path]


def test_a_saved_file_is_plain_yaml_that_can_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    save_descriptions(path, {"pleural_effusion": ANSWER}, header="written by: tiny\n\ndecoding: greedy")
    assert path.read_text().startswith("# written by: tiny\n#\n# decoding: greedy\nfindings:\n  pleural_effusion:\n")
    plain = yaml.safe_load(path.read_text())
    assert plain == {"findings": {"pleural_effusion": {f: getattr(ANSWER, f) for f in FIELDS}}}
    path.write_text(path.read_text().replace("Dense opacity", "Grey\n      and dense opacity"))
    assert load_descriptions(path)["pleural_effusion"].density == "Grey and dense opacity without air."


# ---- The writing step ----------------------------------------------------------------------------------------------


def test_the_prompt_asks_for_six_labels_and_shows_another_finding() -> None:
    prompt = writing_prompt("pleural_effusion")
    assert prompt.rstrip().endswith("Finding: pleural effusion")
    for field in FIELDS:  # once as instruction, once in the worked example
        assert len(re.findall(rf"^{field.capitalize()}: \S", prompt, re.M)) == 2
    for name in EXAMPLES:
        example = re.search(r"^Example finding: (.*)$", writing_prompt(name), re.M)
        assert example and example.group(1) != name and example.group(1) in EXAMPLES


def test_worked_examples_are_not_shipped_findings_and_hold_no_test_split_name() -> None:
    shipped = load_descriptions(SHIPPED)
    for name, example in EXAMPLES.items():
        assert name.replace(" ", "_") not in shipped
        assert not re.search(r"\b(mass(es)?|tubercul.*|hernia.*)\b", " ".join(asdict(example).values()), re.I)


@given(st.permutations(answer_lines(ANSWER).splitlines()), st.sampled_from(["{}", "  {}", "- {}", "3. {}", "\n{}\n"]))
def test_a_well_formed_answer_is_read_in_any_order(lines: list[str], form: str) -> None:
    assert parse_answer("pleural_effusion", "\n".join(form.format(line) for line in lines)) == ANSWER


def test_bold_and_upper_case_labels_are_read() -> None:
    bold = re.sub(r"^(\w+):", r"**\1:**", answer_lines(ANSWER), flags=re.M)
    assert parse_answer("pleural_effusion", bold.replace("**Shape:**", "**SHAPE**:")) == ANSWER


def changed(label: str, text: str) -> str:
    return answer_lines(replace(ANSWER, **{label: text}))


BAD_ANSWERS = {
    "empty": ("", "Location: is missing"),
    "prose": ("It is seen at the base.", "first line has none of the six labels"),
    "chatter": (f"Sure, here it is.\n{answer_lines(ANSWER)}", "first line"),
    "wrapped": (answer_lines(ANSWER).replace("along the", "along\nthe"), "line after Shape"),
    "seventh": (f"{answer_lines(ANSWER)}\nTreatment: drain the fluid.", "line after Clinical"),
    "missing": (answer_lines(ANSWER).replace("Density:", ""), "line after Boundary"),
    "dropped": ("\n".join(answer_lines(ANSWER).splitlines()[:5]), "Clinical: is missing"),
    "twice": (f"{answer_lines(ANSWER)}\nShape: A round thing here.", "Shape: stands twice"),
    "blank": (changed("shape", ""), "Shape: has 0 words"),
    "short": (changed("density", "Very dense."), "Density: has 2 words"),
    "long": (changed("density", "dense " * 61), "Density: has 61 words"),
    "dots": (changed("shape", "... ... ... . . ."), "Shape: has 0 words"),
    "angle": (changed("shape", "A <shape of the finding> here"), "Shape: still holds"),
    "square": (changed("shape", "A [describe the shape] here"), "Shape: still holds"),
    "brace": (changed("shape", "The shape of {finding} here"), "Shape: still holds"),
    "ellipsis": (changed("shape", "A round shape with ..."), "Shape: still holds"),
    "end token": (changed("clinical", "Breathlessness in heart failure.</s>"), "Clinical: still holds"),
    "chat token": (changed("clinical", "Breathlessness in heart failure.<|im_end|>"), "Clinical: still holds"),
    "todo": (changed("shape", "TODO write the shape"), "Shape: still holds"),
    "same": (changed("clinical", "dense OPACITY  without air"), "Clinical: repeats Density"),
    "instruction": (changed("shape", "its form and size"), "Shape: copies the prompt"),
    "example": (changed("shape", EXAMPLES["pneumoperitoneum"].shape), "Shape: copies the prompt"),
    "refusal": ("I\u2019m sorry, but I cannot help with that.", "Answer: the model refused"),
    "labelled refusal": (changed("clinical", "As an AI model I have no view."), "Clinical: the model refused"),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_a_bad_answer_names_finding_and_label(case: str) -> None:
    answer, message = BAD_ANSWERS[case]
    with pytest.raises(InputError, match=f"pleural_effusion: .*{re.escape(message)}"):
        parse_answer("pleural_effusion", answer)


@pytest.mark.parametrize("text", ["A spot <3 cm, rarely >5 cm", "May be unable to lie flat", "It cannot be seen well"])
def test_ordinary_wording_is_not_taken_for_a_placeholder_or_a_refusal(text: str) -> None:
    assert parse_answer("nodule", changed("shape", text)).shape == text


labelled = st.tuples(st.sampled_from([f.capitalize() for f in FIELDS]), st.text(max_size=90)).map(": ".join)


@given(st.one_of(st.text(max_size=300), st.lists(labelled, max_size=8).map("\n".join)))
def test_any_answer_is_a_full_description_or_one_short_line(answer: str) -> None:
    try:
        one = parse_answer("nodule", answer)
    except InputError as error:
        message = str(error)
        assert message.isprintable() and message.startswith("description of nodule: ")
        shown = re.search(r'\("(.*)"\);', message)
        assert shown is None or len(shown.group(1)) <= 60
        assert len(message) < 240
    else:
        assert all(len(re.findall(r"\w+", getattr(one, field))) >= 3 for field in FIELDS)
        assert one.name == "nodule" and len(set(asdict(one).values())) == 7
