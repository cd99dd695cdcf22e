"""Lists of different lengths as one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Where a list has ended; no piece has this number.
NOTHING = -1


def padded(
    lists: Sequence[Sequence[int]], device: torch.device, *, filler: int = 0, longest: int = 0
) -> Tensor:
    """The lists as rows, `filler` behind them, at least `longest` and 1 wide."""
    width = max([1, longest, *map(len, lists)])
    rows = [[*own, *[filler] * (width - len(own))] for own in lists]
    return torch.tensor(rows, dtype=torch.long, device=device).view(len(lists), width)
