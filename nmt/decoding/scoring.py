"""Forced scoring: the probability that a model gives to translations that somebody else made.

Shapes: B sentences, T target length, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch

from nmt.data.tokenizer import BEGIN_ID, Tokenizer
from nmt.model.teacher_forcing import check_length, forced_logits
from nmt.model.transformer import Transformer

# Pairs that are sorted by length and scored together.
_WINDOW_PAIRS = 4096
# Pieces of one side of a batch, padding included, and the logits that it may take: 256 MB in float32.
_MAX_TOKENS, _MAX_LOGITS = 4096, 1 << 26


@dataclass(frozen=True, slots=True)
class ForcedScore:
    """What a model thinks of one translation."""

    # Natural logarithm of the probability of the pieces and END.
    log_probability: float
    # Target pieces, END included.
    pieces: int

    @property
    def per_piece(self) -> float:
        """Mean log-probability of a piece."""
        return self.log_probability / max(1, self.pieces)

    def __str__(self) -> str:
        return f"{self.log_probability:.4f}\t{self.pieces}\t{self.per_piece:.4f}"


@dataclass(slots=True)
class TotalScore:
    """Sums over the pairs of a text."""

    pairs: int = 0
    pieces: int = 0
    log_probability: float = field(default=0.0)

    def add(self, score: ForcedScore) -> None:
        """Count one more pair."""
        self.pairs += 1
        self.pieces += score.pieces
        self.log_probability += score.log_probability

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability of a piece."""
        # Beyond what a float holds, as text in the wrong language may be for a small model.
        return math.exp(min(700.0, -self.log_probability / max(1, self.pieces)))


def score_lines(
    model: Transformer, tokenizer: Tokenizer, pairs: Iterable[tuple[str, str]]
) -> Iterator[ForcedScore]:
    """The score of each pair of (source, target), in order and in constant memory.

    A target is scored as the tokenizer segments it: other segmentations of the same text, which a search may
    have produced, are not added. A blank pair has no pieces and log-probability 0, for a blank line is
    translated by a blank line without asking the model.

    Raises:
        LengthError: a sentence is longer than learned positions reach.
    """
    stream, done = iter(pairs), 0
    while window := list(islice(stream, _WINDOW_PAIRS)):
        sources = tokenizer.encode_source([source for source, _ in window])
        targets = tokenizer.encode_target([target for _, target in window])
        for number, sides in enumerate(zip(sources, targets, strict=True), start=done + 1):
            check_length(model, max(map(len, sides)), f"line {number:,}")
        asked = [number for number, pair in enumerate(window) if any(side.strip() for side in pair)]
        scores = [ForcedScore(0.0, 0)] * len(window)
        log_probabilities = score_pieces(
            model, [sources[number] for number in asked], [targets[number] for number in asked]
        )
        for number, log_probability in zip(asked, log_probabilities, strict=True):
            scores[number] = ForcedScore(log_probability, len(targets[number]))
        yield from scores
        done += len(window)


def score_pieces(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> list[float]:
    """Log-probability of each target given its source; both are pieces with END. In batches by length."""
    scores = [0.0] * len(targets)
    vocabulary = model.output_projection.out_features
    tokens = max(1, min(_MAX_TOKENS, _MAX_LOGITS // vocabulary))
    lengths = [(len(target), len(source)) for source, target in zip(sources, targets, strict=True)]
    order = sorted(range(len(targets)), key=lambda number: lengths[number], reverse=True)
    training = model.training
    model.eval()
    try:
        while order:
            batch, order = _first_batch(order, lengths, tokens)
            found = _score_batch(model, [sources[n] for n in batch], [targets[n] for n in batch])
            for number, score in zip(batch, found, strict=True):
                scores[number] = score
    finally:
        model.train(training)
    return scores


def _first_batch(
    order: list[int], lengths: Sequence[tuple[int, int]], tokens: int
) -> tuple[list[int], list[int]]:
    """As many sentences from the front as fit, at least one, and the rest."""
    widest = [0, 0]
    count = 0
    for number in order:
        widest = [max(pair) for pair in zip(widest, lengths[number], strict=True)]
        if count and (count + 1) * max(widest) > tokens:
            break
        count += 1
    return order[:count], order[count:]


@torch.no_grad()
def _score_batch(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> list[float]:
    """Log-probability of each target."""
    logits_BTV, target_BT, real_BT = forced_logits(model, sources, targets, begin_id=BEGIN_ID)
    log_probs_BTV = logits_BTV.log_softmax(dim=-1, dtype=torch.float32)
    chosen_BT = log_probs_BTV.gather(-1, target_BT.unsqueeze(-1)).squeeze(-1)
    # float64 only for the sum on the host: some accelerators have none.
    found: list[float] = chosen_BT.masked_fill(~real_BT, 0).cpu().double().sum(dim=1).tolist()
    return found
