"""Parts of a test set that have something in common, with scores of their own: where a system fails.

A slice is made of sources and references alone, so that all systems are judged on the same sentences.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from nmt.evaluation import sentence_features as features
from nmt.evaluation.evaluation import EvaluatedSet
from nmt.evaluation.metrics import Score, scores_of
from nmt.evaluation.resampling import RESAMPLES
from nmt.evaluation.word_frequency import RAREST_BUCKETS, TrainingWords
from nmt.evaluation.words import words

# Words of the longest source of each length but the last.
_LENGTHS = (5, 10, 15, 20, 30, 50)
# Of the metrics of an evaluation.
_METRICS = ("BLEU", "chrF")


@dataclass(kw_only=True, slots=True)
class Slice:
    """Sentences of a test set that share a feature."""

    # Such as "source length", and the value of this slice in it.
    group: str
    label: str
    # Places in the test set, from 0.
    sentences: list[int] = field(default_factory=list)


def find_slices(
    own: EvaluatedSet, *, language: str = "", training: TrainingWords | None = None
) -> list[Slice]:
    """All slices of a test set that hold some of its sentences, but not all: those would say nothing new.

    Args:
        language: that of the sources, on which negation and names depend.
        training: word counts of the training data; without them there are no slices by rare words.
    """
    slices = []
    for group, label_of, order in _groups(own, language, training):
        found: dict[str, Slice] = {}
        for place, sentence in enumerate(own.sentences):
            label = label_of(place, sentence.source, sentence.references)
            if label is not None:
                found.setdefault(label, Slice(group=group, label=label)).sentences.append(place)
        labels = [label for label in order if label in found] or list(found)
        slices += [found[label] for label in labels if len(found[label].sentences) < len(own.sentences)]
    return slices


def score_slice(part: Slice, own: EvaluatedSet, *, resamples: int = RESAMPLES) -> list[Score]:
    """BLEU and chrF of the sentences of a slice alone, with intervals; the first metric where both lack."""
    signatures = {score.name: score.signature for score in own.scores}
    statistics = own.statistics()
    chosen = [name for name in _METRICS if name in statistics] or list(statistics)[:1]
    rows = {name: statistics[name][part.sentences] for name in chosen}
    return scores_of(rows, signatures, resamples=resamples)


_Labelling = Callable[[int, str, Sequence[str]], str | None]


def _groups(
    own: EvaluatedSet, language: str, training: TrainingWords | None
) -> Iterator[tuple[str, _Labelling, list[str]]]:
    """Name of each group, what finds the label of a sentence in it, and the order of the labels."""
    yield "source length", lambda _, source, __: length_label(len(words(source))), _length_labels()
    if training is not None:
        counts = training.source

        def rarest(_: int, source: str, __: Sequence[str]) -> str | None:
            count = counts.rarest(source)
            return next((each.label for each in RAREST_BUCKETS if count is not None and count in each), None)

        yield "rarest source word in training", rarest, [each.label for each in RAREST_BUCKETS]
    for group, yes, no, rule in _features(language):
        yield group, _either(rule, yes, no), [yes, no]
    order = ["mixed", "no capital letter", "capital letters only"]
    yield "casing", lambda _, source, __: features.casing(source), order
    yield "tag", lambda _, source, __: features.tag(source), []
    if len(own.corpora) > 1:
        names = [name for name, count in own.corpora for _ in range(count)]
        yield "corpus", lambda place, _, __: names[place], []


def _features(language: str) -> Iterator[tuple[str, str, str, Callable[[str, Sequence[str]], bool | None]]]:
    yield "numbers", "with digits", "without", lambda source, _: features.has_number(source)
    yield (
        "names",
        "with a name",
        "without",
        lambda source, found: bool(features.names(source, found, language)),
    )
    yield "questions", "question", "other sentences", lambda source, _: features.is_question(source)
    yield "negation", "negated", "not negated", lambda source, _: features.is_negated(source, language)


def _either(rule: Callable[[str, Sequence[str]], bool | None], yes: str, no: str) -> _Labelling:
    def label(_: int, source: str, references: Sequence[str]) -> str | None:
        found = rule(source, references)
        return None if found is None else yes if found else no

    return label


def length_label(count: int) -> str:
    """The range of source lengths, in words, that `count` falls into."""
    return next(
        (label for label, longest in zip(_length_labels(), _LENGTHS, strict=False) if count <= longest),
        _length_labels()[-1],
    )


def _length_labels() -> list[str]:
    first = [1, *(longest + 1 for longest in _LENGTHS)]
    ranges = [f"{low}-{high} words" for low, high in zip(first, _LENGTHS, strict=False)]
    return [*ranges, f"over {_LENGTHS[-1]} words"]
