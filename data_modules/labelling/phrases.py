"""Phrases of the rules: a small language for wordings, and the search for many of them in one sentence.

A phrase is words with single blanks between them:

    pleural effusion          these words, with any blanks or hyphens between them, in any case, with or without accents
    (small|large) effusion    one of several words
    <right> <pleural> fluid   words that may be there
    atelecta*                 any ending; the stem has three letters at least
    heart .. enlarged         up to five words between, none of them beyond a comma; a colon before them
    heart (is|was) enlarged   a colon stands for a verb of being (COPULAS): Heart: enlarged

There is nothing else in it: a phrase of a user is bounded in what it costs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from data_modules.errors import InputError

GAP = 5
"""words that `..` passes at most"""
GAPS = 2
"""gaps of one phrase at most"""
COPULAS = frozenset(("is", "are", "ist", "sind", "est", "sont", "es", "son", "sono", "sao"))
"""of which a colon stands for each, but not for one that is a word of its own"""
LONGEST = 800
"""signs of the longest phrase"""
_ITEM = re.compile(r"\.\.|\([^()<>]*\)|<[^()<>]*>|[^\s()<>]+")
KEPT = 50_000
"""words of which is remembered what they may begin"""
_Search = tuple[re.Pattern[str], Any]
_WORD = re.compile(r"[^\W_]+")
_UMLAUT = re.compile("([aou])e")
_KEPT = frozenset(",;:()?")
_STRANGE = frozenset("[]{}^$+\\")
"""of regular expressions, which phrases are not"""


class _Plain(dict[int, str]):
    """The sign that stands for each code in a flat text; found out when it is first met."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        bare = unicodedata.normalize("NFD", sign)[0].lower()
        bare = bare if len(bare) == 1 else sign
        self[code] = bare if bare.isalnum() or bare in _KEPT else " "
        return self[code]


_PLAIN = _Plain()


def flat(text: str) -> str:
    """The text as phrases are searched in it: of the same length, without case, accents and other marks."""
    return text.translate(_PLAIN)


class Match(NamedTuple):
    """A phrase that was found: signs `start` to `end` of the sentence, and what it stands for."""

    start: int
    end: int
    what: Any
    gaps: tuple[tuple[int, int], ...] = ()
    """the signs that its gaps passed"""


class Phrases:
    """Many phrases and what they stand for, found together in one pass over the words of a sentence."""

    def __init__(
        self, phrases: Iterable[tuple[str, Any]], key: str, plural: bool = False, umlauts: bool = False
    ) -> None:
        """`key` names the place of the phrases in error texts.

        `plural`: English plurals count as the word; `umlauts`: ae, oe and ue count as a, o and u, as German spells
        umlauts where it has none.
        """
        self._umlauts = umlauts
        self._by_word: dict[str, list[_Search]] = {}
        self._by_stem: dict[str, list[_Search]] = {}
        self._begun_by = lru_cache(KEPT)(self._of_word)
        for phrase, what in phrases:
            items = parsed(phrase, key)
            pattern = re.compile(_pattern(items, plural, umlauts))
            for start in sorted(_starts(items)):
                places = self._by_stem if start.endswith("*") else self._by_word
                for word in [start[:-1]] if start.endswith("*") else _forms(start, plural):
                    places.setdefault(self._key(word), []).append((pattern, what))

    def _key(self, word: str) -> str:
        """What a word is looked up by; words that it takes for one are told apart by their patterns."""
        word = word.replace("ß", "ss")
        return _UMLAUT.sub(r"\1", word) if self._umlauts else word

    def _of_word(self, word: str) -> list[_Search]:
        """The phrases that may begin with a word: most words of a report begin none."""
        key = self._key(word)
        stems = (self._by_stem.get(key[:end], ()) for end in range(1, len(key) + 1))
        return [*self._by_word.get(key, ()), *(search for found in stems for search in found)]

    def found(self, text: str) -> list[Match]:
        """Every match in a text of `flat`, in order; of one phrase's readings from one word the longest."""
        matches = []
        for word in _WORD.finditer(text):
            for pattern, what in self._begun_by(word[0]):
                match = pattern.match(text, word.start())
                if match:
                    matches.append(Match(match.start(), match.end(), what, match.regs[1:]))
        return matches


def longest(matches: Sequence[Match]) -> list[Match]:
    """Those that do not overlap a longer one, in order; of one span all stay."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda match: (match.start - match.end, match.start)):
        span = match.start, match.end
        if all(match.end <= other.start or other.end <= match.start or span == (other.start, other.end)
               for other in kept):  # fmt: skip
            kept.append(match)
    return sorted(kept, key=lambda match: match.start)


@dataclass(frozen=True)
class _Item:
    """One place of a phrase: its words, none for a gap."""

    words: tuple[str, ...]
    optional: bool = False


def parsed(phrase: str, key: str) -> list[_Item]:
    """The places of a phrase; InputError, beginning with `key`, for what is no phrase."""
    if not isinstance(phrase, str) or not phrase.strip() or len(phrase) > LONGEST or _STRANGE & set(phrase):
        raise InputError(f"{key}: {phrase!r} is no phrase of 1 to {LONGEST} signs, and no regular expression")
    items = []
    for found in _ITEM.findall(phrase):
        if found == "..":
            items.append(_Item(()))
            continue
        inner = found.strip("()<>")
        for words in [inner.split("|")] if found[0] in "(<" else [[word] for word in _split(inner)]:
            plain = tuple(" ".join(_split(word)) for word in words)
            items.append(_Item(plain, found[0] == "<"))
    if "".join("".join(_ITEM.findall(phrase)).split()) != "".join(phrase.split()):
        raise InputError(f"{key}: the brackets of {phrase!r} do not close")
    for item in items:
        for word in item.words:
            if not word or any("*" in one[:-1] or one.endswith("*") > (len(one) > 3) for one in word.split()):
                raise InputError(
                    f"{key}: {phrase!r} is no phrase; words, (one|another), <may be there>, stem* of three letters and "
                    "more, and .. for up to five words"
                )
    if not items or not items[0].words or not items[-1].words or all(item.optional for item in items):
        raise InputError(f"{key}: {phrase!r} must begin and end with a word, and hold one that is not in brackets <>")
    if sum(not item.words for item in items) > GAPS:
        raise InputError(f"{key}: {phrase!r} has more than {GAPS} gaps (..); cut it in two phrases")
    return items


def _split(words: str) -> list[str]:
    """Words of a phrase as `flat` has them, but for ß, which is ss; a * stays at its end."""
    return "".join(sign if sign == "*" else flat(sign) for sign in words).replace("ß", "ss").split()


def _starts(items: Sequence[_Item]) -> set[str]:
    """The words that a phrase may begin with; a stem with its *."""
    starts: set[str] = set()
    for item in items:
        starts |= {word.split()[0] for word in item.words}
        if not item.optional:
            break
    return starts


def _pattern(items: Sequence[_Item], plural: bool, umlauts: bool) -> str:
    """A regular expression that never tries one place twice, so that its time is bounded by the gaps alone.

    What an item takes it keeps (atomic groups, possessive repetition): the longest of its words that fits, and a word
    that may be there wherever it is.
    """
    blank, pattern, begun = r"[ ]+", "", False
    for item in items:
        longest_first = sorted(item.words, key=lambda words: (-len(words.split()), -len(words)))
        words = "|".join(blank.join(_one(word, plural, umlauts) for word in words.split()) for words in longest_first)
        one = rf"(?>(?:{words})(?![^\W_]))" if item.words else r"[^\W_]+"
        # Before the first word that must be there blanks stand behind a word, then before it.
        placed = blank + one if begun else one + blank if item.optional else one
        if begun and len(item.words) > 1 and not COPULAS.isdisjoint(item.words):
            placed = f"(?:{placed}|[ ]?:)"
        # A gap may begin as an item of a form does: Heart: normal in size.
        gap = f"(?:[ ]?:)?((?:{placed}){{0,{GAP}}}?)"
        pattern += gap if not item.words else f"(?:{placed})?+" if item.optional else placed
        begun |= not item.optional
    return pattern


def _one(word: str, plural: bool, umlauts: bool) -> str:
    pattern = _ending(word, plural)
    return (re.sub("([aou])(?=[a-z])", r"\1e?", pattern) if umlauts else pattern).replace("ss", "(?:ss|ß)")


def _ending(word: str, plural: bool) -> str:
    if word.endswith("*"):
        return re.escape(word[:-1]) + r"[^\W_]*"
    return "(?:" + "|".join(map(re.escape, _forms(word, plural))) + ")"


def _forms(word: str, plural: bool) -> list[str]:
    """A word and its English plurals, longest first."""
    if not plural or len(word) < 4 or not word.isalpha():
        return [word]
    if word.endswith("is"):
        return [word, word[:-2] + "es"]
    if word.endswith("y"):
        return [word[:-1] + "ies", word]
    return [word] if word.endswith("s") else [word + "es", word + "s", word]
