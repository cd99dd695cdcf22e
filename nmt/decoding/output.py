"""Where translations, scores and pictures go: standard output, a device, a file that appears whole."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from nmt.decoding.output_file import OutputError, OutputFile


class Stream:
    """Standard output, a pipe or a device, to which every window goes at once."""

    lines = 0
    finished = False
    kept = 0

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> "Stream":
        self._file: BinaryIO = sys.stdout.buffer if self._path is None else self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._file.close()

    def write(self, data: bytes, *, lines: int) -> None:
        """Send the text of a window."""
        self._file.write(data)
        self._file.flush()
        self.lines += lines

    def finish(self) -> None:
        """There is nothing to put in its place."""

    def forget(self) -> None:
        """There is nothing to forget."""


Output = OutputFile | Stream


def open_output(
    path: Path | None, identity: Mapping[str, Any] | None = None, *, resume: bool | None = None
) -> Output:
    """The output at a path, None for standard output; `identity` and `resume` as in `OutputFile`."""
    if path is None or (path.exists() and not path.is_file()):
        return Stream(path)
    return OutputFile(path, identity, resume=resume)


def check_output(path: Path, inputs: Sequence[Path] = (), *, name: str = "output") -> None:
    """
    Args:
        name: of the setting, for messages.

    Raises:
        OutputError: the file cannot be written, or is one of the inputs; before any work is done for nothing.
    """
    if path.is_dir():
        raise OutputError(f"{name}={path}: is a folder, not a file")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{name}={path}: the folder does not exist; make it first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise OutputError(f"{name}={path}: may not be written")
    if path.exists() and any(path.samefile(source) for source in inputs if source.exists()):
        raise OutputError(f"{name}={path}: is the input itself; choose another file")
