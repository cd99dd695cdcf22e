"""Which type the model computes in, and the loss scale that float16 needs."""

import torch

from nmt.model.precision import fastest_dtype
from nmt.training.config import Precision

DTYPES = {
    Precision.float32: torch.float32,
    Precision.bfloat16: torch.bfloat16,
    Precision.float16: torch.float16,
}


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type asked for; `auto` takes bfloat16 where the device multiplies it faster."""
    return fastest_dtype(device) if precision is Precision.auto else DTYPES[precision]


class LossScale:
    """Dynamic loss scale for float16 (Micikevicius et al., 2018, section 3.2); 1 for other types."""

    GROWTH_INTERVAL = 2000

    def __init__(self, dtype: torch.dtype) -> None:
        self.dynamic = dtype is torch.float16
        self.value = 2.0**15 if self.dynamic else 1.0
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        """Halve after a step whose gradients overflowed, double after many that did not."""
        if not self.dynamic:
            return
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good_steps == self.GROWTH_INTERVAL:
            self.value *= 2
            self.good_steps = 0
