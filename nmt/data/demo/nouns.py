"""Draws noun phrases and fixed expressions of the demo grammar."""

from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Generic, TypeVar

from nmt.data.demo.lexicon import PLURAL, Adjective, Noun, make_adjective, make_nouns
from nmt.data.demo.phrases import NounPhrase, Pattern, Words

T = TypeVar("T")
# Groups of nouns that names and personal pronouns can stand for.
_PEOPLE = ("human", "human_adult")
_SINGLES = ("I", "you", "he", "she", "we", "they")
_COLUMN = {"I": 0, "you": 0, "he": 0, "she": 1, "we": PLURAL, "they": PLURAL}


class UnfitError(Exception):
    """What was drawn does not go together; the sentence is drawn again."""


class Choice(Generic[T]):
    """A weighted draw."""

    def __init__(self, weights: dict[T, float]) -> None:
        self.items = list(weights)
        self.sums = list(accumulate(weights.values()))

    def draw(self, rng: Random) -> T:
        return rng.choices(self.items, cum_weights=self.sums)[0]


@dataclass(slots=True)
class Options:
    """What can fill a companion of a verb: people, other nouns, lists of fixed expressions."""

    people: list[Noun]
    others: list[Noun]
    lists: list[str]
    names: bool


class NounPhrases:
    """Draws noun phrases; `labels` are those of the sentence in the making."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.nouns, self.members = make_nouns(parts["nouns"])
        self.phrases = parts["phrases"]
        self.settings = {
            role: {**entry, "human": Choice(entry["human"]), "determiner": Choice(entry["determiner"])}
            for role, entry in parts["sentences"]["noun_phrases"].items()
        }
        self.determiners: dict[str, Choice[str]] = {}
        for entry in reversed(parts["sentences"]["noun_determiners"]):
            self.determiners.update(dict.fromkeys(self._all(entry["of"]), Choice(entry["weights"])))
        self.object_determiners = {
            name: Choice(weights) for name, weights in parts["sentences"]["object_determiners"].items()
        }
        self.adjectives: dict[str, list[Adjective]] = {key: [] for key in self.nouns}
        for key, entry in parts["adjectives"]["adjectives"].items():
            adjective = make_adjective(key, entry)
            for noun in self._all(entry["of"]):
                self.adjectives[noun].append(adjective)
        # Of a person of whom no more is known than the name.
        self.personal = [a for a in self.adjectives["mother"] if a in self.adjectives["teacher"]]
        self.lists = _lists(self.phrases)
        self.expressions: dict[int, Choice[tuple[Pattern, Pattern]]] = {}
        self.label = 0
        self.combinations: set[tuple[str, str, str]] = set()

    def start(self) -> None:
        self.label = 0
        self.combinations = set()

    def new_label(self) -> int:
        self.label += 8
        return self.label

    def _all(self, names: list[str]) -> list[str]:
        """The nouns of several classes, sorted: the order must not depend on hashes."""
        return sorted(frozenset[str]().union(*(self.members[name] for name in names)))

    def options(self, names: list[str]) -> Options:
        """The nouns and lists of a companion as it stands in verbs.yaml."""
        lists = [name for name in names if name in self.phrases["places"]]
        nouns = [self.nouns[key] for key in self._all([name for name in names if name not in lists])]
        people = [noun for noun in nouns if noun.human]
        return Options(
            people, [n for n in nouns if not n.human], lists, any(name in _PEOPLE for name in names)
        )

    def expression(self, entries: list[dict[str, Any]], rng: Random) -> tuple[Words, Words]:
        """Draw one of the fixed expressions of a list in phrases.yaml."""
        choice = self.expressions.get(id(entries))
        if choice is None:
            patterns = {(Pattern.compile(e["en"]), Pattern.compile(e["de"])): e["weight"] for e in entries}
            choice = self.expressions[id(entries)] = Choice(patterns)
        english, german = choice.draw(rng)
        chosen: dict[str, tuple[str, str]] = {}
        labels: dict[str, int] = {}
        for pattern in (english, german):
            for _, slot, _, marks in pattern.items:
                if slot and slot not in chosen:
                    chosen[slot] = rng.choice(self.lists[slot])
                for mark in marks:
                    if mark not in labels:
                        labels[mark] = self.new_label()
        sides = ({slot: pair[side] for slot, pair in chosen.items()} for side in (0, 1))
        return english.words(next(sides), labels), german.words(next(sides), labels)

    def fixed_pronoun(self, person: str) -> NounPhrase:
        return NounPhrase(person, _COLUMN[person], self.new_label(), pronoun=True)

    def pronoun_for(self, phrase: NounPhrase) -> NounPhrase:
        """The pronoun that takes up a phrase; UnfitError where the two languages would not agree on one."""
        if phrase.noun and not phrase.noun.pronoun and not phrase.plural:
            raise UnfitError
        return NounPhrase(
            phrase.person,
            phrase.column,
            self.new_label(),
            phrase.human,
            phrase.noun,
            pronoun=True,
            adjectives=phrase.adjectives,
        )

    def draw(
        self, options: Options, role: str, rng: Random, *, owner: str = "", determiners: str = ""
    ) -> NounPhrase:
        """A phrase for a companion; `owner` is the person of the subject, likely for possessives."""
        settings = self.settings[role]
        human = bool(options.people) and (not options.others or rng.random() < 0.7)
        if human and options.names:
            match settings["human"].draw(rng):
                case "name":
                    return self.name(rng)
                case "pronoun":
                    return self.fixed_pronoun(rng.choice(_SINGLES))
                case "title":
                    return self.title(rng)
                case "couple":
                    first, second = self.name(rng), self.name(rng)
                    if first.fixed == second.fixed:
                        raise UnfitError
                    return NounPhrase("they", PLURAL, self.new_label(), parts=(first, second))
        if not (options.people if human else options.others):
            raise UnfitError
        noun = rng.choice(options.people if human else options.others)
        return self.with_determiner(noun, role, rng, owner=owner, determiners=determiners)

    def name(self, rng: Random) -> NounPhrase:
        person = rng.choice(("he", "she"))
        name = rng.choice(self.phrases["names"][person])
        return NounPhrase(person, _COLUMN[person], self.new_label(), fixed=(name, name, name))

    def title(self, rng: Random) -> NounPhrase:
        surname = rng.choice(self.phrases["surnames"])
        if rng.random() < 0.5:
            fixed = (f"Mr. {surname}", f"Herr {surname}", f"Herrn {surname}")
            return NounPhrase("he", 0, self.new_label(), fixed=fixed)
        return NounPhrase(
            "she", 1, self.new_label(), fixed=(f"Mrs. {surname}", f"Frau {surname}", f"Frau {surname}")
        )

    def with_determiner(
        self, noun: Noun, role: str, rng: Random, *, owner: str = "", determiners: str = ""
    ) -> NounPhrase:
        settings = self.settings[role]
        choice = settings["determiner"]
        if role in ("subject", "object", "companion"):
            choice = self.object_determiners.get(determiners) or self.determiners.get(noun.key, choice)
        kind = choice.draw(rng)
        plural = rng.random() < settings["plural"] or kind in ("number", "bare")
        if kind == "indefinite" or determiners == "the" or noun.mass or noun.single:
            plural = False
        plural = plural or noun.plural_only
        if kind in ("indefinite", "number", "bare"):
            kind = "bare" if noun.mass or noun.plural_only else "indefinite" if noun.single else kind
        phrase = NounPhrase(
            noun.person(plural),
            PLURAL if plural else noun.gender,
            self.new_label(),
            noun.human,
            noun,
            determiner=kind,
        )
        if kind == "number":
            phrase.number = rng.choice(self.lists["few"])
        elif kind == "possessive":
            likely = owner in _SINGLES and rng.random() < 0.6
            phrase.owner = owner if likely else rng.choice(_SINGLES)
        elif kind == "genitive":
            phrase.owner = self.name(rng) if rng.random() < 0.6 else self._owner(noun, rng)
        if rng.random() < settings["adjectives"]:
            self.describe(phrase, rng)
        return phrase

    def _owner(self, noun: Noun, rng: Random) -> NounPhrase:
        owner = self.nouns[rng.choice(sorted(self.members["profession"] | self.members["person"]))]
        if owner is noun:
            raise UnfitError
        return NounPhrase(
            owner.person(False), owner.gender, self.new_label(), noun=owner, determiner="definite"
        )

    def describe(self, phrase: NounPhrase, rng: Random) -> None:
        """Add one adjective, rarely two of different rank."""
        assert phrase.noun is not None
        fitting = self.adjectives[phrase.noun.key]
        if fitting:
            drawn = rng.sample(fitting, 2 if len(fitting) > 1 and rng.random() < 0.15 else 1)
            if len({a.rank for a in drawn}) < len(drawn):
                drawn = drawn[:1]
            phrase.adjectives = tuple(sorted(drawn, key=lambda a: a.rank))
            for adjective in drawn:
                self.combinations.add(("adjective noun", adjective.key, phrase.noun.key))


def _lists(phrases: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The lists that patterns draw from, with the numbers."""
    lists = {name: [(e[0], e[1]) for e in entries] for name, entries in phrases["lists"].items()}
    words = phrases["number_words"]
    numbers = list(zip(words["small"]["en"], words["small"]["de"], strict=True))
    for ten, zehn in zip(words["tens"]["en"], words["tens"]["de"], strict=True):
        numbers.append((ten, zehn))
        for one, eins in zip(words["units"]["en"], words["units"]["de"], strict=True):
            numbers.append((f"{ten}-{one}", f"{eins}und{zehn}"))
    lists["number"] = numbers
    lists["day"] = [(str(n), str(n)) for n in range(1, 29)]
    lists["year"] = [(str(n), str(n)) for n in range(1950, 2025)]
    return lists
