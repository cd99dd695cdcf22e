"""Writing along an attention map: harmless, short, and measured as terminals do."""

import unicodedata
from collections.abc import Iterator


def printable(text: str) -> str:
    """Without what would move the cursor, break a line or turn the direction of what follows."""
    kept = (char for char in text if unicodedata.category(char) != "Cf")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in kept)


def letters(text: str) -> Iterator[str]:
    """Characters with the marks that combine with them."""
    letter = ""
    for char in text:
        if letter and not unicodedata.category(char).startswith("M"):
            yield letter
            letter = ""
        letter += char
    if letter:
        yield letter


def clip(text: str, longest: int) -> str:
    """At most so many letters, the last of them an ellipsis where some are left out."""
    found = list(letters(text))
    return text if len(found) <= longest else "".join(found[: longest - 1]) + "…"


def width(text: str) -> int:
    """Columns of a terminal."""
    return sum(
        0
        if unicodedata.category(char).startswith("M")
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )
