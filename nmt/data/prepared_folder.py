"""A folder that several processes may want made at once, and that is whole as soon as it has its name.

<root>/<name>/      the folder
<root>/<name>.lock  held by the process that makes it; the system frees it when that process dies
<root>/.<name>.part what that process has written so far; renamed when it is whole
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nmt.data.progress import say

_POLL_SECONDS = 0.2


def make_once(folder: Path, write: Callable[[Path], None], is_finished: Callable[[Path], bool]) -> bool:
    """Have `write` fill `folder` unless it is finished; return whether this process did it.

    `write` gets the empty folder that will be renamed. If it fails or is killed, `folder` stays as it was.
    """
    if is_finished(folder):
        return False
    with _lock(folder):
        _remove_remains(folder.parent, held=folder.name)
        if is_finished(folder):  # Another process made it while this one waited.
            return False
        if folder.exists():
            shutil.rmtree(folder)
        part = _part(folder)
        part.mkdir()
        try:
            write(part)
            _flush(part)
            part.rename(folder)
            _flush_entries(folder.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return True


def _part(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.part")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is preparing {folder}; waiting for it")
        lock.acquire(poll_interval=_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _remove_remains(root: Path, *, held: str) -> None:
    """Delete what killed processes left: parts whose lock nobody holds, or this process."""
    for part in root.glob(".*.part"):
        name = part.name[1 : -len(".part")]
        if name == held:
            shutil.rmtree(part)
            continue
        try:
            with FileLock(root / f"{name}.lock").acquire(timeout=0):
                shutil.rmtree(part, ignore_errors=True)
        except Timeout:
            continue  # Its process is alive.


def _flush(folder: Path) -> None:
    """Bring every file under `folder` to the disk before its name says that it is whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _flush_entries(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
