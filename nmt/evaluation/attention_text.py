"""Attention maps for the terminal: two characters a cell, in colour or in shades."""

import math
import unicodedata
from collections.abc import Iterator

from nmt.evaluation.attention_maps import AttentionMap

# From nothing to the greatest weight.
_SHADES = "  ", "░░", "▒▒", "▓▓", "██"
# Steps of blue of the 256 colours, readable on light and dark backgrounds.
_BLUES = 231, 195, 153, 117, 75, 33, 27, 21, 18
_FORBIDDEN = "╱╱"
_LONGEST_LABEL = 16


def terminal_map(shown: AttentionMap, *, colour: bool) -> str:
    """The map as lines of text: columns named at the top, downwards, rows at the left.

    What the mask forbids is hatched. `colour` uses the 256 colours of terminals, otherwise five shades.
    """
    rows = [_clip(name) for name in shown.rows]
    margin = max(map(_width, rows))
    lines = [f"{' ' * margin} {''.join(cells)}".rstrip() for cells in _header(shown.columns)]
    greatest = max(float(shown.weights_RC.max()), 1e-9)
    for name, weights, allowed in zip(rows, shown.weights_RC, shown.allowed_RC, strict=True):
        cells = [
            _cell(float(weight) / greatest, free, colour)
            for weight, free in zip(weights, allowed, strict=True)
        ]
        lines.append(f"{' ' * (margin - _width(name))}{name} {''.join(cells)}")
    lines.append(f"{' ' * margin} {_legend(greatest, colour)}")
    if not shown.allowed_RC.all():
        lines.append(f"{' ' * margin} {_forbidden(colour)} masked: positions still to come")
    return "\n".join(lines)


def terminal_width(shown: AttentionMap) -> int:
    """Columns that the map takes."""
    return max(_width(_clip(name)) for name in shown.rows) + 1 + 2 * len(shown.columns)


def _cell(share: float, allowed: bool, colour: bool) -> str:
    """A weight as a share of the greatest."""
    if not allowed:
        return _forbidden(colour)
    levels = len(_BLUES) if colour else len(_SHADES)
    level = min(levels - 1, math.floor(share * levels))
    return f"\x1b[48;5;{_BLUES[level]}m  \x1b[0m" if colour else _SHADES[level]


def _forbidden(colour: bool) -> str:
    return f"\x1b[38;5;245m{_FORBIDDEN}\x1b[0m" if colour else _FORBIDDEN


def _legend(greatest: float, colour: bool) -> str:
    levels = len(_BLUES) if colour else len(_SHADES)
    scale = "".join(_cell((level + 0.5) / levels, True, colour) for level in range(levels))
    return f"0 %{scale}{100 * greatest:.0f} %"


def _header(names: list[str]) -> Iterator[list[str]]:
    """The names written downwards, one character a line, ending above their columns."""
    letters = [list(_letters(_clip(name))) for name in names]
    height = max(map(len, letters))
    for line in range(height):
        yield [_padded(own[line - height + len(own)] if line >= height - len(own) else "") for own in letters]


def _letters(text: str) -> Iterator[str]:
    """Characters with the marks that combine with them."""
    letter = ""
    for char in text:
        if letter and not unicodedata.category(char).startswith("M"):
            yield letter
            letter = ""
        letter += char
    if letter:
        yield letter


def _padded(letter: str) -> str:
    return letter + " " * (2 - _width(letter))


def _clip(name: str) -> str:
    letters = list(_letters(name))
    return name if len(letters) <= _LONGEST_LABEL else "".join(letters[: _LONGEST_LABEL - 1]) + "…"


def _width(text: str) -> int:
    """Columns of the terminal."""
    return sum(
        0
        if unicodedata.category(char).startswith("M")
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )
