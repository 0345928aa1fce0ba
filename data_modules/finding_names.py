"""The names under which files write findings."""

from __future__ import annotations

from data_modules.cells import folded
from data_modules.errors import nearest
from data_modules.findings import Ontology


def plain(name: str) -> str:
    """What names have in common that differ in case, blanks, hyphens and underscores only."""
    return folded(name.replace("_", " ").replace("-", " "))


class FindingNames:
    """That of the ontology, its wording, short names, and the labels of corpora."""

    def __init__(self, ontology: Ontology) -> None:
        self._known: dict[str, tuple[str, str]] = {}
        self.canonical = ontology.names
        for finding in ontology:
            self._known.setdefault(plain(finding.name), (finding.name, "its name"))
        for finding in ontology:
            self._known.setdefault(plain(finding.text), (finding.name, "its wording"))
        for finding in ontology:
            for space in sorted(finding.aliases, key=lambda one: (one != "common", one)):
                how = "short name" if space == "common" else f"label of {space}"
                for label, relation in finding.aliases[space].items():
                    if relation == "exact":
                        self._known.setdefault(plain(label), (finding.name, how))

    def find(self, name: str) -> tuple[str, str] | None:
        """The finding of a name and by what it is known; None for anything else. Wider and narrower words are not."""
        return self._known.get(plain(name))

    def nearest(self, name: str) -> str:
        """A hint for a name that is no finding."""
        hint = nearest(plain(name), self._known)
        close = hint.removeprefix("; nearest is '").removesuffix("'")
        return f"; nearest is '{self._known[close][0]}'" if close in self._known else ""
