"""Text to pieces and back (sentencepiece; Kudo and Richardson, 2018).

Normalisation, which is all that a round trip may change:

* U+2581, which sentencepiece writes for a space, becomes a space; an unpaired surrogate becomes U+FFFD.
* `tokenizer.normalization=identity` changes nothing else.
* Every other rule maps characters as its name says (nmt_nfkc: NFKC, control characters dropped, all
  kinds of white space to a space; _cf: case folded too), then strips the ends and makes runs of spaces one.

With byte fallback `decode(encode(text)) == normalize(text)` holds for every string. Without it,
characters outside the vocabulary become the unknown piece and are lost.
"""

import io
import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from nmt.data.config import Normalization, TokenizerConfig
from nmt.data.text_lines import DataError

PAD_ID, UNKNOWN_ID, BEGIN_ID, END_ID = 0, 1, 2, 3
_SPECIAL_PIECES = ["<pad>", "<unk>", "<s>", "</s>"]
_SPACE_MARK = "\u2581"
# Sums of the unigram trainer depend on how many threads share them; a fixed number gives the same
# vocabulary on every machine.
_TRAINING_THREADS = 16


class Tokenizer:
    """A vocabulary of each side, or one for both, with the ids of pad, unknown, begin and end fixed."""

    joint: bool
    source_vocabulary_size: int
    target_vocabulary_size: int

    def __init__(self, source_model: bytes, target_model: bytes | None = None) -> None:
        """Take serialised sentencepiece models; without `target_model` one serves both sides.

        Raises:
            ValueError: a model is damaged or not one of this toolkit.
        """
        self.joint = target_model is None
        self._models = [source_model] if target_model is None else [source_model, target_model]
        self._source = _processor(source_model)
        self._target = self._source if target_model is None else _processor(target_model)
        self.source_vocabulary_size = self._source.get_piece_size()
        self.target_vocabulary_size = self._target.get_piece_size()

    @classmethod
    def train(cls, pairs: Iterable[tuple[str, str]], config: TokenizerConfig) -> "Tokenizer":
        """Learn from pairs of (source, target); the same pairs and settings give the same tokenizer.

        `pairs` is read once and at most `config.max_training_sentences` sentences are held in memory.

        Raises:
            DataError: nothing to learn from, or a vocabulary too small for the characters.
        """
        sources, targets = _sample(pairs, max(1, config.max_training_sentences // 2))
        if config.joint:
            return cls(_train_model(sources + targets, config, "source and target"))
        return cls(_train_model(sources, config, "source"), _train_model(targets, config, "target"))

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read `tokenizer.model`, or `source.model` and `target.model`.

        Raises:
            DataError: a file is missing or damaged.
        """
        names = ["tokenizer.model"]
        if not (folder / names[0]).exists() and (folder / "source.model").exists():
            names = ["source.model", "target.model"]
        models = []
        for name in names:
            try:
                model = (folder / name).read_bytes()
                _processor(model)
            except OSError as error:
                raise DataError(f"{folder / name}: cannot read the tokenizer ({error.strerror})") from None
            except ValueError as error:
                raise DataError(f"{folder / name}: damaged, or not a tokenizer of nmt ({error})") from None
            models.append(model)
        return cls(*models)

    def save(self, folder: Path) -> None:
        """Write the files that `load` reads into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        names = ["tokenizer.model"] if self.joint else ["source.model", "target.model"]
        for name, model in zip(names, self._models, strict=True):
            (folder / name).write_bytes(model)

    def __eq__(self, other: object) -> bool:
        """Equal are tokenizers of the same files, byte by byte."""
        return isinstance(other, Tokenizer) and self._models == other._models

    def __hash__(self) -> int:
        return hash(tuple(self._models))

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes, ...]]:
        return type(self), tuple(self._models)

    def normalize(self, text: str) -> str:
        """Return `text` as a round trip through pieces gives it back."""
        normal: str = self._source.normalize(_clean(text)).replace(_SPACE_MARK, " ")
        return normal.removeprefix(" ")  # the space that marks the first word as one

    def encode_source(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the pieces of each text with END_ID behind them, never truncated."""
        return _encode(self._source, texts)

    def encode_target(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the pieces of each text with END_ID behind them, never truncated."""
        return _encode(self._target, texts)

    def pieces_source(self, text: str) -> list[str]:
        """Return the pieces of a source text in writing, END_ID left out."""
        return _write_pieces(self._source, text)

    def pieces_target(self, text: str) -> list[str]:
        """Return the pieces of a target text in writing, END_ID left out."""
        return _write_pieces(self._target, text)

    def words_source(self, text: str) -> list[int]:
        """Return for each piece of a source text, END_ID left out, the number of its word in `text.split()`."""
        return _words(self._source, text)

    def words_target(self, text: str) -> list[int]:
        """Return for each piece of a target text, END_ID left out, the number of its word in `text.split()`."""
        return _words(self._target, text)

    def source_vocabulary(self) -> list[str]:
        """Return the source pieces in writing, by id."""
        return _vocabulary(self._source)

    def target_vocabulary(self) -> list[str]:
        """Return the target pieces in writing, by id."""
        return _vocabulary(self._target)

    def spell_target(self) -> list[str | int | None]:
        """What each piece of the target vocabulary writes: a text, with its spaces; the byte that a piece of
        byte fallback stands for; None for special ids, which write nothing."""
        return [_spell(self._target, piece) for piece in range(self.target_vocabulary_size)]

    def decode_source(self, pieces: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each list of ids; special ids and ids outside the vocabulary are dropped."""
        return _decode(self._source, pieces)

    def decode_target(self, pieces: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each list of ids; special ids and ids outside the vocabulary are dropped."""
        return _decode(self._target, pieces)


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """Load a serialised model and check all that later calls rely on."""
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model, num_threads=1)
        pieces = processor.id_to_piece(list(range(processor.get_piece_size())))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(_one_line(error)) from None
    ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
    if ids != (PAD_ID, UNKNOWN_ID, BEGIN_ID, END_ID) or len(pieces) <= END_ID + 1:
        raise ValueError(f"pad, unknown, begin and end have the ids {ids}, not 0, 1, 2 and 3")
    return processor


def _clean(text: str) -> str:
    """Replace what sentencepiece cannot take: its own mark of a space, and unpaired surrogates."""
    text = text.replace(_SPACE_MARK, " ")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _encode(processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = processor.encode([_clean(text) for text in texts], out_type=int, add_eos=True)
    return ids


def _write_pieces(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[str]:
    pieces: list[str] = processor.encode(_clean(text), out_type=str)
    return pieces


def _words(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    """Normalisation may drop, add and merge characters: the place in the text where a piece begins decides."""
    offsets: list[tuple[int, int]] = processor.encode(_clean(text), return_type="offset_mapping")["offsets"]
    # End of each word; a piece that begins in the space before a word belongs to that word.
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    return [max(0, min(bisect_right(ends, begin), len(ends) - 1)) for begin, _ in offsets]


def _vocabulary(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    pieces: list[str] = processor.id_to_piece(list(range(processor.get_piece_size())))
    return pieces


def _spell(processor: sentencepiece.SentencePieceProcessor, piece: int) -> str | int | None:
    if processor.is_control(piece) or processor.is_unknown(piece):
        return None
    writing: str = processor.id_to_piece(piece)
    if processor.is_byte(piece):
        return int(writing.removeprefix("<0x").removesuffix(">"), 16)
    return writing.replace(_SPACE_MARK, " ")


def _decode(processor: sentencepiece.SentencePieceProcessor, pieces: Sequence[Sequence[int]]) -> list[str]:
    if not pieces:
        return []  # which sentencepiece takes for one empty sentence
    size = processor.get_piece_size()
    texts: list[str] = processor.decode([[int(i) for i in ids if END_ID < i < size] for ids in pieces])
    return texts


def _sample(pairs: Iterable[tuple[str, str]], limit: int) -> tuple[list[str], list[str]]:
    """Draw at most `limit` pairs, each with the same chance (reservoir sampling, Vitter 1985)."""
    draw = random.Random(0)
    sources: list[str] = []
    targets: list[str] = []
    for number, (source, target) in enumerate(pairs):
        if number < limit:
            sources.append(source)
            targets.append(target)
        elif (place := int(draw.random() * (number + 1))) < limit:
            sources[place] = source
            targets[place] = target
    return sources, targets


def _train_model(sentences: list[str], config: TokenizerConfig, side: str) -> bytes:
    model = io.BytesIO()
    # identity keeps white space as it is; all other rules make it regular.
    regular_spaces = config.normalization is not Normalization.identity
    pad, unknown, begin, end = _SPECIAL_PIECES
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(_clean(sentence) for sentence in sentences),
            model_writer=model,
            model_type=config.algorithm.value,
            vocab_size=config.vocabulary_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name=config.normalization.value,
            remove_extra_whitespaces=regular_spaces,
            user_defined_symbols=config.user_symbols,
            pad_id=PAD_ID,
            unk_id=UNKNOWN_ID,
            bos_id=BEGIN_ID,
            eos_id=END_ID,
            pad_piece=pad,
            unk_piece=unknown,
            bos_piece=begin,
            eos_piece=end,
            num_threads=_TRAINING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(_training_fault(error, config, side)) from None
    return model.getvalue()


def _training_fault(error: RuntimeError, config: TokenizerConfig, side: str) -> str:
    message = _one_line(error)
    if needed := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"tokenizer.vocabulary_size={config.vocabulary_size} is too small: the characters of the {side} "
            f"text alone take {needed[1]}; raise it, or lower tokenizer.character_coverage"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return f"tokenizer: the {side} training text holds nothing to learn from"
    return f"tokenizer: sentencepiece cannot learn from the {side} training text ({message})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
