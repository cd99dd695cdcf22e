"""Forward and backward passes of one batch, on a CPU by several threads at once.

A product of a small model is too short to be shared by threads: they would wait for each other some thousand
times per update. Instead each thread takes some of the rows through the whole model by itself and all meet
once per batch.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nmt.data.loader import DeviceBatch
from nmt.model.dropout import Dropout
from nmt.model.transformer import Transformer
from nmt.training.compilation import CompiledPass
from nmt.training.graphs import CudaRecorder, GraphedPass, Pass
from nmt.training.loss import smoothed_cross_entropy
from nmt.training.parameters import Parameters

# Rows that are worth a replica of their own; below that threads had better share the products.
ROWS_PER_REPLICA = 8


def replica_count(*, threads: int, rows: int) -> int:
    """How many replicas train best on a CPU with batches of so many rows."""
    return max(1, min(threads, rows // ROWS_PER_REPLICA))


class Replicas:
    """A model and copies of it that share its weights; each has gradients and dropout of its own.

    How many there are changes no gradient but for the dropout drawn and float rounding.
    """

    def __init__(
        self,
        model: Transformer,
        parameters: Parameters,
        *,
        count: int,
        seed: int,
        rank: int = 0,
        threads_each: int = 1,
        whole_model: Transformer | None = None,
        cuda_graphs: bool = False,
        compiled: bool = False,
    ) -> None:
        """
        Args:
            count: replicas, each with its thread; 1 computes in the caller's thread.
            threads_each: CPU threads that share the products of one replica.
            whole_model: what `whole` fills with weights; None is the model itself, which has them all.
            cuda_graphs: record passes and replay them; for one replica, on a GPU.
            compiled: compile the model for each shape of batches.
        """
        self.parameters = parameters
        self.whole_model = model if whole_model is None else whole_model
        self.rank = rank
        self.models = [model, *(copy.deepcopy(model) for _ in range(count - 1))]
        self.generators: list[torch.Generator] = []
        for number, replica in enumerate(self.models):
            parameters.attach(replica)
            state = np.random.SeedSequence([seed, rank, number]).generate_state(1, np.uint64)
            generator = torch.Generator(parameters.device).manual_seed(int(state[0] >> 1))
            self.generators.append(generator)
            for module in replica.modules():
                if isinstance(module, Dropout):
                    module.generator = generator
        # What passes call: compiled, or the models themselves. Decoding and validation call the models.
        self.forwards = [torch.compile(each, dynamic=False) if compiled else each for each in self.models]
        only_pass: Pass = partial(self._pass, 0)
        self.only_pass = CompiledPass(only_pass) if compiled else only_pass
        self.graphed: GraphedPass | None = None
        if cuda_graphs:
            self.graphed = GraphedPass(
                self.only_pass,
                CudaRecorder(self.generators[0]),
                device=parameters.device,
                constants=model.buffers(),
            )
        self.threads = None
        if count > 1:
            # The main thread settles its own number of threads before the workers change the default.
            torch.get_num_threads()
            self.threads = ThreadPoolExecutor(
                count, "replica", initializer=torch.set_num_threads, initargs=(threads_each,)
            )

    def train(self) -> None:
        """Put every replica in training mode."""
        for replica in self.models:
            replica.train()

    def backward(self, batch: DeviceBatch, *, label_smoothing: float, loss_scale: float) -> Tensor:
        """Add the gradients of the batch's loss sum to `parameters.master_gradients`.

        Returns:
            Sums [3] of smoothed loss, negative log-likelihood (nats) and target pieces.
        """
        if self.threads is None:
            sums = (self.graphed or self.only_pass)(batch, label_smoothing, loss_scale)
        else:
            parts = batch.split_rows(len(self.models))
            done = [
                self.threads.submit(self._pass, number, part, label_smoothing, loss_scale)
                for number, part in enumerate(parts)
            ]
            # Where one fails the others still write gradients: whoever clears them must find all at rest.
            wait(done)
            sums = torch.stack([each.result() for each in done]).sum(0)
        for model in self.models:
            self.parameters.collect(model)
        # Filled on the device: a number copied there would wait for all that it still has to do.
        return torch.cat([sums, sums.new_full((1,), batch.target_tokens)])

    def _pass(
        self, number: int, part: DeviceBatch, label_smoothing: float, loss_scale: float | Tensor
    ) -> Tensor:
        """Add a replica's gradients of its part to its own; sums [2] of both losses."""
        model = self.models[number]
        logits = self.forwards[number](**part.model_input())
        smoothed, plain = smoothed_cross_entropy(
            logits, part.target_BT, smoothing=label_smoothing, pad_id=model.pad_id
        )
        (smoothed * loss_scale).backward()  # type: ignore[no-untyped-call]
        return torch.stack([smoothed.detach(), plain])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let `whole_model` compute with the masters of the moment; every process enters."""
        with self.parameters.gathered(self.whole_model):
            yield

    def clear_gradients(self) -> None:
        """Forget all gradients since the last update, those of a backward pass that failed half-way too."""
        self.parameters.clear_gradients()

    def random_states(self) -> dict[str, Tensor]:
        """The generators that dropout draws from, named after the rank that draws."""
        return {
            f"rank{self.rank}.random.{number}": generator.get_state()
            for number, generator in enumerate(self.generators)
        }

    def restore_random_states(self, states: dict[str, Tensor]) -> None:
        """Put back what `random_states` gave on this rank; replicas that are new keep their seed."""
        for number, generator in enumerate(self.generators):
            name = f"rank{self.rank}.random.{number}"
            if name in states:
                generator.set_state(states[name])

    def close(self) -> None:
        """End the threads."""
        if self.threads is not None:
            self.threads.shutdown()
