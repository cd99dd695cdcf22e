"""An output file that appears when all is written, and not at all if anything fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nmt.config import ConfigError


def check_output(output: str | None, inputs: tuple[str, ...] = (), *, name: str = "output") -> None:
    """
    Args:
        name: of the setting, for messages.

    Raises:
        ConfigError: the file cannot be written, or is one of the inputs; before any work is done for nothing.
    """
    if output is None:
        return
    path = Path(output)
    if path.is_dir():
        raise ConfigError(f"{name}={output}: is a folder, not a file")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{name}={output}: the folder does not exist; make it first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise ConfigError(f"{name}={output}: may not be written")
    if path.exists() and any(path.samefile(each) for each in inputs if Path(each).exists()):
        raise ConfigError(f"{name}={output}: is the input itself; choose another file")


@contextmanager
def whole_file(output: str) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `output` at the end."""
    # A link stays a link to the file that is replaced.
    path = Path(output).resolve()
    if path.exists() and not path.is_file():
        # /dev/null, a pipe: nothing to replace.
        with path.open("wb") as file:
            yield file
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
