"""`scoring.class_prompts: FILE`: the sentences of each finding in a file, the user's copy of a published one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import InputError
from data_modules.finding_names import FindingNames
from data_modules.findings import Ontology
from data_modules.parsing import parse_json, parse_yaml, yaml_fault

log = logging.getLogger(__name__)
KEY = "scoring.class_prompts"
SIDES = ("positive", "negative")


def read_class_prompts(path: Path, known: Ontology) -> dict[str, dict[str, list[str]]]:
    """Return finding -> {positive, negative: sentences} of a JSON or YAML file, such as MedKLIP's of observations.

    It maps the name of a finding, or of anything else, to a sentence, a list of sentences, or a map of positive and
    negative ones. Names are found as those of tables are; what is no finding is not read, and said in the log.

    Raises:
        InputError: another form, two names of one finding, or no name of any finding.
    """
    names, found, unread = FindingNames(known), dict[str, tuple[str, dict[str, list[str]]]](), list[str]()
    for name, value in _content(path).items():
        if (finding := names.find(name)) is None:
            unread.append(name)
            continue
        other, _ = found.setdefault(finding[0], (name, _sentences(path, name, value)))
        if other != name:
            raise InputError(f"{KEY}: {path}: '{other}' and '{name}' are both {finding[0]}; keep one")
    if not found:
        first = unread[0] if unread else ""
        raise InputError(f"{KEY}: {path}: none of its {len(unread)} names is a finding{names.nearest(first)}")
    renamed = ", ".join(f"{name} as {finding}" for finding, (name, _) in found.items() if name != finding)
    log.info("%s: sentences of %d findings from %s%s", KEY, len(found), path, f"; {renamed}" if renamed else "")
    if unread:
        log.info("%s: not read, as they name no finding: %s", KEY, ", ".join(unread))
    return {finding: sentences for finding, (_, sentences) in found.items()}


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = parse_json(text) if path.suffix.lower() == ".json" else parse_yaml(text, yaml.BaseLoader)
    except OSError as error:
        raise InputError(f"{KEY}: {path} cannot be read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{KEY}: {path}: not valid JSON or YAML: {yaml_fault(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{KEY}: {path}: must map names of findings to sentences")
    return {str(name): value for name, value in content.items()}


def _sentences(path: Path, name: str, value: Any) -> dict[str, list[str]]:
    sides = value if isinstance(value, dict) else {"positive": value}
    lists = {side: [text] if isinstance(text, str) else text for side, text in sides.items()}
    for side, texts in lists.items():
        if side not in SIDES or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(
                f"{KEY}: {path}: {name}: must be a sentence, a list of sentences, or lists as positive and negative"
            )
    return lists
