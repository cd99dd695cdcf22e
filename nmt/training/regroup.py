"""Going on with a run on another number of processes than it began with.

The stream of batches knows no ranks: batch k goes to rank k modulo their number. While an update takes as
many batches as before, it takes the same ones, in the same order, whatever the number of processes.
"""

from nmt.training.checkpoint import CheckpointError, TrainState


def regroup(state: TrainState, world_size: int, accumulate_batches: int) -> str:
    """Let `state` go on with these processes; returns what is to be said about it.

    Raises:
        CheckpointError: an update would be made of another number of batches.
    """
    before, batches = state.world_size, state.world_size * state.accumulate_batches
    if world_size * accumulate_batches != batches:
        if batches % world_size == 0:
            way = f"set training.accumulate_batches={batches // world_size}"
        else:
            fitting = [str(count) for count in range(1, batches + 1) if batches % count == 0]
            way = f"start {' or '.join(fitting)} processes"
        raise CheckpointError(
            f"training.accumulate_batches={accumulate_batches} on {_processes(world_size)} makes updates of"
            f" {world_size * accumulate_batches} batches, and those of this run are made of {batches}"
            f" ({state.accumulate_batches} on {_processes(before)}); {way}"
        )
    state.world_size, state.accumulate_batches = world_size, accumulate_batches
    if before == world_size:
        return ""
    return (
        f"; on {_processes(world_size)} instead of {before}: the same batches in the same order, but dropout"
        " is drawn anew"
    )


def _processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"
