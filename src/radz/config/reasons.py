"""What OmegaConf refuses, in words for who has typed it."""

from __future__ import annotations

import re

from omegaconf.errors import OmegaConfBaseException

REASONS = {
    r"Value '(.*)' of type '\w+' could not be converted to Integer": "must be a whole number, not {!r}",
    r"Value '(.*)' of type '\w+' could not be converted to Float": "must be a number, not {!r}",
    r"Value '(.*)' is not a valid bool \(type \w+\)": "must be true or false, not {!r}",
    r"Cannot convert '\w+' to string: '(.*)'": "must be a text, not {!r}",
    r"Incompatible value 'None' for field of type '.*'": "must have a value; leave it out for its default",
    r"Invalid value assigned: \w+ is not a ListConfig.*": "must be a list, such as [a, b]",
    r"Cannot assign \w+ to Dict.*": "must be a map, such as {{a: b}}",
    r"Merge error: \w+ is not a subclass of (\w+)Config.*": "one value stands where keys of a section belong ({})",
    r"Interpolation key '(.*)' not found": "there is no key {!r} of the experiment, which ${{..}} refers to",
    r"KeyError raised while .*Environment variable '(.*)' not found.*": "the environment variable {!r} is not set",
}
"""Its words -> ours."""
LONGEST = 80
"""signs of a value that are shown"""


def place(error: OmegaConfBaseException) -> tuple[str, str]:
    """Dotted key and reason of an error."""
    said = str(error.msg or error).splitlines()[0]
    for theirs, ours in REASONS.items():
        if found := re.fullmatch(theirs, said):
            said = ours.format(*(value[:LONGEST] for value in found.groups()))
    return (error.full_key or "").replace("[", ".").replace("]", "") or "a section", said
