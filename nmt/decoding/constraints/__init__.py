"""Constraints: which pieces may follow a beam. Each is a class of its own over the same three tensors.

What belongs to a sentence lies in tables that its number indexes, so that nothing moves when rows change
hands.
"""

from typing import Protocol

from torch import Tensor

from nmt.decoding.beams import Batch


class Constraint(Protocol):
    """Forbids pieces."""

    def restrict(self, allowed_BWV: Tensor, log_probs_BWV: Tensor, batch: Batch) -> None:
        """Write -inf into `allowed_BWV` for what may not follow, or the model's log-probability back for
        what may follow whatever earlier constraints say.

        W is 1 in the first step of a sentence.
        """
