"""`nmt score`: the log-probability that a model gives to each line of a translation."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import torch
from tqdm import tqdm

from nmt import bundle
from nmt.cli.whole_file import check_output, whole_file
from nmt.config import ScoreConfig
from nmt.data.processors import available_cores
from nmt.data.text_lines import DataError, read_lines
from nmt.decoding.scoring import TotalScore, score_lines
from nmt.model.device import choose_device


def run(config: ScoreConfig) -> None:
    """Write one line for each pair: log-probability, pieces, and the first divided by the second."""
    check_output(config.output, (config.source, config.target))
    pairs = count_pairs(config.source, config.target)
    torch.set_num_threads(config.threads or available_cores())
    loaded = bundle.load(config.model, device=choose_device(config.device))
    stream = zip(_lines("source", config.source), _lines("target", config.target), strict=True)
    scores = score_lines(loaded.model, loaded.tokenizer, stream)
    total = TotalScore()
    opened = nullcontext(sys.stdout.buffer) if config.output is None else whole_file(config.output)
    # A log file needs no line ten times a second.
    interval = 0.2 if sys.stderr.isatty() else 30
    with opened as output, tqdm(total=pairs, unit=" pairs", desc="score", mininterval=interval) as bar:
        for score in scores:
            output.write(f"{score}\n".encode())
            total.add(score)
            bar.update()
        output.flush()
    print(summary(total), file=sys.stderr if config.output is None else sys.stdout)


def summary(total: TotalScore) -> str:
    """The sums in one line; natural logarithms."""
    return (
        f"{total.pairs:,} pairs, {total.pieces:,} target pieces with END:"
        f" log-probability {total.log_probability:,.2f}, perplexity {total.perplexity:.4g} per piece"
    )


def count_pairs(source: str, target: str) -> int:
    """Lines of two files, which are read through once before any work.

    Raises:
        DataError: they cannot be read, or one of them ends before the other.
    """
    counts = {
        name: sum(1 for _ in _lines(side, name)) for side, name in (("source", source), ("target", target))
    }
    if len(set(counts.values())) > 1:
        (short, few), (long, many) = sorted(counts.items(), key=lambda item: item[1])
        raise DataError(
            f"{short} ends before line {few + 1:,}, {long} has {many:,} lines;"
            " line n of both must be translations of each other"
        )
    return counts[source]


def _lines(side: str, name: str) -> Iterator[str]:
    return chain.from_iterable(read_lines(Path(name), field=side))
