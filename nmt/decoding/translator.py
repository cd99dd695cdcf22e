"""Text in, text out: the only place where text meets search.

As many texts come out as go in, in their order, each without a line break and none of them cut off.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Unpack

import torch

from nmt.data.tokenizer import Tokenizer
from nmt.decoding import ensemble
from nmt.decoding.alignment import aligned
from nmt.decoding.config import DecodingConfig, MbrUtility
from nmt.decoding.engine import Engine
from nmt.decoding.ensemble import TranslationModel
from nmt.decoding.extension import Hypothesis
from nmt.decoding.glossary import Glossary
from nmt.decoding.line_parts import LineParts
from nmt.decoding.mbr import by_agreement
from nmt.decoding.options import DecodingOptions
from nmt.decoding.progress import Counter, Progress
from nmt.decoding.sentences import Part
from nmt.decoding.translation import Candidate, Translation, combine
from nmt.decoding.windows import Window, windows
from nmt.model.device import choose_device

# All that some tool takes for the end of a line (those of `str.splitlines`); byte pieces can make them.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# Translations by source term, or what each text's translation has.
GivenTerms = Mapping[str, str] | Sequence[Sequence[str]]
# In place of a hypothesis where the search has found none.
_NOTHING = Candidate(text="", score=0.0, log_probability=0.0, finished=False)
# Engines kept for the next call, each with settings of its own.
_KEPT_ENGINES = 4


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
            threads: CPU threads, for all of PyTorch in this process; None leaves them.
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
        self,
        texts: str | Sequence[str],
        *,
        prefixes: Sequence[str] = (),
        terms: GivenTerms = (),
        progress: bool = False,
        **decoding: Unpack[DecodingOptions],
    ) -> list[str]:
        """The translation of each text, in order.

        A text longer than the model can read is divided into sentences. White space around a text stays
        around its translation, and a blank text stays as it is; line breaks become spaces.

        Args:
            texts: any number of any texts; a single string is one text.
            prefixes: with what each translation begins, as many as texts; an empty one asks for nothing.
            terms: translations by source term, which every text with the term has in its translation
                (see `Glossary`), or for each text a list of what its translation has.
            progress: show on standard error how far it is.
            decoding: settings of the search for this call.

        Raises:
            TypeError, ValueError: no such setting, or an impossible value.
            ConstraintError: a prefix or term is impossible; texts are named as lines, from 1.
        """
        found = self.translate_in_detail(texts, prefixes=prefixes, terms=terms, progress=progress, **decoding)
        return [each.text for each in found]

    def translate_in_detail(
        self,
        texts: str | Sequence[str],
        *,
        n_best: int = 1,
        alignment: bool = False,
        prefixes: Sequence[str] = (),
        terms: GivenTerms = (),
        progress: bool = False,
        **decoding: Unpack[DecodingOptions],
    ) -> list[Translation]:
        """The same with scores, with up to `n_best - 1` alternatives, and with word alignments if asked for.

        Raises:
            TypeError, ValueError: no such setting, or an impossible value, as of `n_best` over the beam size.
            ConstraintError: as in `translate`.
        """
        texts = [texts] if isinstance(texts, str) else texts
        # The constructor takes names of choices for the choices.
        config = replace(self.config, **decoding)  # type: ignore[arg-type]
        if not 1 <= n_best <= config.beam_size:
            raise ValueError(f"n_best must be between 1 and the beam size, {config.beam_size}, not {n_best}")
        glossary = Glossary(terms) if isinstance(terms, Mapping) else None
        own_terms = () if isinstance(terms, Mapping) else terms
        asked = _windows(texts, prefixes, own_terms)
        with self._engine(config) as engine, Progress(len(texts), shown=progress) as shown:
            return [
                translation
                for window in asked
                for translation in self._translate_window(
                    engine, window, n_best, glossary, alignment, shown, in_threads=True
                )
            ]

    def translate_window(
        self,
        window: Window,
        *,
        n_best: int = 1,
        glossary: Glossary | None = None,
        alignment: bool = False,
        counter: Counter,
    ) -> list[Translation]:
        """The same for lines of a long text, searched together whatever the number of threads: a job that is
        done by other workers, or goes on with others, searches the same batches."""
        with self._engine(self.config) as engine:
            return self._translate_window(engine, window, n_best, glossary, alignment, counter)

    @property
    def dtype(self) -> torch.dtype:
        """The type that the search computes in."""
        with self._engine(self.config) as engine:
            return engine.model.dtype

    def _translate_window(
        self,
        engine: Engine,
        window: Window,
        n_best: int,
        glossary: Glossary | None,
        alignment: bool,
        counter: Counter,
        *,
        in_threads: bool = False,
    ) -> list[Translation]:
        limit = engine.longest_source
        divider = LineParts(self.tokenizer, self.source_language, limit, engine.check, glossary)
        lines = list(divider.of(window))
        asked = [each for own in lines for each in own]
        found = engine.search(
            [each.part.pieces for each in asked],
            prefixes=[each.prefix for each in asked],
            terms=[each.terms for each in asked],
            advance=_in_lines(counter, len(lines), len(asked)),
            in_threads=in_threads,
        )
        read = self._read(found, n_best if engine.config.mbr is MbrUtility.none else None)
        if engine.config.mbr is not MbrUtility.none:
            sampled = engine.config.temperature > 0
            read = [by_agreement(own, engine.config.mbr, sampled=sampled)[:n_best] for own in read]
        if alignment:
            read = aligned(self.model, self.tokenizer, [each.part.text.strip() for each in asked], read)
        candidates = iter(read)
        counter.advance(len(lines) if not asked else 0, 0)
        return [
            _translation(line, [each.part for each in own], [next(candidates) for _ in own], n_best)
            for line, own in zip(window.lines, lines, strict=True)
        ]

    def _read(self, found: Sequence[Sequence[Hypothesis]], count: int | None) -> list[list[Candidate]]:
        """The first hypotheses of each sentence in writing, all when no count is given."""
        found = [own[:count] for own in found]
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
        replace(each, text=before + each.text + after) for each in combine(parts, candidates, n_best)
    )
    return Translation(
        text=best.text,
        score=best.score,
        log_probability=best.log_probability,
        finished=best.finished,
        alignment=best.alignment,
        alternatives=tuple(others),
    )


def _windows(
    texts: Sequence[str], prefixes: Sequence[str], terms: Sequence[Sequence[str]]
) -> Iterator[Window]:
    """
    Raises:
        ValueError: not as many prefixes or terms as texts.
    """
    for name, given in (("prefixes", prefixes), ("lists of terms", terms)):
        if given and len(given) != len(texts):
            raise ValueError(f"there are {len(texts)} texts and {len(given)} {name}")
    start = 0
    for lines in windows(texts):
        end = start + len(lines)
        yield Window(lines, start + 1, prefixes[start:end], terms[start:end])
        start = end


def _in_lines(counter: Counter, lines: int, sources: int) -> Callable[[int], None]:
    """What tells `counter` about a window of so many lines when so many more of its sources are done."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        before, done = done, done + more
        counter.advance(lines * done // sources - lines * before // sources, more)

    return advance
