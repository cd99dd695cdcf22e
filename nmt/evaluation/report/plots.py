"""Curves of the report, drawn by matplotlib (extra `plots`) as SVG for the inside of an HTML page.

Colours are those of the page: what is drawn in a stand-in colour becomes a CSS variable, so that one drawing
serves light and dark.
"""

import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from nmt.evaluation.calibration import Calibration
from nmt.evaluation.report.learning_curves import Curve
from nmt.evaluation.word_accuracy import WordAccuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches, of 72 units of the page's drawing each.
_SIZE = (5.0, 3.1)
_INK, _FAINT = "#00fd00", "#00fd01"
# As many as the page has colours for; further systems take them anew with another line.
_SERIES = 6
_LINES, _MARKERS = ("-", "--", ":"), "osD^vP"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: its name, its system (from 0) and its values."""

    name: str
    system: int
    curve: Curve
    # Drawn thin, without marks for its points: measured often, of less weight.
    background: bool = False


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_curves(lines: Sequence[Line], *, ylabel: str, key: str) -> str:
    """Values by training step as SVG. `key` tells the drawings of one page apart."""

    def draw(axes: "Axes") -> None:
        for line in lines:
            style = _style(line.system)
            if line.background:
                style |= {"marker": "", "linewidth": 1.0, "alpha": 0.55}
            axes.plot(line.curve.steps, line.curve.values, label=line.name, **style)
            if line.curve.low:
                axes.fill_between(
                    line.curve.steps,
                    line.curve.low,
                    line.curve.high,
                    color=style["color"],
                    alpha=0.15,
                    linewidth=0,
                )
        axes.set_xlabel("step")
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=6, integer=True)

    return _svg(draw, key, legend=len(lines) > 1)


def plot_calibration(systems: Sequence[tuple[str, int, Calibration]], *, key: str) -> str:
    """Mean sentence chrF by confidence; bars are 95 % intervals of the means."""

    def draw(axes: "Axes") -> None:
        for name, system, found in systems:
            axes.errorbar(
                [100 * each.confidence for each in found.bins],
                [each.score for each in found.bins],
                yerr=[1.96 * each.standard_error for each in found.bins],
                label=name,
                elinewidth=1,
                **_style(system),
            )
        # Intervals of few sentences reach below what chrF can be.
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        axes.set_xlabel("confidence: mean probability of a piece, %")
        axes.set_ylabel("mean sentence chrF")

    return _svg(draw, key, legend=len(systems) > 1)


def plot_word_accuracy(systems: Sequence[tuple[str, int, Sequence[WordAccuracy]]], *, key: str) -> str:
    """F1 of words by their frequency in the training data, with 95 % intervals."""
    labels = list(dict.fromkeys(each.bucket for _, _, found in systems for each in found))
    labels.sort(key=lambda bucket: bucket.low)

    def draw(axes: "Axes") -> None:
        for number, (name, system, found) in enumerate(systems):
            shift = 0.08 * (number - (len(systems) - 1) / 2)
            places = [labels.index(each.bucket) + shift for each in found]
            values = [each.f_measure for each in found]
            below = [max(0.0, each.f_measure - each.interval.low) for each in found]
            above = [max(0.0, each.interval.high - each.f_measure) for each in found]
            axes.errorbar(places, values, yerr=[below, above], label=name, elinewidth=1, **_style(system))
        axes.set_xticks(range(len(labels)), [each.short_label for each in labels])
        axes.set_xlabel("times in the training data")
        axes.set_ylabel("F1 of words")
        axes.set_ylim(bottom=0)

    return _svg(draw, key, legend=len(systems) > 1)


def _style(system: int) -> dict[str, Any]:
    return {
        "color": _series_colour(system),
        "linestyle": _LINES[system // _SERIES % len(_LINES)],
        "marker": _MARKERS[system % len(_MARKERS)],
        "markersize": 4,
        "linewidth": 1.6,
    }


def _series_colour(system: int) -> str:
    return f"#00fe{system % _SERIES:02x}"


def _svg(draw: Callable[["Axes"], None], key: str, *, legend: bool) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "font.size": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _FAINT,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": _FAINT,
        "grid.linewidth": 0.5,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        # Text stays text: small, searchable, in the page's font.
        "svg.fonttype": "none",
        "svg.hashsalt": key,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.grid(visible=True, alpha=0.6)
        axes.set_axisbelow(True)
        if legend:
            axes.legend(frameon=False, fontsize=8)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return for_page(file.getvalue().decode("utf-8"), key)


def for_page(svg: str, key: str) -> str:
    """A drawing of matplotlib without what only a file of its own needs, in the page's colours.

    Names of its parts, which refer to each other, begin with `key`: a page holds several drawings.
    """
    svg = svg[svg.index("<svg") :]
    svg = regex.sub(r"<metadata>.*?</metadata>", "", svg, flags=regex.DOTALL)
    svg = regex.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = regex.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2)
    svg = regex.sub(r"<!--.*?-->\s*", "", svg, flags=regex.DOTALL)
    # A style in a drawing would be one of the whole page.
    svg = regex.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=regex.DOTALL)
    svg = regex.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = svg.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    for system in range(_SERIES):
        svg = svg.replace(_series_colour(system), f"var(--series-{system})")
    return svg.strip()
