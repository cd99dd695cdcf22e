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

    # Target side of one packed batch, in slots of pieces: max_tokens_per_batch // row_length rows.
    max_tokens_per_batch: int = 4096
    # Pieces per packed row. Longer sentences go to batches with rows of long_row_length.
    row_length: int = 128
    long_row_length: int = 256
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

    device: Device = Device.auto
    precision: Precision = Precision.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 1000
    # Newest checkpoints kept beside the best one.
    keep_checkpoints: int = 3
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
            "max_tokens_per_batch",
            "row_length",
            "long_row_length",
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
            "warmup_steps",
            "final_learning_rate",
            "weight_decay",
            "max_gradient_norm",
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
        for name in ("beta1", "beta2", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if self.long_row_length < self.row_length:
            raise ValueError(
                f"training.long_row_length={self.long_row_length} must be at least"
                f" training.row_length={self.row_length}"
            )
        if self.max_tokens_per_batch < self.long_row_length:
            raise ValueError(
                f"training.max_tokens_per_batch={self.max_tokens_per_batch} must hold one row of"
                f" training.long_row_length={self.long_row_length}"
            )
        if self.schedule is Schedule.exponential and self.final_learning_rate == 0:
            raise ValueError("training.final_learning_rate must be above 0 for training.schedule=exponential")
