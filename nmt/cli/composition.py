"""From the arguments of a command line to a checked config: Hydra's composition, with our manners."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nmt.cli.complaints import explain, unknown_choice, unknown_setting, unreadable
from nmt.cli.model_folders import model_folders
from nmt.cli.schemas import SCHEMAS, register_schemas
from nmt.cli.settings import GROUPS, config_folder, setting_type
from nmt.config import ConfigError, load
from nmt.decoding.config import DecodingConfig

# Settings that are a file name or a sentence and are taken as they stand, not read by Hydra: any text is
# right, and `model=` would be the choice of a model from configs/model.
LITERALS: dict[str, tuple[str, ...]] = {
    "prepare": (),
    "train": (),
    "evaluate": ("model", "output", "plot"),
    "translate": ("model", "input", "output", "terms", "prefixes"),
    "score": ("model", "source", "target", "output"),
    "attend": ("model", "source", "target", "output"),
    "average": ("model", "output"),
    "compare": ("output",),
    "report": ("output", "markdown"),
    "runs": ("folder",),
    "export": ("model", "input", "output"),
}
# What arguments without a name are: a list, or a single literal.
POSITIONALS: dict[str, str] = {"compare": "systems", "report": "systems", "runs": "folder"}
TEST_SET = re.compile(r"data\.test\.([^.=]+)([.=].*)", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w-]*")
# One or several names of files; words that Hydra's grammar takes for something else are none.
CHOICE = re.compile(r"(?!(?:null|true|false)$)[A-Za-z_].*|choice\(.*\)|glob\(.*\)", re.IGNORECASE)


@dataclass(kw_only=True, slots=True)
class Request:
    """The settings of one command line."""

    verb: str
    overrides: list[str] = field(default_factory=list)
    literals: dict[str, str | list[str] | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, verb: str, arguments: Iterable[str], *, config_dir: str | None = None) -> "Request":
        """Sort the arguments; a new test set needs no `+` and literals no quotes.

        Raises:
            ConfigError: an argument is not NAME=VALUE, or names nothing that the verb has.
        """
        request = cls(verb=verb)
        if config_dir is not None:
            if not Path(config_dir).is_dir():
                raise ConfigError(f"--config-dir {config_dir}: no such folder")
            request.overrides.append(f"hydra.searchpath=['file://{Path(config_dir).resolve()}']")
        test_sets: list[str] = []
        for argument in arguments:
            # The schema is closed, so Hydra's "add" and "add or change" have nothing to add.
            argument = argument if argument.startswith(("+hydra", "++hydra")) else argument.lstrip("+")
            name, equals, value = argument.partition("=")
            if equals and name in LITERALS[verb]:
                optional = NoneType in get_args(get_type_hints(SCHEMAS[verb])[name])
                request.literals[name] = None if optional and value == "null" else value
                continue
            if verb in POSITIONALS and (not equals or _is_path(verb, argument)):
                request._add_positional(argument)
                continue
            if not name or not (equals or argument.startswith("~")):
                raise ConfigError(unreadable(argument))
            _check_name(verb, name.lstrip("~"))
            if name in GROUPS[verb] and not CHOICE.fullmatch(value):
                raise ConfigError(unknown_choice(name, value))
            if found := TEST_SET.fullmatch(argument):
                if not NAME.fullmatch(found[1]):
                    raise ConfigError(
                        f"data.test.{found[1]}: the name of a test set begins with a letter and"
                        " has letters, digits, - and _"
                    )
                if found[2] == "=null":
                    argument = f"~data.test.{found[1]}"
                else:
                    test_sets.append(found[1])
            request.overrides.append(argument)
        if test_sets:
            entries = ",".join(f"{name}:{{}}" for name in dict.fromkeys(test_sets))
            request.overrides.insert(0, f"++data.test={{{entries}}}")
        return request

    def _add_positional(self, argument: str) -> None:
        name = POSITIONALS[self.verb]
        if setting_type(SCHEMAS[self.verb], name) is str:
            if name in self.literals:
                raise ConfigError(f"{argument!r}: there is a {name} already; nmt {self.verb} takes one")
            self.literals[name] = argument
        else:
            known = self.literals.setdefault(name, [])
            assert isinstance(known, list)
            known.append(argument)

    def compose(self, overrides: list[str] | None = None, *, with_hydra: bool = False) -> DictConfig:
        """The composed config, not yet checked. `overrides` stands for one job of a sweep.

        Raises:
            ConfigError: a name, choice or value is wrong.
        """
        register_schemas()
        try:
            with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
                config = hydra.compose(
                    self.verb,
                    overrides=self.overrides if overrides is None else overrides,
                    return_hydra_config=with_hydra,
                )
            return config if with_hydra else self.complete(config)
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            raise explain(error, self.verb) from error

    def complete(self, config: DictConfig) -> DictConfig:
        """Put in the literals; cut a config of `train` down to what `prepare` is given."""
        if self.verb == "prepare":
            config = OmegaConf.masked_copy(config, ["data", "tokenizer"])
        for name, value in self.literals.items():
            config[name] = plain(value)
        return config

    def jobs(self) -> list[list[str]]:
        """The overrides of every job of a sweep."""
        try:
            parsed = OverridesParser.create().parse_overrides(self.overrides)
        except HydraException as error:
            raise explain(error, self.verb) from error
        choices = []
        for override, text in zip(parsed, self.overrides, strict=True):
            if override.is_discrete_sweep():
                key = override.get_key_element()
                choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            else:
                choices.append([text])
        return [list(job) for job in product(*choices)]


def plain(text: str | list[str] | None) -> str | list[str] | None:
    """What OmegaConf reads as `text`, in which ${...} is no interpolation and ??? not a missing value."""
    if text is None or isinstance(text, list):
        return text and [_plain(each) for each in text]
    return _plain(text)


def _plain(text: str) -> str:
    return "??? " if text == "???" else re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def check(config: DictConfig, verb: str) -> None:
    """Everything that can be said before torch is imported and a model folder is opened.

    Raises:
        ConfigError: a setting is missing or impossible.
    """
    stand_in = _with_decoding(config, OmegaConf.structured(DecodingConfig))
    load(stand_in, SCHEMAS[verb])
    model = config.get("model")
    for folder in model_folders(model) if isinstance(model, str) else []:
        if not Path(folder).exists():
            raise ConfigError(f"model={folder}: no such run folder, checkpoint or model folder")


def checked(config: DictConfig, verb: str, read_decoding: Callable[[str], Mapping[str, Any]]) -> Any:
    """The verb's dataclass. `read_decoding` looks up a model folder's settings of decoding.

    Raises:
        ConfigError: a setting is missing or impossible.
    """
    check(config, verb)
    if OmegaConf.missing_keys(config):
        known = OmegaConf.structured(DecodingConfig)
        known.update({name: value for name, value in read_decoding(config.model).items() if name in known})
        config = _with_decoding(config, known)
    return load(config, SCHEMAS[verb])


def _with_decoding(config: DictConfig, values: DictConfig) -> DictConfig:
    """Fill in the settings of decoding that were not given."""
    filled = config.copy()
    for name in filled.get("decoding", {}):
        if OmegaConf.is_missing(filled.decoding, name):
            filled.decoding[name] = values[name]
    return filled


def _is_path(verb: str, argument: str) -> bool:
    """True for a file whose name has an equals sign in it."""
    first = re.split(r"[./]", argument.partition("=")[0])[0]
    return first not in SCHEMAS[verb].__dataclass_fields__ and Path(argument).exists()


def _check_name(verb: str, name: str) -> None:
    first = re.split(r"[./]", name)[0]
    if first not in (*SCHEMAS[verb].__dataclass_fields__, *GROUPS[verb], "hydra") or "@" in name:
        raise ConfigError(unknown_setting(verb, name))
