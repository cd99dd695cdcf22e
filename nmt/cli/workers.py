"""Windows of texts translated by several processes, given back in order.

A worker is started from nothing ("spawn"): a copy of a process in which PyTorch has computed ("fork") waits
for ever in its first product, for the threads of OpenMP are not copied, and CUDA cannot be copied at all.
Each has one connection to the main process, whose end shows that a process has died, on either side and
however it died. Workers hold nothing that could be lost: the main process ends them by SIGKILL.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from nmt.cli import host
from nmt.cli.recipe import Recipe, Translated
from nmt.decoding.progress import Counter
from nmt.decoding.translation import Translation
from nmt.decoding.windows import Window

# Of the main process, which ends the workers itself: a Ctrl-C reaches all processes of a terminal.
_NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Windows of each worker that are searched or wait for one before them.
_WINDOWS_EACH = 3
# For the system to say how a process has ended whose connection has.
_END_SECONDS = 5.0


class WorkerError(ValueError):
    """A worker has died."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker can be given a window, the first or the next; the translations of the one that it had."""

    translations: list[Translation]


@dataclass(frozen=True, slots=True)
class _Done:
    """So many more lines and sentences of a window are done."""

    lines: int
    sentences: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """What has ended a worker."""

    error: Exception
    trace: str


class Workers:
    """Processes that translate; a context manager, at whose end none of them is left."""

    def __init__(self, recipe: Recipe, count: int) -> None:
        self._recipe = recipe
        self._count = count
        self._processes: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> "Workers":
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        # Started with the first worker otherwise, which lets the signals through again.
        resource_tracker.ensure_running()
        # Inherited, so that no signal finds a worker unprepared, even while it starts.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS)
        try:
            for place in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, self._recipe, place), daemon=True)
                process.start()
                # With it the connection would outlive the worker.
                theirs.close()
                self._processes[ours] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _end(self) -> None:
        for process in self._processes.values():
            process.kill()
        for connection, process in self._processes.items():
            process.join()
            connection.close()

    def translate(self, windows: Iterable[Window], counter: Counter) -> Iterator[Translated]:
        """The translations of each window, in order; a few windows are read ahead.

        Raises:
            WorkerError: a worker was killed.
            Exception: whatever a worker has raised.
        """
        waiting = iter(windows)
        idle: list[Connection] = []
        searched: dict[Connection, int] = {}
        # By number, until those before are done.
        known: dict[int, Window] = {}
        found: dict[int, list[Translation]] = {}
        first = following = 0
        while True:
            while idle and following - first < _WINDOWS_EACH * self._count:
                window = next(waiting, None)
                if window is None:
                    break
                known[following] = window
                self._send(idle[-1], window)
                searched[idle.pop()] = following
                following += 1
            if first in found:
                yield known.pop(first), found.pop(first)
                first += 1
            elif idle and not searched:
                return
            else:
                for connection, message in self._receive():
                    if isinstance(message, _Done):
                        counter.advance(message.lines, message.sentences)
                        continue
                    if connection in searched:
                        found[searched.pop(connection)] = message.translations
                    idle.append(connection)

    def _receive(self) -> Iterator[tuple[Connection, _Ready | _Done]]:
        """One message of each worker that has sent some; waits for one at least."""
        for connection in wait(list(self._processes)):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):
                raise self._death(connection) from None
            if isinstance(message, _Failure):
                message.error.add_note(f"in a worker:\n{message.trace}")
                raise message.error
            yield connection, message

    def _send(self, connection: Connection, window: Window) -> None:
        try:
            connection.send(window)
        except OSError:
            raise self._death(connection) from None

    def _death(self, connection: Connection) -> WorkerError:
        process = self._processes[connection]
        process.join(_END_SECONDS)
        code = process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                how += ", perhaps for want of memory: fewer workers take less"
        return WorkerError(f"worker process {process.pid} {how}")


class _Report:
    """Tells the main process what is done."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def advance(self, lines: int, sentences: int) -> None:
        self._connection.send(_Done(lines, sentences))


def _work(connection: Connection, recipe: Recipe, place: int) -> None:
    """All that a worker does."""
    host.tune()
    threading.Thread(target=_end_with_the_main_process, name="main process", daemon=True).start()
    try:
        translate = recipe.load(place)
        translations: list[Translation] = []
        while True:
            connection.send(_Ready(translations))
            translations = translate(connection.recv(), _Report(connection))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # The main process has gone.
    except Exception as error:
        _send_failure(connection, error)


def _send_failure(connection: Connection, error: Exception) -> None:
    trace = traceback.format_exc()
    try:
        connection.send(_Failure(error, trace))
    except OSError:
        return
    except Exception:
        # Not every exception can be sent.
        connection.send(_Failure(RuntimeError(f"{type(error).__name__}: {error}"), trace))


def _end_with_the_main_process() -> None:
    """In the middle of a search too, in which nobody listens to the connection."""
    main = multiprocessing.parent_process()
    assert main is not None
    wait([main.sentinel])
    os._exit(1)
