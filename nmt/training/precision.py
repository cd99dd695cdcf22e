"""Which type the model computes in, and the loss scale that float16 needs."""

import math
import time

import torch

from nmt.training.config import Precision

DTYPES = {
    Precision.float32: torch.float32,
    Precision.bfloat16: torch.bfloat16,
    Precision.float16: torch.float16,
}


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type asked for; `auto` takes bfloat16 where the device multiplies it faster."""
    if precision is not Precision.auto:
        return DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float32
    # Measured instead of looked up: what a processor announces and what its matrix library does with it
    # are two things. The margin keeps a noisy machine on the exact side.
    faster = _product_seconds(torch.bfloat16) < 0.75 * _product_seconds(torch.float32)
    return torch.bfloat16 if faster else torch.float32


def _product_seconds(dtype: torch.dtype) -> float:
    """Seconds of one product of the size of a small feed-forward block, the best of several."""
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(2048, 256, generator=generator).to(dtype)
    weight = torch.randn(1024, 256, generator=generator).to(dtype)
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        torch.nn.functional.linear(activations, weight)
        best = min(best, time.perf_counter() - start)
    return best


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
