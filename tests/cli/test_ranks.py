"""One training by several real processes: the same numbers, one end for all, and no silent hang."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

HOST = re.escape(socket.gethostname())
# A lost process has to be noticed, and the job to be at its end, within this time.
MINUTE = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    source = random.Random(5)
    for name, count in (("train", 200), ("valid", 9)):
        lines = [" ".join(source.choices("abcdefghij", k=source.randint(2, 12))) for _ in range(count)]
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (folder / f"{name}.de").write_text("".join(f"{line[::-1]}\n" for line in lines), encoding="utf-8")
    return folder


def train(corpus: Path, *overrides: str) -> list[str]:
    settings = [f"data.{n}.{s}={corpus}/{n}.{e}" for n in ("train", "valid") for s, e in SIDES]
    small = """experiment=own_corpus model=tiny model.width=32 model.encoder_layers=1 model.decoder_layers=1
        tokenizer.vocabulary_size=300 training.max_tokens_per_batch=256 training.row_length=64
        training.long_row_length=128 data.cleaning.max_pieces_per_sentence=100 training.threads=1
        training.device=cpu training.log_every=1 training.learning_rate=0.003 training.warmup_steps=5
        training.precision=float32 decoding.beam_size=2 decoding.max_tokens_per_batch=64 data.workers=1"""
    return ["-m", "nmt", "train", *settings, *small.split(), *overrides]


SIDES = (("source", "en"), ("target", "de"))


class Ranks:
    """Processes of one job that nobody watches over, as under Slurm; what each says on standard error."""

    def __init__(self, folder: Path, arguments: Sequence[Sequence[str]]) -> None:
        self.logs = [folder / f"rank{rank}.log" for rank in range(len(arguments))]
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.processes = []
        for rank, own in enumerate(arguments):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(arguments), "MASTER_PORT": port}
            env = environment() | {name: str(value) for name, value in place.items()}
            env |= {"MASTER_ADDR": "localhost", "LOCAL_WORLD_SIZE": str(len(arguments))}
            with self.logs[rank].open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, *own], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=log
                )
            self.processes.append(process)

    def wait(self, seconds: float = 240) -> list[int]:
        """Exit codes of all."""
        deadline = time.monotonic() + seconds
        try:
            return [each.wait(max(0.1, deadline - time.monotonic())) for each in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self, rank: int) -> str:
        return self.logs[rank].read_text()


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def start_torchrun(count: int, arguments: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.Popen(
        [*torchrun, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def entries(run_folder: Path, key: str) -> dict[int, Any]:
    lines = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry[key] for entry in lines if key in entry}


def wait_for_step(process: subprocess.Popen[Any], run_folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    metrics = run_folder / "metrics.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.002)
    raise AssertionError(f"step {step} never came")


# ---- the same numbers, whatever the number of ranks -------------------------------------------------------

SAME = [
    "model.dropout=0",
    "training.max_steps=10",
    "training.validate_every=5",
    "training.checkpoint_every=5",
]


@pytest.fixture(scope="module")
def by_ranks(corpus: Path) -> dict[int, Path]:
    """Run folders by the number of ranks; an update is four batches in all of them."""
    folders = {}
    for ranks in (1, 2, 4):
        folders[ranks] = corpus / f"ranks-{ranks}"
        accumulate = f"training.accumulate_batches={4 // ranks}"
        arguments = train(corpus, *SAME, accumulate, f"run.folder={folders[ranks]}")
        process = start_torchrun(ranks, arguments, corpus)
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-2000:]
    return folders


@pytest.mark.parametrize("ranks", [2, 4])
def test_as_many_batches_per_update_give_the_same_losses(by_ranks: dict[int, Path], ranks: int) -> None:
    one, several = by_ranks[1], by_ranks[ranks]
    losses = entries(one, "train/loss")
    assert sorted(losses) == list(range(1, 11))
    assert entries(several, "train/loss") == pytest.approx(losses, rel=1e-5)
    assert entries(several, "validation/loss") == pytest.approx(entries(one, "validation/loss"), rel=1e-5)
    assert entries(several, "speed/target_tokens") == entries(one, "speed/target_tokens")
    # Weights differ in their last bits, and after five steps some pieces are next to equally probable.
    for score in ("validation/bleu", "validation/chrf"):
        assert entries(several, score) == pytest.approx(entries(one, score), abs=0.02)


def test_resume_on_another_number_of_ranks_is_exact_in_data_order_or_refused(
    by_ranks: dict[int, Path], corpus: Path
) -> None:
    folder = corpus / "resumed-on-one"
    shutil.copytree(by_ranks[2], folder)
    shutil.rmtree(folder / "checkpoints/step-00000010")
    for batches, status, message in (
        (3, 2, "(2 on 2 processes); set training.accumulate_batches=4"),
        (4, 0, "on 1 process instead of 2: the same batches in the same order, but dropout is drawn anew"),
    ):
        overrides = [f"run.folder={folder}", "resume=true", f"training.accumulate_batches={batches}"]
        arguments = [sys.executable, *train(corpus, *SAME, *overrides)]
        done = subprocess.run(arguments, cwd=corpus, env=environment(), capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert entries(folder, "train/loss") == pytest.approx(entries(by_ranks[1], "train/loss"), rel=1e-5)


# ---- the end of one is the end of all ---------------------------------------------------------------------

STEPS = 24
EXACT = [f"training.max_steps={STEPS}", "training.checkpoint_every=5", "training.validate_every=9"]


def test_killed_and_resumed_on_two_ranks_equals_never_stopped(corpus: Path) -> None:
    """With dropout, which each rank draws by itself; and nobody is there to end the other rank."""
    undisturbed, killed = corpus / "undisturbed", corpus / "killed"
    codes = Ranks(corpus, [train(corpus, *EXACT, f"run.folder={undisturbed}")] * 2).wait()
    assert codes == [0, 0]
    arguments = train(corpus, *EXACT, f"run.folder={killed}", "resume=true")
    job = Ranks(corpus, [arguments] * 2)
    wait_for_step(job.processes[0], killed, random.randint(7, 20))
    job.processes[1].kill()
    assert job.wait(MINUTE)[0] == 2
    said = job.said(0)
    assert "Traceback" not in said
    assert re.fullmatch(
        rf"nmt train: rank 0 of 2 \(host {HOST}\): error: the job ends: rank 1 of 2 \(host {HOST}\) is gone"
        r" without a word \(.*\); go on from the last checkpoint with resume=true",
        said.splitlines()[-1],
    )
    job = Ranks(corpus, [arguments] * 2)
    assert job.wait() == [0, 0]
    assert re.search(r"going on from step (5|10|15|20) ", job.said(0))
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (
            load_file(each / f"checkpoints/step-{STEPS:08d}" / name) for each in (undisturbed, killed)
        )
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one)
    assert {"rank0.random.0", "rank1.random.0"} < one.keys()
    assert entries(undisturbed, "train/loss") == entries(killed, "train/loss")


def test_torchrun_ends_when_a_rank_is_killed(corpus: Path) -> None:
    folder = corpus / "torchrun-killed"
    arguments = train(corpus, "training.max_steps=100000", f"run.folder={folder}")
    process = start_torchrun(2, arguments, corpus)
    wait_for_step(process, folder, 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    of_rank_1 = [pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(*of_rank_1), signal.SIGKILL)
    _, said = process.communicate(timeout=MINUTE)
    assert process.returncode != 0
    assert f"rank 1 of 2 (host {socket.gethostname()}) is gone" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_ends_all_with_a_checkpoint(corpus: Path, number: signal.Signals) -> None:
    folder = corpus / number.name
    arguments = train(corpus, "training.max_steps=100000", f"run.folder={folder}")
    job = Ranks(corpus, [arguments] * 2)
    wait_for_step(job.processes[0], folder, 3)
    job.processes[1].send_signal(number)
    assert job.wait(MINUTE) == [128 + number] * 2
    assert f"resume=true run.folder={folder}" in job.said(0)
    last = max(entries(folder, "train/loss"))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{last:08d}"]


def test_an_error_of_one_rank_is_told_by_all(corpus: Path) -> None:
    """One that speaks to the user on rank 1, an unexpected one on rank 0."""
    occupied = corpus / "file"
    occupied.touch()
    unusable = [f"data.prepared_folder={occupied}", f"run.folder={corpus}/unused"]
    for failing, arguments, status, message in (
        (
            1,
            [train(corpus, f"run.folder={corpus}/unused"), train(corpus, *unusable)],
            2,
            "data.prepared_folder",
        ),
        (0, [train(corpus, f"run.folder={occupied}")] * 2, 1, "FileExistsError"),
    ):
        job = Ranks(corpus, arguments)
        codes = job.wait(2 * MINUTE)
        assert codes[failing] == status
        assert codes[1 - failing] == 2
        place = rf"rank {failing} of 2 \(host {HOST}\)"
        assert re.search(rf"^nmt train: {place}: .*{message}", job.said(failing), re.MULTILINE)
        other = job.said(1 - failing)
        assert re.search(rf"rank {1 - failing} of 2 .*: the job ends: {place} failed: .*{message}", other)
        assert "Traceback" not in other
