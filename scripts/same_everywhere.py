"""Is a sentence's translation the same whatever is translated beside it, and by whom?

    python scripts/same_everywhere.py --model runs/latest --input test.en
    python scripts/same_everywhere.py --model runs/latest --input test.en --precisions float32 --sentences 100

Sentences are translated one by one, in batches of 7 and of 64, all at once in batches by budget, shuffled, by
other numbers of threads, and by two worker processes as `nmt translate` has them. Counted is how many have
other pieces (for the workers: another text) than one by one. In float32 none may; the exit code is 1 when one
does. Half precision rounds what float32 keeps, and where nmt's kernels do not run int8 scales the inputs of a
batch together: there the counts are for information.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from nmt.cli import host

if __name__ == "__main__":
    host.tune()

import torch
from bench_train import processor_name

from nmt import Translator
from nmt.cli.recipe import Recipe
from nmt.cli.workers import Workers
from nmt.decoding.engine import Engine
from nmt.decoding.progress import Progress
from nmt.decoding.windows import Window
from nmt.training.run_folder import provenance

# Pieces, or a text.
Found = list[list[int]] | list[str]
WORKERS = 2
WINDOW_LINES = 64


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="run or model folder")
    parser.add_argument("--input", type=Path, required=True, help="text file, a sentence per line")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "int8"])
    return parser.parse_args()


def in_batches(engine: Engine, sources: Sequence[list[int]], size: int) -> list[list[int]]:
    found: list[list[int]] = []
    for start in range(0, len(sources), size):
        found += [own[0].pieces if own else [] for own in engine.search(sources[start : start + size])]
    return found


def shuffled(engine: Engine, sources: Sequence[list[int]]) -> list[list[int]]:
    order = list(range(len(sources)))
    random.Random(1).shuffle(order)
    found = in_batches(engine, [sources[number] for number in order], len(sources))
    return [found[order.index(number)] for number in range(len(sources))]


def with_threads(count: int, work: Callable[[], list[list[int]]]) -> list[list[int]]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def by_workers(arguments: argparse.Namespace, precision: str, lines: Sequence[str]) -> list[str]:
    recipe = Recipe(
        models=[arguments.model],
        device="cpu",
        threads=1,
        decoding={"precision": precision, "beam_size": arguments.beam},
    )
    windows = (
        Window(lines[start : start + WINDOW_LINES], start + 1) for start in range(0, len(lines), WINDOW_LINES)
    )
    with Workers(recipe, WORKERS) as workers, Progress(None, shown=False) as progress:
        return [each.text for _, found in workers.translate(windows, progress) for each in found]


def ways(
    arguments: argparse.Namespace, precision: str, lines: Sequence[str]
) -> Iterator[tuple[str, int, float]]:
    """Each way with the number of sentences that differ from one by one, and its seconds."""
    translator = Translator(
        arguments.model, device="cpu", threads=1, precision=precision, beam_size=arguments.beam
    )
    engine = Engine(translator.model, translator.config, translator.device, tokenizer=translator.tokenizer)
    sources = translator.tokenizer.encode_source(lines)
    start = time.perf_counter()
    alone = in_batches(engine, sources, 1)
    yield "one by one", 0, time.perf_counter() - start
    texts = translator.tokenizer.decode_target(alone)
    everything = len(sources)
    for name, work in {
        "in batches of 7": lambda: in_batches(engine, sources, 7),
        "in batches of 64": lambda: in_batches(engine, sources, 64),
        "by budget": lambda: in_batches(engine, sources, everything),
        "by budget, shuffled": lambda: shuffled(engine, sources),
        "by budget, 2 threads": lambda: with_threads(2, lambda: in_batches(engine, sources, everything)),
        f"by {WORKERS} workers": lambda: by_workers(arguments, precision, lines),
    }.items():
        start = time.perf_counter()
        found: Found = work()
        seconds = time.perf_counter() - start
        expected: Found = texts if isinstance(found[0], str) else alone
        yield name, sum(own != other for own, other in zip(found, expected, strict=True)), seconds


def main() -> None:
    arguments = parse()
    lines = [line for line in arguments.input.read_text(encoding="utf-8").split("\n") if line.strip()]
    lines = lines[: arguments.sentences]
    date, commit = datetime.now(UTC).strftime("%Y-%m-%d"), provenance()["commit"]
    machine = f"{processor_name()}, {os.cpu_count()} cores, torch {torch.__version__}"
    print(f"{date}, commit {commit}, {machine}")
    print(f"{len(lines):,} sentences of {arguments.input.name}, beam {arguments.beam}")
    print("translations that differ from one by one, and seconds:", flush=True)
    table: dict[str, list[str]] = {}
    wrong = 0
    for precision in arguments.precisions:
        for name, count, seconds in ways(arguments, precision, lines):
            table.setdefault(name, []).append(f"{count:,} ({seconds:.0f} s)")
            print(f"{precision}, {name}: {count:,}", file=sys.stderr, flush=True)
            wrong += count if precision == "float32" else 0
    print("".join([f"{'':24}", *(f"{name:>16}" for name in arguments.precisions)]))
    for name, cells in table.items():
        print("".join([f"{name:24}", *(f"{cell:>16}" for cell in cells)]), flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
