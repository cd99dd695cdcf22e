"""What was written to a store is what comes out, whatever is asked for and in which order."""

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.data import store as store_module
from nmt.data.corpus import DataError
from nmt.data.store import PairStore, StoreWriter

Sentences = list[tuple[list[int], list[int]]]
pieces = st.lists(st.integers(0, 2**31 - 1), max_size=6)
some_pairs = st.lists(st.tuples(pieces, pieces), max_size=25)


def side(sentences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int32)
    return lengths, np.array(list(chain.from_iterable(sentences)), dtype=np.int32)


def write(folder: Path, blocks: list[Sentences]) -> PairStore:
    with StoreWriter(folder) as writer:
        for block in blocks:
            writer.write(side([source for source, _ in block]), side([target for _, target in block]))
    return PairStore.open(folder)


@given(st.lists(some_pairs, max_size=5), st.integers(1, 12), st.integers(1, 30), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_gather_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    blocks: list[Sentences],
    sentences: int,
    pieces: int,
    data: st.DataObject,
) -> None:
    monkeypatch.setattr(store_module, "_BATCH_SENTENCES", sentences)
    monkeypatch.setattr(store_module, "_BATCH_PIECES", pieces)
    pairs = list(chain.from_iterable(blocks))
    store = write(tmp_path_factory.mktemp("store") / "train", blocks)
    assert len(store) == len(pairs)
    assert store.source_lengths.tolist() == [len(source) for source, _ in pairs]
    assert store.target_lengths.tolist() == [len(target) for _, target in pairs]
    numbers = data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=40)) if pairs else []
    for stored in (store, pickle.loads(pickle.dumps(store))):  # noqa: S301
        sources, targets = stored.gather(np.array(numbers, dtype=np.int64))
        assert sources.dtype == targets.dtype == np.int32
        assert sources.tolist() == list(chain.from_iterable(pairs[number][0] for number in numbers))
        assert targets.tolist() == list(chain.from_iterable(pairs[number][1] for number in numbers))


def test_many_batches_of_the_usual_size(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    blocks = []
    for _ in range(15):
        lengths = draw.integers(1, 5, (2, 10_000)).astype(np.int32)
        blocks.append([(row, draw.integers(0, 8000, row.sum()).astype(np.int32)) for row in lengths])
    with StoreWriter(tmp_path / "train") as writer:
        for source, target in blocks:
            writer.write(source, target)
    store = PairStore.open(tmp_path / "train")
    sources, targets = store.gather(np.arange(len(store)))
    assert np.array_equal(sources, np.concatenate([source[1] for source, _ in blocks]))
    assert np.array_equal(targets, np.concatenate([target[1] for _, target in blocks]))


def test_the_file_is_one_of_the_datasets_library(tmp_path: Path) -> None:
    import datasets

    write(tmp_path / "train", [[([5, 6], [7]), ([], [8, 9])]])
    rows = datasets.Dataset.from_file(str(tmp_path / "train" / "pairs.arrow"))
    assert rows[:] == {"source": [[5, 6], []], "target": [[7], [8, 9]]}


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    store = write(tmp_path / "train", [[([5, 6], [7]), ([4], [8, 9])]])
    for number in (-1, 2):
        with pytest.raises(IndexError):
            store.gather(np.array([0, number]))


@pytest.mark.parametrize("name", ["pairs.arrow", "source_lengths.npy", "target_lengths.npy"])
def test_a_missing_or_damaged_store_is_an_error(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "train"
    write(folder, [[([5, 6], [7]), ([4], [8, 9])]])
    whole = (folder / name).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"x" * 100):
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match="delete the folder"):
            PairStore.open(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match="delete the folder"):
        PairStore.open(folder)


def test_an_error_while_writing_leaves_no_store(tmp_path: Path) -> None:
    def fail() -> None:
        with StoreWriter(tmp_path / "train") as writer:
            writer.write(side([[4]]), side([[5]]))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with pytest.raises(DataError):
        PairStore.open(tmp_path / "train")
