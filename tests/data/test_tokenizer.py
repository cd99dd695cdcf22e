"""Text comes back from its pieces, whatever it is, and no file can do harm."""

import pickle
import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data import tokenizer as tokenizer_module
from nmt.data.config import Normalization, TokenizerAlgorithm, TokenizerConfig
from nmt.data.corpus import DataError
from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID, Tokenizer

ALGORITHMS = list(TokenizerAlgorithm)
WORDS = ("the", "house", "is", "green", "walks", "little", "dogs", "near", "tree", "and")
WÖRTER = ("das", "Haus", "ist", "grün", "läuft", "kleine", "Hunde", "neben", "Baum", "und")


def corpus(pairs: int = 300) -> list[tuple[str, str]]:
    draw = random.Random(1)
    places = [[draw.randrange(10) for _ in range(draw.randint(2, 8))] for _ in range(pairs)]
    return [(" ".join(WORDS[p] for p in row), " ".join(WÖRTER[p] for p in row)) for row in places]


def make(**settings: object) -> Tokenizer:
    return Tokenizer.train(corpus(), TokenizerConfig(**{"vocabulary_size": 400, **settings}))  # type: ignore[arg-type]


TOKENIZERS = {
    (algorithm, normalization): make(algorithm=algorithm, normalization=normalization)
    for algorithm in ALGORITHMS
    for normalization in Normalization
}
PLAIN = TOKENIZERS[TokenizerAlgorithm.unigram, Normalization.nmt_nfkc]

marks = ["\u2581", " ", "  ", "<s>", "</s>", "<pad>", "<unk>", "<0x41>", "\u2047", "\u2585", "\ufffd", "\0"]
signs = [
    "\x07",
    "\ud800",
    "\udfff",
    "\ufeff",
    "\u200b",
    "\u2028",
    "\x85",
    "\r\n",
    "\t",
    "🙂",
    "שלום",
    "ﬁ",
    "e\u0301",
]
nasty = st.sampled_from([*marks, *signs, *WORDS, *WÖRTER])
any_text = st.lists(st.one_of(nasty, st.text(st.characters(), max_size=8)), max_size=12).map("".join)


@pytest.mark.parametrize("key", TOKENIZERS, ids=lambda key: "-".join(key))
def test_decode_of_encode_is_normalize(key: tuple[TokenizerAlgorithm, Normalization]) -> None:
    tokenizer = TOKENIZERS[key]

    @given(any_text)
    @settings(max_examples=80, deadline=None)
    def check(text: str) -> None:
        [ids] = tokenizer.encode_source([text])
        assert ids[-1] == END_ID
        assert all(END_ID < piece < tokenizer.source_vocabulary_size for piece in ids[:-1])
        normal = tokenizer.normalize(text)
        assert tokenizer.decode_source([ids]) == [normal]
        assert tokenizer.decode_target(tokenizer.encode_target([text])) == [normal]
        assert tokenizer.normalize(normal) == normal

    check()


def clean(text: str) -> str:
    text = text.replace("\u2581", " ")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(any_text)
@settings(max_examples=200, deadline=None)
def test_identity_changes_only_what_it_documents(text: str) -> None:
    tokenizer = TOKENIZERS[TokenizerAlgorithm.bpe, Normalization.identity]
    assert tokenizer.normalize(text) == clean(text)


@given(
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Zs", "Cf"]), min_size=1),
    st.integers(0, 5),
)
@settings(deadline=None)
def test_nfkc_is_unicodes_with_single_spaces(text: str, spaces: int) -> None:
    gap = " " * spaces
    expected = " ".join(unicodedata.normalize("NFKC", f"{gap}{text}{gap} {text}\u3000").split())
    for name in (Normalization.nmt_nfkc, Normalization.nfkc):
        tokenizer = TOKENIZERS[TokenizerAlgorithm.unigram, name]
        assert tokenizer.normalize(f"{gap}{text}{gap} {text}\u3000") == expected


def test_ordinary_text_is_left_alone() -> None:
    text = "„Wie geht's?“, fragte sie – auf 3,5 km² nicht: 漢字, שלום 🙂."
    assert PLAIN.normalize(text.replace("²", "2")) == text.replace("²", "2")


def test_special_looking_text_gives_no_special_ids() -> None:
    for tokenizer in TOKENIZERS.values():
        for text in ("<s>", "</s>", "<pad>", "<unk> <s></s>", "a</s>b"):
            [ids] = tokenizer.encode_source([text])
            assert not set(ids[:-1]) & {PAD_ID, UNKNOWN_ID, BEGIN_ID, END_ID}
            assert tokenizer.decode_source([ids]) == [text]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "pairs",
    [[("a", "b")], [("a", "a")], [("", "x y")], [("今日は", "hello")], corpus(3), [("\ud800x", "y\u2581z")]],
)
def test_a_small_corpus_gives_a_small_vocabulary(
    algorithm: TokenizerAlgorithm, pairs: list[tuple[str, str]]
) -> None:
    tokenizer = Tokenizer.train(pairs, TokenizerConfig(algorithm=algorithm, vocabulary_size=8000))
    assert 4 + 256 < tokenizer.source_vocabulary_size < 700
    assert tokenizer.decode_target(tokenizer.encode_target(["ganz anders"])) == ["ganz anders"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("joint", [True, False])
def test_the_vocabulary_never_exceeds_its_bound_and_training_repeats(
    algorithm: TokenizerAlgorithm, joint: bool, tmp_path: Path
) -> None:
    first, second = (make(algorithm=algorithm, joint=joint, vocabulary_size=310) for _ in range(2))
    assert first.source_vocabulary_size <= 310
    assert first.target_vocabulary_size <= 310
    first.save(tmp_path / "first")
    second.save(tmp_path / "second")
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == (["tokenizer.model"] if joint else ["source.model", "target.model"])
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_separate_vocabularies_know_their_own_side() -> None:
    tokenizer = make(joint=False)
    assert not tokenizer.joint
    assert "".join(tokenizer.pieces_source("house")) == "▁house"
    assert len(tokenizer.pieces_source("house")) < len(tokenizer.pieces_target("house"))
    assert len(tokenizer.pieces_target("grün")) < len(tokenizer.pieces_source("grün"))


@pytest.mark.parametrize("joint", [True, False])
def test_a_loaded_or_unpickled_tokenizer_is_the_same(joint: bool, tmp_path: Path) -> None:
    tokenizer = make(joint=joint)
    tokenizer.save(tmp_path / "new" / "folder")
    sources, targets = zip(*corpus(50), strict=True)
    for copy in (Tokenizer.load(tmp_path / "new" / "folder"), pickle.loads(pickle.dumps(tokenizer))):  # noqa: S301
        assert copy.joint is joint
        assert copy.encode_source(sources) == tokenizer.encode_source(sources)
        assert copy.encode_target(targets) == tokenizer.encode_target(targets)
        assert copy.target_vocabulary_size == tokenizer.target_vocabulary_size


def test_user_symbols_are_one_piece_and_survive() -> None:
    symbols = ["<b>", "{name}", "x,y", '"q"']
    tokenizer = make(user_symbols=symbols)
    for symbol in symbols:
        text = f"the {symbol} house{symbol}"
        assert tokenizer.pieces_source(text).count(symbol) == 2
        assert tokenizer.decode_source(tokenizer.encode_source([text])) == [text]


@pytest.mark.parametrize("symbols", [["a b"], [""], ["\u2581x"], ["<s>"], ["<0x0A>"], ["<x>", "<x>"]])
def test_user_symbols_that_cannot_work_are_refused(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.user_symbols"):
        TokenizerConfig(user_symbols=symbols)


def test_without_byte_fallback_the_unknown_is_unknown() -> None:
    tokenizer = make(byte_fallback=False)
    [ids] = tokenizer.encode_source(["the 漢 house"])
    assert UNKNOWN_ID in ids
    assert "".join(tokenizer.decode_source([ids])).split() == ["the", "house"]


@given(st.lists(st.lists(st.integers(-5, 10**6), max_size=20), max_size=5))
@settings(deadline=None)
def test_any_ids_decode_to_text(ids: list[list[int]]) -> None:
    texts = PLAIN.decode_target(ids)
    assert len(texts) == len(ids)
    for text in texts:
        text.encode("utf-8")


def test_special_ids_decode_to_nothing() -> None:
    [ids] = PLAIN.encode_target(["das Haus"])
    assert PLAIN.decode_target([[BEGIN_ID, *ids, PAD_ID, UNKNOWN_ID, PAD_ID]]) == ["das Haus"]
    assert PLAIN.decode_target([]) == []
    assert PLAIN.encode_source([]) == []


def test_nothing_to_learn_from_is_an_error() -> None:
    for pairs in ([], [("", "")], [(" ", "\u2581")]):
        with pytest.raises(DataError, match="nothing to learn from"):
            Tokenizer.train(pairs, TokenizerConfig())


def test_a_vocabulary_smaller_than_the_alphabet_names_the_setting() -> None:
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 200)))
    with pytest.raises(DataError, match=r"tokenizer\.vocabulary_size=300 is too small.*take 46\d"):
        Tokenizer.train([(letters, letters)] * 5, TokenizerConfig(vocabulary_size=300))


def test_training_sentences_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def remember(sentences: list[str], config: TokenizerConfig, side: str) -> bytes:
        seen.append(sentences)
        return TRAINED

    TRAINED = train_model(["a b c"], TokenizerConfig(), "source")
    monkeypatch.setattr(tokenizer_module, "_train_model", remember)
    pairs = [(f"s{number}", f"t{number}") for number in range(20_000)]
    Tokenizer.train(iter(pairs), TokenizerConfig(max_training_sentences=4000, joint=False))
    sources, targets = seen
    assert len(sources) == len(targets) == len(set(sources)) == 2000
    assert [source[1:] for source in sources] == [target[1:] for target in targets]
    quarters = [
        sum(number * 5000 <= int(s[1:]) < number * 5000 + 5000 for s in sources) for number in range(4)
    ]
    assert all(420 < quarter < 580 for quarter in quarters)  # 500 expected, four standard deviations


train_model = tokenizer_module._train_model


def damaged(model: bytes) -> Sequence[bytes]:
    draw = random.Random(3)
    spoiled = [b"", b"\0", b"not a model", bytes(draw.randbytes(5000)), model[: len(model) // 2], model[:-1]]
    for size in (1, 20, 2000):
        for _ in range(40):
            content = bytearray(model)
            for _ in range(size):
                content[draw.randrange(len(content))] = draw.randrange(256)
            spoiled.append(bytes(content))
    return spoiled


def load_fault(folder: Path) -> str | None:
    """Why the tokenizer in `folder` is refused. One that is not must do no harm: a changed letter of a
    piece cannot be told."""
    try:
        tokenizer = Tokenizer.load(folder)
    except DataError as error:
        return str(error)
    tokenizer.decode_source(tokenizer.encode_source(["the house ﬁ 漢", "\u2581<s>\0"]))
    return None


def test_a_damaged_file_is_an_error_or_harmless(tmp_path: Path) -> None:
    PLAIN.save(tmp_path)
    file = tmp_path / "tokenizer.model"
    refused = 0
    for content in damaged(file.read_bytes()):
        file.write_bytes(content)
        message = load_fault(tmp_path)
        refused += message is not None
        assert message is None or (message.startswith(f"{file}: damaged") and "\n" not in message)
    assert refused > 60


def test_a_foreign_or_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.model"):
        Tokenizer.load(tmp_path)
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9),
        model_writer=model,
        vocab_size=8,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    with pytest.raises(DataError, match="not a tokenizer of nmt"):
        Tokenizer.load(tmp_path)
    make(joint=False).save(tmp_path / "two")
    (tmp_path / "two" / "target.model").unlink()
    with pytest.raises(DataError, match=r"target\.model"):
        Tokenizer.load(tmp_path / "two")


@pytest.mark.parametrize("normalization", list(Normalization))
@pytest.mark.parametrize(
    "text",
    [
        "The small  dog sees it.",
        " leading, trailing ",
        "no-break\u00a0space and\ttab",
        "½ of ﷺ and ´ are longer than they look",
        "中文 字 🙂 \u2581mark",
        "control \x01 character",
        "",
        "   ",
    ],
)
def test_every_piece_knows_its_word(normalization: Normalization, text: str) -> None:
    """The words of a text are what blanks divide it into, whatever normalisation makes of it."""
    config = TokenizerConfig(vocabulary_size=340, normalization=normalization)
    tokenizer = Tokenizer.train([("The small dog sees the house.", "no space and control")] * 20, config)
    pieces, words = tokenizer.pieces_source(text), tokenizer.words_source(text)
    assert words == tokenizer.words_target(text)
    assert len(words) == len(pieces)
    assert words == sorted(words)
    names = text.split()
    ids = tokenizer.encode_source([text])[0][:-1]
    for number, name in enumerate(names):
        own = [piece for piece, word in zip(ids, words, strict=True) if word == number]
        found, expected = tokenizer.decode_source([own]), tokenizer.decode_source(tokenizer.encode_source([name]))
        assert "".join(found[0].split()) == "".join(expected[0].split())
    assert all(0 <= word < max(1, len(names)) for word in words)


def test_what_pieces_write_makes_up_the_text() -> None:
    tokenizer = Tokenizer.train([("a small dog", "ein kleiner Hund")] * 5, TokenizerConfig(vocabulary_size=300))
    spelling = tokenizer.spell_target()
    assert spelling[:4] == [None] * 4
    for text in ("ein kleiner Hund", "größer 犬", "a"):
        written = [spelling[piece] for piece in tokenizer.encode_target([text])[0][:-1]]
        data = b"".join(bytes([own]) if isinstance(own, int) else str(own).encode() for own in written)
        assert data.decode().strip() == text
    assert sum(isinstance(own, int) for own in spelling) == 256
