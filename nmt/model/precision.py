"""Which floating type a device computes in best."""

import math
import time

import torch


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 (or float16 on older GPUs) where the device multiplies it faster than float32."""
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
