"""Rules that drop training pairs: pure functions, each with a name under which its removals are counted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.data.config import CleaningConfig

Mask = npt.NDArray[np.bool_]
Lengths = npt.NDArray[np.int32]

EMPTY, IDENTICAL, DUPLICATE, TOO_LONG, LENGTH_RATIO = (
    "empty",
    "identical",
    "duplicate",
    "too_long",
    "length_ratio",
)
# In the order in which they are applied: a pair counts for the first rule that drops it.
RULES = (EMPTY, IDENTICAL, DUPLICATE, TOO_LONG, LENGTH_RATIO)
# Ratios of short sentences say little ("No." / "Das darf doch nicht wahr sein.").
RATIO_EXEMPT_PIECES = 10
_EXAMPLES = 5


def is_empty(source: str, target: str) -> bool:
    """Whether a side has nothing but white space."""
    return not source.strip() or not target.strip()


def is_identical(source: str, target: str) -> bool:
    """Whether both sides are the same text, so that nothing is translated."""
    return source.strip() == target.strip()


def repeats(keys: npt.NDArray[np.uint64]) -> Mask:
    """Mark every element that occurred before; [N] -> [N]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = np.zeros(len(keys), dtype=np.bool_)
    again[order[1:][ordered[1:] == ordered[:-1]]] = True
    return again


def without_pieces(source_lengths: Lengths, target_lengths: Lengths) -> Mask:
    """Mark pairs of which normalisation leaves nothing but END_ID on a side."""
    return np.minimum(source_lengths, target_lengths) <= 1


def too_long(source_lengths: Lengths, target_lengths: Lengths, limit: int) -> Mask:
    """Mark pairs with a side of more than `limit` pieces, END_ID included."""
    return np.maximum(source_lengths, target_lengths) > limit


def unbalanced(source_lengths: Lengths, target_lengths: Lengths, ratio: float) -> Mask:
    """Mark pairs whose longer side has 10 pieces or more, and over `ratio` times those of the shorter."""
    longer, shorter = np.maximum(source_lengths, target_lengths), np.minimum(source_lengths, target_lengths)
    return (longer >= RATIO_EXEMPT_PIECES) & (longer > ratio * shorter)


def text_rules(config: CleaningConfig) -> dict[str, Callable[[str, str], bool]]:
    """Return the rules on text that are switched on, by name, in order."""
    rules: dict[str, Callable[[str, str], bool]] = {}
    if config.remove_empty:
        rules[EMPTY] = is_empty
    if config.remove_identical:
        rules[IDENTICAL] = is_identical
    return rules


def length_rules(config: CleaningConfig) -> dict[str, Callable[[Lengths, Lengths], Mask]]:
    """Return the rules on lengths in pieces that are switched on, by name, in order."""
    limit, ratio = config.max_pieces_per_sentence, config.max_length_ratio
    rules: dict[str, Callable[[Lengths, Lengths], Mask]] = {}
    if config.remove_empty:
        rules[EMPTY] = without_pieces
    rules[TOO_LONG] = lambda source, target: too_long(source, target, limit)
    if ratio:
        rules[LENGTH_RATIO] = lambda source, target: unbalanced(source, target, ratio)
    return rules


@dataclass(slots=True)
class Removals:
    """How many pairs each rule removed, and where the first few of them stood."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, rule: str, origin: str) -> None:
        """Count one pair."""
        self.counts[rule] = self.counts.get(rule, 0) + 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < _EXAMPLES:
            examples.append(origin)

    def report(self) -> dict[str, dict[str, Any]]:
        """Return count and examples by rule, every rule named."""
        return {
            rule: {"count": self.counts.get(rule, 0), "examples": self.examples.get(rule, [])}
            for rule in RULES
        }
