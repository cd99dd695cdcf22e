"""Text in, text out: the only place where text meets search.

As many texts come out as go in, in their order, each without a line break and none of them cut off.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import torch

from nmt.data.tokenizer import Tokenizer
from nmt.decoding import ensemble
from nmt.decoding.config import DecodingConfig, DecodingPrecision, LengthPenalty, MbrUtility, Stopping
from nmt.decoding.engine import Engine
from nmt.decoding.ensemble import TranslationModel
from nmt.decoding.extension import Hypothesis
from nmt.decoding.mbr import by_agreement
from nmt.decoding.progress import Progress
from nmt.decoding.sentences import Part, divide
from nmt.decoding.translation import Candidate, Translation, combine
from nmt.decoding.windows import windows
from nmt.model.device import choose_device

# All that some tool takes for the end of a line (those of `str.splitlines`); byte pieces can make them.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# In place of a hypothesis where the search has found none.
_NOTHING = Candidate(text="", score=0.0, log_probability=0.0, finished=False)
# Engines kept for the next call, each with settings of its own.
_KEPT_ENGINES = 4


class DecodingOptions(TypedDict, total=False):
    """The fields of DecodingConfig, none of which has to be given."""

    beam_size: int
    length_penalty: float
    length_penalty_formula: LengthPenalty | Literal["wu", "power"]
    coverage_penalty: float
    stopping: Stopping | Literal["bound", "count"]
    diverse_groups: int
    diversity: float
    temperature: float
    top_k: int
    top_p: float
    seed: int
    no_repeat_ngram: int
    banned_words: list[str]
    mbr: MbrUtility | Literal["none", "chrf", "bleu"]
    precision: DecodingPrecision | Literal["auto", "float32", "bfloat16", "float16", "int8"]
    max_length_ratio: float
    max_length_offset: int
    max_tokens_per_batch: int
    max_source_pieces: int


class Translator:
    """A trained model, ready to translate.

        from nmt import Translator

        translator = Translator("runs/latest")
        translator.translate(["The small dog sees the cat."], beam_size=5)

    One translator serves any number of threads at once.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path],
        *,
        device: str = "auto",
        threads: int | None = None,
        **decoding: Unpack[DecodingOptions],
    ) -> None:
        """Load a model.

        Args:
            model: run folder, checkpoint or model folder; several decode with the mean of their
                probabilities, and the settings of the first.
            device: `cpu`, `cuda`, `mps`, or `auto`, the fastest that is there.
            threads: CPU threads of an operation, for all of PyTorch in this process; None leaves them.
            decoding: settings of the search in place of those in the model folder.

        Raises:
            BundleError: there is no model, or it is damaged.
            DeviceError: the device is not there.
            TypeError, ValueError: no such setting, or an impossible value.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        loaded = ensemble.load(model, device=choose_device(device))
        known = {each.name for each in fields(DecodingConfig)}
        recorded = {name: value for name, value in loaded.settings.decoding.items() if name in known}
        config = DecodingConfig(**{**recorded, **decoding})
        self._take(loaded.model, loaded.tokenizer, config, loaded.settings.source_language)
        self.folder: Path | None = loaded.folder
        # Their weights never change, so that what an engine has made of them holds.
        self._kept_engines = _KEPT_ENGINES

    @classmethod
    def of(
        cls, model: TranslationModel, tokenizer: Tokenizer, config: DecodingConfig, *, source_language: str
    ) -> "Translator":
        """A translator of a model in memory, which may be trained further between two calls.

        The weights are used where they are and in the type they have.
        """
        translator = cls.__new__(cls)
        translator._take(model, tokenizer, config, source_language)
        translator.folder = None
        translator._kept_engines = 0
        return translator

    def _take(
        self, model: TranslationModel, tokenizer: Tokenizer, config: DecodingConfig, source_language: str
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.source_language = source_language
        self.device = next(model.parameters()).device
        self._idle: list[Engine] = []
        self._lock = threading.Lock()

    def translate(
        self, texts: str | Sequence[str], *, progress: bool = False, **decoding: Unpack[DecodingOptions]
    ) -> list[str]:
        """The translation of each text, in order.

        A text longer than the model can read is divided into sentences. White space around a text stays
        around its translation, and a blank text stays as it is; line breaks become spaces.

        Args:
            texts: any number of any texts; a single string is one text.
            progress: show on standard error how far it is.
            decoding: settings of the search for this call.

        Raises:
            TypeError, ValueError: no such setting, or an impossible value.
        """
        return [each.text for each in self.translate_in_detail(texts, progress=progress, **decoding)]

    def translate_in_detail(
        self,
        texts: str | Sequence[str],
        *,
        n_best: int = 1,
        progress: bool = False,
        **decoding: Unpack[DecodingOptions],
    ) -> list[Translation]:
        """The same with scores and, where `n_best` is more than 1, up to `n_best - 1` alternatives.

        Raises:
            TypeError, ValueError: no such setting, or an impossible value, as of `n_best` over the beam size.
        """
        texts = [texts] if isinstance(texts, str) else texts
        # The constructor takes names of choices for the choices.
        config = replace(self.config, **decoding)  # type: ignore[arg-type]
        if not 1 <= n_best <= config.beam_size:
            raise ValueError(f"n_best must be between 1 and the beam size, {config.beam_size}, not {n_best}")
        with self._engine(config) as engine, Progress(len(texts), shown=progress) as shown:
            return [
                translation
                for window in windows(texts)
                for translation in self._translate_window(engine, window, n_best, shown)
            ]

    def translate_window(self, lines: Sequence[str], *, n_best: int, progress: Progress) -> list[Translation]:
        """The same for lines of a long text, as many as shall be searched together."""
        with self._engine(self.config) as engine:
            return self._translate_window(engine, lines, n_best, progress)

    @property
    def dtype(self) -> torch.dtype:
        """The type that the search computes in."""
        with self._engine(self.config) as engine:
            return engine.model.dtype

    def _translate_window(
        self, engine: Engine, lines: Sequence[str], n_best: int, progress: Progress
    ) -> list[Translation]:
        parts = self._parts(lines, engine.longest_source)
        sources = [part.pieces for own in parts for part in own]
        found = engine.search(sources, advance=_in_lines(progress, len(lines), len(sources)))
        if engine.config.mbr is MbrUtility.none:
            candidates = iter(self._read([hypotheses[:n_best] for hypotheses in found]))
        else:
            sampled = engine.config.temperature > 0
            chosen = (by_agreement(own, engine.config.mbr, sampled=sampled) for own in self._read(found))
            candidates = (own[:n_best] for own in chosen)
        progress.advance(len(lines) if not sources else 0, 0)
        # Word alignment has its place here: of each part's text with the text of its candidates.
        return [
            _translation(line, own, [next(candidates) for _ in own], n_best)
            for line, own in zip(lines, parts, strict=True)
        ]

    def _parts(self, lines: Sequence[str], limit: int) -> list[list[Part]]:
        """The parts of each line, short enough for the model; none of a blank line."""
        texts = [line.strip() for line in lines]
        encode = self.tokenizer.encode_source
        parts = []
        for text, pieces in zip(texts, encode(texts), strict=True):
            own = [Part(text, pieces)]
            if len(pieces) > limit:
                own = divide(
                    text,
                    language=self.source_language,
                    limit=limit,
                    encode=encode,
                    normalize=self.tokenizer.normalize,
                )
            # Of some characters, as of a blank line, normalisation leaves nothing.
            parts.append([part for part in own if len(part.pieces) > 1 and part.text.strip()])
        return parts

    def _read(self, found: Sequence[Sequence[Hypothesis]]) -> list[list[Candidate]]:
        """The same hypotheses in writing."""
        texts = iter(self.tokenizer.decode_target([each.pieces for own in found for each in own]))
        return [
            [
                Candidate(
                    text=_LINE_BREAKS.sub(" ", next(texts)),
                    score=each.score,
                    log_probability=each.log_probability,
                    finished=each.finished,
                )
                for each in own
            ]
            or [_NOTHING]
            for own in found
        ]

    @contextmanager
    def _engine(self, config: DecodingConfig) -> Iterator[Engine]:
        """An engine of these settings that no other thread has."""
        with self._lock:
            place = next((n for n, idle in enumerate(self._idle) if idle.config == config), None)
            engine = None if place is None else self._idle.pop(place)
        engine = engine or Engine(self.model, config, self.device, tokenizer=self.tokenizer)
        yield engine
        with self._lock:
            self._idle = [*self._idle, engine][-self._kept_engines :] if self._kept_engines else []


def _translation(
    line: str, parts: Sequence[Part], candidates: Sequence[Sequence[Candidate]], n_best: int
) -> Translation:
    """The translation of a line, with the white space around it."""
    before = line[: len(line) - len(line.lstrip())]
    after = line[len(line.rstrip()) :] if len(before) < len(line) else ""
    before, after = _LINE_BREAKS.sub(" ", before), _LINE_BREAKS.sub(" ", after)
    best, *others = (
        replace(each, text=before + each.text + after)
        for each in combine([part.text for part in parts], candidates, n_best)
    )
    return Translation(
        text=best.text,
        score=best.score,
        log_probability=best.log_probability,
        finished=best.finished,
        alternatives=tuple(others),
    )


def _in_lines(progress: Progress, lines: int, sources: int) -> Callable[[int], None]:
    """What tells `progress` about a window of so many lines when so many more of its sources are done."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        before, done = done, done + more
        progress.advance(lines * done // sources - lines * before // sources, more)

    return advance
