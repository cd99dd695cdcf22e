"""What survives a restart: atomic save, restore, prune.

A checkpoint is a model folder (it can be evaluated and translated with) plus `optimizer.safetensors` and
`state.json`, and the checksums of them all:

    checkpoints/step-00002000/{config.yaml, tokenizer.model, model.safetensors, card.json,
                               optimizer.safetensors, state.json, checksums.json}

and `ema.safetensors`, the moving average by parameter name, in a run that keeps one.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nmt.training.atomic_writes import flush
from nmt.training.optim import Optimizer
from nmt.training.replicas import Replicas
from nmt.training.retention import retained

CHECKSUMS = "checksums.json"
WEIGHTS = "model.safetensors"
EMA = "ema.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names it and the way out."""


@dataclass(slots=True)
class TrainState:
    """Everything about a run that is not a tensor. What is not here does not survive a restart."""

    step: int = 0
    # Position in the stream of batches, see `nmt.data.loader.LoaderState`.
    epoch: int = 0
    position: int = 0
    target_tokens: int = 0
    # Wall-clock seconds of the training loop over all restarts.
    seconds: float = 0.0
    # Those of them that validations took, and waits for a batch up to the last log line.
    validation_seconds: float = 0.0
    wait_seconds: float = 0.0
    best_bleu: float = -1.0
    best_step: int = 0
    validations_since_best: int = 0
    # The newest validation.
    validated_bleu: float = -1.0
    validated_step: int = -1
    skipped_steps: int = 0
    # Micro-batches that did not fit into memory and were split in two, over all processes.
    out_of_memory_splits: int = 0
    loss_scale: float = 1.0
    loss_scale_good_steps: int = 0
    # Processes, and batches of each, that made an update.
    world_size: int = 1
    accumulate_batches: int = 1
    # A run goes on in the type it began with, whatever a new measurement of the device says.
    dtype: str = "float32"
    # Settings that must be the same for a resumed run to equal one that never stopped.
    identity: dict[str, str] = field(default_factory=dict)


def checksum(path: Path) -> str:
    """Hash of a file's content."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files; None when all are as they were written."""
    try:
        checksums = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        changed = [name for name, expected in checksums.items() if checksum(path / name) != expected]
    except (OSError, ValueError, AttributeError) as error:
        return f"incomplete ({CHECKSUMS}: {error})"
    return f"damaged ({', '.join(changed)} changed since it was written)" if changed else None


def checkpoint_paths(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(path.name.removeprefix("step-"))


def recorded_bleu(path: Path) -> float | None:
    """Validation BLEU of a checkpoint; None when it was not validated at its step, or cannot be read."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return float(state["validated_bleu"]) if state["validated_step"] == state["step"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# Writes weights, tokenizer and settings into a folder; the training code knows nothing of their format.
WriteModel = Callable[[Path, dict[str, Tensor], TrainState], None]


class Checkpoints:
    """The checkpoints of a run, of which some are kept: see `nmt.training.retention`."""

    def __init__(
        self, folder: Path, *, keep: int, write_model: WriteModel, keep_best: int = 0, keep_every: int = 0
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.keep_best = keep_best
        self.keep_every = keep_every
        self.write_model = write_model

    def paths(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return checkpoint_paths(self.folder)

    def save(self, state: TrainState, random_states: dict[str, Tensor], optimizer: Optimizer) -> Path:
        """Write one checkpoint whole or not at all: a temporary folder, flushed, renamed.

        Args:
            random_states: those of `Replicas.random_states` of every process.

        Raises:
            CheckpointError: it cannot be written, as on a full disk; those before it are untouched.
        """
        final = self.folder / f"step-{state.step:08d}"
        partial = self.folder / f".step-{state.step:08d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            self._write(partial, state, random_states, optimizer)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"{final}: cannot be written ({error}); make room and go on with resume=true, the checkpoint"
                " before it is whole"
            ) from error
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        flush(self.folder)
        self._prune(state.step)
        return final

    def _prune(self, step: int) -> None:
        """Remove what need not be kept, now that the checkpoint of `step` is on the disk.

        Later ones were damaged when the run went on from before them: they count for nothing. Killed
        processes have left unfinished ones.
        """
        paths = {step_of(path): path for path in self.paths() if step_of(path) <= step}
        scores = {number: recorded_bleu(path) for number, path in paths.items()}
        kept = retained(scores, newest=self.keep, best=self.keep_best, every=self.keep_every)
        for number in paths.keys() - kept:
            # Whoever is killed now leaves no half checkpoint under the name of a whole one.
            paths[number].rename(self.folder / f".{paths[number].name}.partial")
        for partial in self.folder.glob(".step-*.partial"):
            shutil.rmtree(partial)

    def _write(
        self, folder: Path, state: TrainState, random_states: dict[str, Tensor], optimizer: Optimizer
    ) -> None:
        parameters = optimizer.parameters
        self.write_model(folder, parameters.named_views(parameters.masters), state)
        save_file({**optimizer.moments(), **random_states}, folder / "optimizer.safetensors")
        if optimizer.average:
            save_file(parameters.named_views(optimizer.average.weights), folder / EMA)
        (folder / "state.json").write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
        checksums = {path.name: checksum(path) for path in sorted(folder.iterdir())}
        (folder / CHECKSUMS).write_text(json.dumps(checksums, indent=2) + "\n", encoding="utf-8")
        for path in [*folder.iterdir(), folder]:
            flush(path)

    def newest(self, say: Callable[[str], None]) -> Path | None:
        """The newest undamaged checkpoint; None when there is none at all. Damaged ones are named by `say`.

        Raises:
            CheckpointError: there are checkpoints but all are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            damage = find_damage(path)
            if damage is None:
                return path
            say(f"{path}: {damage}; going on from the checkpoint before it")
        if paths:
            raise CheckpointError(
                f"{self.folder}: every checkpoint is damaged; start a new run without resume"
            )
        return None

    def read_state(self, path: Path, *, identity: dict[str, str]) -> TrainState:
        """
        Raises:
            CheckpointError: `state.json` is missing or damaged, or a setting differs from `identity`
                that would make the resumed run another run.
        """
        state = self._read_state(path)
        for name in sorted(state.identity.keys() | identity.keys()):
            if state.identity.get(name) != identity.get(name):
                raise CheckpointError(
                    f"{path}: {name} was {state.identity.get(name)} and is {identity.get(name)} now;"
                    " resume with the old value, or start a new run without resume"
                )
        return state

    def saved_setting(self, path: Path, name: str) -> str:
        """A setting with which the run of a checkpoint was started.

        Raises:
            CheckpointError: `state.json` is damaged or does not record it.
        """
        value = self._read_state(path).identity.get(name)
        if value is None:
            raise CheckpointError(
                f"{path / 'state.json'}: does not record {name}; give it, or start a new run"
            )
        return value

    def _read_state(self, path: Path) -> TrainState:
        try:
            saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
            known = {entry.name for entry in fields(TrainState)}
            return TrainState(**{name: value for name, value in saved.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path / 'state.json'}: unreadable ({error}); delete {path} to resume from the one before"
            ) from error

    def restore(self, path: Path, replicas: Replicas, optimizer: Optimizer) -> None:
        """Put weights, moments and generators back.

        Raises:
            CheckpointError: a file is damaged or belongs to another model.
        """
        try:
            weights = load_file(path / WEIGHTS)
            average = load_file(path / EMA) if optimizer.average and (path / EMA).exists() else weights
            saved = load_file(path / "optimizer.safetensors")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path}: damaged ({error}); delete it to resume from the one before"
            ) from error
        parameters = optimizer.parameters
        shapes = {name: slot.shape for name, slot in parameters.slots.items()}
        if {name: weight.shape for name, weight in weights.items()} != shapes:
            raise CheckpointError(f"{path}: holds another model than these settings describe")
        parameters.load(weights)
        if optimizer.average:
            # A run that did not keep one until now begins it with its weights.
            for name, view in parameters.named_views(optimizer.average.weights).items():
                view.copy_(average[name])
        optimizer.restore_moments(saved)
        replicas.restore_random_states(saved)
