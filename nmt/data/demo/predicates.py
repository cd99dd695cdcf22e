"""Predicates of the demo grammar: adjectives, professions, comparisons, prices and ages."""

from random import Random
from typing import Any

from nmt.data.demo.clauses import Clause
from nmt.data.demo.nouns import NounPhrases, Options, UnfitError
from nmt.data.demo.phrases import NounPhrase, Tables, Word, Words


def require_distinct(subject: NounPhrase, other: NounPhrase) -> None:
    """UnfitError for what would need a reflexive or makes no sense: I see me, Anna sees Anna, we visit me.

    Nor is "he" an object beside a male subject: whom it means could not be known.
    """
    persons = {subject.person, other.person}
    alike = subject.person == other.person and (subject.pronoun or subject.person in ("he", "she", "they"))
    overlap = other.pronoun and (alike or persons == {"I", "we"})
    same_name = subject.fixed is not None and subject.fixed == other.fixed
    same_noun = subject.noun is not None and subject.noun is other.noun
    if overlap or same_name or same_noun:
        raise UnfitError


class Predicates:
    """Fills the predicate of a clause."""

    def __init__(self, nouns: NounPhrases, tables: Tables, roles: dict[str, dict[str, Options]]) -> None:
        self.nouns = nouns
        self.tables = tables
        self.roles = roles
        self.phrases = nouns.phrases

    def fill(self, clause: Clause, spec: dict[str, Any], rng: Random) -> None:
        subject, verb = clause.subject, clause.verb
        if subject.indefinite and not subject.pronoun:
            raise UnfitError
        clause.lasting = True
        if verb.measure:
            english, german = self.nouns.expression(self.phrases["measures"][verb.measure], rng)
        elif spec.get("comparative"):
            english, german = self._comparison(clause, rng)
        elif self._can_have_profession(subject) and rng.random() < 0.35:
            english, german = self._profession(clause, rng)
        else:
            fitting = self.nouns.adjectives[subject.noun.key] if subject.noun else self.nouns.personal
            if not fitting:
                raise UnfitError
            adjective = rng.choice(fitting)
            # Neither "the old man is old" nor "the old man is young".
            if adjective.rank in (a.rank for a in subject.adjectives):
                raise UnfitError
            clause.lasting = adjective.rank != 4
            if subject.noun:
                self.nouns.combinations.add(("adjective noun", adjective.key, subject.noun.key))
            label = self.nouns.new_label()
            english, german = [Word(adjective.key, (label,))], [Word(adjective.german, (label,))]
        clause.english["predicate"], clause.german["predicate"] = english, german

    @staticmethod
    def _can_have_profession(subject: NounPhrase) -> bool:
        return subject.person in ("he", "she") and (subject.noun is None or subject.noun.family)

    def _profession(self, clause: Clause, rng: Random) -> tuple[Words, Words]:
        """a teacher: Lehrer or Lehrerin, without article but with "kein"."""
        noun = self.nouns.nouns[rng.choice(sorted(self.nouns.members["profession"]))]
        label = self.nouns.new_label()
        woman = clause.subject.person == "she"
        english = [Word("a", (label,)), *(Word(word, (label,)) for word in noun.key.split())]
        german = [Word(noun.feminine if woman else noun.singular, (label,))]
        if clause.negated:
            german.insert(0, Word("keine" if woman else "kein", (clause.label + 2,)))
        return english, german

    def _comparison(self, clause: Clause, rng: Random) -> tuple[Words, Words]:
        subject = clause.subject
        options = self.roles[clause.verb.key]["subject"]
        if subject.noun and not subject.human:
            alike = [n for n in options.others if self._class_of(n.key) == self._class_of(subject.noun.key)]
            other = self.nouns.with_determiner(rng.choice(alike), "subject", rng, owner="")
        else:
            other = self.nouns.draw(Options(options.people, [], [], True), "subject", rng)
        require_distinct(subject, other)
        if other.pronoun or other.adjectives or other.indefinite:
            raise UnfitError
        known = [
            {a.key for a in (self.nouns.adjectives[p.noun.key] if p.noun else self.nouns.personal)}
            for p in (subject, other)
        ]
        every = self.nouns.adjectives[subject.noun.key] if subject.noun else self.nouns.personal
        fitting = [a for a in every if a.english_than and a.key in known[0] & known[1]]
        if not fitting:
            raise UnfitError
        adjective = rng.choice(fitting)
        label = self.nouns.new_label()
        english = [Word(word, (label,)) for word in adjective.english_than.split()]
        english += [Word("than", (label + 1,)), *self.tables.english(other, subject=True)]
        german = [Word(adjective.german_than, (label,)), Word("als", (label + 1,))]
        return english, german + self.tables.german(other, "nominative")

    def _class_of(self, key: str) -> str:
        return next(name for name, keys in self.nouns.members.items() if key in keys)
