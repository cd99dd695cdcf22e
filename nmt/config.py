"""The settings of a training run, checked across sections, and configs as YAML.

Every section lives beside the code that reads it; the settings of the other verbs are in `nmt.cli.schemas`.
Nothing here imports torch, so that a wrong setting is reported at once.
"""

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmt.data.config import DataConfig, TokenizerConfig, check_source
from nmt.decoding.config import DecodingConfig
from nmt.model.config import Positions, TiedEmbeddings, TransformerConfig
from nmt.training.config import TrainingConfig

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
    check_source(data.train, "data.train")
    check_source(data.valid, "data.valid")
    for name, corpus in data.test.items():
        check_source(corpus, f"data.test.{name}")


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
