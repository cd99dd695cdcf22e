"""Target prefixes: a hypothesis begins with given pieces (Wuebker et al., 2016, section 3).

Shapes: B rows, W beams, V vocabulary, N sentences, P longest prefix.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nmt.decoding.beams import Batch
from nmt.decoding.constraints.tables import padded


class Prefixes:
    """One prefix per sentence, empty for none; it stands above the constraints before it."""

    def __init__(self, prefixes: Sequence[Sequence[int]], device: torch.device) -> None:
        """`prefixes[n]` are the pieces of sentence n, without END."""
        self.pieces_NP = padded(prefixes, device)
        self.lengths_N = torch.tensor([len(prefix) for prefix in prefixes], device=device)

    def restrict(self, allowed_BWV: Tensor, log_probs_BWV: Tensor, batch: Batch) -> None:
        """Leave the prefix's piece alone while the prefix lasts."""
        pieces_BP = self.pieces_NP[batch.numbers_B]
        positions_B1 = batch.positions_B[:, None]
        wanted_B1 = pieces_BP.gather(1, positions_B1.clamp(max=pieces_BP.shape[1] - 1))
        inside_B11 = (positions_B1 < self.lengths_N[batch.numbers_B][:, None]).unsqueeze(-1)
        wanted_BW1 = wanted_B1.unsqueeze(1).expand(-1, allowed_BWV.shape[1], -1)
        only_BW1 = torch.where(
            inside_B11, log_probs_BWV.gather(2, wanted_BW1), allowed_BWV.gather(2, wanted_BW1)
        )
        allowed_BWV.masked_fill_(inside_B11, -torch.inf).scatter_(2, wanted_BW1, only_BW1)
