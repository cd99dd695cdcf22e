"""What is measured between two log lines."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from nmt.data.batching import Work
from nmt.data.loader import DeviceBatch


@dataclass(slots=True)
class StepReport:
    """One update: means per target piece, in nats, and the gradient's norm before clipping."""

    loss: float
    negative_log_likelihood: float
    gradient_norm: float
    target_tokens: int


@dataclass(slots=True)
class Interval:
    """Sums over the updates since the last log line."""

    updates: int = 0
    clipped: int = 0
    loss: float = 0.0
    negative_log_likelihood: float = 0.0
    gradient_norm: float = 0.0
    target_tokens: int = 0
    seconds: float = 0.0
    # Of this process's batches: real work, and slots with their padding.
    work: Work = field(default_factory=Work)
    slots: int = 0

    def add(
        self,
        report: StepReport,
        batches: Iterable[DeviceBatch],
        *,
        seconds: float,
        max_gradient_norm: float,
    ) -> None:
        """Count one update from these batches that took `seconds`."""
        for batch in batches:
            totals = batch.row_work.sum(axis=0).tolist()
            self.work = Work(*(sum(pair) for pair in zip(self.work, totals, strict=True)))
            self.slots += batch.slots
        self.updates += 1
        self.clipped += int(0 < max_gradient_norm < report.gradient_norm)
        self.loss += report.loss * report.target_tokens
        self.negative_log_likelihood += report.negative_log_likelihood * report.target_tokens
        self.gradient_norm += report.gradient_norm
        self.target_tokens += report.target_tokens
        self.seconds += seconds

    def scalars(self, *, wait_seconds: float) -> dict[str, float]:
        """Means by the names under which they are logged; tokens are real target pieces."""
        tokens, updates = max(1, self.target_tokens), max(1, self.updates)
        seconds = max(self.seconds, 1e-9)
        pieces = self.work.source_pieces + self.work.target_pieces
        return {
            "train/loss": self.loss / tokens,
            "train/perplexity": math.exp(min(self.negative_log_likelihood / tokens, 50)),
            "train/gradient_norm": self.gradient_norm / updates,
            "train/clipped_share": self.clipped / updates,
            "speed/target_tokens_per_second": self.target_tokens / seconds,
            "speed/seconds_per_step": self.seconds / updates,
            "speed/padding_share": 1 - pieces / max(1, self.slots),
            "speed/wait_share": wait_seconds / seconds,
        }
