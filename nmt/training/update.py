"""One update of the weights: gradients of the micro-batches of all processes, then the optimizer."""

import math

import torch
from torch import Tensor

from nmt.data.loader import DeviceBatch
from nmt.training.checkpoint import TrainState
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.interval import StepReport
from nmt.training.memory import is_out_of_memory, release
from nmt.training.optim import Optimizer
from nmt.training.precision import LossScale
from nmt.training.replicas import Replicas

# Updates in a row with a gradient that is not finite after which a run gives up.
MAX_SKIPPED_IN_A_ROW = 20


class TrainingError(ValueError):
    """Training cannot go on; the message says why and what to change."""


def accumulate_gradients(
    replicas: Replicas,
    batches: list[DeviceBatch],
    *,
    label_smoothing: float,
    loss_scale: float,
    processes: Processes,
) -> Tensor:
    """Gradients of the loss sum over all micro-batches and processes, in the masters' gradients.

    Nothing is divided here: one division by the number of target pieces follows, so neither number nor
    shapes of micro-batches and processes change the update.

    A micro-batch that does not fit into memory is split in two, until it fits. All gradients begin anew
    then: what a pass that failed half-way has added cannot be told from the rest.

    Returns:
        Sums [4] of smoothed loss, negative log-likelihood (nats), target pieces and splits.

    Raises:
        TrainingError: a single row does not fit.
    """
    parts, sums = list(batches), None
    while sums is None:
        sums = _backward_or_split(replicas, parts, label_smoothing=label_smoothing, loss_scale=loss_scale)
    replicas.parameters.sum_gradients(processes)
    return processes.sum(torch.cat([sums, sums.new_full((1,), len(parts) - len(batches))]))


def _backward_or_split(
    replicas: Replicas, parts: list[DeviceBatch], *, label_smoothing: float, loss_scale: float
) -> Tensor | None:
    """Sums [3] over all parts; None when one did not fit into memory: then it stands there as two halves."""
    sums = []
    for number, part in enumerate(parts, start=1):
        replicas.parameters.expect_backward(last=number == len(parts))
        try:
            sums.append(replicas.backward(part, label_smoothing=label_smoothing, loss_scale=loss_scale))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
    else:
        return torch.stack(sums).sum(0)
    # Behind the handler, because the traceback in its error keeps the activations alive.
    rows, row_length = part.source_BS.shape
    if replicas.parameters.sharded:
        raise TrainingError(
            f"out of memory with a batch of {rows} rows of {row_length} slots, which cannot be split with"
            " training.sharding=full: lower training.max_tokens_per_batch and raise"
            " training.accumulate_batches as much"
        )
    replicas.clear_gradients()
    if rows == 1:
        raise TrainingError(
            f"out of memory with a single row of {row_length} slots; choose a smaller model, or lower"
            " data.cleaning.max_pieces_per_sentence and training.row_length"
        )
    release(part.source_BS.device)
    failed = len(sums)
    parts[failed : failed + 1] = part.split_rows(2)
    return None


class Updater:
    """Changes the weights, batch by batch, and counts in `state` what it has done."""

    def __init__(
        self,
        *,
        replicas: Replicas,
        optimizer: Optimizer,
        config: TrainingConfig,
        state: TrainState,
        processes: Processes,
    ) -> None:
        self.replicas = replicas
        self.optimizer = optimizer
        self.config = config
        self.state = state
        self.processes = processes
        self.loss_scale = LossScale(replicas.parameters.dtype)
        if state.step and self.loss_scale.dynamic:
            self.loss_scale.value = state.loss_scale
            self.loss_scale.good_steps = state.loss_scale_good_steps
        self.skipped_in_a_row = 0

    def update(self, batches: list[DeviceBatch]) -> StepReport:
        """One update from this process's micro-batches; it is skipped when its gradient is not finite.

        Raises:
            TrainingError: too many updates in a row had to be skipped.
        """
        scale = self.loss_scale.value
        sums = accumulate_gradients(
            self.replicas,
            batches,
            label_smoothing=self.config.label_smoothing,
            loss_scale=scale,
            processes=self.processes,
        )
        loss, nll, tokens, splits = sums.tolist()
        state = self.state
        state.step += 1
        norm = self.optimizer.update(step=state.step, divisor=tokens * scale)
        finite = math.isfinite(norm)
        self.loss_scale.update(finite)
        state.loss_scale, state.loss_scale_good_steps = self.loss_scale.value, self.loss_scale.good_steps
        state.skipped_steps += int(not finite)
        state.target_tokens += int(tokens)
        state.out_of_memory_splits += int(splits)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"the gradient was not finite in {MAX_SKIPPED_IN_A_ROW} updates in a row (step {state.step});"
                " lower training.learning_rate, raise training.warmup_steps or set training.precision=float32"
            )
        return StepReport(loss / tokens, nll / tokens, norm, int(tokens))
