"""Evaluations on disk.

    NAME.json              scores and provenance; "format", "sentences_file" and its SHA-256
    NAME.sentences.jsonl   one sentence per line, in the order of the test sets: "test_set", "number" (from
                           1), "source", "references", "hypothesis", "log_probability", "pieces",
                           "statistics" by metric

The second is written first, so that whoever finds the first finds both; its hash tells when they do not
belong together.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

from nmt.evaluation.evaluation import EvaluatedSet, Evaluation, EvaluationSentence, Provenance
from nmt.evaluation.metrics import Score
from nmt.evaluation.rates import Rates
from nmt.evaluation.resampling import Interval

# Raise it when older files can no longer be read.
FORMAT = 1


class SavedEvaluationError(ValueError):
    """A file that is no evaluation, or not whole; the message names it and the way out."""


def sentences_path(path: Path) -> Path:
    """Where the sentences of the evaluation in `path` are."""
    return path.with_suffix(".sentences.jsonl")


def write(evaluation: Evaluation, path: Path) -> None:
    """Write both files, each whole or not at all.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    sentences = sentences_path(path)
    with _replacing(sentences) as file:
        for test_set in evaluation.test_sets:
            for number, sentence in enumerate(test_set.sentences, start=1):
                line = {"test_set": test_set.name, "number": number, **asdict(sentence)}
                line["statistics"] = {
                    name: [int(value) if float(value).is_integer() else value for value in values]
                    for name, values in sentence.statistics.items()
                }
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    write_json(
        path,
        {**summary(evaluation), "sentences_file": sentences.name, "sentences_sha256": file_hash(sentences)},
    )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """All but the sentences, as JSON has it."""
    sets = []
    for own in evaluation.test_sets:
        content = {each.name: getattr(own, each.name) for each in fields(own) if each.name != "sentences"}
        content["scores"] = [asdict(score) for score in own.scores]
        content["rates"] = asdict(own.rates)
        content |= {"sentences": len(own.sentences), "sentences_per_second": own.sentences_per_second}
        sets.append(content)
    return {"format": FORMAT, "provenance": asdict(evaluation.provenance), "test_sets": sets}


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    with _replacing(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read(path: Path) -> Evaluation:
    """Read what `write` wrote.

    Raises:
        SavedEvaluationError: one of the files is missing, damaged, of another format or not of the other.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise SavedEvaluationError(
                f"{path}: no evaluation of format {FORMAT}, the one read here; write it with nmt evaluate"
            )
        sentences = path.with_name(Path(content["sentences_file"]).name)
        if file_hash(sentences) != content["sentences_sha256"]:
            raise SavedEvaluationError(f"{sentences}: not the sentences of {path.name}; evaluate again")
        return Evaluation(
            provenance=Provenance(**content["provenance"]),
            test_sets=_read_sets(content["test_sets"], sentences),
        )
    except SavedEvaluationError:
        raise
    except OSError as error:
        raise SavedEvaluationError(
            f"{error.filename or path}: cannot be read ({error.strerror}); evaluate again"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SavedEvaluationError(f"{path}: no evaluation ({error}); evaluate again") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sets(saved: list[dict[str, Any]], path: Path) -> list[EvaluatedSet]:
    rows: dict[str, list[EvaluationSentence]] = {own["name"]: [] for own in saved}
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            row = json.loads(line)
            sentence = {each.name: row[each.name] for each in fields(EvaluationSentence)}
            rows[row["test_set"]].append(EvaluationSentence(**sentence))
    sets = []
    for own in saved:
        if own.pop("sentences") != len(rows[own["name"]]):
            raise ValueError(f"sentences of {own['name']} are missing")
        own.pop("sentences_per_second")
        own["corpora"] = [(name, count) for name, count in own.get("corpora", [])]
        own["rates"] = Rates(**own["rates"])
        own["scores"] = [
            Score(**{**score, "interval": Interval(**score["interval"]) if score["interval"] else None})
            for score in own["scores"]
        ]
        sets.append(EvaluatedSet(**own, sentences=rows[own["name"]]))
    return sets


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
