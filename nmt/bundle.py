"""The model folder that leaves a run: all that translate, evaluate and export need. Copy it anywhere.

    config.yaml         languages, model, decoding settings and the test sets of the run
    tokenizer.model     or source.model and target.model
    model.safetensors   float32 weights by parameter name
    card.json           where the model comes from

Nothing in it is code: YAML is read with the safe loader and checked against the dataclasses, weights are
plain arrays whose shapes must be those of the settings.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import xxhash
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nmt.data.config import TestSetConfig
from nmt.data.tokenizer import Tokenizer
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer

Config = TypeVar("Config")

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
SETTINGS_FILE = "config.yaml"
CARD_FILE = "card.json"


class BundleError(ValueError):
    """A model folder that cannot be used; the message names the file and the way out."""


@dataclass(slots=True)
class BundleSettings:
    """What config.yaml holds."""

    source_language: str
    target_language: str
    source_vocabulary_size: int
    target_vocabulary_size: int
    model: TransformerConfig
    decoding: dict[str, Any] = field(default_factory=dict)
    # Named test sets of the run; their paths are relative to the folder that it was started in.
    test: dict[str, TestSetConfig] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(slots=True)
class Bundle:
    """A model folder in memory, ready to translate."""

    folder: Path
    settings: BundleSettings
    model: Transformer
    tokenizer: Tokenizer
    card: dict[str, Any]


def locate(path: str | Path) -> Path:
    """The model folder that a run folder, checkpoint or model folder stands for.

    Raises:
        BundleError: there is none.
    """
    given = Path(path)
    if not given.exists():
        raise BundleError(f"model={path}: no such folder; give a run, a checkpoint or a model folder")
    folder = given.parent if given.name == WEIGHTS_FILE else given
    for candidate in (folder, folder / "model"):
        if (candidate / WEIGHTS_FILE).is_file() and (candidate / SETTINGS_FILE).is_file():
            return candidate
    if (folder / "checkpoints").is_dir():
        raise BundleError(
            f"model={path}: this run has no best model yet; it is written by its first validation"
        )
    raise BundleError(f"model={path}: holds no {WEIGHTS_FILE} and {SETTINGS_FILE}; it is no model folder")


def write(
    folder: Path,
    *,
    settings: BundleSettings,
    tokenizer: Tokenizer,
    weights: dict[str, Tensor],
    card: dict[str, Any],
) -> None:
    """Write the files of a model folder. Whoever renews one that is in use writes beside it and renames."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    plain = OmegaConf.to_container(OmegaConf.structured(settings.model), enum_to_str=True)
    text = yaml.safe_dump({**asdict(settings), "model": plain}, sort_keys=False, allow_unicode=True)
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    save_file({name: weight.cpu().contiguous() for name, weight in weights.items()}, folder / WEIGHTS_FILE)


def read_settings(path: str | Path) -> BundleSettings:
    """
    Raises:
        BundleError: config.yaml is missing, damaged or of another format.
    """
    file = locate(path) / SETTINGS_FILE
    try:
        saved = yaml.safe_load(file.read_text(encoding="utf-8"))
        if saved.get("format") != FORMAT:
            raise BundleError(f"{file}: format {saved.get('format')} is not {FORMAT}, the one read here")
        model = _typed(TransformerConfig, saved.pop("model"))
        test = {str(name): _typed(TestSetConfig, values) for name, values in saved.pop("test", {}).items()}
        decoding = {**saved.pop("decoding", {})}
        return BundleSettings(model=model, test=test, decoding=decoding, **saved)
    except BundleError:
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise BundleError(f"{file}: cannot be read: {_first_line(error)}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{file}: not the settings of a model: {_first_line(error)}") from error


def _typed(schema: type[Config], values: Any) -> Config:
    """The values as the dataclass; names and types that it does not have are errors of OmegaConf."""
    typed: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))  # type: ignore[assignment]
    return typed


def load(path: str | Path, *, device: torch.device, dtype: torch.dtype = torch.float32) -> Bundle:
    """
    Raises:
        BundleError: a file is missing or damaged, or the weights do not fit the settings.
    """
    folder = locate(path)
    settings = read_settings(folder)
    tokenizer = Tokenizer.load(folder)
    vocabularies = (tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size)
    if vocabularies != (settings.source_vocabulary_size, settings.target_vocabulary_size):
        raise BundleError(f"{folder}: tokenizer and {SETTINGS_FILE} name different vocabulary sizes")
    file = folder / WEIGHTS_FILE
    try:
        # Without memory: what the settings claim is compared with the file before anything is allocated.
        with torch.device("meta"), _WithoutDraws():
            model = _build(settings)
        with safe_open(file, framework="pt") as weights:
            _check_shapes(file, model, weights)
            with _WithoutDraws():
                model = _build(settings)
            # The pages of the file itself, which all processes that decode with it share.
            for name, parameter in model.named_parameters():
                parameter.data = weights.get_tensor(name)
    except (OSError, SafetensorError, RuntimeError, OverflowError) as error:
        raise BundleError(f"{file}: cannot be read: {_first_line(error)}") from error
    card = read_card(folder / CARD_FILE)
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return Bundle(folder, settings, model, tokenizer, card)


def exchange_weights(loaded: Bundle, path: str | Path) -> None:
    """Load the weights of another folder of the same model and tokenizer in the place of the present ones.

    Raises:
        BundleError: a file is missing or damaged, or of another model or tokenizer.
    """
    folder = locate(path)
    other = read_settings(folder)
    for name in ("model", "source_language", "target_language"):
        if getattr(other, name) != getattr(loaded.settings, name):
            raise BundleError(f"{folder}: its {name} is not that of {loaded.folder}")
    tokenizers = [
        {file.name: file.read_bytes() for file in each.glob("*.model")} for each in (folder, loaded.folder)
    ]
    if tokenizers[0] != tokenizers[1]:
        raise BundleError(f"{folder}: its tokenizer is not that of {loaded.folder}")
    file = folder / WEIGHTS_FILE
    try:
        with safe_open(file, framework="pt") as weights:
            _check_shapes(file, loaded.model, weights)
            for name, parameter in loaded.model.named_parameters():
                parameter.data.copy_(weights.get_tensor(name))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BundleError(f"{file}: cannot be read: {_first_line(error)}") from error
    loaded.card = read_card(folder / CARD_FILE)


def fingerprint(path: str | Path) -> str:
    """A hash of all that a model's translations depend on: weights, settings and tokenizer.

    Raises:
        BundleError: there is no model folder.
    """
    folder = locate(path)
    digest = xxhash.xxh3_128()
    for file in sorted([folder / WEIGHTS_FILE, folder / SETTINGS_FILE, *folder.glob("*.model")]):
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 22):
                digest.update(block)
    return str(digest.hexdigest())


class _WithoutDraws(TorchFunctionMode):
    """Weights are not drawn at random, since all of them are about to be read.

    Drawing takes its time, and without memory ("meta") PyTorch imports its compiler for it, which takes
    longer than importing PyTorch itself.
    """

    _DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _build(settings: BundleSettings) -> Transformer:
    return Transformer(
        settings.model,
        source_vocabulary_size=settings.source_vocabulary_size,
        target_vocabulary_size=settings.target_vocabulary_size,
    )


def _check_shapes(file: Path, model: Transformer, weights: Any) -> None:
    expected = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    found = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            raise BundleError(
                f"{file}: {name} has shape {found.get(name)}, {SETTINGS_FILE} describes {expected.get(name)}"
            )


def read_card(file: Path) -> dict[str, Any]:
    """What a card.json says; nothing when it is missing or damaged, for nothing depends on it."""
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
