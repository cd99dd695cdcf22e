"""Settings of scoring and of what is shown of a model. Free of heavy imports, so that errors come at once."""

from dataclasses import dataclass
from enum import StrEnum, auto

# Names of metrics in settings, and those that their scores carry.
METRICS = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER"}
# sacrebleu's names. The flores tokenizers are fetched from the network when they are used first.
TOKENIZERS = ("13a", "zh", "ja-mecab", "ko-mecab", "flores200", "flores101", "intl", "char", "none")


class CheckpointChoice(StrEnum):
    """Which models of a run are evaluated."""

    # Only the one that the folder stands for.
    none = auto()
    # Every checkpoint of the run, for scores by step.
    all = auto()


@dataclass(kw_only=True, slots=True)
class ScoringConfig:
    """How translations are scored."""

    # Some of METRICS; null is all of them, with checkpoints=all BLEU and chrF.
    metrics: list[str] | None = None
    # Tokenizer of BLEU, one of TOKENIZERS; null goes by the target language.
    tokenizer: str | None = None
    # Also a COMET model by its name, such as Unbabel/wmt22-comet-da; needs the extra `comet`.
    comet: str | None = None
    # Resampled test sets behind every confidence interval.
    resamples: int = 1000

    def __post_init__(self) -> None:
        for name in self.metrics or ():
            if name not in METRICS:
                raise ValueError(f"scoring.metrics: {name!r} is no metric; allowed: {', '.join(METRICS)}")
        if self.metrics == []:
            raise ValueError(f"scoring.metrics is empty; give some of {', '.join(METRICS)}")
        if self.tokenizer is not None and self.tokenizer not in TOKENIZERS:
            raise ValueError(
                f"scoring.tokenizer={self.tokenizer} is not possible; allowed: {', '.join(TOKENIZERS)}"
            )
        if self.resamples < 100:
            raise ValueError(f"scoring.resamples must be at least 100, not {self.resamples}")


class AttentionKind(StrEnum):
    """Decoder to encoder, or within one of them."""

    cross = auto()
    encoder = auto()
    decoder = auto()


class Units(StrEnum):
    """What stands on the axes: the pieces that the model sees, or words between blanks."""

    pieces = auto()
    words = auto()


class Theme(StrEnum):
    """Background of a picture."""

    light = auto()
    dark = auto()


@dataclass(kw_only=True, slots=True)
class AttentionMapConfig:
    """Which attention is shown, and how."""

    attention: AttentionKind = AttentionKind.cross
    # A number from 1, `mean` over them, or `all`, each in a map of its own.
    layer: str = "mean"
    head: str = "mean"
    units: Units = Units.words
    theme: Theme = Theme.light

    def __post_init__(self) -> None:
        for name in ("layer", "head"):
            value = getattr(self, name)
            if value not in ("mean", "all") and not (value.isdecimal() and int(value) >= 1):
                raise ValueError(f"{name} must be a number from 1, mean or all, not {value}")
