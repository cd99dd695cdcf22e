"""Forward and backward pass as a CUDA graph, recorded once for each shape of batches and then replayed.

A GPU that trains a small model waits for the processor, which launches a thousand kernels one by one; a graph
launches them all at once. A replay reads and writes the very memory of the recording: batches are copied into
it, gradients are added where they always are.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import torch
from torch import Tensor

from nmt.data.loader import DeviceBatch
from nmt.training.memory import is_out_of_memory

# Adds the gradients of a batch; returns sums that stay on the device. Given label smoothing and loss scale.
Pass = Callable[[DeviceBatch, float, float | Tensor], Tensor]
# The same without arguments: batch and loss scale lie where they lay before.
FixedPass = Callable[[], Tensor]
# Gives what repeats a pass; raises RuntimeError where that does not work, and has computed nothing then.
Record = Callable[[FixedPass], FixedPass]

# Passes of one shape before it is recorded. They load kernels, make buffers and tune, which no recording may
# do; they are passes of the run like any other.
WARM_UP_PASSES = 3


class GraphedPass:
    """A pass that is recorded for each shape of batches; it goes on as it was where that does not work."""

    def __init__(
        self, compute: Pass, record: Record, *, device: torch.device, constants: Iterable[Tensor] = ()
    ) -> None:
        """
        Args:
            constants: what a recording reads and others might put another tensor in the place of.
        """
        self.compute = compute
        self.record = record
        self.constants = list(constants)
        # Read by all recordings: one that changes needs no new ones.
        self.loss_scale = torch.ones((), device=device)
        self.seen: Counter[tuple[float, ...]] = Counter()
        self.recordings: dict[tuple[float, ...], _Recording] = {}
        self.given_up = False

    def __call__(self, batch: DeviceBatch, label_smoothing: float, loss_scale: float | Tensor) -> Tensor:
        """Gradients and sums of a batch, as the pass itself gives them."""
        self.loss_scale.fill_(loss_scale)
        key = (*batch.source_BS.shape, *batch.target_BT.shape, label_smoothing)
        if key not in self.recordings and self.seen[key] >= WARM_UP_PASSES and not self.given_up:
            self._try_to_record(key, batch, label_smoothing)
        if key in self.recordings:
            return self.recordings[key].run(batch)
        self.seen[key] += 1
        try:
            return self.compute(batch, label_smoothing, self.loss_scale)
        except RuntimeError as error:
            # Recordings hold memory, which the caller's next attempt can have.
            if self.recordings and is_out_of_memory(error):
                self._give_up("other batches need their memory")
            raise

    def _try_to_record(self, key: tuple[float, ...], batch: DeviceBatch, label_smoothing: float) -> None:
        inputs = DeviceInputs(batch)
        try:
            replay = self.record(lambda: self.compute(inputs.batch, label_smoothing, self.loss_scale))
        except RuntimeError as error:
            self._give_up(str(error).partition("\n")[0])
        else:
            self.recordings[key] = _Recording(inputs, replay)

    def _give_up(self, reason: str) -> None:
        self.given_up = True
        self.recordings.clear()
        print(f"nmt train: going on without CUDA graphs, slower: {reason}", file=sys.stderr, flush=True)


class DeviceInputs:
    """A batch in memory of its own, where others of its shape take its place."""

    def __init__(self, like: DeviceBatch) -> None:
        names = [each.name for each in fields(like)]
        self.names = [name for name in names if isinstance(getattr(like, name), Tensor)]
        self.batch = replace(like, **{name: getattr(like, name).clone() for name in self.names})

    def load(self, batch: DeviceBatch) -> None:
        """Copy a batch's tensors in, on the device. What it keeps on the host is not taken over."""
        own, given = ([getattr(each, name) for name in self.names] for each in (self.batch, batch))
        torch._foreach_copy_(own, given)


class _Recording:
    def __init__(self, inputs: DeviceInputs, replay: FixedPass) -> None:
        self.inputs = inputs
        self.replay = replay

    def run(self, batch: DeviceBatch) -> Tensor:
        self.inputs.load(batch)
        # The next replay, of whatever shape, writes over the result of this one.
        return self.replay().clone()


class CudaRecorder:
    """Records passes as CUDA graphs that share their memory: only one of them runs at a time."""

    def __init__(self, generator: torch.Generator) -> None:
        """
        Args:
            generator: what the passes draw from. Replays draw on from wherever it is, the numbers that the
                pass itself would draw.
        """
        self.generator = generator
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: FixedPass) -> FixedPass:
        """
        Raises:
            RuntimeError: it cannot be recorded; nothing was computed.
        """
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        state, stream = self.generator.get_state(), torch.cuda.current_stream()
        try:
            # Other threads go on meanwhile: the loader's pins memory, which would spoil a "global" recording.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                sums = compute()
        finally:
            # A recording that fails leaves its own stream as the current one.
            torch.cuda.set_stream(stream)
        self.generator.set_state(state)

        def replay() -> Tensor:
            graph.replay()
            return sums

        return replay
