"""Which floating type a device computes in best."""

import math
import time
from functools import cache

import torch


@cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 (or float16 on older GPUs) where the device multiplies it faster than float32.

    Found once: a process does not change its mind.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float32
    # Measured instead of looked up: what a processor announces and what its matrix library does with it
    # are two things. The margin keeps a noisy machine on the exact side.
    seconds = _product_seconds(torch.bfloat16, torch.float32)
    return torch.bfloat16 if seconds[0] < 0.75 * seconds[1] else torch.float32


def _product_seconds(*dtypes: torch.dtype) -> list[float]:
    """Seconds of one product of the size of a small feed-forward block, for each type the best of several.

    The types take turns, so that what else the machine does meets all of them.
    """
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(2048, 256, generator=generator)
    weight = torch.randn(1024, 256, generator=generator)
    operands = [(activations.to(dtype), weight.to(dtype)) for dtype in dtypes]
    best = [math.inf for _ in dtypes]
    for _ in range(8):
        for number, pair in enumerate(operands):
            start = time.perf_counter()
            torch.nn.functional.linear(*pair)
            best[number] = min(best[number], time.perf_counter() - start)
    return best
