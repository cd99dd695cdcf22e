"""How a process learns at once that another one of its job is gone, whatever it is doing.

Each process listens to rank 0, and rank 0 to each of them, in threads, on connections that are silent until
somebody leaves: with last words when it ends by itself, by the end of the connection when it is killed. That
depends neither on an agent that ends the others, which Slurm has not, nor on the operation they wait in: NCCL
goes on waiting for a process that was killed.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

# The longest that processes wait for each other in an operation. They share all work, so that only writing a
# checkpoint, compiling and a slow disk can hold one of them up; death is noticed at once without it.
TIMEOUT = timedelta(minutes=10)
FOREVER = timedelta(days=365)

# Until a process that was told so ends by itself; then it is ended, wherever it hangs.
GRACE_SECONDS = 10.0
# For a message to one that may be gone too.
_SENDING = timedelta(seconds=3)
_MESSAGE_BYTES = 1024
GO_ON = "go on from the last checkpoint with resume=true"
_LAST_WORDS, _MEETING = 1, 2


class ProcessLostError(ValueError):
    """Another process of the job is gone or does not answer, and so this one ends too."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job ends: {reason}")


class Lifeline:
    """Connections between rank 0 and all others. Every process must make one, at the same point."""

    def __init__(self, places: Sequence[str], rank: int) -> None:
        """
        Args:
            places: what to call each rank in messages.
        """
        self.places = places
        self.rank = rank
        self.group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self.peers = range(1, len(places)) if rank == 0 else range(1)
        self.reason: str | None = None
        self._lost = threading.Event()
        self._lock = threading.Lock()
        self._listeners = [
            threading.Thread(target=self._listen, args=(peer,), name="lifeline", daemon=True)
            for peer in self.peers
        ]
        for listener in self._listeners:
            listener.start()

    def loss(self, *, wait_seconds: float) -> str | None:
        """Why the job has to end; None when it has not, as far as is known so many seconds from now."""
        self._lost.wait(wait_seconds)
        return self.reason

    def meet(self, limit: timedelta) -> None:
        """Go on when every process is here.

        Raises:
            ProcessLostError: one is not here within `limit`.
        """
        word = torch.zeros(1, dtype=torch.uint8)
        for operation in (dist.irecv, dist.isend) if self.rank == 0 else (dist.isend, dist.irecv):
            for peer in self.peers:
                try:
                    _finish(operation(word, peer, group=self.group, tag=_MEETING), limit)
                except RuntimeError as error:
                    gone = self.loss(wait_seconds=3)
                    minutes = limit.total_seconds() / 60
                    late = f"{self.places[peer]} has not come within {minutes:.0f} min; {GO_ON}"
                    raise ProcessLostError(gone or late) from error

    def leave(self, last_words: str = "") -> None:
        """End this process's part of the job; without last words it is done, and waits for the others'."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = last_words
        self._tell(last_words)
        if not last_words:
            for listener in self._listeners:
                listener.join(TIMEOUT.total_seconds())

    def _listen(self, peer: int) -> None:
        message = torch.zeros(_MESSAGE_BYTES, dtype=torch.uint8)
        try:
            _finish(dist.irecv(message, peer, group=self.group, tag=_LAST_WORDS), FOREVER)
            words = bytes(message.tolist()).rstrip(b"\0").decode(errors="ignore")
        except RuntimeError:
            words = (
                f"{self.places[peer]} is gone without a word (killed, perhaps for want of memory, or with its"
                f" machine); {GO_ON}"
            )
        if words:
            self._lose(words)

    def _lose(self, reason: str) -> None:
        """Tell everyone, and end this process if it does not do so by itself."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
        self._lost.set()
        if self.rank == 0:
            self._tell(reason)
        time.sleep(GRACE_SECONDS)
        print(
            f"nmt: {self.places[self.rank]}: error: {ProcessLostError(reason)}", file=sys.stderr, flush=True
        )
        os._exit(2)

    def _tell(self, words: str) -> None:
        content = words.encode()[:_MESSAGE_BYTES]
        message = torch.zeros(_MESSAGE_BYTES, dtype=torch.uint8)
        message[: len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        for peer in self.peers:
            try:
                _finish(dist.isend(message, peer, group=self.group, tag=_LAST_WORDS), _SENDING)
            except RuntimeError:
                continue  # gone as well


def _finish(work: dist.Work | None, limit: timedelta) -> None:
    assert work is not None, "only processes outside the group have nothing to wait for"
    work.wait(limit)
