"""Text to translate: any bytes are read, and every line of them is accounted for.

A line ends with a line feed and nothing else, whatever it holds. A carriage return before the line feed and
a byte order mark at the start are not part of the text. What is not UTF-8 becomes U+FFFD.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from nmt.data.text_lines import DataError, read_bytes

_BYTE_ORDER_MARK = "\ufeff"
_STANDARD_INPUT = 0
_READ_BYTES = 1 << 16


@dataclass(slots=True)
class Lines:
    """The lines of texts one after the other, each text given as blocks of bytes."""

    texts: Iterable[Iterable[bytes]]
    # How many lines so far were not valid UTF-8, and the number of the first, from 1.
    invalid: int = field(default=0, init=False)
    first_invalid: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        count = 0
        for blocks in self.texts:
            for number, line in enumerate(_split(blocks), start=1):
                count += 1
                line = line.removesuffix(b"\r")
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError:
                    text = line.decode("utf-8", "replace")
                    self.invalid += 1
                    self.first_invalid = self.first_invalid or count
                yield text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text


def standard_input() -> Iterator[bytes]:
    """What comes, as soon as it comes.

    Not through `sys.stdin`, whose lock a thread that waits there would keep while Python ends.

    Raises:
        DataError: it is closed, or breaks.
    """
    if sys.stdin is None:
        # Its number may be that of another file by now.
        raise DataError("input: standard input is closed; give input=FILE")
    try:
        while block := os.read(_STANDARD_INPUT, _READ_BYTES):
            yield block
    except OSError as error:
        raise DataError(f"input: standard input cannot be read ({error.strerror})") from error


def files(paths: Iterable[Path], *, field: str = "input") -> Iterator[Iterator[bytes]]:
    """The content of each file, unpacked if it is a `.gz` or `.zst`; DataError when it is damaged."""
    for path in paths:
        yield read_bytes(path, field=field)


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known about an input before it is translated."""

    lines: int
    # Of the unpacked text, as the next.
    bytes: int
    xxh3_128: str


def survey(paths: Sequence[Path], *, field: str = "input") -> Survey:
    """Read files once through; a last line without a line feed is a line.

    Raises:
        DataError: a file is damaged.
    """
    lines = size = 0
    digest = xxhash.xxh3_128()
    for blocks in files(paths, field=field):
        last = b"\n"
        for block in blocks:
            lines += block.count(b"\n")
            size += len(block)
            last = block[-1:] or last
            digest.update(block)
        lines += last != b"\n"
        digest.update(b"end of file")
    return Survey(lines, size, digest.hexdigest())


def _split(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their line feeds."""
    rest: list[bytes] = []
    for block in blocks:
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield b"".join(rest)
            yield from others[:-1]
            rest = [others[-1]]
    if last := b"".join(rest):
        yield last
