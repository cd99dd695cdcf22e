"""The names of all settings and choices: what completion offers and what error messages suggest."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from nmt.cli.schemas import SCHEMAS

# Groups of files under configs/ that a verb lets one choose from.
GROUPS: dict[str, tuple[str, ...]] = {
    "prepare": ("experiment", "data", "tokenizer"),
    "train": ("experiment", "data", "tokenizer", "model", "training", "decoding"),
    "evaluate": ("decoding",),
    "translate": ("decoding",),
    "score": (),
    "attend": ("decoding",),
    "average": (),
    "compare": (),
    "report": (),
    "runs": (),
    "export": (),
}


def config_folder() -> Path:
    """Where the YAML files are: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def group_options(group: str) -> list[str]:
    """Names of the files one can choose from, such as `tiny` and `base` for `model`."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


def setting_types(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every setting; sections come before what they hold."""
    hints = get_type_hints(schema)
    for each in fields(schema):
        name, kind = prefix + each.name, without_none(hints[each.name])
        yield name, kind
        if is_dataclass(kind) and isinstance(kind, type):
            yield from setting_types(kind, f"{name}.")
        elif get_origin(kind) is dict:
            yield from setting_types(get_args(kind)[1], f"{name}.NAME.")


def setting_type(schema: type[Any], name: str) -> Any:
    """Type of the setting `name`, None when there is none of that name."""
    kind: Any = schema
    for part in name.split("."):
        if is_dataclass(kind) and isinstance(kind, type):
            kind = without_none(get_type_hints(kind).get(part))
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
    return kind


def without_none(kind: Any) -> Any:
    """`X` of `X | None`."""
    if isinstance(kind, UnionType):
        kinds = [each for each in get_args(kind) if each is not NoneType]
        return kinds[0]
    return kind


def describe_type(kind: Any, name: str) -> str:
    """What may be written after `name=`."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(kind.__members__)
    if is_dataclass(kind) and isinstance(kind, type):
        return f"a section, set by its parts such as {name}.{fields(kind)[0].name}=..."
    if get_origin(kind) is list:
        return "a list such as [a,b]"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(kind, "text or a list")


def names_within(verb: str, section: str) -> list[str]:
    """What a section holds; of the whole config ("") also the groups."""
    schema = setting_type(SCHEMAS[verb], section) if section else SCHEMAS[verb]
    if get_origin(schema) is dict or not is_dataclass(schema):
        return []
    names = [each.name for each in fields(schema)]
    return names if section else list(dict.fromkeys([*names, *GROUPS[verb]]))


def nearest_setting(verb: str, name: str) -> str | None:
    """The setting or group that `name` was probably meant to be.

    In a section that exists, a name of that section; otherwise, or when none there is similar, one
    whose last part is right (`max_steps` for `training.max_steps`).
    """
    section, _, last = name.rpartition(".")
    if found := nearest(last, names_within(verb, section)):
        return f"{section}.{found}" if section else found
    everywhere = [*GROUPS[verb], *(each for each, _ in setting_types(SCHEMAS[verb]))]
    by_last_part = {each.rpartition(".")[2]: each for each in reversed(everywhere)}
    if last in by_last_part:
        return by_last_part[last]
    return None if names_within(verb, section) and section else nearest(name, everywhere)


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The most similar candidate, if any is similar."""
    return next(iter(get_close_matches(word, list(candidates), n=1)), None)


def hint(suggestion: str | None, allowed: Iterable[str]) -> str:
    """The end of a complaint: what was probably meant, and everything that is possible."""
    listed = ", ".join(allowed)
    return f"; did you mean {suggestion}? Allowed: {listed}" if suggestion else f"; allowed: {listed}"
