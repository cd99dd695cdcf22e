"""Settings of a training run. Free of heavy imports, so that a wrong setting fails at once."""

from dataclasses import dataclass, field
from enum import StrEnum, auto


class Schedule(StrEnum):
    """Learning rate after the linear warm-up."""

    inverse_sqrt = auto()
    linear = auto()
    cosine = auto()
    exponential = auto()
    constant = auto()


class Device(StrEnum):
    """Where a run computes; `auto` takes CUDA, then Apple's GPU, then the CPU."""

    # Spelled out: a member called `auto` hides the function of that name.
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """Type of weights and activations in the model; the optimizer's weights are always float32.

    `auto` takes bfloat16 where the device multiplies it faster than float32.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ModelWeights(StrEnum):
    """Which weights of a run: those that the optimizer moves, or their exponential moving average."""

    weights = auto()
    ema = auto()


class Sharding(StrEnum):
    """What the processes of a run share out among themselves.

    `full` leaves each a slice of weights, gradients and moments (Rajbhandari et al., 2020, as FSDP2), for
    models too large for one GPU; it costs more communication.
    """

    none = auto()
    full = auto()


class TrackerName(StrEnum):
    """Where scalars, samples and settings go beside metrics.jsonl; wandb needs the extra of that name."""

    tensorboard = auto()
    wandb = auto()


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How a model is trained. Steps are optimizer updates."""

    max_steps: int = 100000
    # Wall-clock limit of the training loop, validation included; 0 is none.
    max_minutes: float = 0.0

    # Target side of one packed batch, in slots of pieces: max_tokens_per_batch // row_length rows. 0 is the
    # largest that fits into the device's memory, found by running batches, up to a size that still pays.
    max_tokens_per_batch: int = 4096
    # Pieces per packed row. Longer sentences go to batches with rows of long_row_length. 0 chooses from the
    # corpus.
    row_length: int = 0
    long_row_length: int = 0
    # Packed batches per update on one process.
    accumulate_batches: int = 1

    learning_rate: float = 5e-4
    schedule: Schedule = Schedule.inverse_sqrt
    warmup_steps: int = 4000
    # Where linear, cosine and exponential schedules end, at max_steps.
    final_learning_rate: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-9
    # Decoupled and scaled by the learning rate (Loshchilov and Hutter, 2019); matrices only.
    weight_decay: float = 0.0
    # Global norm at which gradients are clipped; 0 switches it off.
    max_gradient_norm: float = 1.0
    label_smoothing: float = 0.1
    # Decay per update of an exponential moving average of the weights, such as 0.999; 0 keeps none.
    ema_decay: float = 0.0

    device: Device = Device.auto
    precision: Precision = Precision.auto
    # Whether each process keeps the whole model or a slice of it; the checkpoints are the same. With
    # accumulate_batches above 1 the gradients of an update still wait whole, in float32, on each.
    sharding: Sharding = Sharding.none
    # On CUDA, record the kernels of a pass and launch them at once; not with sharding.
    cuda_graphs: bool = True
    # On CUDA, compile the model: fewer passes over memory, after a minute or so for each shape of batches.
    compile: bool = False
    # CPU threads; 0 takes every core.
    threads: int = 0

    log_every: int = 50
    validate_every: int = 1000
    # Weights that are validated and of which the best are kept as the model.
    validate_on: ModelWeights = ModelWeights.weights
    checkpoint_every: int = 1000
    # Also when so many minutes have passed since the last checkpoint; 0 counts steps only.
    checkpoint_minutes: float = 0.0
    # Checkpoints that are kept: the newest, those of the best validation BLEU, and those whose step is a
    # multiple of keep_every; 0 keeps none for that reason.
    keep_checkpoints: int = 3
    keep_best_checkpoints: int = 0
    keep_every: int = 0
    # At the end the average of so many newest checkpoints is validated too, and becomes the model if it is
    # better; 0 does without.
    average_last: int = 0
    # Validations without a better BLEU after which training stops; 0 never stops early.
    patience: int = 0
    # Sentences of the validation set whose translations are logged as text.
    sample_sentences: int = 5
    # Sentences of the validation set that are decoded for BLEU; 0 takes all.
    validation_sentences: int = 0
    # Any of tensorboard and wandb; [] leaves metrics.jsonl alone.
    trackers: list[TrackerName] = field(default_factory=lambda: [TrackerName.tensorboard])

    def __post_init__(self) -> None:
        for name in (
            "max_steps",
            "accumulate_batches",
            "log_every",
            "validate_every",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "max_minutes",
            "max_tokens_per_batch",
            "row_length",
            "long_row_length",
            "warmup_steps",
            "final_learning_rate",
            "weight_decay",
            "max_gradient_norm",
            "checkpoint_minutes",
            "keep_best_checkpoints",
            "keep_every",
            "average_last",
            "threads",
            "patience",
            "sample_sentences",
            "validation_sentences",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} must not be negative, not {getattr(self, name)}")
        for name in ("learning_rate", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} must be above 0, not {getattr(self, name)}")
        for name in ("beta1", "beta2", "label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if 0 < self.long_row_length < self.row_length:
            raise ValueError(
                f"training.long_row_length={self.long_row_length} must be at least"
                f" training.row_length={self.row_length}"
            )
        for name in ("long_row_length", "row_length"):
            if 0 < self.max_tokens_per_batch < getattr(self, name):
                raise ValueError(
                    f"training.max_tokens_per_batch={self.max_tokens_per_batch} must hold one row of"
                    f" training.{name}={getattr(self, name)}"
                )
        if self.schedule is Schedule.exponential and self.final_learning_rate == 0:
            raise ValueError("training.final_learning_rate must be above 0 for training.schedule=exponential")
        self._check_averages()

    def _check_averages(self) -> None:
        """Averages and kept checkpoints that the other settings would never let come about."""
        if self.validate_on is ModelWeights.ema and self.ema_decay == 0:
            raise ValueError(
                "training.validate_on=ema needs an average: set training.ema_decay, such as 0.999"
            )
        if self.sharding is Sharding.full and self.max_tokens_per_batch == 0:
            raise ValueError(
                "training.sharding=full needs a size of batches: set training.max_tokens_per_batch"
            )
        if self.sharding is Sharding.full and (self.ema_decay or self.average_last):
            given = "ema_decay" if self.ema_decay else "average_last"
            raise ValueError(
                f"training.{given} does not go with training.sharding=full: set it to 0; `nmt average`"
                " averages the checkpoints afterwards"
            )
        if self.sharding is Sharding.full and self.compile:
            raise ValueError("training.compile does not go with training.sharding=full: set it to false")
        if self.average_last == 1 or self.average_last > self.keep_checkpoints:
            raise ValueError(
                f"training.average_last={self.average_last} must be 0, or at least 2 and at most"
                f" training.keep_checkpoints={self.keep_checkpoints}"
            )
        if self.keep_every % self.checkpoint_every:
            raise ValueError(
                f"training.keep_every={self.keep_every} must be a multiple of"
                f" training.checkpoint_every={self.checkpoint_every}"
            )
        steps = sorted((self.validate_every, self.checkpoint_every))
        if self.keep_best_checkpoints and steps[1] % steps[0]:
            raise ValueError(
                "training.keep_best_checkpoints needs validations where checkpoints are:"
                f" training.checkpoint_every={self.checkpoint_every} and"
                f" training.validate_every={self.validate_every} must be multiples, one of the other"
            )
