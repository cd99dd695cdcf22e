"""What several test files need: one thread each, and stores of given pieces."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt.data.store import PairStore, StoreWriter

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
MakeStore = Callable[[Pairs], PairStore]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side; threads inside each would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_store(tmp_path_factory: pytest.TempPathFactory) -> MakeStore:
    """A real store on disk with the given (source, target) pieces."""

    def make(pairs: Pairs) -> PairStore:
        folder: Path = tmp_path_factory.mktemp("store") / "pairs"
        sides = []
        for side in (0, 1):
            lengths = np.array([len(pair[side]) for pair in pairs], dtype=np.int32)
            flat = np.array([piece for pair in pairs for piece in pair[side]], dtype=np.int32)
            sides.append((lengths, flat))
        with StoreWriter(folder) as writer:
            writer.write(*sides)
        return PairStore.open(folder)

    return make
