"""Sharded over processes, training is the same training, and its checkpoints are the same checkpoints."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from safetensors.torch import load_file, save_file

from nmt.data.batching import BatchShape, build_batch, plan_epoch
from nmt.data.loader import DeviceBatch
from nmt.data.store import PairStore
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.config import Schedule, TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas
from nmt.training.update import Updater, accumulate_gradients

CPU = torch.device("cpu")
WORLD = 2
# Micro-batches of an update, over all processes.
BATCHES = 2 * WORLD
SAVED_AT, END = 3, 5
# Gradients that are nothing but rounding, as those of the keys' biases, stay small beside epsilon.
TRAINING = TrainingConfig(
    learning_rate=0.01,
    schedule=Schedule.constant,
    warmup_steps=2,
    weight_decay=0.3,
    max_gradient_norm=0.2,
    epsilon=1e-4,
)


def make_model(dropout: float) -> Transformer:
    """Three-way tied, and with sizes that processes cannot share evenly."""
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=2, width=14, heads=2, feed_forward_width=5, dropout=dropout
    )
    return Transformer(config, source_vocabulary_size=31, target_vocabulary_size=31)


class Run:
    """A model in training on this process's part of the batches."""

    def __init__(
        self,
        store: PairStore,
        processes: Processes,
        folder: Path,
        *,
        sharded: bool,
        dtype: torch.dtype = torch.float32,
        dropout: float = 0.0,
    ) -> None:
        model, rank = make_model(dropout), processes.rank
        self.replicas: Replicas
        self.optimizer: Optimizer
        if sharded:
            from nmt.training.sharding import ShardedOptimizer, ShardedParameters, sharded_replicas

            self.replicas = sharded_replicas(model, dtype, CPU, seed=1, rank=rank)
            assert isinstance(self.replicas.parameters, ShardedParameters)
            self.optimizer = ShardedOptimizer(self.replicas.parameters, TRAINING)
        else:
            self.replicas = Replicas(model, FlatParameters(model, dtype), count=1, seed=1, rank=rank)
            self.optimizer = Optimizer(self.replicas.parameters, TRAINING)
        self.replicas.train()
        self.processes = processes
        self.checkpoints = Checkpoints(
            folder,
            keep=9,
            write_model=lambda path, weights, _: save_file(
                {name: weight.contiguous() for name, weight in weights.items()}, path / "model.safetensors"
            ),
        )
        shape = BatchShape(2, 24)
        plans = list(plan_epoch(store.source_lengths, store.target_lengths, [shape], seed=1, epoch=0))
        assert len(plans) > BATCHES * END
        self.batches = [DeviceBatch.from_packed(build_batch(store, plan, 2), CPU) for plan in plans]

    def micro_batches(self, step: int) -> list[DeviceBatch]:
        mine = slice(BATCHES * step + self.processes.rank, BATCHES * (step + 1), self.processes.world_size)
        return self.batches[mine]

    def train(self, state: TrainState, until: int) -> list[list[float]]:
        """Loss and gradient norm of every update."""
        updater = Updater(
            replicas=self.replicas,
            optimizer=self.optimizer,
            config=TRAINING,
            state=state,
            processes=self.processes,
        )
        reports = []
        while state.step < until:
            report = updater.update(self.micro_batches(state.step))
            reports.append([report.loss, report.gradient_norm])
        return reports

    def save(self, state: TrainState) -> None:
        random_states = self.processes.gather_tensors(self.replicas.random_states())
        with self.optimizer.gathered():
            if self.processes.is_main:
                self.checkpoints.save(state, random_states, self.optimizer)

    def weights(self) -> dict[str, torch.Tensor]:
        """The masters, on the main process."""
        with self.replicas.whole():
            parameters = self.replicas.parameters
            if not self.processes.is_main:
                return {}
            return {name: view.clone() for name, view in parameters.named_views(parameters.masters).items()}

    def logits(self) -> torch.Tensor:
        """What validation would compute, on every process."""
        with self.replicas.whole(), torch.no_grad():
            return self.replicas.whole_model(**self.batches[0].model_input()).float()


def train_and_save(run: Run) -> dict[str, Any]:
    state = TrainState()
    reports = run.train(state, SAVED_AT)
    run.save(state)
    saved = {"weights": run.weights(), "logits": run.logits()}
    reports += run.train(state, END)
    return {"reports": reports, "saved": saved, "weights": run.weights()}


def resume(run: Run, checkpoint: Path) -> dict[str, Any]:
    run.checkpoints.restore(checkpoint, run.replicas, run.optimizer)
    restored = run.weights()
    reports = run.train(TrainState(step=SAVED_AT), END)
    return {"reports": reports, "restored": restored, "weights": run.weights()}


def overflow_on_one_process(run: Run) -> dict[str, Any]:
    before = run.weights()
    scale = float("inf") if run.processes.rank == WORLD - 1 else 1.0
    accumulate_gradients(
        run.replicas, run.micro_batches(0), label_smoothing=0.1, loss_scale=scale, processes=run.processes
    )
    norm = run.optimizer.update(step=1, divisor=1.0)
    return {"norm": norm, "before": before, "after": run.weights()}


def shares(run: Run) -> dict[str, int]:
    """How much of the model lies here, and of its gradients in the middle of an update and at its end."""
    shards: dict[str, Any] = run.replicas.parameters.shards  # type: ignore[attr-defined]

    def gradient_elements() -> int:
        return sum(p.grad.to_local().numel() for p in shards.values() if p.grad is not None)

    found = {"weights": sum(p.to_local().numel() for p in shards.values())}
    for last in (False, True):
        run.replicas.parameters.expect_backward(last=last)
        run.replicas.backward(run.batches[0], label_smoothing=0.1, loss_scale=1.0)
        found["gradients at the end" if last else "gradients before"] = gradient_elements()
    run.logits()
    found["whole model"] = sum(p.numel() for p in run.replicas.whole_model.parameters())
    return found


def work(rank: int, store_folder: str, folder: str) -> None:
    torch.set_num_threads(1)
    root = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{root}/meeting", rank=rank, world_size=WORLD)
    store, processes = PairStore.open(Path(store_folder)), Processes(rank=rank, world_size=WORLD)

    def run(name: str, **settings: Any) -> Run:
        return Run(store, processes, root / name, **settings)

    checkpoint = f"step-{SAVED_AT:08d}"
    results: dict[str, Any] = {
        "plain": train_and_save(run("plain", sharded=False)),
        "sharded": train_and_save(run("sharded", sharded=True)),
        "plain bfloat16": train_and_save(run("plain16", sharded=False, dtype=torch.bfloat16)),
        "sharded bfloat16": train_and_save(run("sharded16", sharded=True, dtype=torch.bfloat16)),
    }
    for name, sharded in (("plain dropout", False), ("sharded dropout", True)):
        results[name] = run(name, sharded=sharded, dropout=0.3).train(TrainState(), 2)
    dist.barrier()
    results["sharded from sharded"] = resume(run("x", sharded=True), root / "sharded" / checkpoint)
    results["sharded from plain"] = resume(run("x", sharded=True), root / "plain" / checkpoint)
    results["overflow"] = overflow_on_one_process(run("x", sharded=True))
    results["shares"] = shares(run("x", sharded=True))
    torch.save(results, root / f"results.{rank}")
    dist.destroy_process_group()


@dataclass(frozen=True)
class Outcome:
    folder: Path
    store: PairStore
    # Of every process.
    results: list[dict[str, Any]]

    def __getitem__(self, name: str) -> Any:
        return self.results[0][name]

    def checkpoint(self, name: str) -> Path:
        return self.folder / name / f"step-{SAVED_AT:08d}"


@pytest.fixture(scope="module")
def outcome(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    random = np.random.default_rng(1)
    store = make_store(
        [[random.integers(4, 31, random.integers(1, 24)).tolist() for _ in "st"] for _ in range(150)]
    )
    folder = tmp_path_factory.mktemp("sharding")
    torch.multiprocessing.spawn(work, args=(str(store.folder), str(folder)), nprocs=WORLD)
    return Outcome(folder, store, [torch.load(folder / f"results.{rank}") for rank in range(WORLD)])


def assert_close(ours: dict[str, Any], theirs: dict[str, Any], *, tolerance: float) -> None:
    assert len(ours["reports"]) == len(theirs["reports"]) > 1
    for one, other in zip(ours["reports"], theirs["reports"], strict=True):
        assert one == pytest.approx(other, rel=tolerance)
    assert ours["weights"].keys() == theirs["weights"].keys()
    for name, weight in ours["weights"].items():
        torch.testing.assert_close(weight, theirs["weights"][name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("suffix", "tolerance"), [("", 1e-5), (" bfloat16", 1e-3)])
def test_the_same_losses_norms_and_weights(outcome: Outcome, suffix: str, tolerance: float) -> None:
    plain, sharded = outcome[f"plain{suffix}"], outcome[f"sharded{suffix}"]
    assert_close(sharded, plain, tolerance=tolerance)
    # Every update was clipped, and they led somewhere.
    assert all(norm > TRAINING.max_gradient_norm for _, norm in plain["reports"])
    assert plain["reports"][-1][0] < plain["reports"][0][0] - 0.05
    for result in outcome.results:
        assert result[f"sharded{suffix}"]["reports"] == sharded["reports"]


def test_dropout_draws_from_the_same_generators(outcome: Outcome) -> None:
    for one, other in zip(outcome["sharded dropout"], outcome["plain dropout"], strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert outcome["plain dropout"][0] != pytest.approx(outcome["plain"]["reports"][0], rel=1e-3)


def test_every_process_can_validate_with_all_weights(outcome: Outcome) -> None:
    for name, tolerance in (("", 1e-5), (" bfloat16", 2e-2)):
        expected = outcome[f"plain{name}"]["saved"]["logits"]
        for result in outcome.results:
            logits = result[f"sharded{name}"]["saved"]["logits"]
            torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)


def test_the_checkpoint_is_that_of_a_run_without_sharding(outcome: Outcome) -> None:
    for file in ("model.safetensors", "optimizer.safetensors"):
        sharded, plain = (load_file(outcome.checkpoint(name) / file) for name in ("sharded", "plain"))
        assert sharded.keys() == plain.keys()
        for name, tensor in plain.items():
            torch.testing.assert_close(sharded[name], tensor, rtol=1e-4, atol=1e-6)


def test_resumed_with_sharding_is_as_never_stopped(outcome: Outcome) -> None:
    resumed, whole = outcome["sharded from sharded"], outcome["sharded"]
    assert resumed["reports"] == whole["reports"][SAVED_AT:]
    assert all(torch.equal(weight, whole["weights"][name]) for name, weight in resumed["weights"].items())


def test_resumed_with_sharding_after_none(outcome: Outcome) -> None:
    resumed, whole = outcome["sharded from plain"], outcome["plain"]
    saved = whole["saved"]["weights"]
    assert all(torch.equal(weight, saved[name]) for name, weight in resumed["restored"].items())
    assert_close(resumed, {**whole, "reports": whole["reports"][SAVED_AT:]}, tolerance=1e-5)


def test_resumed_without_sharding_on_one_process(outcome: Outcome, tmp_path: Path) -> None:
    run = Run(outcome.store, Processes(), tmp_path, sharded=False)
    resumed, whole = resume(run, outcome.checkpoint("sharded")), outcome["sharded"]
    saved = whole["saved"]["weights"]
    assert all(torch.equal(weight, saved[name]) for name, weight in resumed["restored"].items())
    assert_close(resumed, {**whole, "reports": whole["reports"][SAVED_AT:]}, tolerance=1e-5)


def test_an_overflow_on_one_process_skips_the_update_on_all(outcome: Outcome) -> None:
    for result in outcome.results:
        assert not np.isfinite(result["overflow"]["norm"])
    before, after = outcome["overflow"]["before"], outcome["overflow"]["after"]
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_each_process_has_its_share_and_no_more(outcome: Outcome) -> None:
    size = sum(weight.numel() for weight in outcome["plain"]["weights"].values())
    found = [result["shares"] for result in outcome.results]
    for name in ("weights", "gradients at the end"):
        assert sum(share[name] for share in found) == size
        assert max(share[name] for share in found) < 0.6 * size
    for share in found:
        # Nothing is sent before the last micro-batch of an update.
        assert share["gradients before"] == 0
        assert share["whole model"] == 0


def test_fsdp_is_imported_only_where_it_is_asked_for() -> None:
    code = "import sys, nmt.cli.train; print('torch.distributed.fsdp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
