"""Drawings for the inside of a page: in its colours, with nothing from elsewhere."""

import re
from xml.etree import ElementTree

import pytest

from nmt.evaluation.evaluation import Evaluation, Provenance
from nmt.evaluation.report.content import ReportedSystem, _curve_plots
from nmt.evaluation.report.learning_curves import Curve
from nmt.evaluation.report.plots import Line, plot_curves, plot_word_accuracy
from nmt.evaluation.resampling import Interval
from nmt.evaluation.word_accuracy import WordAccuracy
from nmt.evaluation.word_frequency import WORD_BUCKETS

pytest.importorskip("matplotlib")


def drawing(key: str) -> str:
    first = Curve([10, 20, 30], [1.0, 2.0, 3.0], [0.5, 1.5, 2.5], [1.5, 2.5, 3.5])
    second = Curve([10, 20], [2.0, 1.0])
    lines = [Line("A & <b>", 0, first), Line("B", 7, second, background=True)]
    return plot_curves(lines, ylabel="BLEU", key=key)


def test_colours_are_those_of_the_page() -> None:
    svg = drawing("one")
    assert "var(--series-0)" in svg
    assert "var(--series-1)" in svg
    assert "var(--ink)" in svg
    assert not re.findall(r"#00f[de]\w{2}", svg)
    # Nothing else has a colour of its own, which one of the themes would hide.
    assert not re.findall(r"(?:fill|stroke): #\w+", svg)


def test_drawings_are_valid_and_refer_to_themselves_only() -> None:
    one, other = drawing("one"), drawing("other")
    assert "http" not in one
    names = []
    for svg in (one, other):
        ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1))
        own = set(re.findall(r'id="([^"]+)"', svg))
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= own
        names.append(own)
    assert not names[0] & names[1]
    assert "A &amp; &lt;b&gt;" in one


def test_buckets_that_a_system_lacks_leave_their_place() -> None:
    def accuracy(number: int) -> WordAccuracy:
        return WordAccuracy(
            bucket=WORD_BUCKETS[number],
            reference_words=1,
            translation_words=1,
            precision=50,
            recall=50,
            f_measure=50,
            interval=Interval(low=40, high=60),
        )

    svg = plot_word_accuracy(
        [("A", 0, [accuracy(0), accuracy(3)]), ("B", 1, [accuracy(2), accuracy(6)])], key="x"
    )
    labels = [svg.index(f">{WORD_BUCKETS[number].short_label}<") for number in (0, 2, 3, 6)]
    assert labels == sorted(labels)


def test_systems_of_one_run_share_its_curves() -> None:
    def system(last: float) -> ReportedSystem:
        evaluation = Evaluation(provenance=Provenance(system="x", files={}), test_sets=[])
        return ReportedSystem(
            name="x", evaluation=evaluation, curves={"validation/bleu": Curve([1, 2], [1, last])}
        )

    ((title, svg),) = _curve_plots([system(2), system(3), system(2)])
    assert title == "Validation BLEU"
    assert re.findall(r">([A-Z, ]+)</text>", svg) == ["A, C", "B"]
    ((_, alone),) = _curve_plots([system(2)])
    assert "legend" not in alone
