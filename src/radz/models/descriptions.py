"""Descriptions of findings: the texts behind the anchors, their file, and how a model is asked to write them.

A description has six fields: four imaging signs (location, shape, boundary, density), what the finding is, and how
patients present. The shipped file is `experiments/descriptions/chest_xray.yaml`. A decoder may write its own:
`writing_prompt` asks, `parse_answer` checks the structure and refuses the rest, so that no half-written text becomes an
anchor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import InputError, nearest
from data_modules.files import write_text
from data_modules.findings import Ontology, ontology
from data_modules.parsing import YamlLoader, parse_yaml, yaml_fault

IMAGING = ("location", "shape", "boundary", "density")
FIELDS = (*IMAGING, "definition", "clinical")
MIN_WORDS, MAX_WORDS = 3, 60


@dataclass(frozen=True)
class Description:
    """One finding in six short texts; `name` is its canonical name (`pleural_effusion`)."""

    name: str
    location: str
    shape: str
    boundary: str
    density: str
    definition: str
    clinical: str

    @property
    def imaging(self) -> str:
        """The four imaging signs, one sentence (or two) each, in the order of `IMAGING`."""
        return self.text(IMAGING)

    def text(self, aspects: Sequence[str]) -> str:
        """The fields named by `aspects`, in the order given, each closed as a sentence and joined by blanks.

        Raises InputError when `aspects` is empty or names something that is not one of `FIELDS`.
        """
        if not aspects:
            raise InputError(f"description of {self.name}: no aspects asked for; choose from {', '.join(FIELDS)}")
        for aspect in aspects:
            if aspect not in FIELDS:
                raise InputError(f"description of {self.name}: unknown aspect {aspect!r}{nearest(str(aspect), FIELDS)}")
        return " ".join(_sentence(getattr(self, aspect)) for aspect in aspects)


class _Loader(YamlLoader):
    """SafeLoader that refuses a repeated key: plain YAML keeps the last one, and an edit would vanish unnoticed."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_descriptions(path: Path | str) -> dict[str, Description]:
    """Read a descriptions file into {finding name: Description}, in file order, white space collapsed.

    Raises InputError naming file, finding and field for a missing file, broken YAML, a wrong or empty field.
    """
    path = Path(path)
    try:
        loaded = parse_yaml(path.read_text(encoding="utf-8"), _Loader)  # _Loader is a SafeLoader
    except OSError as error:
        raise InputError(f"descriptions {path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"descriptions {path}: not UTF-8 text; save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise InputError(
            f"descriptions {path}: not valid YAML: {yaml_fault(error)}; quote texts with a colon"
        ) from error
    if not isinstance(loaded, dict) or set(loaded) != {"findings"}:
        raise InputError(f"descriptions {path}: the one top-level key must be `findings`, with one entry each")
    entries = loaded["findings"]
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"descriptions {path}: `findings` has no entries; add `name: {{location: ..., shape: ...}}`")
    descriptions = {name: _description(path, name, fields) for name, fields in entries.items()}
    for name in descriptions:
        if (other := finding_name(name, ontology())) != name:
            raise InputError(f"descriptions {path}: finding {name!r} is called {other} here; rename it to {other}")
    return descriptions


def save_descriptions(path: Path | str, descriptions: Mapping[str, Description], header: str = "") -> None:
    """Write descriptions as a YAML file that a user can edit and `load_descriptions` reads back unchanged.

    `header`: lines put on top as a comment (who wrote them, with which model and decoding). The file appears as
    a whole or not at all.
    """
    path = Path(path)
    entries = {name: {field: getattr(one, field) for field in FIELDS} for name, one in descriptions.items()}
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    body = yaml.safe_dump({"findings": entries}, sort_keys=False, allow_unicode=True, width=118)
    write_text(path, comment + body)


def _description(path: Path, name: object, fields: object) -> Description:
    """One checked entry of the file; the position is named in every error."""
    where = f"descriptions {path}: finding {name!r}"
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where}: a finding name must be a text; put it in quotes")
    if not isinstance(fields, dict):
        raise InputError(f"{where}: must hold the fields {', '.join(FIELDS)}")
    for field in fields:
        if field not in FIELDS:
            raise InputError(f"{where}: unknown field {field!r}{nearest(str(field), FIELDS)}")
    texts: dict[str, str] = {}
    for field in FIELDS:
        if field not in fields:
            raise InputError(f"{where}: field {field!r} is missing; every finding needs {', '.join(FIELDS)}")
        value = fields[field]
        if value is not None and not isinstance(value, str):
            raise InputError(f"{where}: field {field!r} is not a text; put it in quotes")
        texts[field] = _collapse(value or "")
        if not texts[field]:
            raise InputError(f"{where}: field {field!r} is empty; write one or two short sentences")
    return Description(name=name, **texts)


def finding_name(name: str, known: Ontology) -> str:
    """The ontology's name of a finding typed as its name, short name or text ("Pleural effusion"); else `name`."""
    words = name.casefold().replace("_", " ").split()
    for key in (name, "_".join(words)):
        if key in known:
            return known[key].name
    return next((one.name for one in known if one.text.casefold().split() == words), name)


# The worked example must not be the finding that is asked for, hence two: the second serves when the first is asked.
EXAMPLES = {
    "pneumoperitoneum": Description(
        name="pneumoperitoneum",
        location="Under the right hemidiaphragm, above the liver, and often on the left as well.",
        shape="A thin crescent between the hemidiaphragm and the organ below it.",
        boundary="The upper edge is smooth and sharp, drawn by the hemidiaphragm.",
        density="Lucent, as dark as air, without vessels.",
        definition="Free air inside the abdomen, outside stomach and bowel.",
        clinical="Sudden severe belly pain from a perforated ulcer or bowel, or no complaint after recent surgery.",
    ),
    "pneumomediastinum": Description(
        name="pneumomediastinum",
        location="Along the borders of the heart and the trachea, up into the neck.",
        shape="Thin vertical streaks, and a band that lifts the pleura off the heart.",
        boundary="A fine white line runs sharply along the left heart border.",
        density="Lucent, as dark as air, between soft tissues of their usual density.",
        definition="Free air around the heart and the windpipe.",
        clinical="Chest pain after hard coughing, vomiting or an attack of asthma, with a crackling neck.",
    ),
}
PROMPT = """You are a chest radiologist who writes a short reference entry about one finding on a frontal chest X-ray.
Say where the finding lies, what shape it has, how its boundary looks and how dense it is; then what it is and how
patients present. Answer with exactly six lines and nothing else. Each line starts with its label and holds one or two
plain sentences, {min} to {max} words in all.
Do not use the name of the finding in the first four lines. Do not repeat a line.

Location: where in the chest it is seen
Shape: its form and size
Boundary: how sharp or hazy its edge is
Density: how light or dark it is, and what shows through it
Definition: what the finding is
Clinical: typical causes and complaints

Example finding: {example}
{answer}

Finding: {finding}
"""
# A list mark, bold marks around the label and its colon: a chat model's habits that change nothing.
_LINE = re.compile(r"^\s*(?:[-*•]\s+|\d+[.)]\s+)?[*_]{0,2}([A-Za-z]+)[*_]{0,2}\s*:[*_]{0,2}(.*)$")
_PLACEHOLDER = re.compile(
    r"</?\|?\s*[A-Za-z][^<>]*>|\[[^\]]*\]|\{[^}]*\}|_{3,}|\.{3}|…"
    r"|\b(?:TODO|TBD|lorem ipsum|insert (?:text|here))\b",
    re.I,
)
_REFUSAL = re.compile(
    r"\bI(?: am|'m)(?: very| so)? (?:sorry|unable|not able|not qualified)\b"
    r"|\bI (?:cannot|can't|can not|won't|will not|apologi[sz]e)\b"
    r"|\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b"
    r"|\b(?:unable|not able) to (?:answer|assist|comply|describe|help|provide)\b",
    re.I,
)


def writing_prompt(finding_text: str) -> str:
    """The request for one finding ("pleural effusion"): six labelled lines, after an example on another finding."""
    wanted = _collapse(finding_text).lower().replace("_", " ")
    name, example = next(((n, d) for n, d in EXAMPLES.items() if n not in wanted), list(EXAMPLES.items())[-1])
    return PROMPT.format(min=MIN_WORDS, max=MAX_WORDS, example=name, answer=answer_lines(example), finding=wanted)


def answer_lines(description: Description) -> str:
    """The six labelled lines of a description: the form that `parse_answer` reads."""
    return "\n".join(f"{field.capitalize()}: {getattr(description, field)}" for field in FIELDS)


def parse_answer(name: str, answer: str) -> Description:
    """Check a written answer and return it as the description of `name`.

    All six labels stand once, in any order, on a line of their own; each text has 3 to 60 words; none is a placeholder,
    a refusal, a repetition of another line or a line of the prompt. Otherwise InputError in one line that names the
    finding and the label and shows at most 40 characters of the answer.
    """
    texts: dict[str, str] = {}
    for line in filter(str.strip, answer.replace("\u2019", "'").splitlines()):
        match = _LINE.match(line)
        label = match.group(1).lower() if match else ""
        if _REFUSAL.search(line):
            raise _rejected(name, label if label in FIELDS else "answer", "the model refused", line)
        if match is None or label not in FIELDS:
            after = f"the line after {list(texts)[-1].capitalize()}" if texts else "the first line"
            raise _rejected(name, "answer", f"{after} has none of the six labels", line)
        if label in texts:
            raise _rejected(name, label, "stands twice", line)
        texts[label] = _collapse(match.group(2))
    for label in FIELDS:
        if label not in texts:
            raise _rejected(name, label, "is missing")
        _check_text(name, label, texts[label])
    for earlier, later in ((a, b) for i, a in enumerate(FIELDS) for b in FIELDS[i + 1 :]):
        if _key(texts[earlier]) == _key(texts[later]):
            raise _rejected(name, later, f"repeats {earlier.capitalize()}", texts[later])
    return Description(name=name, **texts)


def _check_text(name: str, label: str, text: str) -> None:
    """Length, leftovers and copies of one labelled text; raises InputError."""
    words = len(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text))
    if not MIN_WORDS <= words <= MAX_WORDS:
        raise _rejected(name, label, f"has {words} words instead of {MIN_WORDS} to {MAX_WORDS}", text)
    if _PLACEHOLDER.search(text):
        raise _rejected(name, label, "still holds a placeholder or a marker", text)
    if _key(text) in set(_prompt_lines()):
        raise _rejected(name, label, "copies the prompt", text)


def _prompt_lines() -> Iterator[str]:
    """Keys of the texts the model has read after a label: instructions and worked examples."""
    for line in PROMPT.splitlines():
        if (match := _LINE.match(line)) and match.group(1).lower() in FIELDS:
            yield _key(match.group(2))
    for example in EXAMPLES.values():
        yield from (_key(value) for field, value in asdict(example).items() if field != "name")


def _rejected(name: str, label: str, why: str, text: str = "") -> InputError:
    """The one-line error of the writing step; model output may be long or odd, so only a printable head is shown."""
    head = "".join(c for c in _collapse(text)[:40] if c.isprintable())
    shown = f' ("{head}")' if head else ""
    advice = "try another model or decoding, or bring a descriptions file"
    return InputError(f"description of {name}: {label.capitalize()}: {why}{shown}; {advice}")


def _key(text: str) -> str:
    """What counts as the same text: letters and digits only, lower case."""
    return re.sub(r"[\W_]+", " ", text).strip().lower()


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
