"""The average of a run's last checkpoints, tried when the run has ended."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nmt.training.averaging import average_weights
from nmt.training.checkpoint import WEIGHTS, Checkpoints, TrainState, find_damage
from nmt.training.parameters import Parameters
from nmt.training.validation import Validation, Validator

# Takes the average, its scores and the checkpoints that it is made of.
KeepAverage = Callable[[dict[str, Tensor], Validation, list[Path]], None]


def try_average(
    count: int,
    *,
    checkpoints: Checkpoints,
    parameters: Parameters,
    validator: Validator,
    state: TrainState,
    keep: KeepAverage,
) -> None:
    """Validate the average of the `count` newest checkpoints; `keep` it when it beats the best model.

    Fewer are averaged where a run has no more. The weights in training are not changed, nor is `state`: a
    run that goes on later does so as if nothing had been tried.
    """
    processes, say = validator.processes, validator.tracker.say
    paths: list[Path] = []
    flat = torch.zeros_like(parameters.masters)
    if processes.is_main:
        paths = _undamaged(checkpoints.paths()[-count:], say)
    (found,) = processes.highest([len(paths)])
    if found < 2:
        say(f"training.average_last={count}: there are no two checkpoints to average; the best model stays")
        return
    weights = average_weights([path / WEIGHTS for path in paths]) if paths else {}
    for name, view in parameters.named_views(flat).items():
        if weights:
            view.copy_(weights[name])
    # The others have zeros: they need no access to the files.
    processes.sum(flat)
    with parameters.computing_with(flat):
        loss, validation = validator.measure()
    if validation is None:
        return
    better = validation.bleu > state.best_bleu
    if better:
        keep(weights, validation, paths)
    names = ", ".join(path.name for path in paths)
    say(
        f"average of {names}: validation loss {loss:.3f}, BLEU {validation.bleu:.2f};"
        f" best model: {state.best_bleu:.2f} at step {state.best_step:,};"
        f" {'the average becomes the model' if better else 'the best model stays'}"
    )


def _undamaged(paths: list[Path], say: Callable[[str], None]) -> list[Path]:
    whole = []
    for path in paths:
        if damage := find_damage(path):
            say(f"{path}: {damage}; it is not averaged")
        else:
            whole.append(path)
    return whole
