"""Training on a GPU computes what it computes elsewhere. Without a GPU nothing of this runs."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt.data.batching import BatchShape
from nmt.data.loader import DeviceBatch, Loader, LoaderState
from nmt.data.tokenizer import BEGIN_ID
from nmt.decoding.config import DecodingConfig
from nmt.decoding.engine import Engine
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import TrainState
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.graphs import WARM_UP_PASSES
from nmt.training.memory import release
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.rehearsal import full_batch
from nmt.training.replicas import Replicas
from nmt.training.update import Updater, accumulate_gradients

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CUDA = torch.device("cuda")
VOCABULARY = 500
SHAPES = [BatchShape(16, 64), BatchShape(4, 256)]


def make_replicas(
    dtype: torch.dtype = torch.float32,
    *,
    device: torch.device = CUDA,
    dropout: float = 0.0,
    vocabulary: int = VOCABULARY,
    **settings: Any,
) -> Replicas:
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=2, decoder_layers=2, width=64, heads=4, feed_forward_width=128, dropout=dropout
    )
    model = Transformer(config, source_vocabulary_size=vocabulary, target_vocabulary_size=vocabulary)
    model = model.to(device).train()
    return Replicas(model, FlatParameters(model, dtype), count=1, seed=1, **settings)


@pytest.fixture(scope="module")
def store(make_store: Any) -> Any:
    """Sentences of two pieces to two hundred, most of them short."""
    random = np.random.default_rng(1)
    lengths = np.minimum(2 + random.geometric(0.06, [1500, 2]), 200)
    return make_store(
        [
            (random.integers(4, VOCABULARY, s).tolist(), random.integers(4, VOCABULARY, t).tolist())
            for s, t in lengths
        ]
    )


def stream(store: Any, device: torch.device = CUDA) -> Iterator[DeviceBatch]:
    loader = Loader(store, SHAPES, begin_id=BEGIN_ID, seed=1, device=device)
    return (batch for batch, _ in loader.batches(LoaderState()))


def train(replicas: Replicas, store: Any, steps: int, device: torch.device = CUDA) -> list[float]:
    """Losses per piece of updates that change the weights."""
    config = TrainingConfig(learning_rate=1e-3, warmup_steps=1)
    updater = Updater(
        replicas=replicas,
        optimizer=Optimizer(replicas.parameters, config),
        config=config,
        state=TrainState(),
        processes=Processes(),
    )
    batches = stream(store, device)
    return [updater.update([next(batches)]).loss for _ in range(steps)]


def assert_recorded(replicas: Replicas) -> None:
    assert replicas.graphed is not None
    assert not replicas.graphed.given_up
    assert len(replicas.graphed.recordings) == len(SHAPES)


def backward(replicas: Replicas, batch: DeviceBatch, loss_scale: float = 1.0) -> Tensor:
    return replicas.backward(batch, label_smoothing=0.1, loss_scale=loss_scale)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu().double() - expected.cpu().double()).norm() / expected.cpu().double().norm())


def test_batches_arrive_as_they_were_built(store: Any) -> None:
    for (expected, found), _ in zip(
        zip(stream(store, torch.device("cpu")), stream(store), strict=False), range(20), strict=False
    ):
        assert found.target_tokens == expected.target_tokens
        for name, tensor in expected.model_input().items():
            assert torch.equal(found.model_input()[name].cpu(), tensor), name
        assert torch.equal(found.target_BT.cpu(), expected.target_BT)


def test_gradients_are_those_of_the_cpu(store: Any) -> None:
    cpu = torch.device("cpu")
    expected, found = make_replicas(device=cpu), make_replicas()
    sums = backward(expected, next(stream(store, cpu))), backward(found, next(stream(store)))
    assert sums[1].tolist() == pytest.approx(sums[0].tolist(), rel=1e-4)
    gradients = found.parameters.master_gradients, expected.parameters.master_gradients
    assert relative_error(*gradients) < 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_is_near_float32(store: Any, dtype: torch.dtype, tolerance: float) -> None:
    batch = next(stream(store))
    expected, found = make_replicas(), make_replicas(dtype)
    scale = 128.0 if dtype is torch.float16 else 1.0
    sums = backward(expected, batch), backward(found, batch, loss_scale=scale)
    assert sums[1].tolist() == pytest.approx(sums[0].tolist(), rel=tolerance / 5)
    gradients = found.parameters.master_gradients / scale
    assert relative_error(gradients, expected.parameters.master_gradients) < tolerance


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_replayed_gradients_are_those_of_the_pass(store: Any, dropout: float) -> None:
    """Batches of both shapes, loss scales that change; the replays draw the numbers that the pass would."""
    plain, graphed = make_replicas(dropout=dropout), make_replicas(dropout=dropout, cuda_graphs=True)
    by_shape: dict[int, list[DeviceBatch]] = {}
    batches = stream(store)
    while len(by_shape) < len(SHAPES) or min(map(len, by_shape.values())) < WARM_UP_PASSES + 3:
        batch = next(batches)
        by_shape.setdefault(len(batch.source_BS), []).append(batch)
    for number, batch in enumerate(itertools.chain(*by_shape.values())):
        plain.clear_gradients()
        graphed.clear_gradients()
        scale = 2.0 ** (number % 3)
        expected, found = backward(plain, batch, scale), backward(graphed, batch, scale)
        assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4), number
        gradients = graphed.parameters.master_gradients, plain.parameters.master_gradients
        assert relative_error(*gradients) < 1e-3, number
    assert_recorded(graphed)


def test_a_compiled_and_recorded_pass_is_the_pass(store: Any) -> None:
    """With the same dropout: the compiler leaves the drawing of random numbers alone."""
    plain = make_replicas(dropout=0.3)
    compiled = make_replicas(dropout=0.3, compiled=True, cuda_graphs=True)
    batch = next(stream(store))
    for number in range(WARM_UP_PASSES + 3):
        expected, found = backward(plain, batch), backward(compiled, batch)
        assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4), number
    gradients = compiled.parameters.master_gradients, plain.parameters.master_gradients
    assert relative_error(*gradients) < 1e-3
    assert compiled.graphed is not None
    assert compiled.graphed.recordings


def test_replays_draw_dropout_anew_and_go_on_from_a_saved_state(store: Any) -> None:
    replicas = make_replicas(dropout=0.3, cuda_graphs=True)
    batch = next(stream(store))
    losses = [float(backward(replicas, batch)[0]) for _ in range(WARM_UP_PASSES + 1)]
    saved = replicas.random_states()
    replayed = [float(backward(replicas, batch)[0]) for _ in range(8)]
    assert len(set(replayed)) == len(replayed)
    assert np.mean(replayed) == pytest.approx(np.mean(losses), rel=0.1)
    replicas.restore_random_states(saved)
    assert [float(backward(replicas, batch)[0]) for _ in range(8)] == pytest.approx(replayed, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_with_graphs_learns_like_one_without(store: Any, dtype: torch.dtype) -> None:
    """Weights that change under the recordings, and gradients that have to be cleared between them."""
    plain = make_replicas(dtype, dropout=0.1)
    graphed = make_replicas(dtype, dropout=0.1, cuda_graphs=True)
    expected, found = train(plain, store, 60), train(graphed, store, 60)
    assert_recorded(graphed)
    assert expected[-1] < expected[0] - 0.1
    assert found == pytest.approx(expected, rel=2e-2 if dtype is torch.bfloat16 else 2e-3)


def test_weights_loaded_and_lent_are_seen_by_replays(store: Any) -> None:
    graphed = make_replicas(cuda_graphs=True)
    batch = next(stream(store))
    for _ in range(WARM_UP_PASSES + 1):
        before = backward(graphed, batch)
    parameters = graphed.parameters
    own = {name: view.clone() for name, view in parameters.named_views(parameters.masters).items()}
    with parameters.computing_with(torch.zeros_like(parameters.masters)):
        assert not torch.equal(backward(graphed, batch), before)
    parameters.load({name: 0.5 * weight for name, weight in own.items()})
    assert not torch.equal(backward(graphed, batch), before)
    parameters.load(own)
    assert backward(graphed, batch).tolist() == pytest.approx(before.tolist(), rel=1e-5)


def test_a_longer_position_table_leaves_recordings_their_own(store: Any) -> None:
    graphed = make_replicas(cuda_graphs=True)
    batch = next(stream(store))
    for _ in range(WARM_UP_PASSES + 1):
        before = backward(graphed, batch)
    model = graphed.models[0]
    for encoding in (model.source_positions, model.target_positions):
        longest = 2 * encoding.table.shape[0]
        encoding(torch.zeros(1, 1, dtype=torch.int32, device=CUDA), longest)
        assert encoding.table.shape[0] > longest
    release(CUDA)
    filled = torch.full((64 << 20,), torch.nan, device=CUDA)  # whatever was freed is written over
    assert backward(graphed, batch).tolist() == pytest.approx(before.tolist(), rel=1e-5)
    del filled


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_batch_that_does_not_fit_is_split(cuda_graphs: bool) -> None:
    """Really out of memory: logits of a gigabyte where two are allowed in all."""
    vocabulary = 32000
    batch = full_batch(
        BatchShape(128, 64),
        source_vocabulary_size=vocabulary,
        target_vocabulary_size=vocabulary,
        device=CUDA,
    )
    whole = make_replicas(vocabulary=vocabulary)
    expected = accumulate_gradients(
        whole, [batch], label_smoothing=0.1, loss_scale=1.0, processes=Processes()
    )
    gradients = whole.parameters.master_gradients.cpu()
    del whole
    limited = make_replicas(vocabulary=vocabulary, cuda_graphs=cuda_graphs)
    release(CUDA)
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (2 << 30)) / total)
    try:
        for _ in range(WARM_UP_PASSES + 2):
            limited.clear_gradients()
            found = accumulate_gradients(
                limited, [batch], label_smoothing=0.1, loss_scale=1.0, processes=Processes()
            )
            assert found[3] >= 1
            assert found[:3].tolist() == pytest.approx(expected[:3].tolist(), rel=1e-4)
            assert relative_error(limited.parameters.master_gradients, gradients) < 1e-3
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_search_finds_what_it_finds_on_the_cpu() -> None:
    random = np.random.default_rng(3)
    sources = random.integers(4, VOCABULARY, [5, 12]).tolist()
    config = DecodingConfig(beam_size=3, length_penalty=1.0, max_length_ratio=0, max_length_offset=15)
    found = []
    for device in (torch.device("cpu"), CUDA):
        results = Engine(make_replicas(device=device).models[0], config, device).search(sources)
        found.append([(best[0].pieces, round(best[0].score, 3)) for best in results])
    assert found[0] == found[1]
