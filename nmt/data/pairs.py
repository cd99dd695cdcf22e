"""Sentence pairs on their way through the pipeline, in blocks, because calls per pair cost too much."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# Pairs per block: enough to hide the cost of a call, few enough to fit the processor's cache.
BLOCK_PAIRS = 10_000


@dataclass(slots=True)
class PairBlock:
    """Pairs that stand one behind the other in a file; `numbers` are their lines or rows, from 1."""

    sources: list[str]
    targets: list[str]
    name: str
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.sources)

    def origin(self, place: int) -> str:
        """Return where the pair at `place` of this block comes from, such as "train.en:17"."""
        return f"{self.name}:{self.numbers[place]}"


def repack(blocks: Iterable[list[str]]) -> Iterator[list[str]]:
    """Cut lists of any length into lists of BLOCK_PAIRS (the last one shorter)."""
    rest: list[str] = []
    for block in blocks:
        rest += block
        start = 0
        while len(rest) - start >= BLOCK_PAIRS:
            yield rest[start : start + BLOCK_PAIRS]
            start += BLOCK_PAIRS
        rest = rest[start:]
    if rest:
        yield rest
