"""Attention maps for the terminal: two characters a cell, in colour or in shades."""

import math
from collections.abc import Iterator

from nmt.evaluation.attention_labels import clip, letters, width
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
    rows = [clip(name, _LONGEST_LABEL) for name in shown.rows]
    margin = max(map(width, rows))
    lines = [f"{' ' * margin} {''.join(cells)}".rstrip() for cells in _header(shown.columns)]
    greatest = max(float(shown.weights_RC.max()), 1e-9)
    for name, weights, allowed in zip(rows, shown.weights_RC, shown.allowed_RC, strict=True):
        cells = [
            _cell(float(weight) / greatest, free, colour)
            for weight, free in zip(weights, allowed, strict=True)
        ]
        lines.append(f"{' ' * (margin - width(name))}{name} {''.join(cells)}")
    lines.append(f"{' ' * margin} {_legend(greatest, colour)}")
    if not shown.allowed_RC.all():
        lines.append(f"{' ' * margin} {_forbidden(colour)} masked: positions still to come")
    return "\n".join(lines)


def terminal_width(shown: AttentionMap) -> int:
    """Columns that the map takes."""
    return max(width(clip(name, _LONGEST_LABEL)) for name in shown.rows) + 1 + 2 * len(shown.columns)


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
    columns = [list(letters(clip(name, _LONGEST_LABEL))) for name in names]
    height = max(map(len, columns))
    for line in range(height):
        yield [_padded(own[line - height + len(own)] if line >= height - len(own) else "") for own in columns]


def _padded(letter: str) -> str:
    return letter + " " * (2 - width(letter))
