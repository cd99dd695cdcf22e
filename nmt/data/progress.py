"""How far a long preparation is, on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator

from nmt.data.pairs import PairBlock

# Seconds between two lines where no bar can be drawn, as in a log file.
_LINE_EVERY = 30.0


def say(message: str) -> None:
    """Print a line about the data on standard error."""
    print(f"nmt: {message}", file=sys.stderr, flush=True)


def watch(blocks: Iterable[PairBlock], label: str, total: int | None = None) -> Iterator[PairBlock]:
    """Pass blocks on and show how many pairs went by, of `total` if it is known."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(
            total=total, desc=label, unit=" pairs", unit_scale=True, leave=False, mininterval=0.3
        ) as bar:
            for block in blocks:
                yield block
                bar.update(len(block))
        return
    done, last = 0, time.monotonic()
    for block in blocks:
        yield block
        done += len(block)
        if time.monotonic() - last > _LINE_EVERY:
            say(f"{label}: {done:,}{f' of {total:,}' if total else ''} pairs")
            last = time.monotonic()
