"""Useful FLOPs by the formula are those that PyTorch counts; the peak and the gauges that divide by it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nmt.data.batching import BatchPlan, BatchShape, Work, build_batch
from nmt.data.loader import DeviceBatch
from nmt.data.tokenizer import BEGIN_ID
from nmt.model.config import Activation, NormPlacement, TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.flops import flops_per_unit, measure_peak
from nmt.training.gauges import Gauges
from nmt.training.interval import Interval, StepReport

CPU = torch.device("cpu")
SHAPES = [
    TransformerConfig(encoder_layers=2, decoder_layers=3, width=16, heads=2, feed_forward_width=24),
    TransformerConfig(
        encoder_layers=3,
        decoder_layers=1,
        width=8,
        heads=4,
        feed_forward_width=40,
        activation=Activation.swiglu,
        tied_embeddings=TiedEmbeddings.none,
        norm_placement=NormPlacement.post,
    ),
]


def batch_of(make_store: Any, rows: list[list[tuple[int, int]]], length: int) -> DeviceBatch:
    """A batch whose rows hold sentences of these (source, target) lengths."""
    pairs = [([5] * source, [6] * target) for row in rows for source, target in row]
    numbers = iter(range(len(pairs)))
    plan = BatchPlan(BatchShape(len(rows), length), [[next(numbers) for _ in row] for row in rows])
    return DeviceBatch.from_packed(build_batch(make_store(pairs), plan, BEGIN_ID), CPU)


def counted(config: TransformerConfig, batch: DeviceBatch) -> tuple[int, int]:
    """FLOPs of forward and backward pass: of the weights' products, and of attention's.

    In float64, whose products all are PyTorch's own: the counter knows no others.
    """
    model = Transformer(config, source_vocabulary_size=20, target_vocabulary_size=20).double()
    with FlopCounterMode(display=False) as counter:
        model(**batch.model_input()).sum().backward()
    attention = counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0)
    return counter.get_total_flops() - attention, attention


def useful(flops: Work, batch: DeviceBatch) -> float:
    return float(np.dot(flops, batch.row_work.sum(axis=0)))


@pytest.mark.parametrize("config", SHAPES)
def test_formula_equals_a_count_of_the_products(config: TransformerConfig, make_store: Any) -> None:
    """One sentence per row and no padding: nothing but useful work."""
    batch = batch_of(make_store, [[(12, 12)]] * 3, length=12)
    weights, attention = counted(config, batch)
    with_attention = flops_per_unit(config, target_vocabulary_size=20)
    assert attention > 0
    assert useful(with_attention, batch) == weights + attention
    without = flops_per_unit(config, target_vocabulary_size=20, with_attention=False)
    assert useful(without, batch) == weights


def test_other_sentences_of_a_row_and_padding_are_no_useful_work(make_store: Any) -> None:
    config = SHAPES[0]
    flops = flops_per_unit(config, target_vocabulary_size=20)
    packed = batch_of(make_store, [[(5, 7), (7, 5)], [(3, 2)]], length=12)
    alone = [batch_of(make_store, [[pair]], length=12) for pair in ((5, 7), (7, 5), (3, 2))]
    assert useful(flops, packed) == sum(useful(flops, batch) for batch in alone)
    assert useful(flops, packed) < sum(counted(config, packed))
    parts = packed.split_rows(2)
    assert useful(flops, packed) == sum(useful(flops, part) for part in parts)
    # Exact for a target and a source of different lengths too.
    without = flops_per_unit(config, target_vocabulary_size=20, with_attention=False)
    work = Work(*packed.row_work.sum(axis=0))
    assert work == (15, 14, 5 * 5 + 7 * 7 + 9, 7 * 7 + 5 * 5 + 4, 35 + 35 + 6)
    assert useful(without, packed) == without.source_pieces * 15 + without.target_pieces * 14


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2])
def test_peak_is_positive_and_leaves_the_random_numbers_alone(dtype: torch.dtype, count: int) -> None:
    before = torch.get_rng_state()
    with ThreadPoolExecutor(count) as threads:
        peak = measure_peak(dtype, CPU, threads=threads if count > 1 else None, count=count)
    assert peak > 1e6
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_peak_on_cuda_is_no_memory_of_the_run() -> None:
    device = torch.device("cuda")
    assert measure_peak(torch.bfloat16, device) > 1e12
    memory = Gauges(Work(), peak_flops=1.0, device=device).memory()
    assert memory["memory/peak_allocated_mb"] < 50


def test_gauges_of_an_interval(make_store: Any) -> None:
    interval = Interval()
    batch = batch_of(make_store, [[(5, 7), (7, 5)], [(3, 2)]], length=12)
    report = StepReport(1.0, 1.0, 0.5, 14)
    for _ in range(2):
        interval.add(report, [batch, batch], seconds=0.5, max_gradient_norm=0)
    flops = Work(source_pieces=10, target_pieces=100, cross_pairs=1)
    scalars = Gauges(flops, peak_flops=1e5, device=CPU).scalars(interval)
    assert scalars["speed/flop_utilisation"] == pytest.approx(4 * (150 + 1400 + 76) / 1e5)
    named = interval.scalars(wait_seconds=0.25)
    assert named["speed/padding_share"] == pytest.approx(1 - 29 / 48)
    assert named["speed/seconds_per_step"] == 0.5
    assert named["speed/wait_share"] == 0.25


def test_peak_memory_is_in_megabytes_of_this_program() -> None:
    """Of a program that a larger one has started: Linux gives `ru_maxrss` of both."""
    code = """
import numpy as np
import torch
from nmt.training.memory import peak_bytes
cpu = torch.device('cpu')
before = peak_bytes(cpu) / 1e6
block = np.ones(25_000_000)
print(before, peak_bytes(cpu) / 1e6)
"""
    large = np.ones(150_000_000)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 190 < after - before < 250
    assert before < large.nbytes / 1e6
