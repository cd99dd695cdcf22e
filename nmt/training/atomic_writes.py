"""Files and folders of a run that are whole or not there, whatever kills the process that writes them.

A file is written beside its place, forced to the disk, and renamed. A folder cannot replace another in one
call: the old one steps aside as `.NAME.previous`, and comes back if the process ends before the new one is in
its place.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class WriteError(ValueError):
    """What a run leaves cannot be written; the message names it and the way out."""


def flush(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write or renew a file: a reader finds the old text or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    flush(partial)
    partial.replace(path)
    flush(path.parent)


@contextmanager
def renewed(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` when all is written.

    Raises:
        WriteError: it cannot be written, as on a full disk; `folder` is as it was.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in [*partial.iterdir(), partial]:
            flush(path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WriteError(
            f"{folder}: cannot be written ({error}); make room and go on with resume=true"
        ) from error
    recover(folder)
    previous = _previous(folder)
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    flush(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put back what a process that was killed while it renewed `folder` had moved aside."""
    previous = _previous(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
    elif previous.exists():
        previous.rename(folder)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


@contextmanager
def full_disk_said(folder: Path) -> Iterator[None]:
    """While a run writes into `folder`, a full disk ends it with one line.

    Raises:
        WriteError: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise WriteError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); make room and go on with"
            f" resume=true run.folder={folder}"
        ) from error
