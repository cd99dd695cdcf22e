"""Text in, text out: the only place where text meets search.

As many texts come out as go in, in their order, each without a line break and none of them cut off.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from tqdm import tqdm

from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.engine import Engine
from nmt.decoding.ensemble import TranslationModel

# Lines, and characters, that are sorted by length and translated together: enough of them to fill
# batches with sentences of one length, few enough for any memory.
_WINDOW_LINES = 4096
_WINDOW_CHARACTERS = 1 << 20

# All that some tool takes for the end of a line (those of `str.splitlines`); byte pieces can make them.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# Before a space in scripts that have spaces, anywhere in Chinese and Japanese. The look-behind and the
# possessive quantifiers keep the search linear in a line of ten thousand full stops.
_SENTENCE_END = re.compile(
    r"""(?<![.!?…؟।॥።။។։])[.!?…؟।॥።။។։]++["'”’»)\]]*+(?=\s)|(?<![。！？｡])[。！？｡]++["'”’」』）]*+"""
)
_SPACE = re.compile(r"\s+")


class Translator:
    """A model with its tokenizer and the settings of the search."""

    def __init__(
        self, model: TranslationModel, tokenizer: Tokenizer, config: DecodingConfig, device: torch.device
    ) -> None:
        """`device` is where the weights of `model` are; they are used in the type they have."""
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.device = device
        self.engine = Engine(model, config, device)

    def translate(self, texts: Sequence[str], *, progress: bool = False) -> list[str]:
        """The translation of each text, empty for a blank one; `progress` draws a bar on standard error."""
        return list(self.translate_lines(texts, progress=progress, total=len(texts)))

    def translate_lines(
        self, lines: Iterable[str], *, progress: bool = False, total: int | None = None
    ) -> Iterator[str]:
        """The same for a stream, in constant memory; `total` lines are expected."""
        with tqdm(
            total=total,
            disable=not progress,
            unit=" sentences",
            desc="translate",
            # A log file needs no line ten times a second.
            mininterval=0.2 if sys.stderr.isatty() else 30,
        ) as bar:
            for window in _windows(lines):
                yield from self._translate_window(window, bar.update)

    def _translate_window(self, lines: list[str], advance: Callable[[int], object]) -> list[str]:
        parts = self._source_parts(lines)
        found = iter(self.engine.search([part for own in parts for part in own]))
        best = [[next(found)[:1] for _ in own] for own in parts]
        texts = iter(self.tokenizer.decode_target([h.pieces for own in best for part in own for h in part]))
        translations = [[next(texts) for part in own if part] for own in best]
        advance(len(lines))
        return [_LINE_BREAKS.sub(" ", " ".join(filter(None, own))) for own in translations]

    def _source_parts(self, lines: list[str]) -> list[list[list[int]]]:
        """The pieces of each line, in parts short enough for the model; none for a blank line."""
        parts: list[list[list[int]]] = []
        for line, pieces in zip(lines, self.tokenizer.encode_source(lines), strict=True):
            if len(pieces) == 1 or not line.strip():
                parts.append([])
            elif self._fits(pieces):
                parts.append([pieces])
            else:
                texts = split_text(line, lambda text: self._fits(*self.tokenizer.encode_source([text])))
                parts.append([own for own in self.tokenizer.encode_source(texts) if len(own) > 1])
        return parts

    def _fits(self, pieces: Sequence[int]) -> bool:
        return len(pieces) <= self.engine.longest_source


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Cut a text into parts that fit, without the space around them; a single character is never cut."""
    parts: list[str] = []
    waiting = [text.strip()]
    while waiting:
        part = waiting.pop()
        if len(part) < 2 or fits(part):
            parts.append(part)
        else:
            cut = best_cut(part)
            waiting += [part[cut:].strip(), part[:cut].strip()]
    return parts


def best_cut(text: str) -> int:
    """Where to cut a stripped text of at least two characters: at the end of a sentence inside, else at a
    space, else anywhere; of several places the one nearest to the middle."""
    middle = len(text) / 2
    for pattern in (_SENTENCE_END, _SPACE):
        cuts = [match.end() for match in pattern.finditer(text) if match.end() < len(text)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - middle))
    return len(text) // 2


def _windows(lines: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    characters = 0
    for line in lines:
        window.append(line)
        characters += len(line)
        if len(window) == _WINDOW_LINES or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window
