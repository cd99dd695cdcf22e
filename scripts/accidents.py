"""A training run and everything that may befall it: does it end as if nothing had happened?

    python scripts/accidents.py                          # every kind of accident once, some four minutes
    python scripts/accidents.py --seed 7 --accidents 40  # other moments, other order
    python scripts/accidents.py --only disk "best model"  # kinds whose description holds one of the words

One run of `python -m nmt train` on a small made-up corpus is left alone. A second one is killed, stopped by
signals, starved of disk space and has its files damaged, and each time goes on with the same command and
`resume=true`. After every accident the next start must say from which step it goes on, and name what it
found damaged; at the end weights, moments, moving average, generators, the losses and scores of every step,
the best model and its test scores must be those of the first run, to the last bit. The exit code is 1 when
they are not.

Kills are real SIGKILLs. Some strike before a chosen operation on a file: an audit hook in the killed process,
placed by a `sitecustomize` on its path, waits for it. The full disk is a real one where this may mount a
tmpfs; elsewhere RLIMIT_FSIZE limits the size of files. One line per accident says what happened and from
which step the run must go on.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.training.run_folder import provenance

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT_EVERY, VALIDATE_EVERY, KEPT = 5, 7, 3
DISK_MEGABYTES = 64
SETTINGS = f"""experiment=own_corpus model=tiny model.width=32 model.encoder_layers=1 model.decoder_layers=1
    model.dropout=0.1 tokenizer.vocabulary_size=300 training.max_tokens_per_batch=512 training.row_length=64
    training.long_row_length=128 training.threads=1 training.device=cpu training.log_every=1
    training.learning_rate=0.01 training.warmup_steps=10 training.patience=0 training.ema_decay=0.9
    training.checkpoint_every={CHECKPOINT_EVERY} training.validate_every={VALIDATE_EVERY}
    training.keep_checkpoints={KEPT} decoding.beam_size=1 data.workers=1"""
# Kills the process before the first operation that matches, such as `open .../state.json`.
HOOK = """
import os, re, signal, sys
if "ACCIDENT_AT" in os.environ:
    pattern = re.compile(os.environ["ACCIDENT_AT"])
    def strike(event, arguments):
        if event in ("open", "os.rename", "os.remove") and pattern.search(f"{event} {arguments[0]}"):
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(strike)
"""


class DifferenceError(Exception):
    """The run did not do, or does not hold, what it should."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise DifferenceError(message)


def write_corpus(folder: Path) -> None:
    """Sentences and their words in capitals."""
    source = random.Random(3)
    words = ["the", "a", "dog", "cat", "house", "sees", "likes", "old", "red", "and", "runs", "to", "2024"]
    for name, count in (("train", 400), ("valid", 8), ("test", 8)):
        lines = [" ".join(source.choices(words, k=source.randint(2, 9))) for _ in range(count)]
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (folder / f"{name}.de").write_text("".join(f"{line.upper()}\n" for line in lines), encoding="utf-8")


@dataclass
class Damage:
    """A file of a checkpoint that is not as it was written; healed when the checkpoint is written anew."""

    checkpoint: Path
    file: str
    content: bytes | None

    def remains(self) -> bool:
        path = self.checkpoint / self.file
        found = path.read_bytes() if path.exists() else None
        return self.checkpoint.exists() and found == self.content


@dataclass
class Run:
    """A run folder, the command that (re)starts it, and what is known about its checkpoints."""

    folder: Path
    arguments: list[str]
    dice: random.Random
    # Where the full disk is real: the mount point that holds the run.
    disk: Path | None = None
    best_steps: list[int] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def messages_file(self) -> Path:
        return self.folder.parent / f"{self.folder.name}-start-{self.starts}.txt"

    def messages(self) -> str:
        return self.messages_file.read_text(encoding="utf-8", errors="replace")

    def checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("step-*"))

    def damaged(self) -> set[Path]:
        self.damages = [damage for damage in self.damages if damage.remains()]
        return {damage.checkpoint for damage in self.damages}

    def resume_step(self) -> int:
        """The step from which the next start must go on."""
        whole = [step_of(path) for path in self.checkpoints() if path not in self.damaged()]
        return max(whole, default=0)

    def start(self, strike_at: str | None = None) -> "Run":
        self.starts += 1
        environment = os.environ | {"PYTHONPATH": f"{self.folder.parent / 'hook'}:{ROOT}"}
        if strike_at:
            environment["ACCIDENT_AT"] = strike_at
        with self.messages_file.open("wb") as messages:
            self.process = subprocess.Popen(
                self.arguments,
                cwd=self.folder.parent,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )
        return self

    def running(self) -> subprocess.Popen[bytes]:
        assert self.process
        return self.process

    def wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while self.running().poll() is None and not happened():
            if time.monotonic() > deadline:
                self.kill()
                raise DifferenceError(f"waited two minutes for nothing; see {self.messages_file}")
            time.sleep(0.0005)

    def wait_for_opening(self) -> None:
        """Until the training loop begins; metrics that a killed process left are gone by then."""
        expected, damaged = self.resume_step(), self.damaged()
        self.wait_until(lambda: " slots, " in self.messages())
        self.check_recovery(expected, damaged)

    def check_recovery(self, expected: int, damaged: set[Path]) -> None:
        said = self.messages()
        where = f"going on from step {expected:,} in" if expected else "starting in"
        require(where in said, f"does not say '{where}', but: {said[-500:]}")
        for path in damaged:
            if step_of(path) > expected:
                require(f"{path}: " in said, f"{path.name} is damaged, and nothing says so")

    def step(self) -> int:
        metrics = self.folder / "metrics.jsonl"
        if not metrics.exists():
            return 0
        found = re.findall(r'^\{"step": (\d+), .*\}$', metrics.read_text(errors="replace"), re.MULTILINE)
        return int(found[-1]) if found else 0

    def wait_for_step(self, step: int) -> None:
        self.wait_for_opening()
        self.wait_until(lambda: self.step() >= step)

    def kill(self) -> None:
        self.running().kill()
        self.running().wait()

    def advance(self, steps: int) -> int:
        """Start, and let it come at least so far beyond the last whole checkpoint."""
        target = self.resume_step() + steps
        self.start().wait_for_step(target)
        return target

    def finish(self) -> None:
        """The last start, or the only one: to the end."""
        expected, damaged = self.resume_step(), self.damaged()
        self.start().wait_until(lambda: False)
        code = self.running().returncode
        require(code == 0, f"ends with exit code {code}: {self.messages()[-2000:]}")
        self.check_recovery(expected, damaged)


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


# What happened, in a few words. Each accident starts the run by itself and leaves it dead.
Accident = Callable[[Run], str]


def killed_at_a_step(run: Run) -> str:
    run.advance(run.dice.randint(1, 8))
    run.kill()
    return f"at step {run.step()}"


def killed_at_any_moment(run: Run) -> str:
    run.advance(1)
    milliseconds = run.dice.uniform(0, 300)
    time.sleep(milliseconds / 1000)
    run.kill()
    return f"{milliseconds:.0f} ms after its first step, at step {run.step()}"


def power_cut(run: Run) -> str:
    """What no checkpoint has forced to the disk is lost: the ends of log and event file."""
    run.advance(run.dice.randint(1, 8))
    run.kill()
    events = sorted((run.folder / "tensorboard").iterdir())[-1]
    for path in (events, run.folder / "train.log"):
        os.truncate(path, max(0, path.stat().st_size - run.dice.randint(1, 100)))
    return f"at step {run.step()}, ends of {events.name[:15]}... and train.log lost"


def killed_twice_at_its_start(run: Run) -> str:
    moments = [run.dice.uniform(0.1, 3.5) for _ in range(2)]
    for seconds in moments:
        run.start()
        time.sleep(seconds)
        run.kill()
    return " and ".join(f"{seconds:.1f}" for seconds in moments) + " s after it was started"


def signalled(number: signal.Signals) -> Accident:
    def happen(run: Run) -> str:
        run.advance(run.dice.randint(1, 8))
        run.running().send_signal(number)
        run.running().wait()
        step = step_of(run.checkpoints()[-1]) if run.checkpoints() else 0
        require(run.running().returncode == 128 + number, f"exit code {run.running().returncode}")
        require(f"resume=true run.folder={run.folder}" in run.messages(), "does not say how to go on")
        require(run.resume_step() == run.step(), f"stopped at {run.step()} with a checkpoint of {step}")
        return f"checkpoint of step {run.step()}, exit code {128 + number}"

    return happen


def interrupted_twice(run: Run) -> str:
    run.advance(run.dice.randint(1, 8))
    for _ in range(2):
        run.running().send_signal(signal.SIGINT)
        time.sleep(0.001)
    run.running().wait()
    require(run.running().returncode == 130, f"exit code {run.running().returncode}")
    require("Traceback" not in run.messages(), "speaks in tracebacks")
    return f"at step {run.step()}"


def killed_when_a_checkpoint_begins(run: Run) -> str:
    run.start().wait_for_opening()
    known = set((run.folder / "checkpoints").glob(".step-*"))
    run.wait_until(lambda: bool(set((run.folder / "checkpoints").glob(".step-*.partial")) - known))
    run.kill()
    left = sorted((run.folder / "checkpoints").glob(".step-*.partial"))
    held = f"{left[-1].name} with {len(list(left[-1].iterdir()))} files" if left else "nothing half"
    return f"{held} left"


def killed_before(operation: str) -> Accident:
    """At the first operation that matches; it comes with the next checkpoint, best model or start."""

    def happen(run: Run) -> str:
        run.start(strike_at=operation).wait_until(lambda: False)
        code = run.running().returncode
        require(code == -signal.SIGKILL, f"{operation} never came: exit code {code}")
        return f"at step {run.step()}"

    return happen


def killed_in_validation(run: Run) -> str:
    validated = (run.resume_step() // VALIDATE_EVERY + 1) * VALIDATE_EVERY
    run.start().wait_for_step(validated)
    time.sleep(run.dice.uniform(0, 0.02))
    run.kill()
    reported = "validation/bleu" in (run.folder / "metrics.jsonl").read_text().splitlines()[-1]
    return f"of step {validated}{', just after it' if reported else ''}"


def full_disk(room: int) -> Accident:
    """
    Args:
        room: bytes that are left.
    """

    def happen(run: Run) -> str:
        run.advance(1)
        before = run.resume_step()
        if run.disk:
            how = f"tmpfs with {room // 1000} kB left"
            ballast = run.disk / "ballast"
            fill(ballast, room)
        else:
            how = f"files limited to {room // 1000} kB"
            resource.prlimit(run.running().pid, resource.RLIMIT_FSIZE, (room, room))
        run.wait_until(lambda: False)
        if run.disk:
            ballast.unlink()
        said = run.messages().splitlines()
        errors = [line for line in said if "error: " in line]
        require(run.running().returncode == 2, f"exit code {run.running().returncode}: {said[-9:]}")
        require(errors == said[-1:], f"says more than one line: {said[-9:]}")
        require(re.search("No space left|too large", errors[0]) is not None, f"says {errors}")
        require("resume=true" in errors[0], f"says {errors}")
        require(run.resume_step() >= before, "the checkpoint before is gone")
        return f"{how}: '{errors[0].replace(str(run.folder), 'RUN')[:90]}...'"

    return happen


def fill(ballast: Path, room: int) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
        file.truncate(file.tell() - room)


def flip_a_bit(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place, bit = dice.randrange(len(content)), dice.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {path.name} turned"


def truncate(path: Path, dice: random.Random) -> str:
    size = dice.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"{path.name} cut to {size} bytes"


def delete(path: Path, _: random.Random) -> str:
    path.unlink()
    return f"{path.name} deleted"


def damaged(harm: Callable[[Path, random.Random], str], *names: str, checkpoints: int = 1) -> Accident:
    """Files of the newest checkpoints, while the run is dead; the one before them is whole."""

    def happen(run: Run) -> str:
        # So far that the checkpoint before those is whole.
        begun = max(run.resume_step(), CHECKPOINT_EVERY)
        run.start().wait_for_step(begun + (checkpoints + run.dice.randrange(2)) * CHECKPOINT_EVERY + 1)
        run.kill()
        done = []
        for path in [path for path in run.checkpoints() if path not in run.damaged()][-checkpoints:]:
            name = run.dice.choice(names)
            done.append(f"step {step_of(path)}: {harm(path / name, run.dice)}")
            content = (path / name).read_bytes() if (path / name).exists() else None
            run.damages.append(Damage(path, name, content))
        return "; ".join(done)

    return happen


def checkpoint_deleted(run: Run) -> str:
    run.start().wait_for_step(max(run.resume_step(), CHECKPOINT_EVERY) + CHECKPOINT_EVERY + 1)
    run.kill()
    newest = [path for path in run.checkpoints() if path not in run.damaged()][-1]
    shutil.rmtree(newest)
    return newest.name


def remains_of_others(run: Run) -> str:
    run.advance(run.dice.randint(1, 8))
    run.kill()
    step = run.resume_step() + CHECKPOINT_EVERY
    names = [f"checkpoints/.step-{number:08d}.partial" for number in (3, step)] + [".model.partial"]
    for name in names:
        (run.folder / name).mkdir(parents=True, exist_ok=True)
        (run.folder / name / "model.safetensors").write_bytes(b"half a mo")
    return ", ".join(names[1:])


def torn_metrics(run: Run) -> str:
    run.advance(run.dice.randint(1, 8))
    run.kill()
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(f'{{"step": {run.step() + 1}, "time": 17\xe9'.encode("latin-1"))
    return "half a line, ending in half a character"


def emptied_records(run: Run) -> str:
    run.advance(run.dice.randint(1, 8))
    run.kill()
    for name in ("environment.json", "config.yaml", "train.log"):
        (run.folder / name).write_bytes(b"")
    return "environment.json, config.yaml and train.log emptied"


CHECKPOINT = r"checkpoints/\.step-\d+\.partial"
ACCIDENTS: list[tuple[str, Accident]] = [
    ("SIGKILL at a step", killed_at_a_step),
    ("SIGKILL at any moment", killed_at_any_moment),
    ("SIGKILL twice as it starts", killed_twice_at_its_start),
    ("SIGTERM", signalled(signal.SIGTERM)),
    ("SIGINT", signalled(signal.SIGINT)),
    ("SIGUSR1", signalled(signal.SIGUSR1)),
    ("SIGINT twice", interrupted_twice),
    ("power cut", power_cut),
    ("killed as a checkpoint appears", killed_when_a_checkpoint_begins),
    ("killed inside a checkpoint, before card.json", killed_before(f"open .*{CHECKPOINT}/card")),
    ("killed inside a checkpoint, before state.json", killed_before(f"open .*{CHECKPOINT}/state")),
    ("killed before a checkpoint gets its name", killed_before(f"os.rename .*{CHECKPOINT}")),
    ("killed while a checkpoint is removed", killed_before("os.remove ema.safetensors")),
    ("killed in validation", killed_in_validation),
    ("killed inside the best model, before card.json", killed_before(r"open .*/\.model\.partial/card")),
    ("killed while the old best model is aside", killed_before(r"os.rename .*/\.model\.partial")),
    ("killed as metrics are reopened", killed_before(r"os.rename .*/\.metrics")),
    ("killed as the start is recorded", killed_before(r"os.rename .*/\.environment")),
    ("full disk, less than a checkpoint left", full_disk(200_000)),
    ("full disk, to its last byte", full_disk(0)),
    ("checkpoint's weights cut", damaged(truncate, "model.safetensors")),
    ("checkpoint's moments cut", damaged(truncate, "optimizer.safetensors")),
    ("checkpoint's records cut", damaged(truncate, "state.json", "checksums.json", "ema.safetensors")),
    ("bit of model.safetensors turned", damaged(flip_a_bit, "model.safetensors")),
    ("bit of optimizer.safetensors turned", damaged(flip_a_bit, "optimizer.safetensors")),
    ("bit of ema.safetensors turned", damaged(flip_a_bit, "ema.safetensors")),
    ("bit of state.json turned", damaged(flip_a_bit, "state.json")),
    ("bit of checksums.json turned", damaged(flip_a_bit, "checksums.json")),
    ("two checkpoints damaged", damaged(flip_a_bit, "tokenizer.model", "config.yaml", checkpoints=2)),
    ("checkpoint's tensors deleted", damaged(delete, "model.safetensors", "ema.safetensors")),
    ("checkpoint's records deleted", damaged(delete, "state.json", "checksums.json")),
    ("newest checkpoint deleted", checkpoint_deleted),
    ("remains of half writes", remains_of_others),
    ("torn line of metrics", torn_metrics),
    ("records of the run emptied", emptied_records),
]


def compare(one: Run, other: Run) -> list[str]:
    """What differs between two finished runs, beside times; nothing when they are the same."""
    views = [evidence(run) for run in (one, other)]
    return [name for name in views[0] if views[0][name] != views[1].get(name)]


def evidence(run: Run) -> dict[str, Any]:
    """All that two runs must have in common, by name."""
    folder, last = run.folder, run.checkpoints()[-1]
    found: dict[str, Any] = {"kept checkpoints": [path.name for path in run.checkpoints()]}
    for name in ("model.safetensors", "optimizer.safetensors", "ema.safetensors"):
        tensors = load_file(last / name)
        found[f"last {name}"] = {key: value.numpy().tobytes() for key, value in tensors.items()}
    for name in ("model.safetensors", "tokenizer.model", "config.yaml"):
        found[f"best {name}"] = (folder / "model" / name).read_bytes()
    clocks = ("seconds", "validation_seconds", "wait_seconds")
    found["state"] = without(json.loads((last / "state.json").read_text()), *clocks)
    card = json.loads((folder / "model/card.json").read_text())
    found["best card.json"] = without(card, "written", "training_seconds")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for kind in ("train/loss", "validation/bleu", "validation/loss"):
        found[kind] = [(line["step"], line[kind]) for line in lines if kind in line]
    # It warns of every restart.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found["tensorboard"] = [(each.step, each.value) for each in events.Scalars("train/loss")]
    tests = json.loads((folder / "evaluation.json").read_text())["test_sets"]
    found["test scores"] = [test["scores"] for test in tests]
    hidden = [path for place in (folder, folder / "checkpoints") for path in place.glob(".*")]
    found["remains"] = [path.name for path in hidden]
    return found


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def best_steps(run: Run) -> list[int]:
    """Steps at which a better model was written."""
    best, steps = -1.0, []
    for line in map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines()):
        if line.get("validation/bleu", -1.0) > best:
            best = line["validation/bleu"]
            steps.append(line["step"])
    return steps


def choose(arguments: argparse.Namespace) -> list[tuple[str, Accident]]:
    """Accidents in random order, each kind as often as the others."""
    kinds = [
        (name, accident)
        for name, accident in ACCIDENTS
        if not arguments.only or any(word in name for word in arguments.only)
    ]
    if not kinds:
        raise SystemExit(f"--only {' '.join(arguments.only)}: no accident is described so")
    dice = random.Random(arguments.seed)
    count = arguments.accidents or len(kinds)
    chosen: list[tuple[str, Accident]] = []
    while len(chosen) < count:
        chosen += dice.sample(kinds, min(len(kinds), count - len(chosen)))
    return chosen


def next_accident(left: list[tuple[str, Accident]], run: Run) -> tuple[str, Accident]:
    """The next in order; those of the best model only while a better one is to come."""
    ahead = any(step > run.resume_step() for step in run.best_steps)
    for index, (name, _) in enumerate(left):
        if "best model" not in name or ahead:
            return left.pop(index)
    return left.pop(0)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system that can be filled, where this user may mount one; else None."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def disturb(run: Run, accidents: list[tuple[str, Accident]]) -> None:
    """Let the accidents happen one after the other, and the run come to its end."""
    left, number = list(accidents), 0
    print(f"{'':>3} {'accident':47}{'from step':>10}{'next from':>10}  what happened")
    while left:
        begun = run.resume_step()
        name, accident = next_accident(left, run)
        number += 1
        try:
            what = accident(run)
        except DifferenceError as difference:
            raise DifferenceError(f"{number} {name}: {difference}") from None
        print(f"{number:3} {name:47}{begun:10,}{run.resume_step():10,}  {what}", flush=True)
    begun = run.resume_step()
    run.finish()
    print(f"{'':>3} {'none, to the end':47}{begun:10,}{run.resume_step():10,}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="order and moments of the accidents")
    parser.add_argument("--accidents", type=int, default=0, help="how many; 0 is each kind once")
    parser.add_argument("--only", nargs="*", help="words in the description of the kinds")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--folder", type=Path, help="new folder for everything; kept")
    return parser.parse_args()


def experience(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Both runs; returns what differs."""
    accidents = choose(arguments)
    write_corpus(folder)
    with small_disk(folder / "disk") as disk:
        places = {"undisturbed": folder, "disturbed": disk or folder}
        runs = []
        for name, place in places.items():
            (place / "hook").mkdir(exist_ok=True)
            (place / "hook/sitecustomize.py").write_text(HOOK, encoding="utf-8")
            command = [sys.executable, "-m", "nmt", "train", *SETTINGS.split()]
            for part, side in ((part, side) for part in ("train", "valid", "test") for side in ("en", "de")):
                field_name = "source" if side == "en" else "target"
                section = "test.small" if part == "test" else part
                command.append(f"data.{section}.{field_name}={folder}/{part}.{side}")
            command += [f"training.max_steps={40 + 6 * len(accidents)}", "resume=true"]
            command += [f"training.precision={arguments.precision}", f"run.folder={place / name}"]
            command += [f"data.prepared_folder={folder / 'prepared'}"]
            runs.append(Run(place / name, command, random.Random(arguments.seed), disk))
        undisturbed, disturbed = runs
        try:
            undisturbed.finish()
            disturbed.best_steps = best_steps(undisturbed)
            disturb(disturbed, accidents)
        finally:
            for run in runs:
                if run.process:
                    run.kill()
        return compare(undisturbed, disturbed)


def main() -> int:
    arguments = parse()
    # So that the disk is unmounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    facts = provenance()
    print(
        f"seed {arguments.seed}, {arguments.precision}; commit {facts['commit']}, torch {facts['torch']},"
        f" Python {facts['python']}"
    )
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if arguments.folder:
            arguments.folder.mkdir(parents=True)
            folder = arguments.folder.absolute()
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nmt-accidents-")))
        try:
            differences = experience(arguments, folder)
        except DifferenceError as difference:
            print(f"FAILED: {difference}")
            return 1
    for name in differences:
        print(f"DIFFERS: {name}")
    if not differences:
        print(
            f"after all of them, in {arguments.precision}: weights, moments, moving average, generators,"
            f" losses, scores and best model are bit-identical ({time.monotonic() - began:.0f} s)"
        )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
