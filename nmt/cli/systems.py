"""Systems that are evaluated: a model folder with its translator, its test sets and where it comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from nmt import bundle
from nmt.config import ConfigError
from nmt.data.config import CorpusConfig
from nmt.data.test_sets import TestSet, read_test_set
from nmt.decoding.config import DecodingConfig, DecodingPrecision
from nmt.decoding.ensemble import LoadedModels
from nmt.decoding.translator import Translator
from nmt.evaluation.evaluation import Provenance
from nmt.evaluation.provenance import flatten
from nmt.evaluation.saved import file_hash
from nmt.training import run_folder


def read_test_sets(
    corpora: Mapping[str, CorpusConfig], *, source_language: str, target_language: str
) -> list[TestSet]:
    """
    Raises:
        DataError: a test set cannot be read.
    """
    return [
        read_test_set(name, corpus, source_language=source_language, target_language=target_language)
        for name, corpus in corpora.items()
    ]


def test_sets_of(
    folder: Path, settings: bundle.BundleSettings, given: Mapping[str, CorpusConfig]
) -> list[TestSet]:
    """The given test sets, or those that a model folder records.

    Raises:
        ConfigError: there are none.
        DataError: one of them cannot be read.
    """
    corpora = given or settings.test
    if not corpora:
        raise ConfigError(
            f"{folder} records no test sets: give data.test.NAME.source=FILE and data.test.NAME.target=FILE"
        )
    return read_test_sets(
        corpora, source_language=settings.source_language, target_language=settings.target_language
    )


def make_translator(loaded: bundle.Bundle | LoadedModels, config: DecodingConfig) -> Translator:
    """The translator of a loaded model."""
    return Translator.of(
        loaded.model, loaded.tokenizer, config, source_language=loaded.settings.source_language
    )


def provenance_of(
    folder: Path, settings: bundle.BundleSettings, translator: Translator, *, others: Sequence[Path] = ()
) -> Provenance:
    """Where the translations of a model folder come from, or of an ensemble with `others`."""
    device = translator.device
    return Provenance(
        system=str(folder),
        files=model_files(folder)
        | {f"{other}/{name}": value for other in others for name, value in model_files(other).items()},
        source_language=settings.source_language,
        target_language=settings.target_language,
        decoding=dict(translator.config.plain()),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=_dtype_name(translator),
        threads=torch.get_num_threads(),
        software=run_folder.provenance(),
        card=bundle.read_card(folder / bundle.CARD_FILE),
        training=training_settings(folder),
    )


def _dtype_name(translator: Translator) -> str:
    """The type of the products, which the device chooses where the settings leave it open."""
    if translator.config.precision is DecodingPrecision.int8:
        return "int8"
    return str(translator.dtype).removeprefix("torch.")


def model_files(folder: Path) -> dict[str, str]:
    """SHA-256 of all files that translations depend on, the weights first."""
    names = [bundle.WEIGHTS_FILE, *sorted(path.name for path in folder.glob("*.model")), bundle.SETTINGS_FILE]
    return {name: file_hash(folder / name) for name in names}


def training_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run that a model folder lies in, by dotted name; none when it was copied away."""
    for parent in list(folder.absolute().parents)[:2]:
        if (parent / "environment.json").is_file():
            try:
                content = yaml.safe_load((parent / "config.yaml").read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                return {}
            return flatten(content) if isinstance(content, dict) else {}
    return {}
