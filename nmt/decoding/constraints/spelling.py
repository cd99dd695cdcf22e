"""What pieces write, character by character, and which characters make words.

A word character is a letter, a digit, a combining mark or an underscore of a script that puts spaces between
words. In Chinese, Japanese, Thai, Lao, Khmer and Burmese every character is a word of its own.
"""

import unicodedata
from dataclasses import dataclass
from enum import Enum

# First and last characters of scripts without spaces between words.
_SPACELESS = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)


class Kind(Enum):
    """Whether a character belongs to a word."""

    word = "word"
    other = "other"
    # A byte of a character that is spelled in several pieces.
    unsure = "unsure"


@dataclass(frozen=True, slots=True)
class Character:
    """A character of a piece, or a byte of one, as UTF-8."""

    data: bytes
    kind: Kind


def is_word_character(character: str) -> bool:
    """Whether words go on through this character."""
    if any(first <= ord(character) <= last for first, last in _SPACELESS):
        return False
    return character == "_" or unicodedata.category(character)[0] in "LNM"


def characters(writing: str | int) -> list[Character]:
    """The characters of what a piece writes; all white space is a space, as a translation is one line."""
    if isinstance(writing, int):
        if writing >= 0x80:
            return [Character(bytes([writing]), Kind.unsure)]
        writing = chr(writing)
    return [
        Character(
            b" " if character.isspace() else character.encode(),
            Kind.word if is_word_character(character) else Kind.other,
        )
        for character in writing
    ]
