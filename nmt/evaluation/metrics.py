"""Scores of translations, by sacrebleu and always with the signature that makes them comparable."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nmt.evaluation.config import METRICS
from nmt.evaluation.resampling import SEED, Interval, Statistics, bootstrap_intervals
from nmt.evaluation.statistics import Array, aggregate

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

# By ISO 639 code; languages without spaces between words first need them. All others take 13a.
_TOKENIZERS = {
    **dict.fromkeys(("zh", "zho", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya"), "flores200"),
}
_HIGHER_IS_BETTER = {"TER": False}


class MetricError(ValueError):
    """A metric or its tokenizer cannot be had; the message says what to do."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Score:
    """A value and how it was computed (Post, 2018). There is no score without a signature."""

    # BLEU, chrF, chrF++, TER or COMET.
    name: str
    # From 0 to 100; TER may be higher, and is better when it is lower.
    value: float
    signature: str
    # Bootstrap interval of 95 %; None for scores in passing, such as those of a validation.
    interval: Interval | None = None

    def __str__(self) -> str:
        interval = f" {self.interval}" if self.interval else ""
        return f"{self.name} {self.value:.2f}{interval} ({self.signature})"


def higher_is_better(name: str) -> bool:
    """False for metrics that count errors."""
    return _HIGHER_IS_BETTER.get(name, True)


def tokenizer_for(language: str) -> str:
    """The tokenizer of BLEU for a target language such as "de", "zh_TW" or "jpn"."""
    code = language.lower().replace("_", "-").partition("-")[0]
    return _TOKENIZERS.get(code, "13a")


class Scorer:
    """sacrebleu's metrics for one target language and one set of references, which are read only once.

    Texts are plain: cased, with neither tokens nor pieces marked. A line feed ends no text here, and space
    at its end does not count.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        *,
        language: str = "",
        metrics: Sequence[str] = tuple(METRICS),
        tokenizer: str | None = None,
    ) -> None:
        """
        Args:
            references: all references of each sentence, as many for one as for the other.
            metrics: some of METRICS.
            tokenizer: one of TOKENIZERS in place of that of the language.

        Raises:
            MetricError: the tokenizer needs something that is not installed or cannot be fetched.
            ValueError: there is nothing to score against.
        """
        if not references or not references[0]:
            raise ValueError(f"cannot score translations against {len(references)} references")
        self.sentences = len(references)
        self.tokenizer = tokenizer or tokenizer_for(language)
        # As sacrebleu has it: the first references of all sentences, then the second ones, all stripped.
        columns = [[text.rstrip() for text in column] for column in zip(*references, strict=True)]
        self._metrics = {
            METRICS[name]: _make(name, self.tokenizer, columns) for name in METRICS if name in metrics
        }
        self.signatures = {name: str(metric.get_signature()) for name, metric in self._metrics.items()}

    def statistics(self, hypotheses: Sequence[str]) -> dict[str, Array]:
        """The statistics [N, K] of each metric, from which any selection of the sentences can be scored.

        Raises:
            ValueError: there are not as many translations as references.
        """
        if len(hypotheses) != self.sentences:
            raise ValueError(
                f"cannot score {len(hypotheses)} translations against {self.sentences} references"
            )
        texts = [text.rstrip() for text in hypotheses]
        return {
            name: np.asarray(metric._extract_corpus_statistics(texts, None), dtype=np.float64)
            for name, metric in self._metrics.items()
        }

    def score(self, statistics: Statistics, *, resamples: int = 0, seed: int = SEED) -> list[Score]:
        """Scores of the whole test set; with `resamples` their intervals too."""
        return scores_of(statistics, self.signatures, resamples=resamples, seed=seed)


def scores_of(
    statistics: Statistics, signatures: dict[str, str], *, resamples: int = 0, seed: int = SEED
) -> list[Score]:
    """Scores from statistics [N, K] by metric, whose signatures are given by metric."""
    intervals = bootstrap_intervals(statistics, resamples=resamples, seed=seed) if resamples else {}
    return [
        Score(
            name=name,
            value=float(aggregate(name, matrix.sum(0))),
            signature=signatures[name],
            interval=intervals.get(name),
        )
        for name, matrix in statistics.items()
    ]


def score(hypotheses: Sequence[str], references: Sequence[str], *, language: str = "") -> list[Score]:
    """Corpus BLEU and chrF in passing: without intervals.

    Raises:
        ValueError: the sides differ in number, or there is nothing to score.
        MetricError: see `Scorer`.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"cannot score {len(hypotheses)} translations against {len(references)} references")
    scorer = Scorer([[text] for text in references], language=language, metrics=("bleu", "chrf"))
    return scorer.score(scorer.statistics(hypotheses))


def _make(name: str, tokenizer: str, references: list[list[str]]) -> "Metric":
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if name == "bleu":
        check_tokenizer(tokenizer)
        return BLEU(tokenize=tokenizer, references=references)
    if name == "ter":
        return TER(references=references)
    return CHRF(word_order=2 if name == "chrf++" else 0, references=references)


def check_tokenizer(tokenizer: str) -> None:
    """
    Raises:
        MetricError: a tokenizer of BLEU is not installed or cannot be fetched.
    """
    from sacrebleu.metrics.bleu import _get_tokenizer
    from sacrebleu.utils import SACREBLEU_DIR

    way_out = "choose another with scoring.tokenizer=13a, char or none"
    try:
        _get_tokenizer(tokenizer)()
    except (ImportError, RuntimeError) as error:
        if tokenizer in ("ja-mecab", "ko-mecab"):
            raise MetricError(
                f"BLEU's tokenizer {tokenizer} is not installed: pip install 'nmt[mecab]', or {way_out}"
            ) from error
        raise MetricError(f"BLEU's tokenizer {tokenizer} cannot be used ({error}); {way_out}") from error
    except (OSError, SystemExit) as error:
        folder = os.path.join(SACREBLEU_DIR, "models")
        raise MetricError(
            f"BLEU's tokenizer {tokenizer} cannot be fetched ({first_words(error)}); on a machine with a"
            f" network sacrebleu keeps it in {folder}, copy that folder, or {way_out}"
        ) from error


def first_words(error: BaseException) -> str:
    """What a library's error says, on one line."""
    reason: Any = getattr(error, "reason", None) or error
    return " ".join(str(reason).split()) or type(error).__name__
