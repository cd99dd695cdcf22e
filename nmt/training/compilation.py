"""Says what compiling the model costs: a minute or so at the first batch of each shape."""

import sys
import time

from torch import Tensor

from nmt.data.loader import DeviceBatch
from nmt.training.graphs import Pass


class CompiledPass:
    """A pass over a model that is compiled for each shape of batches when the first one comes."""

    def __init__(self, compute: Pass) -> None:
        self.compute = compute
        self.seen: set[tuple[int, ...]] = set()

    def __call__(self, batch: DeviceBatch, label_smoothing: float, loss_scale: float | Tensor) -> Tensor:
        """Gradients and sums of a batch, as the pass itself gives them."""
        shape = (*batch.source_BS.shape, *batch.target_BT.shape)
        if shape in self.seen:
            return self.compute(batch, label_smoothing, loss_scale)
        start = time.perf_counter()
        sums = self.compute(batch, label_smoothing, loss_scale)
        sums.tolist()  # waits for the device
        self.seen.add(shape)
        rows, slots = batch.target_BT.shape
        seconds = time.perf_counter() - start
        message = f"nmt train: compiled for batches of {rows} rows of {slots} slots in {seconds:.0f} s"
        print(message, file=sys.stderr, flush=True)
        return sums
