"""The cross-attention of a trained model finds the reordering of the demo grammar, which knows it.

A part of the grammar that is learnt in half a minute: statements about eating, buying and playing whose
German verb stands at the end more often than not.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch

from nmt import bundle
from nmt.data.demo.corpus import words
from nmt.data.demo.grammar import DemoGrammar
from nmt.data.demo.lexicon import grammar_folder, read_grammar
from nmt.data.demo.phrases import DemoPair
from nmt.decoding.alignment import Links, align
from nmt.decoding.translator import Translator

VERBS = ("eat", "drink", "cook", "bake", "buy_food", "play_game", "order", "buy")
TENSES = {"present": 1, "past": 2, "future": 2, "want_to": 2}
TEST_PAIRS, FREQUENT_WORDS, LONGEST = 300, 160, 9


def draw_pairs() -> list[DemoPair]:
    """Distinct short sentences of frequent words."""
    parts, fingerprint = read_grammar(grammar_folder())
    statement = parts["sentences"]["kinds"]["statement"]
    statement["clauses"]["main"] = {"tense": "any", "negated": 0.2, "place": 0.3}
    parts["sentences"]["kinds"] = {"statement": statement}
    parts["sentences"]["tenses"]["any"] = TENSES
    parts["verbs"]["verbs"] = {verb: parts["verbs"]["verbs"][verb] for verb in VERBS}
    grammar, rng = DemoGrammar(parts, fingerprint), Random(1)
    drawn = [grammar.sample(rng).pair for _ in range(15000)]
    short = {pair.source: pair for pair in drawn if len(pair.source.split()) <= LONGEST}
    count = Counter(word for source in short for word in words(source))
    frequent = {word for word, _ in count.most_common(FREQUENT_WORDS)}
    return [pair for source, pair in short.items() if frequent.issuperset(words(source))]


@pytest.fixture(scope="module")
def pairs() -> list[DemoPair]:
    return draw_pairs()


@pytest.fixture(scope="module")
def model(pairs: list[DemoPair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on all pairs but the first TEST_PAIRS."""
    folder = tmp_path_factory.mktemp("demo")
    for name, part in (("train", pairs[TEST_PAIRS:]), ("valid", pairs[:50])):
        for suffix, lines in (("en", [pair.source for pair in part]), ("de", [pair.target for pair in part])):
            (folder / f"{name}.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    settings = """experiment=own_corpus data.train.source=train.en data.train.target=train.de
        data.valid.source=valid.en data.valid.target=valid.de tokenizer.vocabulary_size=512 model=tiny
        model.encoder_layers=2 model.decoder_layers=2 training=quick training.max_steps=500
        training.max_tokens_per_batch=768 training.warmup_steps=100 training.validate_every=500
        training.checkpoint_every=500 training.trackers=[] training.threads=1 training.device=cpu
        data.workers=1 run.folder=run"""
    subprocess.run(
        [sys.executable, "-m", "nmt", "train", *settings.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "run"


def accuracy(pairs: list[DemoPair], found: list[Links], *, moved: int = 0) -> float:
    """Share of the target words with a right link, of those whose source words stand `moved` places off."""
    right = []
    for pair, links in zip(pairs, found, strict=True):
        link = {target: source for source, target in links}
        for word in {target for _, target in pair.alignment}:
            sources = {source for source, target in pair.alignment if target == word}
            if min(abs(source - word) for source in sources) >= moved:
                right.append(link[word] in sources)
    assert len(right) > 100
    return sum(right) / len(right)


def test_cross_attention_finds_the_reordering(pairs: list[DemoPair], model: Path) -> None:
    loaded = bundle.load(model, device=torch.device("cpu"))
    held_out = pairs[:TEST_PAIRS]
    sources, targets = [pair.source for pair in held_out], [pair.target for pair in held_out]
    found = align(loaded.model, loaded.tokenizer, sources, targets)
    diagonal: list[Links] = [
        [(min(word, len(source.split()) - 1), word) for word in range(len(target.split()))]
        for source, target in zip(sources, targets, strict=True)
    ]
    assert accuracy(held_out, diagonal) < 0.6
    assert accuracy(held_out, diagonal, moved=2) == 0
    assert accuracy(held_out, found) >= 0.8
    # The verb at the end, and what it makes room for.
    assert accuracy(held_out, found, moved=2) >= 0.7


def test_translations_come_with_their_alignment(pairs: list[DemoPair], model: Path) -> None:
    """Of sentences one by one, and of several as one line that is divided."""
    translator = Translator(model, device="cpu", max_source_pieces=50)
    pairs = pairs[: 2 * TEST_PAIRS]
    found = translator.translate_in_detail([pair.source for pair in pairs], alignment=True)
    # Where the translation is the grammar's, so is the alignment to compare with.
    right = [n for n, pair in enumerate(pairs) if found[n].text == pair.target]
    chosen = [pairs[number] for number in right]
    assert accuracy(chosen, [list(found[number].alignment or ()) for number in right]) >= 0.8
    lines = [" ".join(pair.source for pair in chosen[start : start + 10]) for start in range(0, 100, 10)]
    divided = translator.translate_in_detail(lines, alignment=True)
    for start, line in zip(range(0, 100, 10), divided, strict=True):
        sources = targets = 0
        expected = []
        for number in right[start : start + 10]:
            expected += [(sources + s, targets + t) for s, t in found[number].alignment or ()]
            sources += len(pairs[number].source.split())
            targets += len(found[number].text.split())
        assert line.alignment == tuple(expected)
