"""What several processes tell each other, and that they translate what one alone would."""

import json
import os
import random
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig, DecodingPrecision
from nmt.decoding.translator import Translator
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import CheckpointError, TrainState
from nmt.training.distributed import Processes
from nmt.training.regroup import regroup

CPU = torch.device("cpu")
RANKS = 3


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def translate(tokenizer: Tokenizer, processes: Processes) -> list[str]:
    """Long lines in parts, blank ones, and more shares than processes but no multiple of them."""
    torch.manual_seed(1)
    shape = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=32)
    sizes = tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size
    model = Transformer(shape, source_vocabulary_size=sizes[0], target_vocabulary_size=sizes[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    # Only float32 has the same translations in every process, whatever it computed before.
    config = DecodingConfig(
        beam_size=2, max_tokens_per_batch=40, max_source_pieces=14, precision=DecodingPrecision.float32
    )
    source = random.Random(2)
    lines = [" ".join(source.choices(["ab", "cd", "e"], k=source.randint(0, 30))) for _ in range(11)]
    translator = Translator.of(model, tokenizer, config, source_language="en")
    shares = [lines[:4], lines[4:5], lines[5:]]
    return [text for share in processes.map(translator.translate, shares) for text in share]


def work(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    with Processes.start(CPU) as processes:
        tokenizer = Tokenizer.load(Path(folder) / "tokenizer")
        states = {f"rank{rank}": torch.full((2 + rank,), rank, dtype=torch.uint8)}
        found = {
            "gathered": [len(each) for each in processes.gather(b"\0x" * rank)],
            "decided": processes.decide(lambda: f"as rank {rank} says, with \u00fc"),
            "highest": processes.highest([float(rank), -float(rank)]),
            "tensors": {name: each.tolist() for name, each in processes.gather_tensors(states).items()},
            "mapped": list(processes.map(lambda task: [f"{task}"] * task, range(7))),
            "translated": translate(tokenizer, processes),
        }
        processes.wait()
        (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
        processes.stop()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every process found, which is the same; beside it what one process translates alone."""
    folder = tmp_path_factory.mktemp("ranks")
    pairs = [("ab cd e", "AB CD E"), ("cd cd", "CD CD")] * 20
    Tokenizer.train(pairs, TokenizerConfig(vocabulary_size=300)).save(folder / "tokenizer")
    torch.multiprocessing.spawn(work, args=(str(folder), free_port()), nprocs=RANKS)
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]
    assert found[1:] == found[:1] * (RANKS - 1)
    return found[0] | {"alone": translate(Tokenizer.load(folder / "tokenizer"), Processes())}


def test_processes_tell_each_other_bytes_values_and_tensors(told: dict[str, Any]) -> None:
    assert told["gathered"] == [0, 2, 4]
    assert told["decided"] == "as rank 0 says, with \u00fc"
    assert told["highest"] == [2.0, 0.0]
    assert told["tensors"] == {"rank0": [0, 0], "rank1": [1, 1, 1], "rank2": [2, 2, 2, 2]}


def test_shared_work_comes_back_in_order(told: dict[str, Any]) -> None:
    assert told["mapped"] == [[f"{task}"] * task for task in range(7)]


def test_several_processes_translate_what_one_alone_does(told: dict[str, Any]) -> None:
    assert len(set(told["alone"])) > 5
    assert told["translated"] == told["alone"]


HANGING = """
import os, sys, time, torch
from nmt.training import lifeline
from nmt.training.distributed import Processes
lifeline.GRACE_SECONDS = 0.5
with Processes.start(torch.device("cpu")) as processes:
    print("here", flush=True)
    time.sleep(300)
"""


def test_a_process_that_hangs_ends_when_another_is_killed() -> None:
    """As one does that waits in a library that never hears of it; all others, not only rank 0."""
    environment = {"WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HANGING],
            env=os.environ | environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        processes[1].kill()
        for rank in (0, 2):
            _, said = processes[rank].communicate(timeout=30)
            assert processes[rank].returncode == 2
            assert re.fullmatch(rf"nmt: rank {rank} of 3 .*: the job ends: rank 1 of 3 .* is gone .*\n", said)
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize(
    ("world_size", "accumulate_batches", "way"),
    [
        (2, 1, "accumulate_batches=3"),
        (4, 1, "start 1 or 2 or 3 or 6 processes"),
        (1, 2, "accumulate_batches=6"),
    ],
)
def test_another_number_of_batches_per_update_is_refused(
    world_size: int, accumulate_batches: int, way: str
) -> None:
    with pytest.raises(CheckpointError, match=way):
        regroup(TrainState(world_size=3, accumulate_batches=2), world_size, accumulate_batches)


def test_the_same_number_of_batches_per_update_goes_on() -> None:
    state = TrainState(world_size=3, accumulate_batches=2)
    assert regroup(state, 3, 2) == ""
    assert "dropout is drawn anew" in regroup(state, 6, 1)
    assert (state.world_size, state.accumulate_batches) == (6, 1)
