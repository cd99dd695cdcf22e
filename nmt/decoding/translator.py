"""Text in, text out: the only place where text meets search.

As many texts come out as go in, in their order, each without a line break and none of them cut off.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from tqdm import tqdm

from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID, Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.search import Hypothesis, beam_search
from nmt.model.transformer import Transformer

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

# Parts of lines that are decoded together: (line, place in the line).
Batch = list[tuple[int, int]]
MapBatches = Callable[[Callable[[Batch], list[str]], Sequence[Batch]], Iterable[list[str]]]


class Translator:
    """A model with its tokenizer and the settings of the search."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        config: DecodingConfig,
        device: torch.device,
        map_batches: MapBatches = map,
    ) -> None:
        """
        Args:
            device: where the weights of `model` are; they are used in the type they have.
            map_batches: applies a function to every batch; may have other processes do some of them.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.device = device
        self.map_batches = map_batches
        # Learned positions end somewhere, on both sides.
        self._longest_target = model.longest_source
        limits = (config.max_source_pieces, model.longest_source)
        self._longest_source = min(limit for limit in limits if limit is not None)

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

    @torch.inference_mode()
    def search(self, sources: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        """The hypotheses of each source (pieces with END_ID), best first, all decoded as one batch."""
        if not sources:
            return []
        longest = max(map(len, sources))
        padded = [[*pieces, *[PAD_ID] * (longest - len(pieces))] for pieces in sources]
        source_BS = torch.tensor(padded, device=self.device)
        return beam_search(
            self.model.step,
            self.model.start_cache(source_BS, beam_size=self.config.beam_size),
            sentences=len(sources),
            beam_size=self.config.beam_size,
            length_penalty=self.config.length_penalty,
            max_lengths=torch.tensor([self._max_length(len(pieces)) for pieces in sources]),
            begin_id=BEGIN_ID,
            end_id=END_ID,
            banned_ids=(PAD_ID, UNKNOWN_ID, BEGIN_ID),
            device=self.device,
        )

    def _max_length(self, source_length: int) -> int:
        length = int(self.config.max_length_ratio * source_length) + self.config.max_length_offset
        return length if self._longest_target is None else min(length, self._longest_target)

    def _translate_window(self, lines: list[str], advance: Callable[[int], object]) -> list[str]:
        parts = self._source_parts(lines)
        # (line, place in the line) of every part, longest first: what needs most memory is tried first.
        order = sorted(
            ((line, place) for line, own in enumerate(parts) for place in range(len(own))),
            key=lambda part: -len(parts[part[0]][part[1]]),
        )
        translations = [[""] * len(own) for own in parts]
        missing = [len(own) for own in parts]
        advance(missing.count(0))

        def translate(batch: Batch) -> list[str]:
            found = self.search([parts[line][place] for line, place in batch])
            return self.tokenizer.decode_target([best[0].pieces if best else [] for best in found])

        training = self.model.training
        self.model.eval()
        try:
            batches = list(self._batches(order, parts))
            for batch, texts in zip(batches, self.map_batches(translate, batches), strict=True):
                for (line, place), text in zip(batch, texts, strict=True):
                    translations[line][place] = text
                    missing[line] -= 1
                advance(sum(missing[line] == 0 for line in {line for line, _ in batch}))
        finally:
            self.model.train(training)
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
        return len(pieces) <= self._longest_source

    def _batches(self, order: list[tuple[int, int]], parts: list[list[list[int]]]) -> Iterator[Batch]:
        start = 0
        while start < len(order):
            line, place = order[start]
            tokens = len(parts[line][place]) * self.config.beam_size
            end = start + max(1, self.config.max_tokens_per_batch // tokens)
            yield order[start:end]
            start = end


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
