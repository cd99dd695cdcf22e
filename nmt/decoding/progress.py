"""How far a translation is, on standard error: a bar on a terminal, now and then a line in a log file."""

import sys
import time
from types import TracebackType
from typing import Protocol

from tqdm import tqdm

# Seconds between two lines where no bar can be drawn.
_LINE_EVERY = 30.0


class Counter(Protocol):
    """Whoever counts what is done."""

    def advance(self, lines: int, sentences: int) -> None:
        """So many more are done; a long line holds many sentences, a blank one none."""


class Progress:
    """Lines done and time left, and how many sentences are translated in a second."""

    def __init__(self, total: int | None, *, shown: bool = True) -> None:
        """Of `total` lines, if it is known how many there will be."""
        self.total = total
        self.lines = self.before = 0
        self.sentences = 0
        self._shown = shown
        self._start = self._last = time.monotonic()
        self._drawn = shown and sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            disable=not self._drawn,
            desc="translate",
            unit=" lines",
            mininterval=0.2,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar, or the last line if all went well."""
        self._bar.close()
        if self._shown and not self._drawn and error is None:
            seconds = time.monotonic() - self._start
            took = tqdm.format_interval(round(seconds))
            self._say(f"{self.lines:,} lines translated, {took}, {self._speed(seconds)}")

    def skip(self, lines: int) -> None:
        """Lines that an earlier job has done."""
        self.before += lines
        self.lines += lines
        if self._drawn:
            self._bar.initial += lines
            self._bar.n += lines

    def advance(self, lines: int, sentences: int) -> None:
        """So many more are done; a long line holds many sentences, a blank one none."""
        self.lines += lines
        self.sentences += sentences
        now = time.monotonic()
        if self._drawn:
            self._bar.set_postfix_str(self._speed(now - self._start), refresh=False)
            self._bar.update(lines)
        elif self._shown and now - self._last >= _LINE_EVERY:
            self._last = now
            self._say(
                ", ".join(filter(None, [self._position(), self._speed(now - self._start), self._left(now)]))
            )

    def _position(self) -> str:
        of_all = "" if self.total is None else f" of {self.total:,}"
        return f"{self.lines:,}{of_all} lines translated"

    def _speed(self, seconds: float) -> str:
        return f"{self.sentences / max(seconds, 1e-3):,.1f} sentences/s"

    def _left(self, now: float) -> str:
        done = self.lines - self.before
        if self.total is None or done == 0:
            return ""
        return f"{tqdm.format_interval((self.total - self.lines) * (now - self._start) / done)} left"

    def _say(self, message: str) -> None:
        print(f"nmt: {message}", file=sys.stderr, flush=True)
