"""`nmt score`: the log-probability that a model gives to each line of a translation."""

import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import torch
from tqdm import tqdm

from nmt import bundle
from nmt.cli.schemas import ScoreConfig
from nmt.data.processors import available_cores
from nmt.data.text_lines import DataError, read_lines
from nmt.decoding.output import check_output, open_output
from nmt.decoding.scoring import TotalScore, score_lines
from nmt.model.device import choose_device

# Lines that are written together.
_WINDOW_LINES = 1024


def run(config: ScoreConfig) -> None:
    """Write one line for each pair: log-probability, pieces, and the first divided by the second."""
    output_path = None if config.output is None else Path(config.output)
    if output_path is not None:
        check_output(output_path, (Path(config.source), Path(config.target)))
    pairs = count_pairs(config.source, config.target)
    torch.set_num_threads(config.threads or available_cores())
    loaded = bundle.load(config.model, device=choose_device(config.device))
    stream = zip(_lines("source", config.source), _lines("target", config.target), strict=True)
    scores = score_lines(loaded.model, loaded.tokenizer, stream)
    total = TotalScore()
    # A log file needs no line ten times a second.
    interval = 0.2 if sys.stderr.isatty() else 30
    output = open_output(output_path)
    with output, tqdm(total=pairs, unit=" pairs", desc="score", mininterval=interval) as bar:
        while window := list(islice(scores, _WINDOW_LINES)):
            output.write("".join(f"{score}\n" for score in window).encode(), lines=len(window))
            for score in window:
                total.add(score)
            bar.update(len(window))
        output.finish()
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
