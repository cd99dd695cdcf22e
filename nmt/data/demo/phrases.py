"""Noun phrases, fixed expressions and finished sentences of the demo grammar, in both languages at once.

Every word carries labels; words of the two languages that share a label translate each other. That is the
whole word alignment: nothing else has to be kept.
"""

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from nmt.data.demo.lexicon import PLURAL, Adjective, Noun

_CASES = ("nominative", "accusative", "dative")
_SLOT = re.compile(r"^(.*)\{(\w+)\}(.*)$")


class Word(NamedTuple):
    """A word of a sentence and the labels of what it translates."""

    text: str
    labels: tuple[int, ...] = ()


Words = list[Word]


class DemoPair(NamedTuple):
    """A sentence in both languages; alignment holds (source word, target word), words counted from 0."""

    source: str
    target: str
    alignment: list[tuple[int, int]]


@dataclass(slots=True)
class NounPhrase:
    """What a noun phrase says, before case: `column` is the German gender, or PLURAL.

    Exactly one of these: `parts` (coordination), `fixed` (a name: English, German nominative, German other
    cases), `pronoun`, or a noun with determiner and adjectives. A pronoun keeps the noun it stands for.
    """

    person: str
    column: int
    label: int
    human: bool = True
    noun: Noun | None = None
    pronoun: bool = False
    fixed: tuple[str, str, str] | None = None
    parts: tuple["NounPhrase", ...] = ()
    determiner: str = ""
    number: tuple[str, str] = ("", "")
    owner: "str | NounPhrase" = ""
    adjectives: tuple[Adjective, ...] = ()
    relative: tuple[Words, Words] | None = None

    @property
    def plural(self) -> bool:
        return self.column == PLURAL

    @property
    def indefinite(self) -> bool:
        """Whether it stands late in the German middle field and is negated with "kein"."""
        return self.determiner in ("indefinite", "bare", "number")


@dataclass(slots=True)
class Tables:
    """inflection.yaml with the functions that read it."""

    part: dict[str, Any]
    labels: "count[int]" = field(default_factory=count)

    def pronoun(self, phrase: NounPhrase, case: str) -> str:
        keys = {"I": "ich", "you": "du", "we": "wir", "they": "they"}
        key = keys.get(phrase.person) or ("er", "sie", "es")[phrase.column]
        forms: list[str] = self.part["german_pronouns"][key]
        return forms[_CASES.index(case)]

    def article(self, kind: str, case: str, column: int) -> str:
        forms: list[str] = self.part["articles"][kind][case]
        return forms[column]

    def ein_word(self, stem: str, case: str, column: int) -> str:
        ending: str = self.part["ein_word"][case][column]
        return stem + ending

    def adjective(self, adjective: Adjective, declension: str, case: str, column: int) -> str:
        ending: str = self.part["adjective_endings"][declension][case][column]
        return adjective.stem + ending

    def english(self, phrase: NounPhrase, *, subject: bool) -> Words:
        """The phrase in English, with the relative clause."""
        label = phrase.label
        if phrase.parts:
            first, second = (self.english(part, subject=subject) for part in phrase.parts)
            return [*first, Word("and", (label,)), *second]
        if phrase.fixed:
            return _spread(phrase.fixed[0], label)
        if phrase.pronoun:
            return [Word(self.part["english_pronouns"][phrase.person][0 if subject else 1], (label,))]
        assert phrase.noun is not None
        words = self._english_determiner(phrase)
        words += [
            Word(word, (label + 2 + i,)) for i, a in enumerate(phrase.adjectives) for word in a.key.split()
        ]
        words += [Word(word, (label,)) for word in phrase.noun.english(phrase.plural).split()]
        return words + phrase.relative[0] if phrase.relative else words

    def _english_determiner(self, phrase: NounPhrase) -> Words:
        label = (phrase.label + 1,)
        match phrase.determiner:
            case "definite":
                return [Word("the", label)]
            case "demonstrative":
                return [Word("these" if phrase.plural else "this", label)]
            case "indefinite":
                return [Word("a", label)]
            case "number":
                return [Word(phrase.number[0], label)]
            case "which":
                return [Word("which", label)]
            case "how_many":
                return [Word("how", label), Word("many", label)]
            case "possessive":
                return [Word(self.part["english_pronouns"][phrase.owner][2], label)]
            case "genitive":
                assert isinstance(phrase.owner, NounPhrase)
                owner = self.english(phrase.owner, subject=True)
                owner[-1] = Word(owner[-1].text + "'s", owner[-1].labels)
                return owner
        return []

    def german(self, phrase: NounPhrase, case: str, *, negation: int | None = None) -> Words:
        """The phrase in German, without the relative clause; with `negation`, a label, it has "kein"."""
        label = phrase.label
        if phrase.parts:
            first, second = (self.german(part, case) for part in phrase.parts)
            return [*first, Word("und", (label,)), *second]
        if phrase.fixed:
            return _spread(phrase.fixed[1 if case == "nominative" else 2], label)
        if phrase.pronoun:
            return [Word(self.pronoun(phrase, case), (label,))]
        assert phrase.noun is not None
        words, declension = self._german_determiner(phrase, case, negation)
        for i, adjective in enumerate(phrase.adjectives):
            words.append(Word(self.adjective(adjective, declension, case, phrase.column), (label + 2 + i,)))
        words.append(Word(phrase.noun.german(case, phrase.plural), (label,)))
        if (
            phrase.determiner == "genitive"
            and isinstance(phrase.owner, NounPhrase)
            and not phrase.owner.fixed
        ):
            words += self.german(phrase.owner, "genitive")
        return words

    def _german_determiner(self, phrase: NounPhrase, case: str, negation: int | None) -> tuple[Words, str]:
        """The determiner and the declension of the adjectives after it."""
        column = phrase.column
        label = (phrase.label + 1,)
        kind = phrase.determiner
        if negation is not None:
            labels = (negation,) if kind == "bare" else (*label, negation)
            return [Word(self.ein_word("kein", case, column), labels)], "mixed"
        match kind:
            case "definite" | "demonstrative" | "which":
                return [Word(self.article(kind, case, column), label)], "weak"
            case "indefinite":
                return [Word(self.ein_word("ein", case, column), label)], "mixed"
            case "possessive":
                stem = self.part["german_possessives"][phrase.owner]
                return [Word(self.ein_word(stem, case, column), label)], "mixed"
            case "number":
                return [Word(phrase.number[1], label)], "strong"
            case "how_many":
                return [Word("wie", label), Word("viele", label)], "strong"
            case "genitive":
                assert isinstance(phrase.owner, NounPhrase)
                if phrase.owner.fixed:
                    return [Word(phrase.owner.fixed[1] + "s", (phrase.owner.label,))], "strong"
                return [Word(self.article("definite", case, column), (phrase.label,))], "weak"
        return [], "strong"

    def finish(self, words: Words, language: str) -> tuple[str, list[tuple[int, ...]]]:
        """Contract, choose a or an, attach punctuation, capitalise: the sentence and its words' labels."""
        contractions: dict[str, str] = self.part["contractions"][language]
        texts: list[str] = []
        labels: list[tuple[int, ...]] = []
        for word in words:
            if word.text in ".?!,":
                # A clause that ends the sentence brings a comma of its own, and two clauses may meet.
                texts[-1] = texts[-1].rstrip(",") + word.text
                continue
            if texts and (melted := contractions.get(f"{texts[-1]} {word.text}")):
                texts[-1], labels[-1] = melted, labels[-1] + word.labels
                continue
            if texts and texts[-1] == "a" and language == "english" and self._takes_an(word.text):
                texts[-1] = "an"
            texts.append(word.text)
            labels.append(word.labels)
        texts[0] = texts[0][0].upper() + texts[0][1:]
        return " ".join(texts), labels

    def _takes_an(self, word: str) -> bool:
        if word in self.part["a_before"]:
            return False
        return word[0] in "aeiouAEIOU" or word in self.part["an_before"]

    def pair(self, english: Words, german: Words) -> DemoPair:
        source, source_labels = self.finish(english, "english")
        target, target_labels = self.finish(german, "german")
        places: dict[int, list[int]] = {}
        for j, labels in enumerate(target_labels):
            for label in labels:
                places.setdefault(label, []).append(j)
        links = {
            (i, j)
            for i, labels in enumerate(source_labels)
            for label in labels
            for j in places.get(label, ())
        }
        return DemoPair(source, target, sorted(links))


def _spread(text: str, label: int) -> Words:
    """Words of a fixed expression of equal length in both languages, translating each other one by one."""
    return [Word(word, (label + i,)) for i, word in enumerate(text.split())]


@dataclass(slots=True, eq=False)
class Pattern:
    """A pattern of phrases.yaml or sentences.yaml: (text before, slot, text after, labels) of each word."""

    items: list[tuple[str, str, str, tuple[str, ...]]]

    @classmethod
    def compile(cls, text: str) -> "Pattern":
        items = []
        # Blanks inside braces separate a clause from its word order, not words.
        for token in re.findall(r"(?:\{[^}]*\}|\S)+", text):
            body, _, marks = token.partition("^")
            slot = _SLOT.match(body) if " " not in body else None
            if slot:
                items.append((slot[1], slot[2], slot[3], tuple(marks.split("+")) if marks else (slot[2],)))
            else:
                items.append((body, "", "", tuple(marks.split("+")) if marks else ("",)))
        return cls(items)

    def words(self, chosen: dict[str, str], labels: dict[str, int]) -> Words:
        """Fill in the slots; `labels` gives each label of the pattern a number of this sentence."""
        words: Words = []
        for before, slot, after, marks in self.items:
            numbers = tuple(labels[mark] for mark in marks)
            if slot:
                texts = chosen[slot].split()
                words += [Word(text, numbers) for text in (*texts[:-1], before + texts[-1] + after)]
            else:
                words.append(Word(before, numbers))
        return words
