"""Errors of Hydra and OmegaConf in one line: which setting, what is allowed, what was probably meant."""

import re
from enum import Enum

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError

from nmt.cli.schemas import SCHEMAS
from nmt.cli.settings import (
    describe_type,
    group_options,
    hint,
    names_within,
    nearest,
    nearest_setting,
    setting_type,
)
from nmt.config import ConfigError, TrainConfig, first_line


def explain(
    error: HydraException | OmegaConfBaseException | YAMLError | ValueError, verb: str
) -> ConfigError:
    """The same complaint in our words. `verb` tells which settings there are."""
    message = str(error)
    cause = _omegaconf_error(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        text = unknown_choice(group, option)
    elif isinstance(error, OverrideParseException):
        text = unreadable(error.override or "")
    elif message.startswith("Ambiguous value") or "requires --multirun" in message:
        setting = message.partition("'")[2].partition("'")[0]
        text = (
            f"{setting}: several values are a sweep, which needs --multirun; write [a,b] for a list,"
            " quote a text with a comma"
        )
    elif message.startswith("Could not delete from config"):
        text = f"{message.partition(chr(39))[2].partition(chr(39))[0]} cannot be removed: it is not set"
    elif cause is not None:
        given = re.match(r"Error merging override [^=]+=(.*)", message)
        text = _setting_complaint(cause, verb, given[1] if given else None)
    else:
        text = " ".join(message.split())
    where = re.match(r"In '([^']+)'", message)
    if where and cause is not None and where[1] not in SCHEMAS:
        text = f"in {where[1]}.yaml: {text}"
    return ConfigError(text)


def unknown_setting(verb: str, name: str) -> str:
    """There is no setting `name`."""
    section = name.rpartition(".")[0]
    while section and not names_within(verb, section):
        section = section.rpartition(".")[0]
    where = f" in {section}" if section else ""
    return f"{name}: no such setting{where}{hint(nearest_setting(verb, name), names_within(verb, section))}"


def unknown_choice(group: str, option: str) -> str:
    """There is no file `option` in the folder of `group`."""
    if group == "hydra/launcher" and option.startswith("submitit_"):
        return f"{group}: {option} comes with the extra slurm; pip install 'nmt[slurm]'"
    options = group_options(group)
    return f"{group}={option}: no such choice{hint(nearest(option, options), options)}"


def unreadable(argument: str) -> str:
    """An argument that is not NAME=VALUE, or whose value Hydra's grammar does not take."""
    name, equals, value = argument.partition("=")
    if not (name and equals):
        return f"{argument!r}: settings are written NAME=VALUE, such as training.max_steps=1000"
    quoted = value.replace('"', '\\"')
    return f"{name}: cannot read the value {value}; quote it: '{name}=\"{quoted}\"'"


def _omegaconf_error(error: BaseException | None) -> OmegaConfBaseException | None:
    while error is not None and not isinstance(error, OmegaConfBaseException):
        error = error.__cause__ or error.__context__
    return error


def _setting_complaint(error: OmegaConfBaseException, verb: str, given: str | None) -> str:
    name = str(error.full_key or "")
    if isinstance(error, InterpolationResolutionError):
        return first_line(error)
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        return unknown_setting(verb, name)
    if isinstance(error, ConfigTypeError):
        return f"{name} cannot be removed"
    kind = setting_type(TrainConfig if verb == "prepare" else SCHEMAS[verb], name)
    if not isinstance(error, ValidationError) or kind is None:
        return first_line(error)
    if given is None:
        return f"{first_line(error)}; it takes {describe_type(kind, name)}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"{name}={given} is not possible{hint(nearest(given, kind.__members__), kind.__members__)}"
    return f"{name}={given} is not possible: it takes {describe_type(kind, name)}"
