"""From a corpus to prepared data: checked, cleaned, tokenised, memory-mapped, kept under a fingerprint.

The folder `data.prepared_folder` holds `<fingerprint>/{tokenizer,train,valid,pair_keys.npy,overlap.json,
report.json}` and `inputs.json`, the hashes of input files, so that unchanged ones are not read again.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nmt.data.config import CorpusConfig, DataConfig, TokenizerConfig
from nmt.data.corpus import input_files, named_files, read_blocks
from nmt.data.encoding import (
    Encoded,
    FirstReading,
    Keys,
    encode_training,
    encode_validation,
    nothing_left,
    pair_keys,
)
from nmt.data.fingerprint import InputHashes, corpus_identity, digest_of, fingerprint, stamp, write_json
from nmt.data.prepared_folder import make_once
from nmt.data.progress import say
from nmt.data.store import PairStore, StoreWriter
from nmt.data.text_lines import DataError, check_file
from nmt.data.tokenizer import Tokenizer

_REPORT, _OVERLAP, _KEYS = "report.json", "overlap.json", "pair_keys.npy"


@dataclass(slots=True)
class PreparedData:
    """Prepared data and what was counted on the way.

    `report` holds "train" and "valid" (pairs read and kept, removals by rule with a few examples, pieces of
    both sides), "vocabulary", "seconds" and "overlap" (how many pairs of each held-out set stand in the
    training data too).
    """

    folder: Path
    fingerprint: str
    tokenizer: Tokenizer
    train: PairStore
    valid: PairStore
    report: dict[str, Any]


def prepare(data: DataConfig, tokenizer: TokenizerConfig, *, summarize: bool = True) -> PreparedData:
    """Return prepared data, made now unless it is there; says on standard error what it does.

    Any number of processes may call this at once: one prepares, the others wait for it. A process killed at
    any moment leaves nothing that looks finished.

    Raises:
        DataError: the corpus cannot be used; nothing is left behind.
    """
    if data.demo is not None:
        from nmt.data.demo.corpus import write_demo

        write_demo(data.demo)
    for field, corpus in _corpora(data).items():
        for name, path in named_files(corpus, field=field):
            check_file(path, field=name)
    root = Path(data.prepared_folder).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        hashes = InputHashes(root)
        folder = root / fingerprint(data, tokenizer, hashes)
        if not _is_finished(folder):
            for field, corpus in _held_out(data).items():
                _read_set(corpus, data, field)  # so that a fault there is found before the long work
        made = make_once(folder, lambda part: _write(part, data, tokenizer), _is_finished)
        prepared = _open(folder)
        prepared.report["overlap"] = _overlaps(prepared, data, hashes)
        hashes.save()
    except OSError as error:
        place = error.filename or root
        raise DataError(
            f"data.prepared_folder: cannot read or write {place} ({error.strerror or error})"
        ) from None
    if summarize:
        found = f"prepared data: {folder} ({len(prepared.train):,} training pairs)"
        say(summary(prepared) if made else found)
    for warning in warnings(prepared.report):
        say(f"warning: {warning}")
    return prepared


def read_texts(
    corpus: CorpusConfig, *, field: str, source_language: str, target_language: str
) -> tuple[list[str], list[str]]:
    """Return the sources and targets of a validation or test set as they stand there.

    Raises:
        DataError: the set cannot be read whole.
    """
    sources: list[str] = []
    targets: list[str] = []
    for block in read_blocks(
        corpus, field=field, source_language=source_language, target_language=target_language
    ):
        sources += block.sources
        targets += block.targets
    return sources, targets


def summary(prepared: PreparedData) -> str:
    """Return the counts of a preparation as a table."""
    report = prepared.report
    rows = []
    for name in ("train", "valid"):
        counts = report[name]
        removed = ", ".join(f"{rule} {n['count']:,}" for rule, n in counts["removed"].items() if n["count"])
        cells = (counts["read"], counts["kept"], counts["source_pieces"], counts["target_pieces"])
        rows.append(f"  {name:7}" + "".join(f"{cell:>15,}" for cell in cells) + f"  {removed or '-'}")
    sizes = report["vocabulary"]
    vocabulary = f"{sizes['source']:,} pieces" + ("" if sizes["joint"] else f" / {sizes['target']:,} pieces")
    titles = ("pairs read", "pairs kept", "source pieces", "target pieces")
    return "\n".join(
        [
            f"prepared data: {prepared.folder} ({report['seconds']:.1f} s, vocabulary {vocabulary})",
            f"  {'':7}" + "".join(f"{title:>15}" for title in titles) + "  removed",
            *rows,
        ]
    )


def warnings(report: dict[str, Any]) -> list[str]:
    """Return what a user should know before training on this data."""
    found = []
    train = report["train"]
    if train["kept"] < train["read"] / 2:
        rule, removed = max(train["removed"].items(), key=lambda item: item[1]["count"])
        share = 100 - 100 * train["kept"] / train["read"]
        found.append(
            f"cleaning removed {share:.0f} % of the training pairs, most of them as {rule} (for example "
            f"{', '.join(removed['examples'][:3])}); see data.cleaning"
        )
    for name, counts in report.get("overlap", {}).items():
        if counts["in_training"]:
            share = f"{counts['in_training']:,} of {counts['pairs']:,} pairs of {name}"
            found.append(f"{share} stand in the training data too; scores on them say little")
    return found


def _corpora(data: DataConfig) -> dict[str, CorpusConfig]:
    return {"data.train": data.train, **_held_out(data)}


def _held_out(data: DataConfig) -> dict[str, CorpusConfig]:
    return {"data.valid": data.valid} | {f"data.test.{name}": corpus for name, corpus in data.test.items()}


def _is_finished(folder: Path) -> bool:
    return (folder / _REPORT).is_file()


def _open(folder: Path) -> PreparedData:
    try:
        report = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / _REPORT}: damaged prepared data ({error}); delete the folder") from None
    return PreparedData(
        folder=folder,
        fingerprint=folder.name,
        tokenizer=Tokenizer.load(folder / "tokenizer"),
        train=PairStore.open(folder / "train"),
        valid=PairStore.open(folder / "valid"),
        report=report,
    )


def _write(folder: Path, data: DataConfig, config: TokenizerConfig) -> None:
    start = time.monotonic()
    files = [path for field in ("train", "valid") for path in input_files(getattr(data, field))]
    stamps = [stamp(path) for path in files]
    reading = FirstReading(data)
    tokenizer = Tokenizer.train(reading.pairs(), config)
    tokenizer.save(folder / "tokenizer")
    with StoreWriter(folder / "valid") as writer:
        valid = encode_validation(data, tokenizer, writer)
    with StoreWriter(folder / "train") as writer:
        train = encode_training(data, tokenizer, reading.keys, writer)
    _refuse_nothing(train, valid)
    np.save(folder / _KEYS, np.sort(train.kept_keys), allow_pickle=False)
    for path, before in zip(files, stamps, strict=True):
        if stamp(path) != before:
            raise DataError(f"{path} changed while it was being prepared; start again when it is complete")
    write_json(
        folder / _REPORT,
        {
            "train": _counts(train),
            "valid": _counts(valid),
            "vocabulary": {
                "joint": tokenizer.joint,
                "source": tokenizer.source_vocabulary_size,
                "target": tokenizer.target_vocabulary_size,
            },
            "seconds": round(time.monotonic() - start, 2),
        },
    )


def _counts(encoded: Encoded) -> dict[str, Any]:
    return {
        "read": encoded.read,
        "kept": encoded.kept,
        "removed": encoded.removals.report(),
        "source_pieces": encoded.source_pieces,
        "target_pieces": encoded.target_pieces,
    }


def _refuse_nothing(train: Encoded, valid: Encoded) -> None:
    for field, encoded in (("data.train", train), ("data.valid", valid)):
        if encoded.kept == 0:
            raise nothing_left(field, encoded.read, encoded.removals)


def _overlaps(prepared: PreparedData, data: DataConfig, hashes: InputHashes) -> dict[str, dict[str, int]]:
    """Count, for each held-out set, the pairs that stand in the training data too; counted once per set."""
    path = prepared.folder / _OVERLAP
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    counted = dict(known)
    overlaps = {}
    for field, corpus in _held_out(data).items():
        key = digest_of(corpus_identity(corpus, data, hashes, field=field))
        if key not in counted:
            texts = _read_set(corpus, data, field)
            counted[key] = {
                "pairs": len(texts[0]),
                "in_training": _count_known(prepared.folder, pair_keys(*texts)),
            }
        overlaps[field] = counted[key]
    if counted != known:
        write_json(path, counted)
    return overlaps


def _read_set(corpus: CorpusConfig, data: DataConfig, field: str) -> tuple[list[str], list[str]]:
    return read_texts(
        corpus, field=field, source_language=data.source_language, target_language=data.target_language
    )


def _count_known(folder: Path, keys: Keys) -> int:
    training: Keys = np.load(folder / _KEYS, mmap_mode="r", allow_pickle=False)
    places = np.minimum(np.searchsorted(training, keys), len(training) - 1)
    return int((training[places] == keys).sum())
