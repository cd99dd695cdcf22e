"""Updates with full batches before training, on parts that are thrown away: what they take, what fits."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nmt.data.batching import BatchShape, Work, batch_shapes
from nmt.data.loader import DeviceBatch
from nmt.model.transformer import Transformer
from nmt.training.distributed import Processes
from nmt.training.memory import is_out_of_memory, peak_bytes, release, start_peak
from nmt.training.optim import Optimizer
from nmt.training.replicas import Replicas

# The first pass through a shape pays for buffers and kernels too. Beyond this they no longer matter, and a
# second pass, only to be timed, would be a long wait.
LONG_PASS_SECONDS = 5.0
# Rows of the two batches that foretell the memory of large ones, and how much larger those must be.
PROBED_ROWS = (8, 16)
WORTH_PROBING = 2


def full_batch(
    shape: BatchShape, *, source_vocabulary_size: int, target_vocabulary_size: int, device: torch.device
) -> DeviceBatch:
    """A batch without an empty slot. Its pieces are spread over the vocabulary.

    Positions are all 0: they cost the same, and learned ones may not reach as far as a row.
    """
    slots = torch.arange(shape.rows * shape.row_length, dtype=torch.int32, device=device)
    slots = slots.view(shape.rows, shape.row_length)
    source, target = (1 + slots % (size - 1) for size in (source_vocabulary_size, target_vocabulary_size))
    ones, zeros = torch.ones_like(slots), torch.zeros_like(slots)
    return DeviceBatch(
        source_BS=source,
        source_segments_BS=ones,
        source_positions_BS=zeros,
        target_input_BT=target,
        target_BT=target,
        target_segments_BT=ones,
        target_positions_BT=zeros,
        target_tokens=slots.numel(),
        row_work=np.full((shape.rows, len(Work._fields)), shape.row_length),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model and updates with full batches, really run."""

    parameters: int
    # Those that grow with the vocabulary: embeddings and output projection.
    vocabulary_parameters: int
    # Target slots of one batch.
    slots: int
    peak_bytes: int
    # None where the system does not say.
    usable_bytes: int | None
    step_seconds: float


class Rehearsal:
    """Runs full batches on replicas and an optimizer that are of no use for training afterwards.

    Several processes go through it in step: each figure is that of the process that has the worst.
    """

    def __init__(
        self,
        replicas: Replicas,
        optimizer: Optimizer,
        *,
        row_lengths: tuple[int, int],
        label_smoothing: float,
        processes: Processes,
    ) -> None:
        """
        Args:
            row_lengths: usual and long row length.
        """
        self.replicas = replicas
        self.optimizer = optimizer
        self.row_lengths = row_lengths
        self.label_smoothing = label_smoothing
        self.processes = processes
        self.device = optimizer.parameters.device
        # Of the last pass and the last full batches.
        self.backward_seconds = 0.0
        self.last_peak = 0
        replicas.train()

    def peak_bytes(self, max_tokens: int) -> int | None:
        """Most memory in use at once in updates with full batches of every shape; None when too little."""
        release(self.device)
        start_peak(self.device)
        try:
            if self.optimizer.parameters.sharded:
                # Slices have no gradients before the first pass.
                self._backward(batch_shapes(max_tokens, *self.row_lengths)[0])
            # Makes the moments, so that they are there when the batches come.
            self.optimizer.update(step=1, divisor=1.0)
            # The usual shape last: `backward_seconds` is its.
            for shape in reversed(batch_shapes(max_tokens, *self.row_lengths)):
                self._backward(shape)
            peak = float(peak_bytes(self.device))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self.optimizer.parameters.sharded:
                raise
            peak = float("inf")
        # Behind the handler, because the traceback in its error keeps the activations alive.
        self.replicas.clear_gradients()
        release(self.device)
        worst = self.processes.highest([peak])[0]
        if worst == float("inf"):
            return None
        self.last_peak = int(worst)
        return self.last_peak

    def measure(self, max_tokens: int, *, accumulate_batches: int, usable: int | None) -> Measured:
        """What updates with full batches take, which have been run last and do fit."""
        shape = batch_shapes(max_tokens, *self.row_lengths)[0]
        if self.processes.highest([self.backward_seconds])[0] < LONG_PASS_SECONDS:
            self._backward(shape)
        start = time.perf_counter()
        self.optimizer.parameters.sum_gradients(self.processes)
        self.optimizer.update(step=1, divisor=1.0)
        seconds = accumulate_batches * self.backward_seconds + time.perf_counter() - start
        total, vocabulary = count_parameters(self.replicas.models[0])
        return Measured(
            parameters=total,
            vocabulary_parameters=vocabulary,
            slots=max_tokens,
            peak_bytes=self.last_peak,
            usable_bytes=usable,
            step_seconds=self.processes.highest([seconds])[0],
        )

    def _backward(self, shape: BatchShape) -> None:
        model = self.replicas.models[0]
        batch = full_batch(
            shape,
            source_vocabulary_size=model.source_embedding.num_embeddings,
            target_vocabulary_size=model.target_embedding.num_embeddings,
            device=self.device,
        )
        start = time.perf_counter()
        self.optimizer.parameters.expect_backward(last=True)
        sums = self.replicas.backward(batch, label_smoothing=self.label_smoothing, loss_scale=1.0)
        sums.tolist()  # waits for the device
        self.backward_seconds = time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """Memory by the size of batches: it grows by nearly the same for each slot."""

    slots: int
    bytes: int
    bytes_per_slot: float

    def at(self, slots: int) -> float:
        """Bytes of batches of so many slots."""
        return self.bytes + (slots - self.slots) * self.bytes_per_slot

    def slots_within(self, limit: int) -> int:
        """Slots of batches that take so many bytes."""
        return self.slots + int((limit - self.bytes) / self.bytes_per_slot)


# Runs batches of so many slots; gives their memory, or None when it was not enough.
PeakBytes = Callable[[int], int | None]


def foretell(peak_bytes: PeakBytes, *, unit: int) -> MemoryLine | None:
    """The line through two small batches; None when they do not fit.

    Args:
        unit: slots of the longest row.
    """
    few, more = (rows * unit for rows in PROBED_ROWS)
    peaks = peak_bytes(few), peak_bytes(more)
    if peaks[0] is None or peaks[1] is None:
        return None
    return MemoryLine(more, peaks[1], max(1, peaks[1] - peaks[0]) / (more - few))


def fits(peak_bytes: PeakBytes, slots: int, *, unit: int, limit: int | None) -> bool:
    """Whether batches of so many slots run; not tried when small ones foretell more than `limit` bytes.

    Args:
        limit: for devices on which trying means that the system ends the process; None tries at once.
    """
    if limit is not None and slots > WORTH_PROBING * PROBED_ROWS[-1] * unit:
        line = foretell(peak_bytes, unit=unit)
        if line is None or line.at(slots) > limit:
            return False
    return peak_bytes(slots) is not None


def largest_batch(peak_bytes: PeakBytes, *, unit: int, ceiling: int, limit: int | None) -> int:
    """Most slots of a batch, at most `ceiling`, that run within `limit` bytes; 0 when not even `unit` does.

    Two small batches foretell the size, which is then really run and lowered by an eighth while it does not
    fit. Below the ceiling it is a multiple of `unit`, the slots of the longest row.
    """
    slots = ceiling
    if limit is not None and ceiling > WORTH_PROBING * PROBED_ROWS[-1] * unit:
        line = foretell(peak_bytes, unit=unit)
        foretold = PROBED_ROWS[-1] * unit if line is None else line.slots_within(limit)
        slots = min(ceiling, max(PROBED_ROWS[-1] * unit, foretold // unit * unit))
    while slots > 0:
        peak = peak_bytes(slots)
        if peak is not None and (limit is None or peak <= limit):
            return slots
        slots = slots * 7 // 8 // unit * unit
    return 0


def count_parameters(model: Transformer) -> tuple[int, int]:
    """Parameters in all, and those of embeddings and output projection, tied ones once."""
    total = sum(parameter.numel() for parameter in model.parameters())
    layers = (model.source_embedding, model.target_embedding, model.output_projection)
    tied = {id(layer.weight): layer.weight.numel() for layer in layers}
    return total, sum(tied.values())
