"""Tokenised pairs on disk: an Arrow file of the `datasets` library, read back through one memory map.

A store is a folder with `pairs.arrow` (columns `source` and `target`, lists of int32, written by
`datasets` and readable with `datasets.Dataset.from_file`) and the lengths of both sides as arrays.
Opening one reads the headings of its record batches and no pieces, so memory does not grow with it.
"""

from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow

from nmt.data.text_lines import DataError

Pieces = npt.NDArray[np.int32]
_ARROW, _LENGTHS = "pairs.arrow", {"source": "source_lengths.npy", "target": "target_lengths.npy"}
# A record batch is written when it holds this many sentences, as opening takes time per batch, or this
# many pieces of a side, as offsets inside a batch are 32 bits wide.
_BATCH_SENTENCES = 1 << 16
_BATCH_PIECES = 1 << 28


class PairStore:
    """Pieces of sentence pairs, numbered from 0."""

    source_lengths: Pieces
    target_lengths: Pieces

    def __init__(self, folder: Path) -> None:
        """Map the store in `folder`; DataError when it is missing or damaged."""
        self.folder = folder
        try:
            with pyarrow.memory_map(str(folder / _ARROW)) as file:
                mapped = file.read_buffer()
            batches = list(pyarrow.ipc.open_stream(mapped))
            self.source_lengths, self.target_lengths = (
                np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _LENGTHS.values()
            )
        except (OSError, EOFError, ValueError, pyarrow.ArrowException) as error:
            message = " ".join(str(error).split())
            raise DataError(
                f"{folder}: missing or damaged prepared data ({message}); delete the folder"
            ) from None
        # Every buffer lies inside the one map, so a place in it serves as the address of a piece.
        self._pieces = np.frombuffer(mapped, dtype=np.int32, count=mapped.size // 4)
        counts = [batch.num_rows for batch in batches]
        self._batch_starts = np.cumsum([0, *counts[:-1]], dtype=np.int64)
        self._places = {side: _places(batches, side, mapped.address) for side in _LENGTHS}
        shapes = {(array.dtype, array.shape) for array in (self.source_lengths, self.target_lengths)}
        if shapes != {(np.dtype(np.int32), (sum(counts),))}:
            raise DataError(
                f"{folder}: damaged prepared data (lengths do not fit the pairs); delete the folder"
            )

    @classmethod
    def open(cls, folder: Path) -> "PairStore":
        """Map the store in `folder`; DataError when it is missing or damaged."""
        return cls(folder)

    def __len__(self) -> int:
        return len(self.source_lengths)

    def __reduce__(self) -> tuple[type["PairStore"], tuple[Path]]:
        return type(self), (self.folder,)

    def gather(self, numbers: npt.ArrayLike) -> tuple[Pieces, Pieces]:
        """Return the source and the target pieces of sentences, those of one behind those of the other.

        Args:
            numbers: sentence numbers in [0, len), any order, repeats allowed.

        Raises:
            IndexError: a number is out of range.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        if len(numbers) == 0:
            return np.empty(0, np.int32), np.empty(0, np.int32)
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise IndexError(f"sentence numbers must lie in [0, {len(self)})")
        batches = np.searchsorted(self._batch_starts, numbers, side="right") - 1
        rows = numbers - self._batch_starts[batches]
        return self._gather_side("source", batches, rows), self._gather_side("target", batches, rows)

    def _gather_side(self, side: str, batches: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Pieces:
        offset_places, piece_places = self._places[side]
        places = offset_places[batches] + rows
        starts = self._pieces[places].astype(np.int64)
        lengths = self._pieces[places + 1] - starts
        starts += piece_places[batches]
        # Place of every piece: its place in the result plus how far its sentence lies from there.
        ends = np.cumsum(lengths)
        index = np.repeat(starts - (ends - lengths), lengths)
        index += np.arange(len(index))
        gathered: Pieces = self._pieces[index]
        return gathered


def _places(
    batches: list[pyarrow.RecordBatch], side: str, base: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where offsets and pieces of each batch lie in the map, in steps of four bytes."""
    offset_places, piece_places = [], []
    for batch in batches:
        column = batch.column(side)
        offsets, pieces = column.buffers()[1], column.values.buffers()[1]
        offset_places.append((offsets.address - base) // 4 + column.offset)
        # A batch without a single piece has no buffer of pieces.
        piece_places.append((pieces.address - base) // 4 if pieces is not None else 0)
    return np.array(offset_places, dtype=np.int64), np.array(piece_places, dtype=np.int64)


class StoreWriter:
    """Writes a store batch by batch, in constant memory; a context manager."""

    def __init__(self, folder: Path) -> None:
        from datasets import Features, Sequence, Value  # takes a second to import; only writing needs it
        from datasets.arrow_writer import ArrowWriter

        folder.mkdir(parents=True)
        self._folder = folder
        features = Features({side: Sequence(Value("int32")) for side in _LENGTHS})
        self._writer = ArrowWriter(
            path=str(folder / _ARROW), features=features, writer_batch_size=_BATCH_SENTENCES
        )
        self._waiting: list[pyarrow.Table] = []
        self._waiting_sentences = self._waiting_pieces = 0
        self._lengths = {side: (folder / f"{side}_lengths.raw").open("wb") for side in _LENGTHS}

    def __enter__(self) -> "StoreWriter":
        return self

    def write(self, source: tuple[Pieces, Pieces], target: tuple[Pieces, Pieces]) -> None:
        """Append pairs; each side is (lengths [N], pieces one behind the other)."""
        sides = dict(zip(_LENGTHS, (source, target), strict=True))
        columns = {}
        for side, (lengths, pieces) in sides.items():
            offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
            np.cumsum(lengths, out=offsets[1:])
            columns[side] = pyarrow.ListArray.from_arrays(offsets, pyarrow.array(pieces))
            self._lengths[side].write(np.asarray(lengths, dtype=np.int32).tobytes())
        self._waiting.append(pyarrow.table(columns))
        self._waiting_sentences += len(source[0])
        self._waiting_pieces += max(len(source[1]), len(target[1]))
        if self._waiting_sentences >= _BATCH_SENTENCES or self._waiting_pieces >= _BATCH_PIECES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pyarrow.concat_tables(self._waiting), writer_batch_size=_BATCH_SENTENCES)
        self._waiting = []
        self._waiting_sentences = self._waiting_pieces = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._lengths.values():
            file.close()
        if kind is not None:
            self._writer.close()
            return
        self._flush()
        self._writer.finalize()
        for side, name in _LENGTHS.items():
            _give_heading(self._folder / f"{side}_lengths.raw", self._folder / name)


def _give_heading(raw: Path, path: Path) -> None:
    """Turn a file of int32 into a `.npy` file."""
    count = raw.stat().st_size // 4
    array: Pieces = np.lib.format.open_memmap(path, mode="w+", dtype=np.int32, shape=(count,))
    if count:
        array[:] = np.memmap(raw, dtype=np.int32, mode="r")
        array.flush()  # type: ignore[attr-defined]
    raw.unlink()
