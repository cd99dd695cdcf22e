"""No n-gram of pieces twice in a hypothesis (Paulus et al., 2018, section 2.5).

Shapes: B rows, W beams, V vocabulary, T pieces of a hypothesis, G places where an n-gram can stand.
"""

import torch
from torch import Tensor

from nmt.decoding.beams import Batch


class NoRepeat:
    """Forbids a piece that would end an n-gram that the hypothesis has already."""

    def __init__(self, size: int) -> None:
        """`size` is n, at least 1."""
        self.size = size

    def restrict(self, allowed_BWV: Tensor, log_probs_BWV: Tensor, batch: Batch) -> None:
        """Of every n-gram so far that begins with the newest n - 1 pieces, forbid the last piece."""
        before = self.size - 1
        history_BWT = batch.beams.pieces_BWT[:, : allowed_BWV.shape[1]]
        if history_BWT.shape[-1] < self.size:
            return
        positions_B1 = batch.positions_B[:, None]
        grams_BWGn = history_BWT.unfold(2, self.size, 1)
        ends_G = torch.arange(self.size, history_BWT.shape[-1] + 1, device=history_BWT.device)
        seen_BWG = (ends_G <= positions_B1).unsqueeze(1).expand(grams_BWGn.shape[:3])
        if before:
            newest = positions_B1 - before + torch.arange(before, device=history_BWT.device)
            newest_BWn = newest.clamp(min=0).unsqueeze(1).expand(-1, history_BWT.shape[1], -1)
            context_BW1n = history_BWT.gather(2, newest_BWn).unsqueeze(2)
            seen_BWG = seen_BWG & (grams_BWGn[..., :before] == context_BW1n).all(-1)
        # Of what was not seen a place beyond the vocabulary is forbidden.
        vocabulary = allowed_BWV.shape[-1]
        last_BWG = grams_BWGn[..., -1].masked_fill(~seen_BWG, vocabulary)
        forbidden_BWV = torch.zeros(
            *allowed_BWV.shape[:2], vocabulary + 1, dtype=torch.bool, device=allowed_BWV.device
        ).scatter_(2, last_BWG, value=True)
        allowed_BWV.masked_fill_(forbidden_BWV[..., :vocabulary], -torch.inf)
