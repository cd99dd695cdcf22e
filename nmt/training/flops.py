"""Useful floating-point operations of training, and how fast the device could do them.

Shapes: D model width, F feed-forward width, V target vocabulary; S and T are the pieces of one sentence.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F

from nmt.data.batching import Work
from nmt.model.config import Activation, TransformerConfig

# Rows of the square matrices whose product is timed: large enough for full speed, some milliseconds each.
PEAK_PRODUCT_SIZE = {"cpu": 1024, "mps": 2048, "cuda": 8192}
PEAK_ROUNDS = 3
PEAK_SECONDS_PER_ROUND = 0.08


def flops_per_unit(
    config: TransformerConfig, *, target_vocabulary_size: int, with_attention: bool = True
) -> Work:
    """FLOPs of forward and backward pass for one unit of each kind of work that a batch counts.

    Matrix products only, two operations per multiplication and addition. The backward pass has twice
    the products of the forward pass (Kaplan et al., 2020, section 2.1). Attention compares every two
    pieces of a sentence with each other, twice per layer (queries with keys, weights with values); as in
    Chowdhery et al. (2022, appendix B) the causal half of it is not taken off. Padding, other sentences of
    the same row, normalisation, softmax, dropout and the optimizer are no useful work and do not count.

    Args:
        with_attention: count the comparisons too; without them it is the usual six per weight and piece.
    """
    width, feed_forward = config.width, config.feed_forward_width
    matrices = 3 if config.activation is Activation.swiglu else 2
    block = matrices * width * feed_forward
    # Query, key, value and output projection; of cross-attention, keys and values belong to the source.
    projection = width * width
    encoder, decoder = config.encoder_layers, config.decoder_layers
    source = encoder * (4 * projection + block) + decoder * 2 * projection
    target = decoder * (6 * projection + block) + width * target_vocabulary_size
    pair = 2 * width if with_attention else 0
    forward_and_backward, operations = 3, 2
    weights = (source, target, encoder * pair, decoder * pair, decoder * pair)
    return Work(*(forward_and_backward * operations * weight for weight in weights))


def measure_peak(
    dtype: torch.dtype, device: torch.device, *, threads: ThreadPoolExecutor | None = None, count: int = 1
) -> float:
    """FLOP/s that the device reaches in products of two square matrices, the best of several rounds.

    Args:
        threads: where `count` replicas compute side by side; the result is the sum over them. None is
            the caller's thread.
    """

    def rate(_: int) -> float:
        return _product_rate(dtype, device)

    best = 0.0
    for _ in range(PEAK_ROUNDS):
        rates = threads.map(rate, range(count)) if threads else [rate(0)]
        best = max(best, sum(rates))
    if device.type == "cuda":
        # The matrices are no memory of the run.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return best


def _product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of as many products as fit into one round, at least one."""
    size = PEAK_PRODUCT_SIZE[device.type]
    # A generator of its own: the run's random numbers stay what they are.
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(size, size, generator=generator, device=device).to(dtype)
    right = torch.randn(size, size, generator=generator, device=device).to(dtype)
    F.linear(left[:64], right)
    _synchronize(device)
    products, start, seconds = 0, time.perf_counter(), 0.0
    while seconds < PEAK_SECONDS_PER_ROUND:
        F.linear(left, right)
        _synchronize(device)
        products += 1
        seconds = time.perf_counter() - start
    return 2.0 * size**3 * products / seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
