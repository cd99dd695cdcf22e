"""Training speed beside Hugging Face MarianMTModel: same data, model size, optimizer and threads.

    python scripts/bench_train.py --source train.en --target train.de --model small --threads 1

    python scripts/bench_train.py --source train.en --target train.de --model base --device cuda \\
        --slots 25600 --vocabulary 32000 --ours bfloat16 --peers bfloat16

Each has a process of its own, and they train window by window in turn (ours, peer, ours, peer, ...), with a
matrix product timed before and after each window, because shared machines drift. Counted are real target
pieces, end of sentence included, padding never; GFLOP/s are those of the weights' products for real pieces,
and their share is that of the product timed. The peer runs as a user runs it; --tune-peer gives it our
settings of allocator and threads too. Needs the extra `bench`.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nmt.cli import host

if "MarianMTModel" not in os.environ.get("BENCH_CONTESTANT", ""):
    host.tune()

import numpy as np
import torch
import torch.nn.functional as F

from nmt.cli.composition import Request
from nmt.config import TrainConfig, load
from nmt.data.batching import Work, batch_shapes
from nmt.data.loader import Loader, LoaderState
from nmt.data.preparation import PreparedData, prepare
from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID
from nmt.model.transformer import Transformer
from nmt.training.distributed import Processes
from nmt.training.flops import flops_per_unit, measure_peak
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas, replica_count
from nmt.training.run_folder import provenance
from nmt.training.update import accumulate_gradients

OURS, PEER = "nmt", "MarianMTModel"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--model", default="small")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-graphs", action="store_true", help="our side without CUDA graphs")
    parser.add_argument("--compile", action="store_true", help="our side compiled")
    parser.add_argument("--vocabulary", type=int, default=0, help="pieces of both models; 0: the tokenizer's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4096, help="target slots per update, padding included")
    parser.add_argument("--row-length", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8, help="length of a window")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["float32", "bfloat16"], help="types of the peer")
    parser.add_argument("--ours", nargs="*", default=["bfloat16", "float32"], help="our types")
    parser.add_argument("--tune-peer", action="store_true", help="our allocator settings for it too")
    parser.add_argument("--profile", help="file for a trace of three of our updates")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def vocabulary_size(arguments: argparse.Namespace, prepared: PreparedData) -> int:
    """The output layer of a large corpus costs what it costs, whatever corpus is measured with."""
    return max(arguments.vocabulary, prepared.tokenizer.target_vocabulary_size)


def settings(arguments: argparse.Namespace) -> TrainConfig:
    sides = {"source": arguments.source, "target": arguments.target}
    files = [f"data.{part}.{side}={path}" for part in ("train", "valid") for side, path in sides.items()]
    long_row = max(256, arguments.row_length)
    request = Request.parse(
        "train",
        [
            "experiment=multi30k",
            *files,
            "~data.test.test2016",
            f"model={arguments.model}",
            f"training.max_tokens_per_batch={arguments.slots}",
            f"training.row_length={arguments.row_length}",
            f"training.long_row_length={long_row}",
        ],
    )
    return load(request.compose(), TrainConfig)


class OurTraining:
    """Updates as `nmt train` makes them."""

    def __init__(
        self, arguments: argparse.Namespace, config: TrainConfig, prepared: PreparedData, dtype: torch.dtype
    ) -> None:
        torch.manual_seed(1)
        device = torch.device(arguments.device)
        vocabulary = vocabulary_size(arguments, prepared)
        model = Transformer(
            config.model, source_vocabulary_size=vocabulary, target_vocabulary_size=vocabulary
        ).to(device)
        parameters = FlatParameters(model, dtype)
        self.optimizer = Optimizer(parameters, config.training)
        self.config = config.training
        shapes = batch_shapes(
            self.config.max_tokens_per_batch, self.config.row_length, self.config.long_row_length
        )
        on_cpu = device.type == "cpu"
        count = replica_count(threads=arguments.threads, rows=shapes[0].rows) if on_cpu else 1
        self.replicas = Replicas(
            model,
            parameters,
            count=count,
            threads_each=arguments.threads // count,
            seed=1,
            cuda_graphs=not (on_cpu or arguments.no_graphs),
            compiled=arguments.compile,
        )
        self.replicas.train()
        self.loader = Loader(prepared.train, shapes, begin_id=BEGIN_ID, seed=1, device=device)
        self.stream = self.loader.batches(LoaderState())
        self.step = 0

    @property
    def wait_seconds(self) -> float:
        return self.loader.wait_seconds

    @wait_seconds.setter
    def wait_seconds(self, value: float) -> None:
        self.loader.wait_seconds = value

    def update(self) -> tuple[int, int]:
        """One update; its source and target pieces."""
        self.step += 1
        batch, _ = next(self.stream)
        accumulate_gradients(
            self.replicas,
            [batch],
            label_smoothing=self.config.label_smoothing,
            loss_scale=1.0,
            processes=Processes(),
        )
        self.optimizer.update(step=self.step, divisor=batch.target_tokens)
        return int(Work(*batch.row_work.sum(axis=0)).source_pieces), batch.target_tokens


def padded_batches(prepared: PreparedData, slots: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """The peer's batches: sentences sorted by length in pools, as many as fit the slots with padding."""
    random = np.random.default_rng(1)
    store = prepared.train
    longest = np.maximum(store.source_lengths, store.target_lengths)
    while True:
        order = random.permutation(len(store))
        pools = [pool[np.argsort(longest[pool])] for pool in np.array_split(order, len(order) // 4096 + 1)]
        batches: list[np.ndarray] = []
        for pool in pools:
            start = 0
            for end in range(1, len(pool) + 1):
                if end == len(pool) or (end + 1 - start) * longest[pool[end]] > slots:
                    batches.append(pool[start:end])
                    start = end
        for index in random.permutation(len(batches)):
            numbers = batches[index]
            source, target = store.gather(numbers)
            yield tuple(
                torch.nn.utils.rnn.pad_sequence(
                    [torch.from_numpy(row).long() for row in np.split(flat, np.cumsum(lengths)[:-1])],
                    batch_first=True,
                    padding_value=PAD_ID,
                )
                for flat, lengths in (
                    (source, store.source_lengths[numbers]),
                    (target, store.target_lengths[numbers]),
                )
            )


class PeerTraining:
    """The usual PyTorch loop around a MarianMTModel: sdpa attention, fused AdamW, autocast for bfloat16."""

    def __init__(
        self, arguments: argparse.Namespace, config: TrainConfig, prepared: PreparedData, dtype: torch.dtype
    ) -> None:
        from transformers import MarianConfig, MarianMTModel

        torch.manual_seed(1)
        shape = config.model
        self.model = MarianMTModel(
            MarianConfig(
                vocab_size=vocabulary_size(arguments, prepared),
                d_model=shape.width,
                encoder_layers=shape.encoder_layers,
                decoder_layers=shape.decoder_layers,
                encoder_attention_heads=shape.heads,
                decoder_attention_heads=shape.heads,
                encoder_ffn_dim=shape.feed_forward_width,
                decoder_ffn_dim=shape.feed_forward_width,
                activation_function=shape.activation.value,
                dropout=shape.dropout,
                attention_dropout=shape.attention_dropout,
                activation_dropout=shape.activation_dropout,
                max_position_embeddings=512,
                scale_embedding=True,
                pad_token_id=PAD_ID,
                eos_token_id=END_ID,
                forced_eos_token_id=END_ID,
                decoder_start_token_id=BEGIN_ID,
                attn_implementation="sdpa",
            )
        )
        self.device = torch.device(arguments.device)
        self.model.to(self.device).train()
        self.autocast = dtype is torch.bfloat16
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)
        self.stream = padded_batches(prepared, arguments.slots)
        self.wait_seconds = 0.0

    def update(self) -> tuple[int, int]:
        """One update; its source and target pieces."""
        start = time.perf_counter()
        source, target = next(self.stream)
        self.wait_seconds += time.perf_counter() - start
        # Counted here: on a GPU it would have to be waited for.
        pieces = int((source != PAD_ID).sum()), int((target != PAD_ID).sum())
        if self.device.type == "cuda":
            source, target = (
                side.pin_memory().to(self.device, non_blocking=True) for side in (source, target)
            )
        shifted = target.roll(1, dims=1)
        shifted[:, 0] = BEGIN_ID
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            logits = self.model(
                input_ids=source,
                attention_mask=source != PAD_ID,
                decoder_input_ids=shifted,
                use_cache=False,
            ).logits
        loss = F.cross_entropy(
            logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD_ID, label_smoothing=0.1
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        return pieces


def calibrate(device: str) -> float:
    """GFLOP/s of a product, to see whether the machine drifts: float32 on a CPU, bfloat16 on a GPU."""
    if device == "cuda":
        return measure_peak(torch.bfloat16, torch.device(device)) / 1e9
    matrix = torch.ones(1024, 1024)
    start = time.perf_counter()
    for _ in range(4):
        matrix @ matrix
    return 4 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9


def elapsed(start: float, limit: float, device: str) -> float:
    """Seconds since `start`; when they are over, all that the device still has to do included."""
    if device == "cuda" and time.perf_counter() - start >= limit:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_mb(device: str) -> float:
    """Most memory at once in MB of 10^6 bytes: of tensors on a GPU, resident on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@dataclass
class Window:
    """What one contestant did in one window."""

    target_pieces: int
    source_pieces: int
    seconds: float
    wait_seconds: float
    calibration_gflops: list[float]
    peak_mb: float


def compete(arguments: argparse.Namespace, name: str, commands: Connection) -> None:
    """The process of one contestant: it trains one window for every number of seconds that it receives."""
    side, dtype_name = name.split()
    dtype = getattr(torch, dtype_name)
    torch.set_num_threads(arguments.threads)
    config = settings(arguments)
    prepared = prepare(config.data, config.tokenizer)
    make = OurTraining if side == OURS else PeerTraining
    training = make(arguments, config, prepared, dtype)
    commands.send("ready")
    while seconds := commands.recv():
        # On a GPU the memory counted starts anew with it.
        calibrations = [calibrate(arguments.device)]
        training.wait_seconds = 0.0
        source_pieces, target_pieces, start = 0, 0, time.perf_counter()
        while (spent := elapsed(start, seconds, arguments.device)) < seconds:
            source, target = training.update()
            source_pieces, target_pieces = source_pieces + source, target_pieces + target
        peak = peak_mb(arguments.device)
        calibrations.append(calibrate(arguments.device))
        commands.send(Window(target_pieces, source_pieces, spent, training.wait_seconds, calibrations, peak))
    if arguments.profile and side == OURS:
        with torch.profiler.profile() as profiler:
            for _ in range(3):
                training.update()
        trace = Path(arguments.profile).with_suffix(f".{dtype_name}.json")
        profiler.export_chrome_trace(str(trace))
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
        trace.with_suffix(".txt").write_text(table, encoding="utf-8")


def main() -> None:
    arguments = parse()
    config = settings(arguments)
    vocabulary = vocabulary_size(arguments, prepare(config.data, config.tokenizer))
    names = [f"{OURS} {dtype}" for dtype in arguments.ours] + [f"{PEER} {dtype}" for dtype in arguments.peers]
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        # Read where this file is imported anew, before torch.
        os.environ["BENCH_CONTESTANT"] = OURS if arguments.tune_peer else name
        processes.append(context.Process(target=compete, args=(arguments, name, theirs)))
        processes[-1].start()
        assert pipes[name].recv() == "ready"
    windows: dict[str, list[Window]] = {name: [] for name in names}
    for number in range(arguments.windows + 1):
        for name in names:
            pipes[name].send(arguments.seconds)
            window = pipes[name].recv()
            # The first window warms up.
            if number:
                windows[name].append(window)
    for name, process in zip(names, processes, strict=True):
        pipes[name].send(0)
        process.join()
    flops = flops_per_unit(config.model, target_vocabulary_size=vocabulary, with_attention=False)
    figures = [summary(name, windows[name], flops, arguments.threads) for name in names]
    report(arguments, figures)
    if arguments.json:
        save(arguments, figures)


def summary(name: str, windows: list[Window], flops: Work, threads: int) -> dict[str, Any]:
    """Medians and spread of one contestant's windows."""
    rates = [window.target_pieces / window.seconds for window in windows]
    calibrations = [rate for window in windows for rate in window.calibration_gflops]
    useful = statistics.median(
        (window.source_pieces * flops.source_pieces + window.target_pieces * flops.target_pieces)
        / window.seconds
        for window in windows
    )
    return {
        "name": name,
        "target_pieces_per_second": statistics.median(rates),
        "target_pieces_per_second_per_thread": statistics.median(rates) / threads,
        "min": min(rates),
        "max": max(rates),
        "useful_gflops": useful / 1e9,
        "share_of_calibration": useful / 1e9 / statistics.median(calibrations),
        "wait_share": sum(window.wait_seconds for window in windows)
        / sum(window.seconds for window in windows),
        "peak_mb": max(window.peak_mb for window in windows),
        "calibration_gflops": calibrations,
        "windows": rates,
    }


def report(arguments: argparse.Namespace, figures: list[dict[str, Any]]) -> None:
    calibrations = [rate for each in figures for rate in each["calibration_gflops"]]
    print(
        f"model {arguments.model}, {arguments.slots} target slots per update, {arguments.threads} threads,"
        f" {arguments.windows} windows of {arguments.seconds:g} s; calibration"
        f" ({'bfloat16' if arguments.device == 'cuda' else 'float32'} product)"
        f" {min(calibrations):.0f}-{max(calibrations):.0f} GFLOP/s"
    )
    print(
        f"{'':24}{'target pieces/s':>16}{'min':>8}{'max':>8}{'per thread':>12}{'GFLOP/s':>9}"
        f"{'share':>7}{'peak MB':>9}{'wait':>7}   ratio to each peer"
    )
    peers = [each for each in figures if each["name"].startswith(PEER)]
    for each in figures:
        rate = each["target_pieces_per_second"]
        ratios = "  ".join(f"{rate / peer['target_pieces_per_second']:.2f}" for peer in peers)
        print(
            f"{each['name']:24}{rate:16,.0f}{each['min']:8,.0f}{each['max']:8,.0f}"
            f"{rate / arguments.threads:12,.0f}{each['useful_gflops']:9,.0f}"
            f"{each['share_of_calibration']:7.1%}{each['peak_mb']:9,.0f}{each['wait_share']:7.2%}   {ratios}"
        )


def save(arguments: argparse.Namespace, figures: list[dict[str, Any]]) -> None:
    files = ("source", "target", "json", "profile")
    content = {
        "arguments": {
            name: Path(value).name if value and name in files else value
            for name, value in vars(arguments).items()
        },
        "processor": processor_name(),
        "gpu": torch.cuda.get_device_name() if arguments.device == "cuda" else "",
        **provenance(),
        "contestants": figures,
    }
    Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def processor_name() -> str:
    """As Linux names it, such as "AMD EPYC"; elsewhere the architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
