"""What a report says, put together from evaluations and from what of their systems is still at hand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nmt.evaluation.calibration import Calibration, calibrate
from nmt.evaluation.comparison import Comparison, Pair
from nmt.evaluation.evaluation import EvaluatedSet, Evaluation
from nmt.evaluation.metrics import Score
from nmt.evaluation.report import plots
from nmt.evaluation.report.attention import CompactMap
from nmt.evaluation.report.learning_curves import Curve
from nmt.evaluation.report.listing import list_sentences, listed_places
from nmt.evaluation.report.settings import SettingGroup, setting_groups
from nmt.evaluation.slices import Slice, find_slices, score_slice
from nmt.evaluation.word_accuracy import WordAccuracy, word_accuracy
from nmt.evaluation.word_frequency import TrainingWords
from nmt.evaluation.worst_sentences import WorstSentence, worst_sentences

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Worst sentences of each system that stand in the page itself.
_WORST = 5


@dataclass(kw_only=True, slots=True)
class ReportedSystem:
    """A system and what of it is at hand beside its evaluation."""

    name: str
    evaluation: Evaluation
    # Of the run's files: scalars by name, and BLEU of checkpoints by test set.
    curves: dict[str, Curve] = field(default_factory=dict)
    checkpoint_curves: dict[str, Curve] = field(default_factory=dict)
    # By test set and place.
    maps: dict[tuple[str, int], CompactMap] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class SliceRow:
    """A slice with the scores of each system."""

    group: str
    label: str
    count: int
    scores: list[list[Score]]


@dataclass(kw_only=True, slots=True)
class SystemOnSet:
    """What is said of one system on one test set."""

    letter: str
    # Place among the systems, which decides on its colour.
    number: int
    own: EvaluatedSet
    accuracy: list[WordAccuracy]
    calibration: Calibration | None
    worst: list[WorstSentence]


@dataclass(kw_only=True, slots=True)
class TestSetSection:
    """What is said of one test set."""

    # A class of this name is no test of pytest.
    __test__ = False

    name: str
    systems: list[SystemOnSet]
    pairs: list[Pair]
    slices: list[SliceRow]
    # SVG by name; none where matplotlib is missing or there is nothing to draw.
    plots: dict[str, str]
    # See `nmt.evaluation.report.listing`.
    sentences: dict[str, Any]

    @property
    def first(self) -> EvaluatedSet:
        """The test set as the first system has it."""
        return self.systems[0].own


@dataclass(kw_only=True, slots=True)
class Report:
    """All that the page shows."""

    systems: list[ReportedSystem]
    comparison: Comparison
    training: TrainingWords | None
    sections: list[TestSetSection]
    curve_plots: dict[str, str]
    settings: list[SettingGroup]
    # What is left out, and why.
    notes: list[str]

    @property
    def title(self) -> str:
        """The names of the systems."""
        names = [each.name for each in self.systems]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

    @property
    def signatures(self) -> list[tuple[str, str]]:
        """Metrics with the signatures that they have here."""
        found = [(score.name, score.signature) for section in self.sections for score in section.first.scores]
        return list(dict.fromkeys(found))


def make_report(
    systems: Sequence[ReportedSystem],
    comparison: Comparison,
    *,
    test_sets: Sequence[str],
    training: TrainingWords | None,
    listed: int,
    resamples: int,
    notes: Sequence[str] = (),
) -> Report:
    """
    Args:
        test_sets: those that all systems share.
        training: words of the training data that slices and word accuracy go by.
        listed: sentences of each test set that the page lists at most.
        notes: what has been left out already.
    """
    return Report(
        systems=list(systems),
        comparison=comparison,
        training=training,
        sections=[
            _section(number, name, systems, comparison, training=training, listed=listed, resamples=resamples)
            for number, name in enumerate(test_sets)
        ],
        curve_plots=dict(_curve_plots(systems)) if plots.can_plot() else {},
        settings=setting_groups([each.evaluation for each in systems]),
        notes=list(notes),
    )


def _section(
    number: int,
    name: str,
    systems: Sequence[ReportedSystem],
    comparison: Comparison,
    *,
    training: TrainingWords | None,
    listed: int,
    resamples: int,
) -> TestSetSection:
    found = [_on_set(place, each, name, training, resamples) for place, each in enumerate(systems)]
    sets = [each.own for each in found]
    language = systems[0].evaluation.provenance.source_language
    slices = find_slices(sets[0], language=language, training=training)
    places = listed_places(len(sets[0].sentences), listed)
    maps = {
        (place, sentence): drawn
        for place, each in enumerate(systems)
        for (test_set, sentence), drawn in each.maps.items()
        if test_set == name
    }
    return TestSetSection(
        name=name,
        systems=found,
        pairs=[pair for pair in comparison.pairs if pair.test_set == name],
        slices=[_slice_row(part, sets, resamples) for part in slices],
        plots=dict(_set_plots(found, key=f"set{number}")) if plots.can_plot() else {},
        sentences=list_sentences(sets, slices, places, maps),
    )


def _on_set(
    number: int, system: ReportedSystem, name: str, training: TrainingWords | None, resamples: int
) -> SystemOnSet:
    own = system.evaluation.test_set(name)
    assert own is not None
    return SystemOnSet(
        letter=LETTERS[number],
        number=number,
        own=own,
        accuracy=word_accuracy(own, training.target, resamples=resamples) if training else [],
        calibration=calibrate(own),
        worst=worst_sentences(own, _WORST),
    )


def _slice_row(part: Slice, sets: Sequence[EvaluatedSet], resamples: int) -> SliceRow:
    scores = [score_slice(part, own, resamples=resamples) for own in sets]
    return SliceRow(group=part.group, label=part.label, count=len(part.sentences), scores=scores)


def _set_plots(systems: Sequence[SystemOnSet], key: str) -> Iterator[tuple[str, str]]:
    known = [(each.letter, each.number, each.calibration) for each in systems if each.calibration]
    if known:
        yield "calibration", plots.plot_calibration(known, key=f"{key}-calibration")
    accuracies = [(each.letter, each.number, each.accuracy) for each in systems if each.accuracy]
    if accuracies:
        yield "accuracy", plots.plot_word_accuracy(accuracies, key=f"{key}-accuracy")


# Panels of learning curves: their titles, and the scalars in each with what to call them.
_PANELS: Mapping[str, Mapping[str, str]] = {
    "Loss": {"train/loss": "training", "validation/loss": "validation"},
    "Validation BLEU": {"validation/bleu": ""},
    "Validation chrF": {"validation/chrf": ""},
    "Learning rate": {"train/learning_rate": ""},
}


def _curve_plots(systems: Sequence[ReportedSystem]) -> Iterator[tuple[str, str]]:
    """Title and drawing of each panel that a system has something for."""
    runs = _runs(systems)
    for place, (title, scalars) in enumerate(_PANELS.items()):
        lines = [
            plots.Line(
                name=f"{letters} {name}".strip(),
                system=number,
                curve=systems[number].curves[scalar],
                background=scalar in ("train/loss", "train/learning_rate"),
            )
            for number, letters in runs
            for scalar, name in scalars.items()
            if scalar in systems[number].curves
        ]
        if lines:
            yield title, plots.plot_curves(lines, ylabel=title, key=f"curve{place}")
    tests = [
        plots.Line(name=f"{letters} {name}".strip(), system=number + shift, curve=curve)
        for number, letters in runs
        for shift, (name, curve) in enumerate(systems[number].checkpoint_curves.items())
    ]
    if tests:
        yield "Test BLEU of checkpoints", plots.plot_curves(tests, ylabel="BLEU", key="checkpoints")


def _runs(systems: Sequence[ReportedSystem]) -> list[tuple[int, str]]:
    """One system of each run with the letters of all that are of this run; none where there is one system."""
    found: list[tuple[int, list[str]]] = []
    for number, each in enumerate(systems):
        letters = next((known for first, known in found if systems[first].curves == each.curves), None)
        if letters is None:
            found.append((number, letters := []))
        letters.append(LETTERS[number])
    return [(number, ", ".join(letters) if len(systems) > 1 else "") for number, letters in found]
