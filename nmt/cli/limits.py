"""What a training run settles before its first step: lengths of rows, size of batches, and a forecast."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from nmt.config import ConfigError, TrainConfig
from nmt.data.preparation import PreparedData
from nmt.data.row_length import Packing, choose_row_lengths, distinct_lengths, long_row_length, pack_sample
from nmt.model.config import Positions
from nmt.training.checkpoint import TrainState
from nmt.training.distributed import Processes
from nmt.training.forecast import Forecast, updates_per_epoch
from nmt.training.memory import is_out_of_memory, release, usable_bytes
from nmt.training.optim import Optimizer
from nmt.training.rehearsal import Measured, Rehearsal, fits, largest_batch
from nmt.training.replicas import Replicas
from nmt.training.update import TrainingError

# Largest batch that is chosen, in slots. A CPU is no faster with more; on a GPU more costs quality (Ott et
# al., 2018, had 400,000 pieces an update on 128 GPUs) and is left to whoever sets it.
MOST_SLOTS_ON_CPU, MOST_SLOTS_ON_GPU = 8192, 65536
# What a chosen batch may take of the memory; fragmentation, validation and other programs need the rest.
MEMORY_SHARE = 0.85

MakeReplicas = Callable[[TrainConfig], Replicas]


def settle_rows(config: TrainConfig, prepared: PreparedData) -> TrainConfig:
    """The settings with row lengths chosen from the corpus where they are 0.

    Raises:
        ConfigError: a sentence is longer than the rows and batches that the settings allow.
    """
    training = config.training
    longest = max(
        int(lengths.max(initial=1))
        for store in (prepared.train, prepared.valid)
        for lengths in (store.source_lengths, store.target_lengths)
    )
    names = ("max_tokens_per_batch", "long_row_length")
    limits = {f"training.{name}": getattr(training, name) for name in names}
    if config.model.positions is Positions.learned:
        limits["model.max_positions"] = config.model.max_positions
    limits = {name: slots for name, slots in limits.items() if slots > 0}
    for name, slots in limits.items():
        if slots < longest:
            raise ConfigError(
                f"{name}={slots} is less than the {longest} pieces of the longest sentence: raise it, or"
                " lower data.cleaning.max_pieces_per_sentence"
            )
    limit = min(limits.values(), default=None)
    usual, long = training.row_length, training.long_row_length
    if usual == 0:
        usual, chosen = choose_row_lengths(
            prepared.train.source_lengths, prepared.train.target_lengths, longest=longest, limit=limit
        )
        long = long or chosen
    elif long == 0:
        long = max(usual, long_row_length(longest, limit=limit))
    return change_training(config, row_length=usual, long_row_length=long)


def change_training(config: TrainConfig, **values: Any) -> TrainConfig:
    """The settings with other values in the section `training`, checked again.

    Raises:
        ConfigError: they do not go together.
    """
    try:
        return replace(config, training=replace(config.training, **values))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def packing(config: TrainConfig, prepared: PreparedData) -> Packing:
    """How the corpus fills the rows, by a sample."""
    lengths = distinct_lengths(config.training.row_length, config.training.long_row_length)
    return pack_sample(prepared.train.source_lengths, prepared.train.target_lengths, lengths)


def rehearse(
    config: TrainConfig,
    prepared: PreparedData,
    state: TrainState,
    *,
    make_replicas: MakeReplicas,
    processes: Processes,
    device: torch.device,
) -> tuple[TrainConfig, Forecast]:
    """Run full batches on parts that are thrown away: the size of the batches, settled, and a forecast.

    Raises:
        TrainingError: batches of the size asked for do not fit into memory.
    """
    packed = packing(config, prepared)
    epoch = packed.rows[0] * packed.row_lengths[0] * len(prepared.train) // packed.sentences
    most = MOST_SLOTS_ON_CPU if device.type == "cpu" else MOST_SLOTS_ON_GPU
    most = max(min(most, epoch // processes.world_size), config.training.long_row_length)
    try:
        slots, measured = _measure(config, most, make_replicas, processes, device)
    finally:
        release(device)
    config = change_training(config, max_tokens_per_batch=slots)
    training = config.training
    left = max(0.0, 60 * training.max_minutes - state.seconds) if training.max_minutes else None
    return config, Forecast(
        measured=measured,
        target_pieces=int(prepared.train.target_lengths.sum(dtype="int64")),
        updates_per_epoch=updates_per_epoch(
            packed,
            sentences=len(prepared.train),
            max_tokens=slots,
            batches_per_update=training.accumulate_batches * processes.world_size,
        ),
        steps_left=max(0, training.max_steps - state.step),
        seconds_left=left,
    )


def _measure(
    config: TrainConfig, most: int, make_replicas: MakeReplicas, processes: Processes, device: torch.device
) -> tuple[int, Measured]:
    """The slots of a batch, chosen up to `most` where the setting is 0, and what updates with them took."""
    training = config.training
    wanted, unit = training.max_tokens_per_batch, training.long_row_length
    usable = usable_bytes(device, sharers=processes.local_world_size)
    if usable is not None:
        usable = -int(processes.highest([-usable])[0])
    limit = None if usable is None else int(MEMORY_SHARE * usable)
    # Uncompiled: it would be compiled anew for every size that is tried.
    tried_config = change_training(config, max_tokens_per_batch=wanted or most, compile=False)
    replicas = _make(make_replicas, tried_config, usable)
    rehearsal = Rehearsal(
        replicas,
        Optimizer(replicas.parameters, training),
        row_lengths=(training.row_length, unit),
        label_smoothing=training.label_smoothing,
        processes=processes,
    )
    try:
        # On a CPU a batch that does not fit raises no error: the system ends the process.
        tried = usable if device.type == "cpu" else None
        if wanted and fits(rehearsal.peak_bytes, wanted, unit=unit, limit=tried):
            slots = wanted
        else:
            ceiling = min(wanted, most) if wanted else most
            slots = largest_batch(rehearsal.peak_bytes, unit=unit, ceiling=ceiling, limit=limit)
        if slots == 0 or wanted > slots:
            raise TrainingError(_too_large(config, slots, usable))
        return slots, rehearsal.measure(slots, accumulate_batches=training.accumulate_batches, usable=usable)
    finally:
        replicas.close()


def _make(make_replicas: MakeReplicas, config: TrainConfig, usable: int | None) -> Replicas:
    try:
        return make_replicas(config)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    raise TrainingError(_too_large(config, 0, usable))


def _too_large(config: TrainConfig, slots: int, usable: int | None) -> str:
    """What does not fit and what to do, given the most slots that do."""
    memory = "memory" if usable is None else f"the {usable / 1e9:.1f} GB of memory"
    training = config.training
    if slots == 0:
        return (
            f"this model does not fit into {memory}, even with one row of {training.long_row_length} pieces"
            " a batch; choose a smaller model, or lower data.cleaning.max_pieces_per_sentence"
        )
    updates = training.accumulate_batches * -(-training.max_tokens_per_batch // slots)
    return (
        f"batches of training.max_tokens_per_batch={training.max_tokens_per_batch} do not fit into {memory};"
        f" set training.max_tokens_per_batch={slots}, and training.accumulate_batches={updates} for updates"
        " of the same size"
    )
