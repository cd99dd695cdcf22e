"""A file of a million lines, some of them terrible: does `nmt translate` give every one of them back?

    python scripts/torture_translate.py --sentences train.en                   # a million lines, some minutes
    python scripts/torture_translate.py --sentences train.en --lines 20000 --kills 2 --seed 7

The file is made from the given sentences, one per line, with blank lines, lines of 5,000 words, control
characters, invalid UTF-8, right-to-left text, and more such. A model of a few thousand weights, made on the
spot, translates it: its translations mean nothing, which loses no line. Checked are

* the memory of the process at several points of the work, which must not grow,
* every line: as many out as in, blank ones as they were, white space around the others kept, and a sample of
  lines equal to what they give when they are translated alone,
* a second run that is killed with SIGKILL at random moments and goes on with `resume=true`: its file must be
  that of the first, byte by byte.

The exit code is 1 when something is not as it should be.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from nmt import Translator, bundle
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.text_input import Lines, files
from nmt.model.config import TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

ROOT = Path(__file__).resolve().parent.parent
LONG_LINE_WORDS = 5000
# Of how many lines one is of each kind; the others are sentences as they are.
RARITY = {
    "blank": 30,
    "only white space": 100,
    "white space around": 50,
    "control characters": 50,
    "invalid UTF-8": 50,
    "right-to-left": 50,
    "carriage return": 100,
    "other line breaks inside": 100,
    "5,000 words": 2000,
    "100,000 characters without a space": 100_000,
    "10,000 full stops": 50_000,
}
RIGHT_TO_LEFT = [
    "أين أقرب محطة قطار من هنا؟",
    "يلعب طفلان بالكرة في الحديقة. الكلب ينظر إليهما!",
    "איפה תחנת הרכבת הקרובה?",
    "שני ילדים משחקים בכדור בגן. הכלב מסתכל עליהם!",
]
CONTROL = [bytes([code]) for code in (*range(1, 9), 0, 11, 12, 27, 31, 127)]
INVALID = [b"\xff", b"\xfe\xff", b"\xc3", b"\xf0\x9f", b"\xed\xa0\x80", b"\x80\x80", b"\xc0\xaf"]
BREAKS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"]
SPACES = [" ", "  ", "\t", "\u00a0", "\u3000 "]
# From so many lines on memory may not grow: before, the largest windows and batches have not come yet.
SETTLED_LINES = 50_000


def require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"WRONG: {message}")


def say(message: str) -> None:
    print(message, flush=True)


def make_line(kind: str, sentences: list[str], dice: random.Random) -> bytes:
    """A line of a kind, without its line feed."""
    sentence = dice.choice(sentences)
    middle = dice.randrange(len(sentence) + 1)
    if kind == "blank":
        text = ""
    elif kind == "only white space":
        text = "".join(dice.choices(SPACES, k=3))
    elif kind == "white space around":
        text = dice.choice(SPACES) + sentence + dice.choice(SPACES)
    elif kind == "right-to-left":
        text = dice.choice([dice.choice(RIGHT_TO_LEFT), f"{sentence} {dice.choice(RIGHT_TO_LEFT)}"])
    elif kind == "carriage return":
        text = f"{sentence}\r"
    elif kind == "other line breaks inside":
        text = sentence[:middle] + dice.choice(BREAKS) + sentence[middle:]
    elif kind == "5,000 words":
        words: list[str] = []
        while len(words) < LONG_LINE_WORDS:
            words += dice.choice(sentences).split()
        text = " ".join(words[:LONG_LINE_WORDS])
    elif kind == "100,000 characters without a space":
        text = "".join(sentence.split()) * (100_000 // len(sentence))
    elif kind == "10,000 full stops":
        text = "." * 10_000
    else:
        bad = {"control characters": CONTROL, "invalid UTF-8": INVALID}.get(kind, [b""])
        return sentence[:middle].encode() + dice.choice(bad) + sentence[middle:].encode()
    return text.encode()


def write_input(path: Path, sentences: list[str], lines: int, dice: random.Random) -> Counter[str]:
    """Write the file; returns how many lines of each kind it has, at least one of each."""
    kinds = [*RARITY, "plain"]
    weights = [1 / rarity for rarity in RARITY.values()]
    weights.append(1 - sum(weights))
    chosen = [*RARITY, *dice.choices(kinds, weights, k=lines - len(RARITY))]
    dice.shuffle(chosen)
    with path.open("wb") as file:
        file.writelines(make_line(kind, sentences, dice) + b"\n" for kind in chosen)
    return Counter(chosen)


def write_model(folder: Path, sentences: list[str], dice: random.Random) -> None:
    """A model folder with random weights, as small as can be."""
    pairs = [(sentence, sentence) for sentence in dice.sample(sentences, min(len(sentences), 2000))]
    tokenizer = Tokenizer.train(pairs, TokenizerConfig(vocabulary_size=1000))
    size = tokenizer.source_vocabulary_size
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=32,
        tied_embeddings=TiedEmbeddings.none,
    )
    torch.manual_seed(dice.randrange(1 << 30))
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        model=config,
        decoding={"precision": "float32", "beam_size": 1, "max_length_ratio": 0, "max_length_offset": 6},
    )
    # Greater than a model begins with, so that what comes out depends on what went in.
    weights = {name: 3 * parameter.detach() for name, parameter in model.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=tokenizer, weights=weights, card={})


def start(model: Path, source: Path, output: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "nmt", "translate", f"model={model}", f"input={source}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, f"output={output}", "threads=1", "resume=true"], env=environment)


def lines_done(output: Path) -> int:
    """What the job has put on record; 0 before its first window."""
    try:
        content = Path(f"{output}.partial.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    return int(json.loads(content)["lines"])


def memory(process_id: int) -> tuple[float, float]:
    """Resident and peak memory of a process in MB."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def run_undisturbed(begin: Callable[[], "subprocess.Popen[bytes]"], output: Path, lines: int) -> None:
    """Once through, with a look at the memory at every tenth of the way."""
    began = time.monotonic()
    process = begin()
    points = [lines * tenth // 10 for tenth in range(1, 10)]
    peaks = []
    say(f"{'lines done':>12} {'seconds':>8} {'resident MB':>12} {'peak MB':>8}")
    while process.poll() is None:
        if (done := lines_done(output)) >= (points[0] if points else lines + 1):
            points = [point for point in points if point > done]
            resident, peak = memory(process.pid)
            peaks.append(peak)
            say(f"{done:12,} {time.monotonic() - began:8.0f} {resident:12.0f} {peak:8.0f}")
        time.sleep(0.02)
    seconds = time.monotonic() - began
    require(process.returncode == 0, f"the undisturbed run ended with {process.returncode}")
    say(f"undisturbed: {seconds:.0f} s, {lines / seconds:,.0f} lines a second, start included")
    if len(peaks) > 3:
        growth = peaks[-1] / peaks[1] - 1
        say(f"peak memory grew by {growth:.1%} from a fifth of the way on")
        require(growth < 0.1 or lines < SETTLED_LINES, "the memory grows with the file")


def run_killed(
    begin: Callable[[], "subprocess.Popen[bytes]"], output: Path, lines: int, kills: int, dice: random.Random
) -> None:
    """Again and again, killed each time after a random number of lines and a random while more."""
    for point in sorted(dice.randrange(lines * 9 // 10) for _ in range(kills)):
        process = begin()
        while lines_done(output) < point and process.poll() is None:
            time.sleep(0.005)
        time.sleep(dice.random())
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        say(f"killed with {lines_done(output):,} lines on record")
    if not output.exists():
        require(begin().wait() == 0, "the last run after the kills failed")


def outer_space(text: str) -> tuple[str, str]:
    """White space at both ends, where that which would end a line is a space."""
    left, right = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    table = str.maketrans(dict.fromkeys("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", " "))
    return left.translate(table), right.translate(table)


def check_lines(source: Path, output: Path, model: Path, lines: int, dice: random.Random) -> None:
    """Every line of the output against its line of the input."""
    translator = Translator(model, threads=1)
    sample = set(dice.sample(range(lines), min(lines, 300)))
    count = blank = 0
    with output.open("rb") as file:
        for number, (text, line) in enumerate(zip(Lines(files([source])), file, strict=True)):
            found = line.removesuffix(b"\n").decode("utf-8")
            require(len(found.splitlines()) <= 1, f"line {number + 1} of the output is more than one")
            left, right = outer_space(text)
            blank += not text.strip()
            kept = found.startswith(left) and found.endswith(right) and (text.strip() or found == left)
            require(bool(kept), f"line {number + 1} has lost white space: {text[:50]!r} gave {found[:50]!r}")
            if number in sample:
                require(translator.translate(text) == [found], f"line {number + 1} is another one alone")
            count += 1
    require(count == lines, f"{count:,} lines out for {lines:,} in")
    say(f"lines out: {count:,}, of them blank as they were: {blank:,}; {len(sample)} are the same alone")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sentences(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").split("\n"):
        if sentence := line.strip():
            yield sentence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sentences", type=Path, required=True, help="text, one sentence per line")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    sentences = list(read_sentences(options.sentences))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, source = folder / "model", folder / "in.txt"
        outputs = folder / "undisturbed.txt", folder / "killed.txt"
        say(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, 1 thread")
        write_model(model, sentences, dice)
        kinds = write_input(source, sentences, options.lines, dice)
        say(f"{options.lines:,} lines, {source.stat().st_size:,} bytes, seed {options.seed}:")
        say("".join(f"{count:12,} {kind}\n" for kind, count in kinds.most_common()))
        run_undisturbed(lambda: start(model, source, outputs[0]), outputs[0], options.lines)
        check_lines(source, outputs[0], model, options.lines, dice)
        run_killed(lambda: start(model, source, outputs[1]), outputs[1], options.lines, options.kills, dice)
        found = [digest(output) for output in outputs]
        require(found[0] == found[1], f"other bytes after {options.kills} kills: {found}")
        left = sorted(path.name for path in folder.iterdir())
        require(left == ["in.txt", "killed.txt", "model", "undisturbed.txt"], f"left behind: {left}")
        say(f"byte-identical after {options.kills} kills: sha256 {found[0]}")


if __name__ == "__main__":
    main()
