"""Text in, text out: nothing is lost, whatever the text is."""

import random
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt import bundle
from nmt.data.config import Normalization, TokenizerConfig
from nmt.data.tokenizer import END_ID, Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.engine import Engine
from nmt.decoding.extension import Hypothesis
from nmt.decoding.options import DecodingOptions
from nmt.decoding.translation import Candidate, Translation
from nmt.decoding.translator import Translator
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
        "precision": "float32",
        "beam_size": 2,
        "max_length_ratio": 0,
        "max_length_offset": 6,
        "max_source_pieces": 20,
    } | changes
    return Translator.of(model, tokenizer, DecodingConfig(**decoding), source_language="en")  # type: ignore[arg-type]


class Echo(Engine):
    """Finds every source itself, so that what comes out can be compared with what went in."""

    sources: list[list[int]]

    def search(self, sources, *, advance=lambda sentences: None, **_):  # type: ignore[no-untyped-def]
        self.sources = [*getattr(self, "sources", []), *sources]
        advance(len(sources))
        return [
            [Hypothesis(pieces=pieces[:-1], score=0.0, log_probability=0.0, finished=True)]
            for pieces in sources
        ]


def make_echo(tokenizer: Tokenizer, **changes: int) -> tuple[Translator, Echo]:
    translator = make_translator(tokenizer, **changes)
    echo = Echo(translator.model, translator.config, CPU)
    translator._idle, translator._kept_engines = [echo], 1
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
        assert line.strip() or len(translation) == len(line)
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
    assert translator.translate(["", "  \t ", "\u2028", "\u3000", "A"]) == ["", "  \t ", " ", "\u3000", "A"]
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


@pytest.mark.parametrize("space", [" ", "\t", "\u00a0 ", "\u3000", "  \x1f"])
def test_white_space_around_a_line_is_kept(tokenizer: Tokenizer, space: str) -> None:
    translator, _ = make_echo(tokenizer)
    assert translator.translate([f"{space}A b{space}"]) == [f"{space}A b{space}"]
    assert translator.translate([f"{space}\nA b\r{space}"]) == [f"{space} A b {space}"]
    (long,) = translator.translate([f"{space}{' '.join(SENTENCES)}{space}"])
    assert (long[: len(space)], long[-len(space) :]) == (space, space)


def test_a_long_line_is_translated_sentence_by_sentence(tokenizer: Tokenizer) -> None:
    translator, echo = make_echo(tokenizer, max_source_pieces=32)
    sentences = ["The small dog sees Dr. Smith.", "Where is the house?", "Two men wait."]
    translator.translate([" ".join(sentences)])
    assert tokenizer.decode_source(echo.sources) == sentences


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
    assert "8 lines" in captured.err
    assert "sentences/s" in captured.err
    translator.translate(SENTENCES)
    assert capsys.readouterr().err == ""


def test_details_are_sorted_distinct_and_sums_over_parts(tokenizer: Tokenizer) -> None:
    translator = make_translator(tokenizer, beam_size=4)
    texts = [*SENTENCES, "", " ".join(SENTENCES)]
    found = translator.translate_in_detail(texts, n_best=4)
    assert [each.text for each in found] == translator.translate(texts)
    assert any(each.alternatives for each in found)
    for each in found:
        ranked: list[Candidate] = [each, *each.alternatives]
        assert len(ranked) <= 4
        assert len({own.text for own in ranked}) == len(ranked)
        assert sorted(ranked, key=lambda own: -own.score) == ranked
        assert all(own.log_probability <= 0 and own.score <= 0 for own in ranked)
    assert found[-2] == Translation(text="", score=0.0, log_probability=0.0, finished=True)
    # The fifth is longer than the model reads, and divided.
    assert found[-1].score < min(each.score for each in found[:-1])


def test_the_scores_of_a_line_in_parts_are_sums(tokenizer: Tokenizer) -> None:
    translator = make_translator(tokenizer, max_source_pieces=32)
    parts = ["The small dog sees the old cat.", "Where is the house?", "Two men walk to the station."]
    whole, *alone = translator.translate_in_detail([" ".join(parts), *parts])
    assert whole.text == " ".join(each.text for each in alone)
    assert whole.score == pytest.approx(sum(each.score for each in alone))
    assert whole.log_probability == pytest.approx(sum(each.log_probability for each in alone))


@pytest.mark.parametrize("n_best", [0, 3])
def test_more_candidates_than_beams_are_refused(tokenizer: Tokenizer, n_best: int) -> None:
    with pytest.raises(ValueError, match="n_best must be between 1 and the beam size, 2"):
        make_translator(tokenizer).translate_in_detail(["A"], n_best=n_best)


def write_model(folder: Path, translator: Translator) -> Path:
    """A model folder of a translator's model."""
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=translator.tokenizer.source_vocabulary_size,
        target_vocabulary_size=translator.tokenizer.target_vocabulary_size,
        model=translator.model.config,
        decoding={
            "precision": "float32",
            "beam_size": 2,
            "max_length_ratio": 0,
            "max_length_offset": 6,
            "max_source_pieces": 20,
        },
    )
    weights = {name: parameter.detach() for name, parameter in translator.model.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=translator.tokenizer, weights=weights, card={})
    return folder


def test_a_model_folder_is_a_translator(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As the README has it, in a process of its own that has imported nothing."""
    inner = make_translator(tokenizer)
    folder = write_model(tmp_path / "model", inner)
    code = (
        "import sys, nmt; assert 'torch' not in sys.modules and len(nmt.__version__) > 2;"
        "from nmt import Translator; translator = Translator(sys.argv[1], device='cpu', threads=1);"
        "print(translator.translate(sys.argv[2:]), translator.translate(sys.argv[2:], beam_size=1))"
    )
    command = [sys.executable, "-c", code, str(folder), *SENTENCES]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, encoding="utf-8", check=True
    )
    expected = inner.translate(SENTENCES), inner.translate(SENTENCES, beam_size=1)
    assert done.stdout == f"{expected[0]} {expected[1]}\n"
    assert done.stderr == ""


def test_settings_of_a_folder_a_translator_and_a_call(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", make_translator(tokenizer))
    assert Translator(folder).config.beam_size == 2
    translator = Translator(folder, beam_size=3)
    assert (translator.config.beam_size, translator.config.max_length_offset) == (3, 6)
    short = translator.translate(SENTENCES, max_length_offset=1)
    assert short != translator.translate(SENTENCES)
    assert translator.config.max_length_offset == 6
    assert translator.translate(SENTENCES[0]) == translator.translate(SENTENCES[:1])
    assert translator.translate(SENTENCES, stopping="count", precision="float32")
    with pytest.raises(ValueError, match=r"decoding\.beam_size must be at least 1"):
        translator.translate(SENTENCES, beam_size=0)
    with pytest.raises(TypeError, match="beams"):
        translator.translate(SENTENCES, beams=5)  # type: ignore[call-arg]
    with pytest.raises(bundle.BundleError, match="no such folder"):
        Translator(tmp_path / "nowhere")


def test_every_setting_of_decoding_can_be_given() -> None:
    assert DecodingOptions.__annotations__.keys() == {each.name for each in fields(DecodingConfig)}


def test_threads_share_a_translator(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Each gets what it gets alone, with settings of its own."""
    translator = Translator(write_model(tmp_path / "model", make_translator(tokenizer)))
    texts = [f"{sentence} {number}" for number in range(3) for sentence in SENTENCES]
    sizes = [1, 2, 3, 4, 5, 1, 2, 3]
    expected = {size: translator.translate(texts, beam_size=size) for size in set(sizes)}
    assert len({tuple(each) for each in expected.values()}) > 2
    found: list[list[list[str]]] = [[] for _ in sizes]
    start = threading.Barrier(len(sizes))

    def work(number: int) -> None:
        start.wait()
        for _ in range(3):
            found[number].append(translator.translate(texts, beam_size=sizes[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[expected[size]] * 3 for size in sizes]
    assert len(translator._idle) <= 4


def test_no_two_threads_have_one_engine(tokenizer: Tokenizer, tmp_path: Path) -> None:
    translator = Translator(write_model(tmp_path / "model", make_translator(tokenizer)))
    with translator._engine(translator.config) as first, translator._engine(translator.config) as second:
        assert first is not second
    with translator._engine(translator.config) as again:
        assert again in (first, second)


def test_a_model_that_is_trained_on_is_searched_as_it_is_now(tokenizer: Tokenizer) -> None:
    translator = make_translator(tokenizer)
    before = translator.translate(SENTENCES)
    with torch.no_grad():
        for parameter in translator.model.parameters():
            parameter.mul_(-0.5)
    assert translator.translate(SENTENCES) != before
    fresh = Translator.of(translator.model, tokenizer, translator.config, source_language="en")
    assert translator.translate(SENTENCES) == fresh.translate(SENTENCES)
