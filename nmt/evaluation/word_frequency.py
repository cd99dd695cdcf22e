"""How often a model has met a word in its training, which tells rare words from common ones."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nmt.evaluation.words import WordCounter, words


@dataclass(frozen=True, slots=True)
class Bucket:
    """Words that occur from `low` to `high` times; None is without end."""

    low: int
    high: int | None

    @property
    def label(self) -> str:
        """Such as "5-9 times"."""
        if self.high == 0:
            return "never"
        if self.high is None:
            return f"{self.low:,} times or more"
        if self.low == self.high:
            return "once" if self.low == 1 else f"{self.low:,} times"
        return f"{self.low:,}-{self.high:,} times"

    @property
    def short_label(self) -> str:
        """Such as "5-9", for the axis of a plot."""
        if self.high is None:
            return f"≥ {self.low:,}"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"

    def __contains__(self, count: int) -> bool:
        return self.low <= count and (self.high is None or count <= self.high)


# As compare-mt has them (Neubig et al., 2019), some of the small ones joined.
WORD_BUCKETS = [Bucket(0, 0), Bucket(1, 1), Bucket(2, 4), Bucket(5, 9), Bucket(10, 99), Bucket(100, 999)]
WORD_BUCKETS += [Bucket(1000, None)]
# Of the rarest word of a sentence.
RAREST_BUCKETS = [Bucket(0, 0), Bucket(1, 9), Bucket(10, 99), Bucket(100, None)]


@dataclass(slots=True)
class WordFrequency:
    """Word counts of one side of the training data, case ignored."""

    counts: Counter[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "WordFrequency":
        """Count the words of texts."""
        counter = WordCounter()
        counter.add(texts)
        return cls(counter.counts())

    def __getitem__(self, word: str) -> int:
        return self.counts[word.casefold()]

    def rarest(self, text: str) -> int | None:
        """The count of the rarest word of a text; numbers are no words here, None when there is none."""
        counts = [self[word] for word in words(text) if not any(char.isdecimal() for char in word)]
        return min(counts, default=None)


@dataclass(slots=True)
class TrainingWords:
    """Both sides of the training data of a run."""

    source: WordFrequency
    target: WordFrequency
    pairs: int
    # Where they were read.
    origin: str

    @classmethod
    def of(cls, blocks: Iterable[tuple[Sequence[str], Sequence[str]]], origin: str) -> "TrainingWords":
        """Count the words of sources and targets, which are read once."""
        source, target = WordCounter(), WordCounter()
        pairs = 0
        for sources, targets in blocks:
            source.add(sources)
            target.add(targets)
            pairs += len(sources)
        return cls(WordFrequency(source.counts()), WordFrequency(target.counts()), pairs, origin)
