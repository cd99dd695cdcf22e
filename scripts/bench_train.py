"""Training speed beside Hugging Face MarianMTModel: same data, model size, optimizer and threads.

    python scripts/bench_train.py --source train.en --target train.de --model small --threads 1

Both train in one process, window by window in turn (ours, peer, ours, peer, ...), with a matrix product timed
before each window, because shared machines drift. Counted are real target pieces, end of sentence included,
padding never. Needs the extra `bench`.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nmt.cli import host

host.tune()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from nmt.cli.composition import Request  # noqa: E402
from nmt.config import TrainConfig, load  # noqa: E402
from nmt.data.batching import batch_shapes  # noqa: E402
from nmt.data.loader import Loader, LoaderState  # noqa: E402
from nmt.data.preparation import PreparedData, prepare  # noqa: E402
from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID  # noqa: E402
from nmt.model.transformer import Transformer  # noqa: E402
from nmt.training.distributed import Processes  # noqa: E402
from nmt.training.optim import FlatParameters, Optimizer  # noqa: E402
from nmt.training.replicas import Replicas, replica_count  # noqa: E402
from nmt.training.run_folder import provenance  # noqa: E402
from nmt.training.update import accumulate_gradients  # noqa: E402

# One update; returns its real target pieces.
Update = Callable[[], int]


@dataclass
class Contestant:
    """One side of the comparison and what was measured of it, in target pieces per second."""

    name: str
    update: Update
    windows: list[float] = field(default_factory=list)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--model", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4096, help="target slots per update, padding included")
    parser.add_argument("--row-length", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8, help="length of a window")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["float32", "bfloat16"], help="types of the peer")
    parser.add_argument("--ours", nargs="*", default=["bfloat16", "float32"], help="our types")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


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


def our_update(config: TrainConfig, prepared: PreparedData, dtype: torch.dtype, threads: int) -> Update:
    torch.manual_seed(1)
    vocabulary = prepared.tokenizer.target_vocabulary_size
    model = Transformer(config.model, source_vocabulary_size=vocabulary, target_vocabulary_size=vocabulary)
    parameters = FlatParameters(model, dtype)
    optimizer = Optimizer(parameters, config.training)
    training = config.training
    shapes = batch_shapes(training.max_tokens_per_batch, training.row_length, training.long_row_length)
    count = replica_count(threads=threads, rows=shapes[0].rows)
    replicas = Replicas(model, parameters, count=count, threads_each=threads // count, seed=1)
    replicas.train()
    loader = Loader(prepared.train, shapes, begin_id=BEGIN_ID, seed=1, device=torch.device("cpu"))
    stream = loader.batches(LoaderState())
    step = 0

    def update() -> int:
        nonlocal step
        step += 1
        batch, _ = next(stream)
        accumulate_gradients(
            replicas,
            [batch],
            label_smoothing=training.label_smoothing,
            loss_scale=1.0,
            processes=Processes(),
        )
        optimizer.update(step=step, divisor=batch.target_tokens)
        return batch.target_tokens

    return update


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


def peer_update(config: TrainConfig, prepared: PreparedData, dtype: torch.dtype, slots: int) -> Update:
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(1)
    shape = config.model
    model = MarianMTModel(
        MarianConfig(
            vocab_size=prepared.tokenizer.target_vocabulary_size,
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
            decoder_start_token_id=BEGIN_ID,
            attn_implementation="sdpa",
        )
    ).train()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)
    stream = padded_batches(prepared, slots)

    def update() -> int:
        source, target = next(stream)
        shifted = target.roll(1, dims=1)
        shifted[:, 0] = BEGIN_ID
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = model(
                input_ids=source,
                attention_mask=source != PAD_ID,
                decoder_input_ids=shifted,
                use_cache=False,
            ).logits
        loss = F.cross_entropy(
            logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD_ID, label_smoothing=0.1
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        return int((target != PAD_ID).sum())

    return update


def calibrate() -> float:
    """GFLOP/s of a float32 product, to see whether the machine drifts."""
    matrix = torch.ones(1024, 1024)
    start = time.perf_counter()
    for _ in range(4):
        matrix @ matrix
    return 4 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    config = settings(arguments)
    prepared = prepare(config.data, config.tokenizer)
    contestants = [
        Contestant(f"nmt {name}", our_update(config, prepared, getattr(torch, name), arguments.threads))
        for name in arguments.ours
    ] + [
        Contestant(
            f"MarianMTModel {name}", peer_update(config, prepared, getattr(torch, name), arguments.slots)
        )
        for name in arguments.peers
    ]
    calibrations = []
    for window in range(arguments.windows + 1):
        for contestant in contestants:
            calibrations.append(calibrate())
            pieces, start = 0, time.perf_counter()
            while (seconds := time.perf_counter() - start) < arguments.seconds:
                pieces += contestant.update()
            # The first window warms up.
            if window:
                contestant.windows.append(pieces / seconds)
    report(arguments, contestants, calibrations)


def report(arguments: argparse.Namespace, contestants: list[Contestant], calibrations: list[float]) -> None:
    medians = {each.name: statistics.median(each.windows) for each in contestants}
    print(
        f"model {arguments.model}, {arguments.slots} target slots per update, {arguments.threads} threads,"
        f" {arguments.windows} windows of {arguments.seconds:g} s; calibration"
        f" {min(calibrations):.0f}-{max(calibrations):.0f} GFLOP/s, peak memory of all"
        f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
    )
    print(f"{'':24}{'target pieces/s':>16}{'min':>9}{'max':>9}{'per thread':>12}   ratio to the last")
    for each in contestants:
        median = medians[each.name]
        ratio = median / medians[contestants[-1].name]
        print(
            f"{each.name:24}{median:16,.0f}{min(each.windows):9,.0f}{max(each.windows):9,.0f}"
            f"{median / arguments.threads:12,.0f}   {ratio:.2f}"
        )
    if arguments.json:
        figures = {
            "arguments": {
                name: Path(value).name if name in ("source", "target", "json") else value
                for name, value in vars(arguments).items()
            },
            "processor": platform.processor() or platform.machine(),
            **provenance(),
            "calibration_gflops": calibrations,
            "windows": [{"name": each.name, "windows": each.windows} for each in contestants],
        }
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
