"""Averages of weights: of all updates while a run goes on, and of the files that it has left.

Both smooth out the noise of single updates: Polyak and Juditsky (1992); averages of the last checkpoints are
the recipe of Vaswani et al. (2017, section 6.1).
"""

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


class AveragingError(ValueError):
    """Files whose weights cannot be averaged; the message names the one that does not fit."""


class MovingAverage:
    """Exponential moving average of a flat tensor of weights, in float32."""

    def __init__(self, masters: Tensor, decay: float) -> None:
        """
        Args:
            masters: what is averaged; the average begins with its values.
            decay: share of the old average after one update, in the long run.
        """
        self.masters = masters
        self.decay = decay
        self.weights = masters.clone()

    def update(self, step: int) -> None:
        """Take in the masters as they are after update `step`, counted from 1.

        The decay grows with the steps, so that the random weights of the beginning are soon forgotten.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        self.weights.lerp_(self.masters, 1 - decay)


def average_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of the weights of several safetensors files, added up in float64 and rounded once to float32.

    One tensor of one file is in memory at a time, beside the result.

    Raises:
        AveragingError: a file cannot be read, or its tensors have other names or shapes than the first one's.
    """
    first, *others = files
    shapes = _shapes(first)
    for file in others:
        found = _shapes(file)
        for name in sorted(shapes.keys() | found.keys()):
            if shapes.get(name) != found.get(name):
                raise AveragingError(
                    f"{file}: another model than {first}: {name} has shape {found.get(name)}, there"
                    f" {shapes.get(name)}"
                )
    return {name: _mean(files, name) for name in shapes}


def _mean(files: Sequence[Path], name: str) -> Tensor:
    total = _tensor(files[0], name).double()
    for file in files[1:]:
        total += _tensor(file, name)
    return (total / len(files)).float()


def _shapes(file: Path) -> dict[str, list[int]]:
    try:
        with safe_open(file, framework="pt") as weights:
            return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AveragingError(f"{file}: cannot be read ({error})") from error


def _tensor(file: Path, name: str) -> Tensor:
    # Opened anew each time: what a closed file had in memory is given back.
    try:
        with safe_open(file, framework="pt") as weights:
            tensor: Tensor = weights.get_tensor(name)
            return tensor
    except (OSError, SafetensorError) as error:
        raise AveragingError(f"{file}: cannot be read ({error})") from error
