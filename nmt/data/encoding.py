"""The two readings of a preparation: one that learns what the corpus holds, one that writes its pieces.

Memory stays bounded: texts pass in blocks, and of every training pair only a hash of 64 bits is kept (with
100 million pairs the chance that any two differing ones share a hash is 1 in 3,000).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import xxhash

from nmt.data.processors import available_cores
from nmt.data.cleaning import DUPLICATE, TOO_LONG, Removals, length_rules, repeats, text_rules, too_long
from nmt.data.config import CleaningConfig, DataConfig
from nmt.data.corpus import read_blocks
from nmt.data.pairs import PairBlock
from nmt.data.progress import watch
from nmt.data.store import Pieces, StoreWriter
from nmt.data.text_lines import DataError
from nmt.data.tokenizer import Tokenizer

Keys = npt.NDArray[np.uint64]
# (lengths [N], pieces one behind the other) of each side.
Side = tuple[Pieces, Pieces]


def pair_keys(sources: Sequence[str], targets: Sequence[str]) -> Keys:
    """Return a hash of every pair; [N]."""
    digest = xxhash.xxh3_64_intdigest
    # NUL occurs in no text that was read, so the border between the sides is part of what is hashed.
    pairs = zip(sources, targets, strict=True)
    return np.fromiter((digest(f"{s}\0{t}".encode()) for s, t in pairs), dtype=np.uint64, count=len(sources))


class FirstReading:
    """Checks the training corpus from end to end and keeps a key of every pair."""

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._keys: list[Keys] = []

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs that pass the rules on text, for the tokenizer to learn from."""
        removals = Removals()
        kept = 0
        blocks = watch(training_blocks(self._data), "reading")
        for block, places, _ in _apply_text_rules(blocks, None, self._data.cleaning, removals):
            self._keys.append(pair_keys(block.sources, block.targets))
            kept += len(places)
            for place in places.tolist():
                yield block.sources[place], block.targets[place]
        if not kept:
            raise nothing_left("data.train", len(self.keys), removals)

    @property
    def keys(self) -> Keys:
        """Keys of all pairs read, in order."""
        if len(self._keys) > 1:
            self._keys = [np.concatenate(self._keys)]
        return self._keys[0]


def nothing_left(field: str, read: int, removals: Removals) -> DataError:
    """Return the error of a corpus of which cleaning leaves no pair."""
    removed = ", ".join(f"{rule} {count:,}" for rule, count in removals.counts.items())
    return DataError(f"{field}: none of {read:,} pairs is left ({removed}); see data.cleaning")


@dataclass(slots=True)
class Encoded:
    """What the second reading of a corpus came to."""

    read: int
    kept: int
    source_pieces: int
    target_pieces: int
    removals: Removals
    kept_keys: Keys


def training_blocks(data: DataConfig) -> Iterator[PairBlock]:
    """Read the training corpus."""
    languages = {"source_language": data.source_language, "target_language": data.target_language}
    return read_blocks(data.train, field="data.train", **languages)


def encode_training(data: DataConfig, tokenizer: Tokenizer, keys: Keys, writer: StoreWriter) -> Encoded:
    """Write the pieces of all training pairs that no rule removes."""
    removals = Removals()
    kept = np.zeros(len(keys), dtype=np.bool_)
    duplicates = repeats(keys) if data.cleaning.remove_duplicates else np.zeros(len(keys), dtype=np.bool_)
    rules = length_rules(data.cleaning)
    source_pieces = target_pieces = 0
    blocks = watch(training_blocks(data), "encoding", len(keys))
    chosen = _apply_text_rules(blocks, duplicates, data.cleaning, removals)
    for block, places, first, source, target in _encode(chosen, tokenizer, data.workers):
        left = np.ones(len(places), dtype=np.bool_)
        for name, rule in rules.items():
            dropped = left & rule(source[0], target[0])
            for place in places[dropped]:
                removals.add(name, block.origin(int(place)))
            left &= ~dropped
        kept[first + places[left]] = True
        source, target = _choose(source, left), _choose(target, left)
        writer.write(source, target)
        source_pieces += len(source[1])
        target_pieces += len(target[1])
    return Encoded(len(keys), int(kept.sum()), source_pieces, target_pieces, removals, keys[kept])


def encode_validation(data: DataConfig, tokenizer: Tokenizer, writer: StoreWriter) -> Encoded:
    """Write the pieces of all validation pairs; only those too long for a batch are left out."""
    removals = Removals()
    languages = {"source_language": data.source_language, "target_language": data.target_language}
    blocks = read_blocks(data.valid, field="data.valid", **languages)
    read = kept = 0
    source_pieces = target_pieces = 0
    all_of = ((block, np.arange(len(block)), 0) for block in blocks)
    for block, places, _, source, target in _encode(all_of, tokenizer, data.workers):
        dropped = too_long(source[0], target[0], data.cleaning.max_pieces_per_sentence)
        for place in places[dropped]:
            removals.add(TOO_LONG, block.origin(int(place)))
        source, target = _choose(source, ~dropped), _choose(target, ~dropped)
        writer.write(source, target)
        read, kept = read + len(block), kept + len(source[0])
        source_pieces += len(source[1])
        target_pieces += len(target[1])
    return Encoded(read, kept, source_pieces, target_pieces, removals, np.empty(0, dtype=np.uint64))


Choice = tuple[PairBlock, npt.NDArray[np.intp], int]


def _apply_text_rules(
    blocks: Iterator[PairBlock],
    duplicates: npt.NDArray[np.bool_] | None,
    config: CleaningConfig,
    removals: Removals,
) -> Iterator[Choice]:
    """Yield each block with the places of the pairs that stay and the number of its first pair.

    `duplicates` marks the pairs that occurred before, None when that is not known yet.
    """
    rules = tuple(text_rules(config).items())
    first = 0
    for block in blocks:
        places = []
        again = [False] * len(block)
        if duplicates is not None:
            if first + len(block) > len(duplicates):
                raise DataError(
                    "data.train grew while it was being prepared; start again when it is complete"
                )
            again = duplicates[first : first + len(block)].tolist()
        for place, (source, target) in enumerate(zip(block.sources, block.targets, strict=True)):
            broken = next((name for name, rule in rules if rule(source, target)), None)
            if broken is None and again[place]:
                broken = DUPLICATE
            if broken is None:
                places.append(place)
            else:
                removals.add(broken, block.origin(place))
        yield block, np.array(places, dtype=np.intp), first
        first += len(block)


def _encode(
    choices: Iterator[Choice], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[PairBlock, npt.NDArray[np.intp], int, Side, Side]]:
    """Encode the chosen pairs of each block, blocks in parallel, results in order.

    Threads do, because sentencepiece works outside the interpreter's lock: nothing to start, nothing to copy,
    nothing that outlives a killed process.
    """

    def encode(block: PairBlock, places: npt.NDArray[np.intp]) -> tuple[Side, Side]:
        sources = [block.sources[place] for place in places]
        targets = [block.targets[place] for place in places]
        return _flatten(tokenizer.encode_source(sources)), _flatten(tokenizer.encode_target(targets))

    workers = workers or available_cores()
    waiting: deque[tuple[Choice, Future[tuple[Side, Side]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for choice in choices:
            waiting.append((choice, pool.submit(encode, choice[0], choice[1])))
            if len(waiting) > workers + 1:
                done, future = waiting.popleft()
                yield *done, *future.result()
        for done, future in waiting:
            yield *done, *future.result()


def _flatten(ids: list[list[int]]) -> Side:
    lengths = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
    pieces = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum(dtype=np.int64)))
    return lengths, pieces


def _choose(side: Side, mask: npt.NDArray[np.bool_]) -> Side:
    lengths, pieces = side
    return lengths[mask], pieces[np.repeat(mask, lengths)]
