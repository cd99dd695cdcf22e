"""`nmt translate`: as many lines out as in, in their order."""

import gzip
import os
import signal
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import torch
import zstandard

from nmt.cli.model_folders import model_folders
from nmt.config import ConfigError, TranslateConfig
from nmt.data.corpus import DataError
from nmt.data.processors import available_cores
from nmt.data.text_lines import check_file
from nmt.decoding import ensemble
from nmt.decoding.translator import Translator
from nmt.model.device import choose_device

_BYTE_ORDER_MARK = "\ufeff"


def run(config: TranslateConfig) -> None:
    """Translate a file or standard input to a file or standard output."""
    source = None if config.input is None else Path(config.input)
    if source is not None:
        check_file(source, field="input")
    if config.output is not None:
        _check_output(Path(config.output), source)
    torch.set_num_threads(config.threads or available_cores())
    device = choose_device(config.device)
    loaded = ensemble.load(model_folders(config.model), device=device)
    translator = Translator(loaded.model, loaded.tokenizer, config.decoding, device)
    with _terminated_in_order(), _open_input(source) as stream, _open_output(config.output) as output:
        lines = Lines(stream, source)
        total = None if source is None else _count_lines(source)
        for translation in translator.translate_lines(lines, progress=True, total=total):
            output.write(translation.encode("utf-8", "replace") + b"\n")
        output.flush()
    if lines.invalid:
        print(
            f"nmt translate: {lines.invalid:,} lines with bytes that are not UTF-8, the first of them line"
            f" {lines.first_invalid:,}; those bytes were read as U+FFFD",
            file=sys.stderr,
        )


@dataclass(slots=True)
class Lines:
    """The lines of a stream as text. A line ends with a line feed and nothing else, whatever it holds.

    A carriage return before the line feed and a byte order mark at the start are not part of the
    text. What is not UTF-8 becomes U+FFFD.
    """

    stream: BinaryIO
    path: Path | None
    # How many lines so far were not valid UTF-8, and the number of the first, from 1.
    invalid: int = 0
    first_invalid: int = 0

    def __iter__(self) -> Iterator[str]:
        with _readable(self.path):
            for number, line in enumerate(self.stream, start=1):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError:
                    text = line.decode("utf-8", "replace")
                    self.invalid += 1
                    self.first_invalid = self.first_invalid or number
                yield text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text


@contextmanager
def _readable(path: Path | None) -> Iterator[None]:
    """Raise DataError when the input turns out to be damaged."""
    try:
        yield
    except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(f"input: {path or 'standard input'} cannot be read to its end ({error})") from error


def _check_output(path: Path, source: Path | None) -> None:
    """Raise ConfigError before any work is done for nothing."""
    if path.is_dir():
        raise ConfigError(f"output={path}: is a folder, not a file")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"output={path}: the folder does not exist; make it first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise ConfigError(f"output={path}: may not be written")
    if source is not None and path.exists() and path.samefile(source):
        raise ConfigError(f"output={path}: is the input itself; choose another file")


@contextmanager
def _open_input(path: Path | None) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if it is a .gz or .zst, or of standard input."""
    if path is None:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        if path.suffix == ".gz":
            yield gzip.GzipFile(fileobj=file)  # type: ignore[misc]
        elif path.suffix == ".zst":
            yield BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        else:
            yield file


@contextmanager
def _open_output(name: str | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears when all is written and not at all if anything fails."""
    # A link stays a link to the file that is replaced.
    path = None if name is None else Path(name).resolve()
    if path is None:
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():
        # /dev/null, a pipe: nothing to replace.
        with path.open("wb") as file:
            yield file
    else:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _count_lines(path: Path) -> int:
    """Lines of a file, for the time left; one more than line feeds when the last has none."""
    count, last = 0, b"\n"
    with _open_input(path) as stream, _readable(path):
        while block := stream.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """SIGTERM and a closed terminal end the program by an exception, so that partial files go."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
