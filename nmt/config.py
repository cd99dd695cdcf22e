"""Root schemas of the command line: composed of the sections' dataclasses, checked across sections.

Every section lives beside the code that reads it. Nothing here imports torch, so that a wrong
setting is reported at once.
"""

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmt.data.config import CorpusConfig, DataConfig, TokenizerConfig
from nmt.decoding.config import DecodingConfig
from nmt.model.config import Positions, TiedEmbeddings, TransformerConfig
from nmt.training.config import Device, ModelWeights, TrainingConfig

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A setting is wrong. The message is one line that names the setting and what is allowed."""


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """Where a run keeps its files."""

    # null is a new folder runs/<experiment>/<time>.
    folder: str | None = None
    # Name of the experiment; every file in configs/experiment sets its own.
    experiment: str = MISSING

    def __post_init__(self) -> None:
        if self.experiment != MISSING and not re.fullmatch(r"\w[\w.+-]*", self.experiment):
            raise ValueError(
                f"run.experiment must be a plain name of letters, digits and - _ . +, not {self.experiment!r}"
            )


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """Settings of `nmt train`."""

    seed: int = 1
    resume: bool = False
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: TransformerConfig = field(default_factory=TransformerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be between 0 and {2**32 - 1}, not {self.seed}")
        _check_corpora(self.data)
        _check_lengths(self)
        if self.model.tied_embeddings is TiedEmbeddings.all and not self.tokenizer.joint:
            raise ValueError(
                "model.tied_embeddings=all needs one vocabulary for both languages (tokenizer.joint=true);"
                " with tokenizer.joint=false it can be decoder or none"
            )


@dataclass(kw_only=True, slots=True)
class PrepareConfig:
    """Settings of `nmt prepare`: the two sections of a training run that make its data."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def __post_init__(self) -> None:
        _check_corpora(self.data)


@dataclass(kw_only=True, slots=True)
class EvaluationDataConfig:
    """Test sets by name; none means those recorded in the model folder."""

    test: dict[str, CorpusConfig] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class EvaluateConfig:
    """Settings of `nmt evaluate`."""

    # Run folder, checkpoint or model folder; several, as A,B, are an ensemble.
    model: str = MISSING
    data: EvaluationDataConfig = field(default_factory=EvaluationDataConfig)
    # JSON file for the scores.
    output: str | None = None
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    device: Device = Device.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        for name, corpus in self.data.test.items():
            _check_corpus(corpus, f"data.test.{name}")


@dataclass(kw_only=True, slots=True)
class TranslateConfig:
    """Settings of `nmt translate`."""

    # Run folder, checkpoint or model folder; several, as A,B, are an ensemble.
    model: str = MISSING
    # Text files; null is standard input and standard output.
    input: str | None = None
    output: str | None = None
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    device: Device = Device.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)


@dataclass(kw_only=True, slots=True)
class AverageConfig:
    """Settings of `nmt average`."""

    # Run folder, or its folder of checkpoints, of which `last` or `best` are averaged.
    model: str | None = None
    # Newest checkpoints, or those of the best validation BLEU; 0 is not chosen.
    last: int = 0
    best: int = 0
    # Only checkpoints of earlier steps; 0 takes all.
    before: int = 0
    # In place of these four: checkpoints and model folders by name.
    models: list[str] = field(default_factory=list)
    # What is averaged: the weights of the checkpoints, or the moving averages that they keep.
    of: ModelWeights = ModelWeights.weights
    # Model folder, which must not exist yet.
    output: str = MISSING

    def __post_init__(self) -> None:
        for name in ("last", "best", "before"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if (self.model is None) == (not self.models):
            raise ValueError(
                "give model=RUN with last=N or best=N, or models=[FOLDER,FOLDER]; one of the two"
            )
        if self.models and (self.last or self.best or self.before):
            raise ValueError(
                "last, best and before choose from model=RUN; models=[...] names all that is taken"
            )
        if self.model is not None and (self.last > 0) == (self.best > 0):
            raise ValueError("give last=N or best=N: how many checkpoints are averaged; one of the two")


# What each verb is given. `prepare` is composed with the schema of `train`, so that it takes the
# same experiments, and cut down to its two sections.
SCHEMAS: dict[str, type[Any]] = {
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "translate": TranslateConfig,
    "average": AverageConfig,
}


def register_schemas() -> None:
    """Make the schemas known to Hydra under the names that configs/*.yaml begin with.

    With a trained model every setting of decoding starts out missing: what is not given is taken
    from the model folder. YAML cannot say so, because a merged ??? never replaces a value.
    """
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="average_schema", node=AverageConfig)
    for verb in ("evaluate", "translate"):
        schema = OmegaConf.structured(SCHEMAS[verb])
        for name in schema.decoding:
            schema.decoding[name] = MISSING
        store.store(name=f"{verb}_schema", node=schema)


def load(config: DictConfig, schema: type[Config]) -> Config:
    """Turn a composed config into plain dataclasses and check it.

    Raises:
        ConfigError: a setting is missing, unknown or impossible.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise ConfigError(f"{', '.join(missing)} {verb} not set: give {missing[0]}=...")
        loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), config))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(first_line(error)) from error
    assert isinstance(loaded, schema)
    return loaded


def first_line(error: Exception) -> str:
    """The message of an OmegaConf error without the lines that speak of its internals."""
    setting = getattr(error, "full_key", None)
    line = str(error).partition("\n")[0]
    return f"{setting}: {line}" if setting and not line.startswith(setting) else line


def to_yaml(config: Any) -> str:
    """A config of plain dataclasses as YAML, every setting written out."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(text: str, schema: type[Config]) -> Config:
    """Read what `to_yaml` wrote. Evaluates nothing: text such as ${oc.env:HOME} is refused.

    Raises:
        ConfigError: not YAML, or not such a config.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError("not a YAML mapping of settings")
    if "${" in text:
        raise ConfigError("holds an interpolation ${...}; a saved config has none")
    return load(OmegaConf.create(content), schema)


def _check_corpora(data: DataConfig) -> None:
    _check_corpus(data.train, "data.train")
    _check_corpus(data.valid, "data.valid")
    for name, corpus in data.test.items():
        _check_corpus(corpus, f"data.test.{name}")


def _check_corpus(corpus: CorpusConfig, name: str) -> None:
    """Exactly one of text files, tables and a data set."""
    for side in ("source", "target", "table"):
        value = getattr(corpus, side)
        paths = value if isinstance(value, list) else [] if value is None else [value]
        if value == [] or not all(isinstance(path, str) and path for path in paths):
            raise ValueError(f"{name}.{side} must be a path or a list of paths, not {value!r}")
    if (corpus.source is None) != (corpus.target is None):
        given, absent = ("source", "target") if corpus.target is None else ("target", "source")
        raise ValueError(f"{name}.{given} is set but {name}.{absent} is not: text files come in pairs")
    kinds = [kind for kind in ("source", "table", "dataset") if getattr(corpus, kind) is not None]
    if not kinds:
        raise ValueError(
            f"{name} is not set: give {name}.source=FILE and {name}.target=FILE, or {name}.table=FILE,"
            f" or {name}.dataset=NAME"
        )
    if len(kinds) > 1:
        raise ValueError(f"{name} takes one of {', '.join(kinds)}; set the others to null")
    if (corpus.source_column is None) != (corpus.target_column is None):
        raise ValueError(f"{name}.source_column and {name}.target_column are given together or not at all")


def _check_lengths(config: TrainConfig) -> None:
    """Learned positions reach as far as they are used."""
    longest = config.data.cleaning.max_pieces_per_sentence
    if config.model.positions is Positions.learned:
        for name, length in (
            ("data.cleaning.max_pieces_per_sentence", longest),
            ("decoding.max_source_pieces", config.decoding.max_source_pieces),
            ("training.row_length", config.training.row_length),
            ("training.long_row_length", config.training.long_row_length),
        ):
            if config.model.max_positions < length:
                raise ValueError(
                    f"model.max_positions={config.model.max_positions} is less than {name}={length}:"
                    " learned positions must cover the longest sentence and row"
                )


def _check_threads(threads: int) -> None:
    if threads < 0:
        raise ValueError(f"threads must be 0 (every core) or more, not {threads}")
