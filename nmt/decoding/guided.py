"""The step of a search that was asked for more than plain beam search: constraints, coverage, other choices.

Shapes: B rows, W beams, V vocabulary.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from nmt.decoding.beams import Batch, expand
from nmt.decoding.best_pieces import best_allowed, best_of_beams
from nmt.decoding.constraints import Constraint
from nmt.decoding.constraints.terms import RequiredTerms
from nmt.decoding.coverage import Coverage
from nmt.decoding.diversity import DiverseGroups
from nmt.decoding.extension import Hypothesis, SearchRules, take

C = TypeVar("C")


class Choice(Protocol):
    """Which of the allowed continuations are taken."""

    def __call__(
        self, batch: Batch, allowed_BWV: Tensor, log_probs_BWV: Tensor, bonus_BW: Tensor | None
    ) -> Tensor:
        """One step of every sentence, in place -> which are done [B].

        `allowed_BWV` is -inf for what may not follow and elsewhere the model's log-probability, W being 1 in
        the first step of a sentence; `bonus_BW` is added to the scores of what ends.
        """


class Guided(Generic[C]):
    """Constraints one after the other, then a choice."""

    def __init__(
        self,
        rules: SearchRules,
        device: torch.device,
        *,
        constraints: Sequence[Constraint] = (),
        choice: Choice | None = None,
        coverage: Coverage[C] | None = None,
    ) -> None:
        """`choice` is that of beam search if not given. A later constraint may lift an earlier one."""
        self.rules, self.constraints, self.coverage = rules, constraints, coverage
        self.choice = BestAllowed(rules) if choice is None else choice
        self.banned_ids = torch.tensor(rules.banned_ids, dtype=torch.long, device=device)

    def __call__(self, batch: Batch, logits_BWV: Tensor, cache: C) -> Tensor:
        log_probs_BWV = logits_BWV.log_softmax(-1, dtype=torch.float32)
        # What is no number is impossible, so that a search over broken weights ends.
        log_probs_BWV.masked_fill_(log_probs_BWV.isnan(), -torch.inf)
        allowed_BWV = log_probs_BWV.index_fill(2, self.banned_ids, -torch.inf)
        for constraint in self.constraints:
            constraint.restrict(allowed_BWV, log_probs_BWV, batch)
        self._end_at_the_limit(allowed_BWV, batch)
        bonus_BW = None if self.coverage is None else self.coverage.bonus(batch, cache)
        return self.choice(batch, allowed_BWV, log_probs_BWV, bonus_BW)

    def _end_at_the_limit(self, allowed_BWV: Tensor, batch: Batch) -> None:
        end_BW = allowed_BWV[..., self.rules.end_id].clone()
        must_end_B = batch.max_lengths_B <= batch.positions_B + 1
        allowed_BWV.masked_fill_(must_end_B[:, None, None], -torch.inf)
        allowed_BWV[..., self.rules.end_id] = end_BW

    def arrange(self, found: list[Hypothesis]) -> list[Hypothesis]:
        return DiverseGroups.merged(found) if isinstance(self.choice, DiverseGroups) else found


class BestAllowed:
    """Beam search among what is allowed."""

    def __init__(self, rules: SearchRules) -> None:
        self.rules = rules

    def __call__(
        self, batch: Batch, allowed_BWV: Tensor, log_probs_BWV: Tensor, bonus_BW: Tensor | None
    ) -> Tensor:
        width, end_id = self.rules.beam_size, self.rules.end_id
        candidates = expand(
            best_allowed(
                allowed_BWV,
                batch.beams.log_probs_BW[:, : allowed_BWV.shape[1]],
                2 * width,
                end_id=end_id,
            ),
            vocabulary=allowed_BWV.shape[2],
            width=width,
            must_end_B=batch.max_lengths_B <= batch.positions_B + 1,
            end_id=end_id,
        )
        return take(batch, candidates, self.rules, bonus_BW)


class SharedOut:
    """Beam search whose beams are shared out by how many terms they have."""

    def __init__(self, rules: SearchRules, terms: RequiredTerms) -> None:
        self.rules, self.terms = rules, terms

    def __call__(
        self, batch: Batch, allowed_BWV: Tensor, log_probs_BWV: Tensor, bonus_BW: Tensor | None
    ) -> Tensor:
        width = self.rules.beam_size
        # Of a beam one continuation can end and `width` can go on.
        step_BWK, ids_BWK = best_of_beams(allowed_BWV, width + 1)
        candidates = self.terms.candidates(
            (step_BWK, ids_BWK),
            allowed_BWV,
            batch.beams.log_probs_BW[:, : allowed_BWV.shape[1]],
            batch,
            width,
        )
        return take(batch, candidates, self.rules, bonus_BW)
