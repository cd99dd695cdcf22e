"""Attention maps as PNG and SVG, drawn by matplotlib (extra `plots`)."""

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from nmt.evaluation.attention_labels import clip, width
from nmt.evaluation.attention_maps import AttentionMap
from nmt.evaluation.config import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_CELL, _SMALL_CELL = 0.3, 0.13
_DOTS_PER_INCH = 150
# Of labels.
_POINTS, _SMALL_POINTS = 9, 5.5
# Weights below are left without a number.
_SHOWN_WEIGHT = 0.05
_LONGEST_LABEL = 24


class PictureError(ValueError):
    """A picture that cannot be drawn; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Colours:
    background: str
    ink: str
    faint: str
    # From weight 0 to the greatest.
    scale: tuple[str, ...]


_COLOURS = {
    Theme.light: _Colours("#ffffff", "#1f2328", "#b6bcc4", ("#f6f8fa", "#9ecae9", "#2f7ebc", "#08306b")),
    Theme.dark: _Colours("#0d1117", "#e6edf3", "#484f58", ("#161b22", "#1f4e79", "#3d9be0", "#e3f2ff")),
}


def require_matplotlib() -> None:
    """
    Raises:
        PictureError: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise PictureError("pictures need matplotlib, which is not installed; pip install 'nmt[plots]'")


def write_picture(
    file: BinaryIO, grid: Sequence[Sequence[AttentionMap]], *, title: str, theme: Theme, kind: str
) -> None:
    """Draw maps side by side, a row of the picture for each row of `grid`; `kind` is `png` or `svg`.

    Raises:
        PictureError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib

    colours = _COLOURS[theme]
    text = "".join("".join([*each.rows, *each.columns]) for row in grid for each in row)
    settings: dict[Any, Any] = {
        "font.family": _families(text + title),
        "font.size": 9,
        "text.color": colours.ink,
        "axes.edgecolor": colours.faint,
        "axes.facecolor": colours.background,
        "xtick.color": colours.ink,
        "ytick.color": colours.ink,
        "hatch.color": colours.faint,
        "hatch.linewidth": 0.6,
        # Text stays text: small, searchable, and in the fonts of whoever looks at it.
        "svg.fonttype": "none",
        "svg.hashsalt": "nmt",
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A character that no font here has is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = _draw(grid, title, colours)
        figure.savefig(
            file,
            format=kind,
            dpi=_DOTS_PER_INCH,
            facecolor=colours.background,
            bbox_inches="tight",
            pad_inches=0.15,
            metadata={"Date": None} if kind == "svg" else None,
        )


def _draw(grid: Sequence[Sequence[AttentionMap]], title: str, colours: _Colours) -> "Figure":
    from matplotlib.figure import Figure

    first = grid[0][0]
    single = len(grid) == len(grid[0]) == 1
    cell = _CELL if single else _SMALL_CELL
    across, down = cell * len(first.columns) + 0.2, cell * len(first.rows) + 0.35
    left, top = (_longest(names, small=not single) for names in (first.rows, first.columns))
    # The colour bar, and titles, take about an inch.
    size = len(grid[0]) * across + left + 1.0, len(grid) * down + top + 0.8
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(len(grid), len(grid[0]), squeeze=False, sharex=True, sharey=True)
    greatest = max(float(each.weights_RC.max()) for row in grid for each in row)
    mesh: Any = None
    for row_number, (row, row_axes) in enumerate(zip(grid, all_axes, strict=True)):
        for number, (shown, axes) in enumerate(zip(row, row_axes, strict=True)):
            mesh = _draw_map(axes, shown, colours, greatest, numbers=single)
            _label(axes, shown, left=number == 0, top=row_number == 0, small=not single)
            axes.set_title(shown.title, fontsize=9 if single else 7, parse_math=False)
    figure.suptitle(title, fontsize=11, parse_math=False)
    if not first.allowed_RC.all():
        figure.supxlabel("hatched: masked, positions still to come", fontsize=7)
    if single:
        # As high as the cells, whose shape the layout keeps, and not as the room around them.
        (axes,), inch = all_axes[0], 1 / (cell * len(first.columns))
        bar = figure.colorbar(mesh, cax=axes.inset_axes((1 + 0.12 * inch, 0, 0.14 * inch, 1)))
    else:
        share = min(1.0, 2.5 / (len(grid) * down))
        bar = figure.colorbar(mesh, ax=all_axes, shrink=share, aspect=18, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    bar.ax.tick_params(labelsize=7, length=0)
    return figure


def _draw_map(axes: "Axes", shown: AttentionMap, colours: _Colours, greatest: float, *, numbers: bool) -> Any:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    colormap = LinearSegmentedColormap.from_list("attention", colours.scale)
    visible = np.ma.array(shown.weights_RC, mask=~shown.allowed_RC)
    mesh = axes.pcolormesh(
        visible, cmap=colormap, vmin=0, vmax=greatest, edgecolors=colours.background, linewidth=0.5
    )
    axes.set_aspect("equal")
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    for row, allowed in enumerate(shown.allowed_RC):
        column = 0
        for free, run in groupby(allowed.tolist()):
            length = len(list(run))
            if not free:
                axes.add_patch(
                    Rectangle(
                        (column, row),
                        length,
                        1,
                        facecolor="none",
                        edgecolor=colours.faint,
                        hatch="////",
                        linewidth=0,
                    )
                )
            column += length
    if numbers:
        for (row, column), weight in np.ndenumerate(shown.weights_RC):
            if weight >= _SHOWN_WEIGHT:
                dark = weight > 0.55 * greatest
                ink = colours.background if dark else colours.ink
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{100 * weight:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color=ink,
                )
    return mesh


def _label(axes: "Axes", shown: AttentionMap, *, left: bool, top: bool, small: bool) -> None:
    size = _SMALL_POINTS if small else _POINTS
    axes.tick_params(length=0, top=True, labeltop=top, bottom=False, labelbottom=False, labelleft=left, pad=2)
    axes.set_xticks(np.arange(len(shown.columns)) + 0.5)
    axes.set_yticks(np.arange(len(shown.rows)) + 0.5)
    if top:
        axes.set_xticklabels(_clipped(shown.columns), rotation=90, fontsize=size, parse_math=False)
    if left:
        axes.set_yticklabels(_clipped(shown.rows), fontsize=size, parse_math=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _longest(names: Sequence[str], *, small: bool) -> float:
    """Inches that the longest label takes, about."""
    letter = (_SMALL_POINTS if small else _POINTS) * 0.62 / 72
    return letter * max(width(name) for name in _clipped(names))


def _clipped(names: Sequence[str]) -> list[str]:
    return [clip(name, _LONGEST_LABEL) for name in names]


def _families(text: str) -> list[str]:
    """DejaVu Sans, which comes with matplotlib, and installed fonts for the characters that it lacks."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    families = ["DejaVu Sans"]
    missing = set(map(ord, text)) - FT2Font(font_manager.findfont(families[0])).get_charmap().keys()
    for entry in sorted(
        font_manager.fontManager.ttflist, key=lambda entry: (entry.name, entry.weight != 400)
    ):
        if not missing:
            break
        try:
            covered = missing & FT2Font(entry.fname).get_charmap().keys()
        except (OSError, RuntimeError):
            # Bitmap fonts, and files that have gone.
            continue
        if covered:
            families.append(entry.name)
            missing -= covered
    return families
