"""Lines of plain or compressed text files, checked.

A line ends with a line feed only: U+2028, U+0085, vertical tabs and the like are part of the text
(`str.splitlines` would break there and shift one side against the other). A carriage return before the
line feed belongs to the line end, and a byte order mark at the start of a file is dropped.
"""

import codecs
import difflib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import zstandard

_BLOCK_BYTES = 1 << 20


class DataError(ValueError):
    """Data that cannot be used; the message is one line that names the file and the way out."""


def read_lines(path: Path, *, field: str) -> Iterator[list[str]]:
    """Yield the lines of a text file in blocks of about a megabyte, in constant memory.

    Args:
        path: a text file; `.gz` and `.zst` are unpacked.
        field: name of the setting that gave the path, for messages.

    Raises:
        DataError: missing, empty or damaged file, invalid UTF-8, NUL bytes.
    """
    first_line = 1
    rest: list[bytes] = []
    for block in read_bytes(path, field=field):
        end = block.rfind(b"\n") + 1
        if end == 0:
            rest.append(block)
            continue
        data = b"".join([*rest, block[: end - 1]])
        rest = [block[end:]]
        lines = _decode(data, path, field, first_line)
        first_line += len(lines)
        yield lines
    last = b"".join(rest)
    if last and (first_line > 1 or last != codecs.BOM_UTF8):
        yield _decode(last, path, field, first_line)
    elif first_line == 1:
        raise DataError(f"{field}: {path} is empty")


def check_file(path: Path, *, field: str) -> None:
    """Raise DataError when there is no file at `path`, with the nearest name that exists."""
    if path.is_file():
        return
    if path.is_dir():
        raise DataError(f"{field}: {path} is a folder, not a file")
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{field}: {path} does not exist, nor does its folder (working folder: {Path.cwd()})")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {folder / close[0]}?" if close else f" (working folder: {Path.cwd()})"
    raise DataError(f"{field}: {path} does not exist{hint}")


def _decode(data: bytes, path: Path, field: str, first_line: int) -> list[str]:
    """Decode whole lines without the last line feed."""
    if first_line == 1:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(
                f"{field}: {path} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {path} > {path}.utf8"
            )
        data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        _refuse_nul(data, path, field, first_line)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        # Byte in the line, from 1, as editors count it.
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{field}: {path}, line {line}, byte {byte}: invalid UTF-8 (0x{data[error.start]:02x}); a file "
            f"in another encoding can be converted, as in: iconv -f LATIN1 -t UTF-8 {path} > {path}.utf8"
        ) from None
    lines = text.split("\n")
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def _refuse_nul(data: bytes, path: Path, field: str, first_line: int) -> NoReturn:
    line = first_line + data.count(b"\n", 0, data.index(b"\0"))
    raise DataError(
        f"{field}: {path}, line {line}: NUL byte; the file is damaged or not UTF-8 text "
        f"(to drop the bytes: tr -d '\\000' < {path} > {path}.clean)"
    )


def read_bytes(path: Path, *, field: str) -> Iterator[bytes]:
    """Yield the content of a file, unpacked if it is a `.gz` or `.zst`, in blocks.

    Raises:
        DataError: missing or damaged file.
    """
    check_file(path, field=field)
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
        elif path.suffix == ".zst":
            yield from _read_zstandard(path)
        else:
            with path.open("rb") as plain:
                while block := plain.read(_BLOCK_BYTES):
                    yield block
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise DataError(
            f"{field}: {path} is damaged or cut off ({error}); fetch or compress it again"
        ) from None
    except OSError as error:
        raise DataError(f"{field}: cannot read {path} ({error.strerror or error})") from None


def _read_zstandard(path: Path) -> Iterator[bytes]:
    """Unpack frame after frame; unlike zstandard's reader it notices a file that ends inside a frame."""
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    within = False
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES // 8):
            while block:
                yield frame.decompress(block)
                within = not frame.eof
                block = b""
                if frame.eof:
                    block = frame.unused_data
                    frame = decompressor.decompressobj()
    if within:
        raise EOFError("the last frame is not complete")
