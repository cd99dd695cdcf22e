"""The embedded demo corpus: train, valid and test files made from the demo grammar, with word alignment.

Files of `DemoConfig.folder`, one sentence per line: {train,valid,test_random,test_compositional}.{en,de}; the
word alignment of each line in .align ("0-0 1-2": source word - target word, counted from 0 between blanks,
punctuation belonging to the word it is attached to); made.json says what they were made with.

Held-out combinations of words (data/README.md) occur in test_compositional only.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

from filelock import FileLock

from nmt.data.config import DemoConfig
from nmt.data.demo.grammar import Combination, DemoGrammar
from nmt.data.demo.phrases import DemoPair
from nmt.data.progress import say
from nmt.data.text_lines import DataError

SPLITS = ("train", "valid", "test_random", "test_compositional")
SOURCE, TARGET, ALIGNMENT = "en", "de", "align"
_STAMP = "made.json"
# Shares of the combinations of each kind that training never sees.
HELD_OUT = {"verb object": 0.1, "adjective noun": 0.1, "construction verb": 0.08, "conjunction verb": 0.08}


class HeldOut:
    """Decides by a seeded hash which combinations of words are kept for test_compositional."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.known: dict[Combination, bool] = {}

    def __contains__(self, combination: Combination) -> bool:
        found = self.known.get(combination)
        if found is None:
            digest = hashlib.sha256(":".join((str(self.seed), *combination)).encode()).digest()
            found = int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT[combination[0]]
            self.known[combination] = found
        return found

    def touches(self, combinations: frozenset[Combination]) -> bool:
        return any(combination in self for combination in combinations)


def generate(config: DemoConfig, grammar: DemoGrammar) -> dict[str, list[DemoPair]]:
    """All splits: the same for the same settings and grammar, whatever the machine.

    Raises:
        ValueError: the training part is so small that no compositional test sentence consists of its words.
    """
    held_out = HeldOut(config.seed)
    sources: set[str] = set()
    splits: dict[str, list[DemoPair]] = {}
    rng = Random(f"demo:{config.seed}")
    # The small parts first: their sentences then do not depend on the amount of training data.
    sizes = {"test_random": config.test_pairs, "valid": config.valid_pairs, "train": config.train_pairs}
    for split, size in sizes.items():
        pairs = splits[split] = []
        while len(pairs) < size:
            sample = grammar.sample(rng)
            if sample.pair.source not in sources and not held_out.touches(sample.combinations):
                sources.add(sample.pair.source)
                pairs.append(sample.pair)
    splits["test_compositional"] = _compositional(config, grammar, held_out, splits["train"])
    return {split: splits[split] for split in SPLITS}


def _compositional(
    config: DemoConfig, grammar: DemoGrammar, held_out: HeldOut, train: list[DemoPair]
) -> list[DemoPair]:
    """Sentences with a held-out combination, made of word forms that the training part knows."""
    seen_source = {word for pair in train for word in words(pair.source)}
    seen_target = {word for pair in train for word in words(pair.target)}
    rng = Random(f"demo compositional:{config.seed}")
    pairs: dict[str, DemoPair] = {}
    # About one sentence in four fits a full-sized training part; a tiny one knows few words.
    for _ in range(100 * config.test_pairs + 5000):
        if len(pairs) == config.test_pairs:
            break
        sample = grammar.sample(rng)
        if (
            held_out.touches(sample.combinations)
            and seen_source.issuperset(words(sample.pair.source))
            and seen_target.issuperset(words(sample.pair.target))
        ):
            pairs.setdefault(sample.pair.source, sample.pair)
    if not pairs:
        raise DataError(
            f"data.demo.train_pairs={config.train_pairs} is too small: no compositional test sentence "
            "consists of words of the training part; take at least 2000"
        )
    if len(pairs) < config.test_pairs:
        say(f"the small training part allows only {len(pairs)} compositional test pairs")
    return list(pairs.values())


def words(sentence: str) -> list[str]:
    """Word forms without attached punctuation, the first in lower case."""
    first, *rest = (word.rstrip(",.?!") for word in sentence.split())
    return [first.lower(), *rest]


def write_demo(config: DemoConfig) -> None:
    """Make the files of the demo corpus, unless those made with the same settings and grammar are there.

    Files are written under temporary names and renamed; a second process waits for the first and then does
    nothing.
    """
    folder = Path(config.folder)
    grammar = DemoGrammar.load()
    settings = {**asdict(config), "grammar": grammar.fingerprint, "generator": _code_fingerprint()}
    del settings["folder"]
    if _up_to_date(folder, settings):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if _up_to_date(folder, settings):
            return
        say(f"making the demo corpus in {folder}, {config.train_pairs:,} training pairs, some 15 s")
        (folder / _STAMP).unlink(missing_ok=True)
        sizes: dict[str, int] = {}
        for split, pairs in generate(config, grammar).items():
            alignments = (" ".join(f"{i}-{j}" for i, j in pair.alignment) for pair in pairs)
            _write_lines(folder / f"{split}.{ALIGNMENT}", alignments, sizes)
            _write_lines(folder / f"{split}.{SOURCE}", (pair.source for pair in pairs), sizes)
            _write_lines(folder / f"{split}.{TARGET}", (pair.target for pair in pairs), sizes)
        stamp = json.dumps({"settings": settings, "bytes": sizes}, indent=2)
        _write_lines(folder / _STAMP, [stamp], {})


def demo_pairs(config: DemoConfig, split: str) -> list[DemoPair]:
    """The sentence pairs of a split with their word alignment; makes the files first when they are not there.

    Raises:
        ValueError: no split is called so.
    """
    if split not in SPLITS:
        raise ValueError(f"the demo corpus has no part {split!r}; it has {', '.join(SPLITS)}")
    write_demo(config)
    folder = Path(config.folder)
    columns = [_read_lines(folder / f"{split}.{suffix}") for suffix in (SOURCE, TARGET, ALIGNMENT)]
    return [
        DemoPair(source, target, [(int(i), int(j)) for i, j in (link.split("-") for link in links.split())])
        for source, target, links in zip(*columns, strict=True)
    ]


def _up_to_date(folder: Path, settings: dict[str, object]) -> bool:
    try:
        stamp = json.loads((folder / _STAMP).read_text("utf-8"))
        # Sizes tell of files that were cut or edited since.
        return stamp["settings"] == settings and all(
            (folder / name).stat().st_size == size for name, size in stamp["bytes"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _code_fingerprint() -> str:
    """Hash of the generator's source, so that a change of it makes the files anew."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write_lines(path: Path, lines: Iterator[str] | list[str], sizes: dict[str, int]) -> None:
    """Write atomically and note the size in bytes."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        sizes[path.name] = os.path.getsize(temporary)
        # mkstemp makes files that only their owner may read.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1]
