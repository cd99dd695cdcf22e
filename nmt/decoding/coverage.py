"""Coverage penalty (Wu et al., 2016, section 7, equation 14): a source piece hardly attended to costs.

Of the attention over the source while a hypothesis is written, END included, each source piece should get 1
in sum: the score gains strength x sum over source pieces of log(min(sum, 1)), which is 0 at most. Attention
is that of the decoder's last layer, the mean of its heads; the END of the source asks for nothing.

Shapes: B rows, W beams, S source length, N sentences.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nmt.decoding.beams import Batch

C = TypeVar("C")
# No attention at all must not make a hypothesis impossible.
_LEAST = 1e-9


class Coverage(Generic[C]):
    """How much attention the source pieces have had from every beam."""

    def __init__(
        self,
        strength: float,
        attention: Callable[[C], Tensor],
        *,
        lengths: Sequence[int],
        beams: int,
        device: torch.device,
    ) -> None:
        """
        Args:
            attention: of a cache, the attention of its newest step, [B, W, S] with the longest source of its
                rows.
            lengths: source pieces of each sentence, without END; pieces before END are looked at.
        """
        self.strength, self.attention = strength, attention
        self.lengths_N = torch.tensor(lengths, device=device)
        self.sums_NWS = torch.zeros(len(lengths), beams, max([1, *lengths]), device=device)

    def bonus(self, batch: Batch, cache: C) -> Tensor:
        """What is added to the scores of hypotheses that end now [B, W], 0 or below."""
        attention_BWS = self.attention(cache)[..., : self.sums_NWS.shape[-1]].float()
        beams, length = attention_BWS.shape[1:]
        origins_BWS = batch.beams.origins_BW.unsqueeze(-1).expand(-1, -1, length)
        sums_BWS = self.sums_NWS[batch.numbers_B, :, :length].gather(1, origins_BWS)
        sums_BWS[:, :beams] += attention_BWS
        self.sums_NWS[batch.numbers_B, :, :length] = sums_BWS
        asking_BS = torch.arange(length, device=sums_BWS.device) < self.lengths_N[batch.numbers_B][:, None]
        costs_BWS = sums_BWS[:, :beams].clamp(min=_LEAST, max=1).log()
        return self.strength * (costs_BWS * asking_BS.unsqueeze(1)).sum(-1)
