"""Text in, text out: nothing is lost, whatever the text is."""

import random
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.data.config import Normalization, TokenizerConfig
from nmt.data.tokenizer import END_ID, Tokenizer
from nmt.decoding import translator as translator_module
from nmt.decoding.config import DecodingConfig
from nmt.decoding.engine import Engine
from nmt.decoding.search import Hypothesis
from nmt.decoding.translator import Translator, best_cut, split_text
from nmt.model.config import Positions, TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

CPU = torch.device("cpu")
SENTENCES = [
    "The small dog sees the old cat.",
    "Where is the house?",
    "Two men walk to the station, and they wait there for the train!",
    "A",
    "He said: “I do not know.” Then he left the room.",
    "Seven ships with eight white sails",
]


def make_tokenizer(normalization: Normalization = Normalization.nmt_nfkc) -> Tokenizer:
    config = TokenizerConfig(vocabulary_size=340, normalization=normalization)
    return Tokenizer.train([(sentence, sentence.upper()) for sentence in SENTENCES], config)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


def make_translator(
    tokenizer: Tokenizer, positions: Positions = Positions.sinusoidal, **changes: int
) -> Translator:
    torch.manual_seed(1)
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=32,
        positions=positions,
        max_positions=24,
        tied_embeddings=TiedEmbeddings.none,
    )
    model = Transformer(
        config,
        source_vocabulary_size=tokenizer.source_vocabulary_size,
        target_vocabulary_size=tokenizer.target_vocabulary_size,
    )
    with torch.no_grad():
        # Outputs that depend on the source, byte pieces (line breaks too) and an END now and then.
        for parameter in model.parameters():
            parameter.mul_(3)
    decoding = {
        "beam_size": 2,
        "max_length_ratio": 0,
        "max_length_offset": 6,
        "max_source_pieces": 20,
    } | changes
    return Translator(model, tokenizer, DecodingConfig(**decoding), CPU)  # type: ignore[arg-type]


class Echo(Engine):
    """Finds every source itself, so that what comes out can be compared with what went in."""

    sources: list[list[int]]

    def search(self, sources, *, advance=lambda sentences: None):  # type: ignore[no-untyped-def]
        self.sources = [*getattr(self, "sources", []), *sources]
        advance(len(sources))
        return [
            [Hypothesis(pieces=pieces[:-1], score=0.0, log_probability=0.0, finished=True)]
            for pieces in sources
        ]


def make_echo(tokenizer: Tokenizer, **changes: int) -> tuple[Translator, Echo]:
    translator = make_translator(tokenizer, **changes)
    echo = Echo(translator.model, translator.config, CPU)
    translator.engine = echo
    return translator, echo


def surrogates() -> st.SearchStrategy[str]:
    return st.text(st.characters(), max_size=12)


ODD_LINES = [
    "",
    " ",
    "\t\u00a0\u3000",
    "👩‍👩‍👧 🇩🇪 🙂",
    "שלום עולם",
    "مرحبا ؟",
    "\x00\x01\x1b[31m\x7f",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven",
    "carriage\rreturn\r\nline\n",
    "\ud800 alone \udfff",
    "\ufdfa" * 9,
    "我们没有时间。他们走了！" * 5,
    "x" * 300,
    "." * 300,
    "\u200b\u200d",
    "▁ <s> </s> <unk> <0x0A>",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(surrogates(), st.sampled_from(ODD_LINES), st.sampled_from(SENTENCES)), max_size=6))
def test_any_lines_give_as_many_lines(tokenizer: Tokenizer, lines: list[str]) -> None:
    found = make_translator(tokenizer).translate(lines)
    assert len(found) == len(lines)
    for line, translation in zip(lines, found, strict=True):
        assert len(translation.splitlines()) <= 1
        assert translation == "" or line.strip()
        translation.encode("utf-8")


@pytest.mark.parametrize("normalization", [Normalization.nmt_nfkc, Normalization.identity])
def test_every_odd_line_is_translated_alone_and_among_others(normalization: Normalization) -> None:
    translator = make_translator(make_tokenizer(normalization))
    assert translator.translate(ODD_LINES) == [translator.translate([line])[0] for line in ODD_LINES]


def test_order_follows_the_caller(tokenizer: Tokenizer) -> None:
    translator = make_translator(tokenizer)
    lines = [f"{sentence} {number}" for number in range(7) for sentence in SENTENCES] + ["", " "]
    found = dict(zip(lines, translator.translate(lines), strict=True))
    assert len(set(found.values())) > 6
    random.Random(3).shuffle(lines)
    assert translator.translate(lines) == [found[line] for line in lines]


@pytest.mark.parametrize("budget", [1, 60, 100000])
def test_batch_size_changes_nothing(tokenizer: Tokenizer, budget: int) -> None:
    expected = make_translator(tokenizer).translate(SENTENCES * 3)
    assert make_translator(tokenizer, max_tokens_per_batch=budget).translate(SENTENCES * 3) == expected


@pytest.mark.parametrize("normalization", [Normalization.nmt_nfkc, Normalization.identity])
def test_blank_lines_are_not_decoded(normalization: Normalization) -> None:
    translator, echo = make_echo(make_tokenizer(normalization))
    assert translator.translate(["", "  \t ", "\u2028", "\u3000", "A"]) == ["", "", "", "", "A"]
    assert len(echo.sources) == 1


def test_lines_of_which_normalization_leaves_nothing_are_not_decoded(tokenizer: Tokenizer) -> None:
    translator, echo = make_echo(tokenizer)
    assert translator.translate(["\u200b", "A"]) == ["", "A"]
    assert len(echo.sources) == 1


def test_long_lines_are_translated_whole(tokenizer: Tokenizer) -> None:
    words = " ".join(f"word{number}" for number in range(10000))
    unbroken = "".join(chr(0x4E00 + number % 5000) for number in range(3000))
    translator, echo = make_echo(tokenizer, max_source_pieces=40)
    found = translator.translate([words, "A", unbroken])
    assert found[0] == words
    assert found[1] == "A"
    assert found[2].replace(" ", "") == unbroken
    assert max(map(len, echo.sources)) <= 40
    assert all(pieces[-1] == END_ID for pieces in echo.sources)


def test_lines_longer_than_learned_positions_are_translated(tokenizer: Tokenizer) -> None:
    translator = make_translator(
        tokenizer, Positions.learned, max_source_pieces=500, max_length_ratio=5, max_length_offset=50
    )
    (found,) = translator.translate([" ".join(SENTENCES)])
    assert found


def test_line_breaks_in_translations_become_spaces(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"a{mark}b" for mark in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"]
    translator, _ = make_echo(tokenizer)
    monkeypatch.setattr(tokenizer, "decode_target", lambda pieces: texts)
    assert translator.translate(["A"] * len(texts)) == ["a b"] * len(texts)


def test_a_stream_is_translated_window_by_window(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator_module, "_WINDOW_LINES", 4)
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield f"word {number}"

    stream = make_echo(tokenizer)[0].translate_lines(lines())
    assert list(islice(stream, 6)) == [f"word {number}" for number in range(6)]
    assert read == 8


def test_long_lines_make_windows_shorter(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator_module, "_WINDOW_CHARACTERS", 100)
    windows = list(translator_module._windows(["x" * 60] * 5))
    assert [len(window) for window in windows] == [2, 2, 1]


def test_a_model_in_training_goes_on_training(tokenizer: Tokenizer) -> None:
    translator = make_translator(tokenizer)
    translator.model.train()
    first = translator.translate(SENTENCES)
    assert translator.model.training
    # Without dropout, so twice the same.
    assert translator.translate(SENTENCES) == first
    translator.model.eval()
    assert translator.translate(SENTENCES) == first


def test_progress_counts_lines_on_standard_error(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    translator = make_translator(tokenizer)
    translator.translate([*SENTENCES, "", " ".join(SENTENCES)], progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "8/8" in captured.err
    translator.translate(SENTENCES)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("One two. Three four five six seven.", "One two."),
        ("He said “no.” Then he left us all.", "He said “no.”"),
        ("Is it 3.14 or 2.72 that you mean now", "Is it 3.14 or 2.72 "),
        ("one two three four", "one two "),
        ("A. B c d e f g h i j k", "A."),
        ("abcdef", "abc"),
        ("他们走了。我们没有时间", "他们走了。"),
        ("." * 9, "...."),
    ],
)
def test_a_text_is_cut_at_the_best_place(text: str, left: str) -> None:
    assert text[: best_cut(text)] == left


def test_parts_fit_and_hold_everything() -> None:
    text = " ".join(SENTENCES * 3)
    parts = split_text(text, lambda part: len(part) <= 70)
    assert max(map(len, parts)) <= 70
    assert " ".join(parts) == text
    assert parts[0] == "The small dog sees the old cat. Where is the house?"
    # A character that does not fit is kept.
    assert split_text("ab", lambda part: False) == ["a", "b"]
