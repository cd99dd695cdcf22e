"""Windows of a file are always the same; those of a stream are what is there."""

import threading
import time
from collections.abc import Iterator
from itertools import chain, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.decoding import windows as module
from nmt.decoding.windows import WaitingLines, windows


@given(st.lists(st.integers(0, 60), max_size=80))
def test_windows_go_on_from_the_end_of_any_of_them(lengths: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW_LINES", 7)
        patch.setattr(module, "WINDOW_CHARACTERS", 100)
        lines = ["x" * length for length in lengths]
        found = list(windows(lines))
        assert list(chain(*found)) == lines
        assert all(0 < len(window) <= 7 for window in found)
        assert all(sum(map(len, window[:-1])) < 100 for window in found)
        for number in range(len(found)):
            done = sum(map(len, found[:number]))
            assert list(windows(lines[done:])) == found[number:]


def test_no_line_is_read_before_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_LINES", 4)
    lines = iter(range(1000))
    found = list(islice(windows(str(number) for number in lines), 2))
    assert [len(window) for window in found] == [4, 4]
    assert next(lines) == 8


def test_a_waiting_line_is_not_kept_waiting() -> None:
    asked = threading.Semaphore(0)

    def slow() -> Iterator[str]:
        for number in range(5):
            asked.acquire()
            yield str(number)

    found = iter(WaitingLines(slow()))
    for number in range(5):
        asked.release()
        assert next(found) == [str(number)]
    assert list(found) == []


def test_lines_that_came_meanwhile_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_LINES", 10)
    read = 0

    def fast() -> Iterator[str]:
        nonlocal read
        for number in range(100):
            read += 1
            yield str(number)

    found = iter(WaitingLines(fast()))
    deadline = time.monotonic() + 10
    while read < 21 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # It reads ahead, but not without end.
    assert read == 21
    sizes = [len(window) for window in found]
    assert sizes[0] == 10
    assert sum(sizes) == 100


def test_what_reading_raises_comes_after_the_lines_before_it() -> None:
    def broken() -> Iterator[str]:
        yield "a"
        yield "b"
        raise ValueError("broken")

    found: list[str] = []
    with pytest.raises(ValueError, match="broken"):
        found.extend(line for window in WaitingLines(broken()) for line in window)
    assert found == ["a", "b"]
