"""Evaluation of a system on test sets: scores with all that it takes to get the same numbers again."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmt.data.test_sets import TestSet
from nmt.evaluation.comet import Comet
from nmt.evaluation.config import METRICS, ScoringConfig
from nmt.evaluation.metrics import Score, Scorer, scores_of
from nmt.evaluation.rates import Rates, measure_rates
from nmt.evaluation.resampling import SEED
from nmt.evaluation.statistics import Array

if TYPE_CHECKING:
    from nmt.decoding.translator import Translator


@dataclass(kw_only=True, slots=True)
class Decoded:
    """What a system made of a source."""

    text: str
    # Of the pieces of the translation by the model, in nats; None when it is not known.
    log_probability: float | None = None
    # Pieces of the translation without that of its end; None when they are not known.
    pieces: int | None = None


@dataclass(kw_only=True, slots=True)
class EvaluationSentence:
    """A sentence of a test set and its translation."""

    source: str
    references: list[str]
    hypothesis: str
    # As in `Decoded`.
    log_probability: float | None
    pieces: int | None
    # What it adds to each metric, by the metric's name: see `nmt.evaluation.statistics`.
    statistics: dict[str, list[float]]


@dataclass(kw_only=True, slots=True)
class EvaluatedSet:
    """The scores of one test set."""

    name: str
    # Files, or the name of a set of sacrebleu or of the hub.
    origin: list[str]
    # Hashes of the sources and of the references, see `nmt.data.test_sets`.
    source_hash: str
    reference_hash: str
    references_per_sentence: int
    # Of BLEU.
    tokenizer: str
    scores: list[Score]
    rates: Rates
    # Wall-clock time of translating, scoring not included; None for a file of translations.
    seconds: float | None
    sentences: list[EvaluationSentence]
    # Corpora that it is made of with their numbers of sentences, in order: ["news.en", 500].
    corpora: list[tuple[str, int]] = field(default_factory=list)

    @property
    def sentences_per_second(self) -> float | None:
        """Speed of translating."""
        return None if self.seconds is None else len(self.sentences) / max(self.seconds, 1e-9)

    @property
    def hashes(self) -> tuple[str, str]:
        """What makes it the test set that it is."""
        return self.source_hash, self.reference_hash

    def test_set(self) -> TestSet:
        """The texts that were translated and compared with."""
        return TestSet(
            name=self.name,
            sources=[each.source for each in self.sentences],
            references=[each.references for each in self.sentences],
            origin=self.origin,
            corpora=self.corpora,
        )

    def score(self, name: str) -> Score | None:
        """The score of one metric."""
        return next((score for score in self.scores if score.name == name), None)

    def statistics(self) -> dict[str, Array]:
        """The statistics [N, K] by metric."""
        names = self.sentences[0].statistics if self.sentences else {}
        return {name: np.array([each.statistics[name] for each in self.sentences]) for name in names}


@dataclass(kw_only=True, slots=True)
class Provenance:
    """Where the translations of an evaluation come from."""

    # The model folder, or the file of translations.
    system: str
    # SHA-256 by name: weights, tokenizer and settings of the model, or the file of translations.
    files: dict[str, str]
    source_language: str = ""
    target_language: str = ""
    # Settings of decoding; nothing is known of a file of translations.
    decoding: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    threads: int = 0
    # Processor, cores and operating system.
    hardware: dict[str, Any] = field(default_factory=dict)
    # Commit of nmt and versions of it, of Python and of packages.
    software: dict[str, Any] = field(default_factory=dict)
    # What the model's card says: step, experiment, seed, data.
    card: dict[str, Any] = field(default_factory=dict)
    # Settings of its training by dotted name, where the run folder is at hand.
    training: dict[str, Any] = field(default_factory=dict)
    # Resampled test sets behind each interval, and the seed that they are drawn with.
    resamples: int = 0
    resampling_seed: int = SEED
    date: str = ""

    @property
    def seed(self) -> int | None:
        """The seed of the training."""
        seed = self.training.get("seed", self.card.get("seed"))
        return seed if isinstance(seed, int) else None


@dataclass(kw_only=True, slots=True)
class Evaluation:
    """The scores of a system and where they come from."""

    provenance: Provenance
    test_sets: list[EvaluatedSet]

    def test_set(self, name: str) -> EvaluatedSet | None:
        """The test set of that name."""
        return next((each for each in self.test_sets if each.name == name), None)


@dataclass(slots=True)
class Scoring:
    """Test sets with the metrics that read their references once, for any number of systems."""

    test_sets: Sequence[TestSet]
    scorers: dict[str, Scorer]
    comet: Comet | None
    resamples: int

    @classmethod
    def of(
        cls,
        test_sets: Sequence[TestSet],
        config: ScoringConfig,
        *,
        language: str,
        metrics: Sequence[str] = (),
    ) -> "Scoring":
        """
        Args:
            language: that of the references.
            metrics: those that are taken when the settings name none; all by default.

        Raises:
            MetricError: a metric or its tokenizer cannot be had.
        """
        chosen = config.metrics or list(metrics) or list(METRICS)
        return cls(
            test_sets=test_sets,
            scorers={
                each.name: Scorer(
                    each.references, language=language, metrics=chosen, tokenizer=config.tokenizer
                )
                for each in test_sets
            },
            comet=Comet.load(config.comet) if config.comet is not None else None,
            resamples=config.resamples,
        )

    def score(self, test_set: TestSet, decoded: Sequence[Decoded], seconds: float | None) -> EvaluatedSet:
        """Score the translations of a test set."""
        scorer = self.scorers[test_set.name]
        texts = [each.text for each in decoded]
        statistics, signatures = scorer.statistics(texts), dict(scorer.signatures)
        if self.comet is not None:
            statistics["COMET"] = self.comet.statistics(test_set.sources, test_set.references, texts)
            signatures["COMET"] = self.comet.signature(len(test_set.references[0]))
        rows = {name: matrix.tolist() for name, matrix in statistics.items()}
        return EvaluatedSet(
            name=test_set.name,
            origin=test_set.origin,
            source_hash=test_set.source_hash(),
            reference_hash=test_set.reference_hash(),
            references_per_sentence=len(test_set.references[0]),
            tokenizer=scorer.tokenizer,
            scores=scores_of(statistics, signatures, resamples=self.resamples),
            rates=measure_rates(test_set.sources, test_set.references, texts),
            seconds=seconds,
            corpora=test_set.corpora,
            sentences=[
                EvaluationSentence(
                    source=source,
                    references=references,
                    hypothesis=own.text,
                    log_probability=own.log_probability,
                    pieces=own.pieces,
                    statistics={name: rows[name][number] for name in rows},
                )
                for number, (source, references, own) in enumerate(
                    zip(test_set.sources, test_set.references, decoded, strict=True)
                )
            ],
        )


def evaluate(
    translator: "Translator", scoring: Scoring, provenance: Provenance, *, progress: bool = False
) -> Evaluation:
    """Translate each test set and score it."""
    scored = []
    for test_set in scoring.test_sets:
        start = time.perf_counter()
        decoded = decode(translator, test_set.sources, progress=progress)
        scored.append(scoring.score(test_set, decoded, time.perf_counter() - start))
    return Evaluation(provenance=stamp(provenance, scoring), test_sets=scored)


def evaluate_outputs(
    outputs: Mapping[str, Sequence[str]], scoring: Scoring, provenance: Provenance
) -> Evaluation:
    """Score translations that are there already, by the name of the test set."""
    scored = [
        scoring.score(each, [Decoded(text=text) for text in outputs[each.name]], None)
        for each in scoring.test_sets
        if each.name in outputs
    ]
    return Evaluation(provenance=stamp(provenance, scoring), test_sets=scored)


def rescore(evaluation: Evaluation, scoring: Scoring) -> Evaluation:
    """Score the saved translations of the test sets of `scoring` by its metrics."""
    scored = []
    for test_set in scoring.test_sets:
        own = evaluation.test_set(test_set.name)
        assert own is not None
        decoded = [
            Decoded(text=each.hypothesis, log_probability=each.log_probability, pieces=each.pieces)
            for each in own.sentences
        ]
        scored.append(scoring.score(test_set, decoded, own.seconds))
    return Evaluation(
        provenance=replace(evaluation.provenance, resamples=scoring.resamples), test_sets=scored
    )


def decode(translator: "Translator", sources: Sequence[str], *, progress: bool = False) -> list[Decoded]:
    """All that scoring wants from the translator, which is used nowhere else here."""
    found = translator.translate_in_detail(sources, progress=progress)
    pieces = translator.tokenizer.encode_target([each.text for each in found])
    return [
        Decoded(text=each.text, log_probability=each.log_probability, pieces=len(own) - 1)
        for each, own in zip(found, pieces, strict=True)
    ]


def stamp(provenance: Provenance, scoring: Scoring) -> Provenance:
    """Add the facts of the moment to where translations come from."""
    provenance.hardware = provenance.hardware or hardware()
    provenance.resamples = scoring.resamples
    provenance.date = datetime.now(UTC).isoformat(timespec="seconds")
    return provenance


def hardware() -> dict[str, Any]:
    """The machine that this runs on."""
    return {
        "processor": _processor_name(),
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "machine": platform.node(),
    }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
