"""Evaluation of a model on test sets: scores with all that it takes to get the same numbers again."""

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nmt.decoding.translator import Translator
from nmt.evaluation.metrics import Score, score

_PACKAGES = ("nmt", "torch", "sentencepiece", "sacrebleu")


@dataclass(kw_only=True, slots=True)
class ScoredSet:
    """The scores of one test set."""

    name: str
    sentences: int
    scores: list[Score]
    # Wall-clock time of translating, scoring not included.
    seconds: float

    @property
    def sentences_per_second(self) -> float:
        """Speed of translating."""
        return self.sentences / max(self.seconds, 1e-9)


@dataclass(kw_only=True, slots=True)
class Evaluation:
    """The scores of a model and where they come from."""

    # Of an ensemble, those of all members with commas between them.
    model: str
    weights_sha256: str
    decoding: dict[str, Any]
    device: str
    dtype: str
    threads: int
    versions: dict[str, str]
    date: str
    test_sets: list[ScoredSet]

    def as_json(self) -> str:
        """Everything, readable by programs."""
        content = asdict(self)
        for found, own in zip(content["test_sets"], self.test_sets, strict=True):
            found["sentences_per_second"] = own.sentences_per_second
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def as_table(self) -> str:
        """The scores, one per line, each with its signature, and how they were obtained."""
        rows = [("test set", "sentences", "metric", "score", "signature")]
        for own in self.test_sets:
            for place, found in enumerate(own.scores):
                name, count = ("", "") if place else (own.name, f"{own.sentences:,}")
                rows.append((name, count, found.name, f"{found.value:.2f}", found.signature))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        # Numbers end, words begin in one column.
        aligned = [f"{{:{side}{width}}}" for side, width in zip("<><><", widths, strict=True)]
        lines = ["  ".join(aligned).format(*row).rstrip() for row in rows]
        seconds = sum(own.seconds for own in self.test_sets)
        speed = sum(own.sentences for own in self.test_sets) / max(seconds, 1e-9)
        origin = (
            f"model {self.model}, weights sha256:{self.weights_sha256[:12]},"
            f" beam {self.decoding['beam_size']}, length penalty {self.decoding['length_penalty']:g},"
            f" {self.dtype} on {self.device}, {seconds:.1f} s ({speed:.1f} sentences/s)"
        )
        return "\n".join([*lines, origin])


def evaluate(
    translator: Translator,
    test_sets: Mapping[str, tuple[list[str], list[str]]],
    *,
    weights: Sequence[Path],
    progress: bool = False,
) -> Evaluation:
    """Translate each test set (sources and references by name) and score it.

    `weights` are the files that the translator's models were loaded from.
    """
    scored = []
    for name, (sources, references) in test_sets.items():
        start = time.perf_counter()
        translations = translator.translate(sources, progress=progress)
        seconds = time.perf_counter() - start
        scores = score(translations, references)
        scored.append(ScoredSet(name=name, sentences=len(sources), scores=scores, seconds=seconds))
    digests = []
    for path in weights:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return Evaluation(
        model=",".join(str(path.parent) for path in weights),
        weights_sha256=",".join(digests),
        decoding=translator.config.plain(),
        device=_device_name(translator.device),
        dtype=str(translator.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        versions=_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        test_sets=scored,
    )


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write the evaluation, whole or not at all.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("x", encoding="utf-8") as file:
            file.write(evaluation.as_json())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            continue
    return versions
