"""Diverse beam search (Vijayakumar et al., 2018, section 3) with Hamming diversity.

The beams are cut into groups that search one after the other at each position. A piece costs a group
`strength` for every beam of the groups before it that has just gone on with that piece. The penalty decides
what a group goes on with; log-probabilities and scores stay the model's own.

Shapes: B rows, W beams, V vocabulary.
"""

import torch
from torch import Tensor

from nmt.decoding.beams import Batch, Beams, Kept, expand
from nmt.decoding.best_pieces import best_allowed
from nmt.decoding.extension import Hypothesis, SearchRules, take


class DiverseGroups:
    """Groups of beams that avoid each other's pieces; together they have the beam size."""

    def __init__(self, rules: SearchRules, *, groups: int, strength: float) -> None:
        self.rules, self.groups, self.strength = rules, groups, strength

    def __call__(
        self, batch: Batch, allowed_BWV: Tensor, log_probs_BWV: Tensor, bonus_BW: Tensor | None
    ) -> Tensor:
        """One step of every group, in place -> which sentences are done [B]."""
        width = self.rules.beam_size // self.groups
        counts_BV = allowed_BWV.new_zeros(allowed_BWV.shape[0], allowed_BWV.shape[2])
        steps = [
            self._step(batch, n * width, width, allowed_BWV, counts_BV, bonus_BW) for n in range(self.groups)
        ]
        own, done = zip(*steps, strict=True)
        batch.beams = Beams.joined([each.beams for each in own])
        batch.kept = Kept.joined([each.kept for each in own])
        batch.positions_B = batch.positions_B + 1
        return torch.stack(done).all(0)

    def _step(
        self,
        batch: Batch,
        first: int,
        width: int,
        allowed_BWV: Tensor,
        counts_BV: Tensor,
        bonus_BW: Tensor | None,
    ) -> tuple[Batch, Tensor]:
        """One group's step, which adds its new pieces to `counts_BV` -> its beams, whether it is done."""
        part = slice(first, first + width)
        # The first step of a sentence has one beam, where all groups begin.
        parents = part if allowed_BWV.shape[1] > 1 else slice(0, 1)
        beams = batch.beams.part(part)
        group = Batch(batch.numbers_B, batch.positions_B, batch.max_lengths_B, beams, batch.kept.part(part))
        candidates = expand(
            best_allowed(
                allowed_BWV[:, parents] - self.strength * counts_BV.unsqueeze(1),
                batch.beams.log_probs_BW[:, parents],
                2 * width,
                end_id=self.rules.end_id,
            ),
            vocabulary=allowed_BWV.shape[2],
            width=width,
            must_end_B=batch.max_lengths_B <= batch.positions_B + 1,
            end_id=self.rules.end_id,
        )
        candidates.log_probs_BC += self.strength * counts_BV.gather(1, candidates.ids_BC)
        done_B = take(group, candidates, self.rules, None if bonus_BW is None else bonus_BW[:, parents])
        beams = group.beams
        beams.origins_BW += parents.start
        counts_BV.scatter_add_(1, beams.ids_BW, (beams.log_probs_BW > -torch.inf).to(counts_BV.dtype))
        return group, done_B

    @staticmethod
    def merged(found: list[Hypothesis]) -> list[Hypothesis]:
        """The results of all groups, each hypothesis once, best first."""
        unique = {tuple(hypothesis.pieces): hypothesis for hypothesis in found}
        return sorted(unique.values(), key=lambda hypothesis: -hypothesis.score)
