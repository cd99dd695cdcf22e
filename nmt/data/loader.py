"""The stream of packed batches of a run: (seed, epoch, position, rank) -> the next batch on the device."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmt.data.batching import BatchPlan, BatchShape, PackedBatch, Work, build_batch, plan_epoch
from nmt.data.store import PairStore

# Batches built ahead of the one in use.
PREFETCHED_BATCHES = 4


@dataclass(frozen=True, slots=True)
class LoaderState:
    """Where the stream goes on: `position` batches of `epoch`, over all ranks, were used."""

    epoch: int = 0
    position: int = 0


@dataclass(slots=True)
class DeviceBatch:
    """A packed batch as integer tensors [B, S] and [B, T] on the device; see `PackedBatch`."""

    source_BS: Tensor
    source_segments_BS: Tensor
    source_positions_BS: Tensor
    target_input_BT: Tensor
    target_BT: Tensor
    target_segments_BT: Tensor
    target_positions_BT: Tensor
    target_tokens: int
    # On the host, see `PackedBatch`.
    row_work: npt.NDArray[np.int64]

    @classmethod
    def from_packed(cls, batch: PackedBatch, device: torch.device) -> "DeviceBatch":
        """One copy for all seven arrays, asynchronous where the device allows it."""
        arrays = (
            batch.source,
            batch.source_segments,
            batch.source_positions,
            batch.target_input,
            batch.target,
            batch.target_segments,
            batch.target_positions,
        )
        stacked = torch.stack([torch.from_numpy(array) for array in arrays])
        if device.type == "cuda":
            stacked = stacked.pin_memory()
        stacked = stacked.to(device, non_blocking=True)
        return cls(
            source_BS=stacked[0],
            source_segments_BS=stacked[1],
            source_positions_BS=stacked[2],
            target_input_BT=stacked[3],
            target_BT=stacked[4],
            target_segments_BT=stacked[5],
            target_positions_BT=stacked[6],
            target_tokens=batch.target_tokens,
            row_work=batch.row_work,
        )

    @property
    def slots(self) -> int:
        """Slots for pieces of both sides, padding included."""
        return self.source_BS.numel() + self.target_BT.numel()

    def split_rows(self, parts: int) -> "list[DeviceBatch]":
        """At most `parts` batches with about equally many of the rows each; tensors are views."""
        rows = len(self.source_BS)
        edges = [rows * part // parts for part in range(parts + 1)]
        return [self._take_rows(slice(*edge)) for edge in pairwise(edges) if edge[1] > edge[0]]

    def _take_rows(self, rows: slice) -> "DeviceBatch":
        tensors = {
            each.name: getattr(self, each.name)[rows] for each in fields(self) if each.name != "target_tokens"
        }
        # From the host's count: asking the device would wait for it.
        work = Work(*self.row_work[rows].sum(axis=0).tolist())
        return DeviceBatch(**tensors, target_tokens=int(work.target_pieces))

    def model_input(self) -> dict[str, Tensor]:
        """The arguments of the model's forward pass."""
        return {
            "source_BS": self.source_BS,
            "source_segments_BS": self.source_segments_BS,
            "source_positions_BS": self.source_positions_BS,
            "target_BT": self.target_input_BT,
            "target_segments_BT": self.target_segments_BT,
            "target_positions_BT": self.target_positions_BT,
        }


class Loader:
    """Endless batches of a training set, epoch after epoch, the same for any number of ranks.

    Batch k of the stream goes to rank k modulo `world_size`. A thread builds batches ahead; what it
    has built ahead is no part of the state.
    """

    def __init__(
        self,
        store: PairStore,
        shapes: list[BatchShape],
        *,
        begin_id: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.store = store
        self.shapes = shapes
        self.begin_id = begin_id
        self.seed = seed
        # Which of several GPUs: each thread has a current one of its own, at first number 0.
        self.device = torch.empty(0, device=device).device
        self.rank = rank
        self.world_size = world_size
        # Seconds that the consumer has waited for a batch.
        self.wait_seconds = 0.0

    def plans(self, state: LoaderState) -> Iterator[tuple[BatchPlan, LoaderState]]:
        """Every batch from `state` on, with the state after it."""
        while True:
            plans = plan_epoch(
                self.store.source_lengths,
                self.store.target_lengths,
                self.shapes,
                seed=self.seed,
                epoch=state.epoch,
            )
            position = 0
            for position, plan in enumerate(plans, start=1):
                if position > state.position:
                    state = replace(state, position=position)
                    yield plan, state
            state = LoaderState(state.epoch + 1, 0)

    def batches(self, state: LoaderState) -> Iterator[tuple[DeviceBatch, LoaderState]]:
        """This rank's batches from `state` on, each with the state after all ranks' batches of its turn."""
        ready: queue.Queue[tuple[DeviceBatch, LoaderState] | BaseException] = queue.Queue(PREFETCHED_BATCHES)
        stopped = threading.Event()

        def put(item: tuple[DeviceBatch, LoaderState] | BaseException) -> None:
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    return
                except queue.Full:
                    continue

        def produce() -> None:
            try:
                for item in self._rank_batches(state):
                    if stopped.is_set():
                        return
                    put(item)
            except BaseException as error:  # the consumer raises it
                put(error)

        producer = threading.Thread(target=produce, name="loader", daemon=True)
        producer.start()
        try:
            while True:
                before = time.perf_counter()
                item = ready.get()
                self.wait_seconds += time.perf_counter() - before
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            producer.join()

    def _rank_batches(self, state: LoaderState) -> Iterator[tuple[DeviceBatch, LoaderState]]:
        mine: BatchPlan | None = None
        for turn, (plan, after) in enumerate(self.plans(state)):
            if turn % self.world_size == self.rank:
                mine = plan
            if turn % self.world_size == self.world_size - 1:
                assert mine is not None
                packed = build_batch(self.store, mine, self.begin_id)
                yield DeviceBatch.from_packed(packed, self.device), after


def validation_batches(
    store: PairStore,
    shapes: list[BatchShape],
    *,
    begin_id: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[DeviceBatch]:
    """Every sentence of a validation set once over all ranks, in an order that never changes."""
    plans = plan_epoch(store.source_lengths, store.target_lengths, shapes, seed=0, epoch=0, shuffle=False)
    for plan in islice(plans, rank, None, world_size):
        yield DeviceBatch.from_packed(build_batch(store, plan, begin_id), device)
