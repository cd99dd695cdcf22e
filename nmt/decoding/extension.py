"""The step of a search: every beam goes on, what ends is kept, what is done is found out.

Shapes: B rows (sentences), W beams, V vocabulary.
"""

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from nmt.decoding.beams import Batch, Candidates, Penalty, expand, grow, keep, settled
from nmt.decoding.best_pieces import best_pieces
from nmt.decoding.config import Stopping


@dataclass(kw_only=True, slots=True)
class Hypothesis:
    """A sequence that the search has found."""

    # Without END.
    pieces: list[int]
    # Log-probability over length penalty, plus the coverage penalty where there is one.
    score: float
    # Natural logarithm of the sequence's probability, END included.
    log_probability: float
    # False when it is as long as allowed, where END was the only choice left.
    finished: bool


@dataclass(kw_only=True, slots=True, frozen=True)
class SearchRules:
    """What is searched for, the same for all sentences."""

    # 1 is greedy search.
    beam_size: int
    begin_id: int
    end_id: int
    # Pieces that no hypothesis has.
    banned_ids: tuple[int, ...]
    penalty: Penalty = field(default_factory=Penalty)
    stopping: Stopping = Stopping.bound


C_contra = TypeVar("C_contra", contravariant=True)


class Extension(Protocol[C_contra]):
    """How beams go on."""

    def __call__(self, batch: Batch, logits_BWV: Tensor, cache: C_contra) -> Tensor:
        """One step of every sentence, in place -> which are done [B].

        In the first step of a sentence only its first beam has logits. The logits may be overwritten.
        """

    def arrange(self, found: list[Hypothesis]) -> list[Hypothesis]:
        """What was kept of a sentence as its result, best first."""


class BestFirst:
    """Beam search."""

    def __init__(self, rules: SearchRules, device: torch.device) -> None:
        self.rules = rules
        self.banned_ids = torch.tensor(rules.banned_ids, dtype=torch.long, device=device)

    def __call__(self, batch: Batch, logits_BWV: Tensor, cache: object) -> Tensor:
        rules = self.rules
        candidates = expand(
            best_pieces(
                logits_BWV,
                batch.beams.log_probs_BW[:, : logits_BWV.shape[1]],
                2 * rules.beam_size,
                banned_ids=self.banned_ids,
                end_id=rules.end_id,
            ),
            vocabulary=logits_BWV.shape[2],
            width=rules.beam_size,
            must_end_B=batch.max_lengths_B <= batch.positions_B + 1,
            end_id=rules.end_id,
        )
        return take(batch, candidates, rules)

    def arrange(self, found: list[Hypothesis]) -> list[Hypothesis]:
        return found


def take(batch: Batch, candidates: Candidates, rules: SearchRules, bonus_BW: Tensor | None = None) -> Tensor:
    """Keep the candidates that end, go on with the others, in place -> which sentences are done [B]."""
    positions_B, end_id = batch.positions_B, rules.end_id
    batch.kept = keep(
        batch.kept,
        batch.beams,
        candidates,
        positions_B=positions_B,
        end_id=end_id,
        penalty=rules.penalty,
        bonus_BW=bonus_BW,
    )
    batch.beams = grow(batch.beams, candidates, positions_B=positions_B, end_id=end_id)
    batch.positions_B = positions_B + 1
    done_B = settled(
        batch.kept,
        batch.beams,
        max_lengths_B=batch.max_lengths_B,
        penalty=rules.penalty,
        stopping=rules.stopping,
    )
    # Without beams nothing can change the result of a done sentence until it leaves.
    batch.beams.log_probs_BW.masked_fill_(done_B[:, None], -torch.inf)
    return done_B
