"""Parameters, gradients and moments shared out among the processes, for models too large for one GPU.

FSDP2 (Zhao et al., 2023; `torch.distributed.fsdp.fully_shard`) keeps a slice of every parameter on each
process and puts a layer together while it computes. What is saved is whole and flat, as without it.

Imported only by runs that ask for it: FSDP takes a second to import.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from nmt.model.transformer import Transformer
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.optim import Optimizer
from nmt.training.parameters import Parameters
from nmt.training.replicas import Replicas

# Names that AdamW gives its two moments.
MOMENTS = ("exp_avg", "exp_avg_sq")


def sharded_replicas(
    model: Transformer, dtype: torch.dtype, device: torch.device, *, seed: int, rank: int
) -> Replicas:
    """The model, sharded, and an empty copy of it that is filled where all weights are needed on a process.

    Args:
        model: on the CPU, the same on every process; its layers go to the device one by one.
    """
    whole_model = copy.deepcopy(model).requires_grad_(False)
    empty(whole_model)
    parameters = ShardedParameters(model, dtype, device)
    return Replicas(model, parameters, count=1, seed=seed, rank=rank, whole_model=whole_model.to(device))


def shard(model: Transformer, dtype: torch.dtype, device: torch.device) -> None:
    """Leave this process its slice of every parameter, in float32 on the device.

    Layers compute in `dtype`, each put together for as long as it computes. Embeddings, output projection
    and the last norms are one group: tied weights may not lie in two.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    # The order matters: the last group is everything that the layers have left over.
    for module in (*model.encoder, *model.decoder, model):
        sharded = fully_shard(module, mesh=mesh, mp_policy=policy)
        # Gradients are sums; FSDP would take the mean over processes.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)


class ShardedParameters(Parameters):
    """A slice of every parameter, its gradient and, in the optimizer, its moments.

    Gradients of all but the last micro-batch of an update wait on their process, whole and in float32.
    """

    sharded = True

    def __init__(self, model: Transformer, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(model)
        shard(model, dtype, device)
        assert isinstance(model, FSDPModule)
        self.model = model
        self.device = device
        self.dtype = dtype
        named = dict(model.named_parameters())
        self.shards = {name: named[name] for name in self.slots}
        decays = {name: slot.start < self.decayed_size for name, slot in self.slots.items()}
        self.groups = (
            [parameter for name, parameter in self.shards.items() if decays[name]],
            [parameter for name, parameter in self.shards.items() if not decays[name]],
        )
        # Not on this process but within `gathered`; and FSDP has places of its own for gradients.
        self.masters = torch.empty(0)

    def attach(self, model: nn.Module) -> None:
        """The one model has its slices."""

    def expect_backward(self, *, last: bool) -> None:
        self.model.set_requires_gradient_sync(last)

    def collect(self, model: nn.Module) -> None:
        """FSDP adds them up in float32."""

    def sum_gradients(self, processes: Processes) -> None:
        """The last backward pass did it, layer by layer."""

    def gradient_norm(self) -> float:
        square = torch.nn.utils.get_total_norm(self._local_gradients()).square()
        dist.all_reduce(square)
        return float(square.sqrt())

    def scale_gradients(self, factor: float) -> None:
        torch._foreach_mul_(self._local_gradients(), factor)

    def clear_gradients(self) -> None:
        for parameter in self.shards.values():
            parameter.grad = None

    def _local_gradients(self) -> list[Tensor]:
        return [_local(parameter.grad) for parameter in self.shards.values()]

    def publish(self) -> None:
        """FSDP casts the masters whenever it puts a layer together."""

    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self.shards.items():
            fill(parameter, weights[name])

    @contextmanager
    def gathered(self, model: nn.Module | None = None) -> Iterator[None]:
        """Afterwards `model` is empty again: it would take the room that sharding makes."""
        self.masters = self.gather(self.shards, model)
        try:
            yield
        finally:
            self.masters = torch.empty(0)
            if model is not None:
                empty(model)

    @torch.no_grad()
    def gather(self, shards: Mapping[str, Tensor], model: nn.Module | None = None) -> Tensor:
        """Slices of all processes, by parameter, as one flat tensor in the main process's host memory.

        One parameter at a time passes through the device. The other processes get an empty tensor.

        Args:
            model: gets the whole values too, on every process, in the type that it computes in.
        """
        is_main = dist.get_rank() == 0
        flat = torch.zeros(self.size if is_main else 0)
        copies = dict(model.named_parameters()) if model is not None else {}
        for name, part in shards.items():
            assert isinstance(part, DTensor)
            whole = part.full_tensor()
            if is_main:
                self.view(flat, name).copy_(whole)
            if copies:
                copies[name].data = whole.to(self.dtype)
        return flat


def empty(model: nn.Module) -> None:
    """Take away the memory of a model's parameters."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)


@torch.no_grad()
def fill(shard: Tensor, whole: Tensor) -> None:
    """Copy this process's slice of a whole tensor, without communication."""
    assert isinstance(shard, DTensor)
    # Copied, because the slice may be a view that keeps the whole in memory.
    shard.copy_(distribute_tensor(whole, shard.device_mesh, shard.placements, src_data_rank=None))


def _local(tensor: Tensor | None) -> Tensor:
    assert isinstance(tensor, DTensor)
    return tensor.to_local()


class ShardedOptimizer(Optimizer):
    """AdamW over the slices; its moments are saved as if there were none."""

    parameters: ShardedParameters

    def __init__(self, parameters: ShardedParameters, config: TrainingConfig) -> None:
        super().__init__(parameters, config)
        self.gathered_moments: dict[str, Tensor] = {}

    @contextmanager
    def gathered(self) -> Iterator[None]:
        with super().gathered():
            self.gathered_moments = self._gather_moments()
            try:
                yield
            finally:
                self.gathered_moments = {}

    def _gather_moments(self) -> dict[str, Tensor]:
        shards, state = self.parameters.shards, self.adam.state
        counts = [state[parameter]["step"] for parameter in shards.values() if state[parameter]]
        if not counts:
            return {}
        split = self.parameters.decayed_size
        gathered = {"0.step": counts[0], "1.step": counts[0].clone()}
        for key in MOMENTS:
            flat = self.parameters.gather({name: state[parameter][key] for name, parameter in shards.items()})
            gathered[f"0.{key}"], gathered[f"1.{key}"] = flat[:split], flat[split:]
        return gathered

    def moments(self) -> dict[str, Tensor]:
        """State to save, within `gathered`: as without sharding."""
        return self.gathered_moments

    def restore_moments(self, saved: dict[str, Tensor]) -> None:
        """Put back what `moments` gave, here or without sharding."""
        self.adam.state.clear()
        if "0.step" not in saved:
            return
        flats = {key: torch.cat([saved[f"0.{key}"], saved[f"1.{key}"]]) for key in MOMENTS}
        for name, parameter in self.parameters.shards.items():
            # AdamW counts in place: each parameter needs a count of its own.
            step = saved["0.step"].to(self.parameters.device, copy=True)
            moments = {key: torch.zeros_like(parameter) for key in MOMENTS}
            for key, moment in moments.items():
                fill(moment, self.parameters.view(flats[key], name))
            self.adam.state[parameter] = {"step": step, **moments}
