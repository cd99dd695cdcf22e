"""Every shipped experiment trains a step, and every shipped model, on small data."""

import json
import random
from pathlib import Path

import pytest
import torch

from nmt.cli.composition import Request
from nmt.cli.launch import main
from nmt.cli.settings import config_folder
from nmt.config import TrainConfig, load
from nmt.data.batching import BatchShape, build_batch, plan_epoch
from nmt.data.loader import DeviceBatch
from nmt.model.transformer import Transformer
from nmt.training.distributed import Processes
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas
from nmt.training.update import accumulate_gradients

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))
MODELS = sorted(path.stem for path in (config_folder() / "model").glob("*.yaml"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    source = random.Random(4)
    syllables = ["ba", "do", "ki", "lu", "me", "no", "ra", "si", "tu", "wa"]
    for name, count in (("train", 200), ("valid", 4), ("test", 4)):
        for side in ("source", "target"):
            words = [
                ["".join(source.choices(syllables, k=3)) for _ in range(source.randint(2, 9))]
                for _ in range(count)
            ]
            text = "".join(" ".join(line) + "\n" for line in words)
            (folder / f"{name}.{side}").write_text(text, encoding="utf-8")
    return folder


def settings(corpus: Path, folder: Path, experiment: str) -> list[str]:
    """The experiment as shipped, but for its corpus, its length and the memory of its batches."""
    if experiment == "demo":
        files = ["data.demo.train_pairs=600", "data.demo.valid_pairs=4", "data.demo.test_pairs=4"]
    else:
        sides = [(split, side) for split in ("train", "valid") for side in ("source", "target")]
        files = [
            "data=text_files",
            *(f"data.{split}.{side}={corpus}/{split}.{side}" for split, side in sides),
        ]
        files += [f"data.test.small.{side}={corpus}/test.{side}" for side in ("source", "target")]
    small = [
        "tokenizer.vocabulary_size=400",
        "training.max_tokens_per_batch=256",
        "training.max_steps=1",
        "training.precision=float32",
        "decoding.max_length_offset=5",
        "decoding.max_length_ratio=0",
        "data.workers=1",
        f"run.folder={folder}/run",
    ]
    return [f"experiment={experiment}", *files, *small]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_trains_a_step(
    experiment: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *settings(corpus, tmp_path, experiment)]) == 0
    entries = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [entry["train/loss"] > 0 for entry in entries if "train/loss" in entry] == [True]
    assert (tmp_path / "run/evaluation.json").exists()
    assert (tmp_path / "run/checkpoints/step-00000001/model.safetensors").exists()


@pytest.mark.parametrize("name", MODELS)
def test_model_trains_a_step(name: str, corpus: Path, tmp_path: Path, make_store) -> None:  # type: ignore[no-untyped-def]
    """In bfloat16, with the update really changing what the model computes."""
    small_step = "training.learning_rate=1e-5"
    request = Request.parse("train", [*settings(corpus, tmp_path, "own_corpus"), f"model={name}", small_step])
    config = load(request.compose(), TrainConfig)
    store = make_store([([5, 6, 7, 3], [8, 9, 3])] * 10)
    plan = next(plan_epoch(store.source_lengths, store.target_lengths, [BatchShape(2, 20)], seed=1, epoch=0))
    batch = DeviceBatch.from_packed(build_batch(store, plan, 2), torch.device("cpu"))
    torch.manual_seed(1)
    model = Transformer(config.model, source_vocabulary_size=64, target_vocabulary_size=64).train()
    parameters = FlatParameters(model, torch.bfloat16)
    optimizer = Optimizer(parameters, config.training)
    replicas = Replicas(model, parameters, count=1, seed=1)
    losses = []
    for step in (1, 2):
        sums = accumulate_gradients(
            replicas, [batch], label_smoothing=0.1, loss_scale=1.0, processes=Processes()
        )
        losses.append(float(sums[0] / sums[2]))
        optimizer.update(step=config.training.warmup_steps + step, divisor=float(sums[2]))
    assert losses[1] < losses[0]


def test_there_are_experiments_and_models() -> None:
    assert {"demo", "multi30k", "tatoeba", "iwslt14", "wmt14"} <= set(EXPERIMENTS)
    assert {"tiny", "small", "iwslt", "base", "big", "deep"} <= set(MODELS)
