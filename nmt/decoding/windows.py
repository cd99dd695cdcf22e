"""How many lines are translated together.

Many, so that batches fill with sentences of one length (2,048 lines are translated 3 % faster than four
times 512); few enough for any memory, and for each of several workers to have some. The windows of a file
begin and end at the same lines whenever and however often it is read, and whoever translates them, so that a
job that was killed and goes on searches the batches that it would have searched.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

WINDOW_LINES = 512
WINDOW_CHARACTERS = 1 << 19


@dataclass(frozen=True, slots=True)
class Window:
    """Lines that are translated together, with what is asked for each of them."""

    lines: Sequence[str]
    # The number that the first of them has in its text, from 1.
    first_line: int = 1
    # With what the translation of each line begins; none when empty.
    prefixes: Sequence[str] = ()
    # Words that the translation of each line has; none when empty.
    terms: Sequence[Sequence[str]] = ()


def windows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines in windows of a fixed size; one that holds long lines is shorter."""
    window: list[str] = []
    characters = 0
    for line in lines:
        window.append(line)
        characters += len(line)
        if len(window) == WINDOW_LINES or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


class WaitingLines:
    """Lines of a stream as they come: a window is what is there, a single line if there are no more.

    A thread reads ahead by about two windows. Iterating raises what reading has raised.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._ended = False
        self._error: BaseException | None = None
        # A daemon: nothing can end a read from a terminal or pipe that says nothing more.
        threading.Thread(target=self._read, args=(lines,), name="reader of lines", daemon=True).start()

    def __iter__(self) -> Iterator[list[str]]:
        while window := self._take():
            yield window
        if self._error is not None:
            raise self._error

    def _read(self, lines: Iterable[str]) -> None:
        try:
            for line in lines:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    self._waiting.append(line)
                    self._characters += len(line)
                    self._changed.notify()
        except BaseException as error:
            # Whoever takes the lines raises it again.
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _has_room(self) -> bool:
        return len(self._waiting) < 2 * WINDOW_LINES and self._characters < 2 * WINDOW_CHARACTERS

    def _take(self) -> list[str]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            window = next(windows(self._waiting), [])
            for line in window:
                self._waiting.popleft()
                self._characters -= len(line)
            self._changed.notify()
        return window
