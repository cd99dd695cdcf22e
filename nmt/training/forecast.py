"""What a run will take, said before its first step."""

from dataclasses import dataclass

from nmt.data.row_length import Packing
from nmt.training.rehearsal import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Figures of a run that has not begun, or goes on."""

    measured: Measured
    # Of one epoch, over all processes.
    target_pieces: int
    updates_per_epoch: float
    steps_left: int
    # None is no limit.
    seconds_left: float | None

    def __str__(self) -> str:
        measured = self.measured
        of = "" if measured.usable_bytes is None else f" of {_gigabytes(measured.usable_bytes)}"
        epochs = self.steps_left / self.updates_per_epoch
        return (
            f"forecast: {measured.parameters / 1e6:.1f} M parameters,"
            f" {measured.vocabulary_parameters / 1e6:.1f} M in embeddings; an epoch is"
            f" {self.target_pieces:,} target pieces in about {self.updates_per_epoch:,.0f} updates,"
            f" {self.steps_left:,} steps are {epochs:,.1f} epochs\n"
            f"forecast: full batches of {measured.slots:,} slots take {_gigabytes(measured.peak_bytes)}{of};"
            f" a step {measured.step_seconds:.2g} s: {self._end()}, without validation"
        )

    def _end(self) -> str:
        seconds = self.steps_left * self.measured.step_seconds
        if self.seconds_left is None or seconds <= self.seconds_left:
            return f"about {_duration(seconds)} for {self.steps_left:,} steps"
        steps = int(self.seconds_left / self.measured.step_seconds)
        return f"about {steps:,} steps in the {_duration(self.seconds_left)} of training.max_minutes"


def updates_per_epoch(packing: Packing, *, sentences: int, max_tokens: int, batches_per_update: int) -> float:
    """Updates that use every sentence once, as far as a sample tells.

    Args:
        packing: of a sample of the sentences.
        batches_per_update: over all processes.
    """
    batches = sum(
        rows / max(1, max_tokens // length)
        for rows, length in zip(packing.rows, packing.row_lengths, strict=True)
    )
    return max(batches * sentences / packing.sentences, 1.0) / batches_per_update


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
