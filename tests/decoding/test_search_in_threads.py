"""Several CPU threads, each with a share of the sentences."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nmt import Translator
from nmt.decoding.engine import Engine
from tests.decoding.conftest import WORDS


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sources(model: Path) -> list[list[int]]:
    draw = random.Random(3)
    lines = [" ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) for _ in range(200)]
    return Translator(model).tokenizer.encode_source(lines)


@pytest.fixture
def engine(model: Path) -> Engine:
    translator = Translator(model)
    return Engine(translator.model, translator.config, torch.device("cpu"))


def test_threads_find_what_one_finds(two_threads: None, engine: Engine, sources: list[list[int]]) -> None:
    done, threads = [], set()

    def advance(sentences: int) -> None:
        done.append(sentences)
        threads.add(threading.get_ident())

    found = engine.search(sources, in_threads=True, advance=advance)
    assert len(threads) == 2
    assert sum(done) == len(sources)
    assert torch.get_num_threads() == 2
    expected = engine.search(sources)
    assert [[each.pieces for each in own] for own in found] == [
        [each.pieces for each in own] for own in expected
    ]


def test_one_thread_or_few_sentences_are_not_shared(engine: Engine, sources: list[list[int]]) -> None:
    before = torch.get_num_threads()
    for threads, own in ((1, sources), (2, sources[:100])):
        torch.set_num_threads(threads)
        seen = set()
        engine.search(own, in_threads=True, advance=lambda _, seen=seen: seen.add(threading.get_ident()))  # type: ignore[misc]
        assert seen == {threading.get_ident()}
    torch.set_num_threads(before)


def test_an_error_in_a_thread_is_raised(
    two_threads: None, engine: Engine, sources: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(engine.model, "start_cache", fail)
    with pytest.raises(MemoryError, match="none left"):
        engine.search(sources, in_threads=True)


def test_the_other_threads_end_when_one_fails(
    two_threads: None, engine: Engine, sources: list[list[int]]
) -> None:
    engine.config.max_tokens_per_batch = 100
    calls = []

    def advance(sentences: int) -> None:
        calls.append(sentences)
        if len(calls) == 1:
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        engine.search(sources, in_threads=True, advance=advance)
    assert sum(calls) < len(sources) // 4
