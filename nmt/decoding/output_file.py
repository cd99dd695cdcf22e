"""A file of translations that appears whole or not at all, and can be gone on with after any end.

    out.txt.partial         what is translated so far
    out.txt.partial.json    how much of it is sure, and what it was made from

Both are renewed window by window: first the bytes, then the record of them, each forced to the disk. What a
killed job has written beyond its record is cut off when the work goes on. Packed files hold one gzip member
or zstandard frame per window, so that they can be cut there. A job locks its partial file; the system
releases the lock whenever and however the job ends.
"""

import fcntl
import gzip
import json
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard

from nmt.data.fingerprint import write_json


class OutputError(ValueError):
    """An output that cannot be written, or not gone on with; the message names the file and the way out."""


def _pack_gzip(data: bytes) -> bytes:
    # Without the time of day: the same text gives the same file.
    return gzip.compress(data, compresslevel=6, mtime=0)


def _pack_zstandard(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


# Parts of an identity of which only hashes are known.
_OTHERS = {
    "input": "another input",
    "model": "another model",
    "terms": "other terms",
    "prefixes": "other prefixes",
}
_PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": _pack_gzip, ".zst": _pack_zstandard}


class OutputFile:
    """An output that grows by windows of lines; a context manager.

    `lines` is how many are done, those of an earlier job included; `finished` whether nothing is left to do.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any] | None, *, resume: bool | None) -> None:
        """
        Args:
            path: where the file appears when `finish` is called. A link stays a link.
            identity: all that its content depends on; None when the job cannot be repeated.
            resume: go on where an earlier job stopped (true), forget it (false), or refuse (None).
        """
        self.path = path.resolve()
        self.lines = 0
        self.finished = False
        self._name = path
        self._identity = None if identity is None else json.loads(json.dumps(identity))
        self._resume = resume
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._record = self.path.with_name(f"{self.path.name}.partial.json")
        self._pack = _PACKERS.get(self.path.suffix, bytes)
        self._bytes = 0

    def __enter__(self) -> "OutputFile":
        """
        Raises:
            OutputError: another job writes this file, an earlier one has left something and `resume` does
                not say what to do with it, or it was made from something else.
        """
        self._file = self._locked()
        try:
            self._take_up()
        except BaseException:
            self._remove_if_empty()
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (self.finished or self.kept):
            self._record.unlink(missing_ok=True)
            self._partial.unlink(missing_ok=True)
        self._file.close()

    @property
    def kept(self) -> int:
        """Lines that a job which ends now leaves to go on with: those on record, for an interrupt can come
        between a window and its record."""
        return 0 if self._identity is None else int(self._read_record().get("lines", 0))

    def write(self, data: bytes, *, lines: int) -> None:
        """Add the text of a window of so many lines.

        Raises:
            OutputError: the disk is full or the like; what was written before stays.
        """
        packed = memoryview(self._pack(data))
        self._bytes += len(packed)
        try:
            while packed:
                packed = packed[self._file.write(packed) :]
            self.lines += lines
            self._save()
        except OSError as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Let the file appear in its place. The record of it stays until `forget`."""
        self.finished = True
        try:
            if self._identity is None:
                os.fsync(self._file.fileno())
            self._save()
            self._partial.replace(self.path)
            _flush_folder(self.path.parent)
        except OSError as error:
            self.finished = False
            raise self._failure(error) from error

    def forget(self) -> None:
        """The whole job is done: nobody needs to know from what."""
        self._record.unlink(missing_ok=True)

    def _locked(self) -> FileIO:
        while True:
            try:
                file = self._partial.open("ab", buffering=0)
            except OSError as error:
                raise self._failure(error) from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise OutputError(f"output={self._name}: another job is writing it now") from None
            except OSError:
                return file  # A file system without locks.
            # The job that had it may have finished or given up in the meantime.
            if self._partial.exists() and os.path.samestat(os.fstat(file.fileno()), self._partial.stat()):
                return file
            file.close()

    def _take_up(self) -> None:
        """Go on with what an earlier job has left, or begin anew."""
        record = self._read_record()
        size = self._partial.stat().st_size
        written = self.path.stat().st_size if self.path.is_file() else -1
        appeared = record.get("finished") is True and size == 0 and written == record.get("bytes")
        if not record or self._resume is False or not (size or appeared):
            self._record.unlink(missing_ok=True)
            self._file.truncate(0)
            return
        done = f"{record.get('lines', 0):,} lines"
        if self._resume is None or self._identity is None:
            raise OutputError(
                f"output={self._name}: an earlier job stopped after {done}; resume=true goes on with it,"
                " resume=false throws it away"
            )
        self._check_identity(record["identity"])
        if size < record["bytes"] and not appeared:
            raise OutputError(
                f"output={self._name}: {self._partial.name} holds less than its {done};"
                " resume=false starts anew"
            )
        self.lines, self._bytes = record["lines"], record["bytes"]
        self.finished = appeared
        if appeared:
            self._remove_if_empty()
        else:
            self._file.truncate(self._bytes)

    def _check_identity(self, earlier: dict[str, Any]) -> None:
        assert self._identity is not None
        for name in earlier.keys() | self._identity.keys():
            before, now = earlier.get(name), self._identity.get(name)
            if before != now:
                what = _OTHERS.get(name, f"{name}={before}, not {now}")
                raise OutputError(
                    f"output={self._name}: the earlier job was begun with {what};"
                    " resume=false starts anew, or go back to what it was"
                )

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        kinds = {"identity": dict, "lines": int, "bytes": int}
        whole = isinstance(record, dict) and all(isinstance(record.get(k), t) for k, t in kinds.items())
        return record if whole else {}

    def _save(self) -> None:
        if self._identity is None:
            return
        os.fsync(self._file.fileno())
        state = {"lines": self.lines, "bytes": self._bytes, "finished": self.finished}
        write_json(self._record, {**state, "identity": self._identity})

    def _remove_if_empty(self) -> None:
        if self._partial.stat().st_size == 0:
            self._partial.unlink()

    def _failure(self, error: OSError) -> OutputError:
        way_out = "; make room and go on with resume=true" if self.kept else ""
        return OutputError(f"output={self._name}: cannot be written ({error.strerror or error}){way_out}")


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
