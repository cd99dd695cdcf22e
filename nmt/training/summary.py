"""What a run came to: a small table for the terminal, summary.json for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nmt.training.atomic_writes import write_text
from nmt.training.checkpoint import TrainState

REASONS = {
    "steps": "training.max_steps reached",
    "minutes": "training.max_minutes reached",
    "patience": "no better BLEU in training.patience validations",
    "signal": "stopped by a signal",
}


@dataclass(kw_only=True, slots=True)
class RunSummary:
    """Totals of a run over all its restarts; memory is that of the last process."""

    # steps, minutes, patience or signal
    stopped: str
    steps: int
    # Passes over the training set, by target pieces.
    epochs: float
    skipped_steps: int
    best_bleu: float
    best_step: int
    seconds: float
    validation_seconds: float
    target_tokens: int
    # Without and with the time of the validations.
    target_tokens_per_second: float
    target_tokens_per_second_with_validation: float
    # Of the training time, spent waiting for batches.
    wait_share: float
    # MB of 10^6 bytes; allocated by tensors on CUDA, resident otherwise.
    peak_memory_mb: float

    @classmethod
    def of(
        cls, stopped: str, state: TrainState, *, tokens_per_epoch: int, memory: Mapping[str, float]
    ) -> "RunSummary":
        """
        Args:
            stopped: what `Trainer.fit` returned.
            tokens_per_epoch: target pieces of the training set.
            memory: what `Gauges.memory` gives; its last entry is that of the device.
        """
        training_seconds = max(state.seconds - state.validation_seconds, 1e-9)
        return cls(
            stopped=stopped,
            steps=state.step,
            epochs=state.target_tokens / max(1, tokens_per_epoch),
            skipped_steps=state.skipped_steps,
            best_bleu=state.best_bleu,
            best_step=state.best_step,
            seconds=state.seconds,
            validation_seconds=state.validation_seconds,
            target_tokens=state.target_tokens,
            target_tokens_per_second=state.target_tokens / training_seconds,
            target_tokens_per_second_with_validation=state.target_tokens / max(state.seconds, 1e-9),
            wait_share=state.wait_seconds / training_seconds,
            peak_memory_mb=list(memory.values())[-1],
        )

    def table(self) -> str:
        """The reason and one line per fact."""
        training_seconds = self.seconds - self.validation_seconds
        rows = {
            "best validation BLEU": (
                f"{self.best_bleu:.2f} at step {self.best_step:,}" if self.best_step else "none yet"
            ),
            "steps": f"{self.steps:,} ({self.epochs:.1f} epochs), {self.skipped_steps:,} skipped",
            "time": (
                f"{duration(self.seconds)}: training {duration(training_seconds)},"
                f" validation {duration(self.validation_seconds)}"
            ),
            "target pieces": (
                f"{self.target_tokens:,}: {self.target_tokens_per_second:,.0f}/s in training,"
                f" {self.target_tokens_per_second_with_validation:,.0f}/s with validation"
            ),
            "waiting for batches": f"{self.wait_share:.1%} of the training time",
            "peak memory": f"{self.peak_memory_mb:,.0f} MB",
        }
        return "\n".join([REASONS[self.stopped], *(f"  {name:<22}{fact}" for name, fact in rows.items())])

    def write(self, path: Path) -> None:
        """Write the JSON file whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def duration(seconds: float) -> str:
    """A span of time in its two largest units, such as `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
