"""Pairs of data sets in the format of the `datasets` library: of the Hugging Face hub, or in a local folder.

No code of a data set is ever run; data sets that consist of a Python script are refused by the library.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmt.data.config import CorpusConfig
from nmt.data.pairs import BLOCK_PAIRS, PairBlock
from nmt.data.tables import arrow_block, choose_columns
from nmt.data.text_lines import DataError

# Seconds to wait for the hub's answer. The library itself would try for minutes.
_HUB_TIMEOUT = 5.0


def read_dataset(corpus: CorpusConfig, *, field: str, languages: tuple[str, str]) -> Iterator[PairBlock]:
    """Yield the pairs of a data set in order, memory-mapped.

    Raises:
        DataError: no such data set, split or column, no way to the hub, a cell that is not text.
    """
    name = str(corpus.dataset)
    where = f"{field}: data set {name}"
    dataset = _load(name, corpus, field, where)
    columns = (corpus.source_column, corpus.target_column)
    source, target = choose_columns(dataset.column_names, columns, languages, where)
    chosen = ["translation"] if source is None or target is None else [source, target]
    if len(dataset) == 0:
        raise DataError(f"{where} has no rows")
    row = 1
    short_name = f"{Path(name).name}[{corpus.split}]"
    for table in dataset.select_columns(chosen).with_format("arrow").iter(batch_size=BLOCK_PAIRS):
        yield arrow_block(table, (source, target), languages, where, short_name, row)
        row += table.num_rows


def hub_revision(name: str, *, field: str) -> str | None:
    """Return the newest revision of a data set of the hub, None when the hub cannot be reached.

    Raises:
        DataError: the hub knows no such data set.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return HfApi().dataset_info(name, timeout=_HUB_TIMEOUT).sha
    except (RepositoryNotFoundError, HFValidationError):
        raise DataError(
            f"{field}.dataset: {name} is neither a folder here nor a data set of the hub that you may "
            f"read (private ones need `hf auth login`)"
        ) from None
    except Exception:  # Whatever the library's HTTP client raises, which changes between its versions.
        return None


def _load(name: str, corpus: CorpusConfig, field: str, where: str) -> Any:
    import datasets

    folder = Path(name).expanduser()
    try:
        if folder.is_dir():
            if any((folder / file).exists() for file in ("state.json", "dataset_dict.json")):
                return _split(datasets.load_from_disk(str(folder)), corpus.split, where)
            return datasets.load_dataset(str(folder), corpus.dataset_name, split=corpus.split)
        revision = hub_revision(name, field=field)
        if revision is not None:
            return datasets.load_dataset(name, corpus.dataset_name, split=corpus.split, revision=revision)
    except DataError:
        raise
    except Exception as error:  # The library raises errors of a dozen kinds for data that it cannot read.
        message = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: cannot be loaded ({type(error).__name__}: {message})") from None
    try:
        with _offline():
            return datasets.load_dataset(name, corpus.dataset_name, split=corpus.split)
    except Exception:
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        raise DataError(
            f"{field}.dataset: {name} is no folder here, not in the local cache, and the hub ({hub}) "
            f"cannot be reached; check the connection or give a local folder (without any connection, "
            f"HF_HUB_OFFLINE=1 keeps to folders and the cache)"
        ) from None


def _split(loaded: Any, split: str, where: str) -> Any:
    """Take one split of a saved data set; one that was saved alone has no other."""
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise DataError(f"{where} has no split {split!r}; the splits are: {', '.join(loaded)}")
    return loaded[split]


@contextmanager
def _offline() -> Iterator[None]:
    """Let the library look in its cache at once instead of asking an unreachable hub again and again."""
    import datasets
    import huggingface_hub

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before
