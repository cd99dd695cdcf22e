"""What prepared data was made from: a hash of the content of all inputs and of every setting that matters."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash

from nmt.data.config import CorpusConfig, DataConfig, TestSetConfig, TokenizerConfig
from nmt.data.corpus import named_files
from nmt.data.text_lines import DataError, check_file

# Raise it when the same inputs and settings give other prepared files than before.
FORMAT_VERSION = 1
_MEMORY = "inputs.json"
# A file changed less than this many nanoseconds before it was hashed may change again within one tick of
# its time stamp; its hash is not remembered.
_TICK = 2_000_000_000

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Return size and times of a file, which change when its content does."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class InputHashes:
    """Hashes of input files, remembered in the prepared folder by size and times of the file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _MEMORY
        self._known: dict[str, Any] = {}
        self._revisions: dict[str, str | None] = {}
        self._changed = False
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            if isinstance(known, dict):
                self._known = known
        except (OSError, ValueError):
            pass  # Nothing remembered: everything is hashed anew.

    def content(self, path: Path, field: str) -> str:
        """Return the hash of a file's content; DataError when it cannot be read."""
        check_file(path, field=field)
        key = str(path.resolve())
        before = stamp(path)
        known = self._known.get(key)
        if isinstance(known, list) and known[:-1] == list(before) and isinstance(known[-1], str):
            return known[-1]
        digest = xxhash.xxh3_128()
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"{field}: cannot read {path} ({error.strerror})") from None
        if max(before[1:]) < time.time_ns() - _TICK:
            self._known[key] = [*before, digest.hexdigest()]
            self._changed = True
        return digest.hexdigest()

    def revision(self, name: str, field: str) -> str | None:
        """Return the newest revision of a data set of the hub; without a connection the one last seen."""
        from nmt.data.hub import hub_revision

        key = f"hub:{name}"
        if key not in self._revisions:
            revision = hub_revision(name, field=field)
            known = self._known.get(key)
            if revision is None:
                revision = known if isinstance(known, str) else None
            elif revision != known:
                self._known[key] = revision
                self._changed = True
            self._revisions[key] = revision
        return self._revisions[key]

    def save(self) -> None:
        """Write what is remembered; another process doing so at once loses nothing but memory."""
        if self._changed:
            write_json(
                self._file, {k: v for k, v in self._known.items() if k[:4] == "hub:" or Path(k).exists()}
            )


def corpus_identity(
    corpus: CorpusConfig, data: DataConfig, hashes: InputHashes, *, field: str
) -> dict[str, Any]:
    """Return what makes a corpus the one it is; where its files lie is no part of that."""
    files = named_files(corpus, field=field)
    identity: dict[str, Any] = {"files": [(path.suffix, hashes.content(path, name)) for name, path in files]}
    if corpus.source is None:
        identity["languages"] = (data.source_language, data.target_language)
        identity["columns"] = (corpus.source_column, corpus.target_column)
    if isinstance(corpus, TestSetConfig) and corpus.sacrebleu is not None:
        identity["sacrebleu"] = corpus.sacrebleu
    if corpus.dataset is not None:
        identity["dataset"] = (corpus.dataset_name, corpus.split)
        if files:
            folder = Path(corpus.dataset).expanduser()
            identity["paths"] = [path.relative_to(folder).as_posix() for _, path in files]
        else:
            identity["hub"] = (corpus.dataset, hashes.revision(corpus.dataset, field))
    return identity


def fingerprint(data: DataConfig, tokenizer: TokenizerConfig, hashes: InputHashes) -> str:
    """Return the name of the prepared data: 20 hexadecimal digits."""
    return digest_of(
        {
            "format": FORMAT_VERSION,
            "train": corpus_identity(data.train, data, hashes, field="data.train"),
            "valid": corpus_identity(data.valid, data, hashes, field="data.valid"),
            "cleaning": asdict(data.cleaning),
            "tokenizer": asdict(tokenizer),
        }
    )


def digest_of(value: Any) -> str:
    """Return 20 hexadecimal digits that stand for a value of JSON types."""
    return str(xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())[:20])


def write_json(path: Path, value: Any) -> None:
    """Write a file of which readers see the old content or the new, never half of it."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
