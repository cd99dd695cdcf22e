"""Clauses of the demo grammar: verb forms of a construction, and words in the order of sentences.yaml."""

from dataclasses import dataclass, field
from typing import Any

from nmt.data.demo.lexicon import Verb, german_form
from nmt.data.demo.phrases import NounPhrase, Word, Words


@dataclass(slots=True)
class Clause:
    """A clause before word order: the words of every place, in both languages.

    `label` is that of the verb, `label + 1` of a modal or other helper, `label + 2` of the negation.
    """

    verb: Verb
    construction: dict[str, Any]
    subject: NounPhrase
    label: int
    negated: bool = False
    # Question words and relative pronouns that are the subject do not invert English.
    asks_subject: bool = False
    # Says what does not change from day to day: no expression of time.
    lasting: bool = False
    object: NounPhrase | None = None
    english: dict[str, Words] = field(default_factory=dict)
    german: dict[str, Words] = field(default_factory=dict)


@dataclass(slots=True)
class WordOrder:
    """Puts the places of clauses in order: `part` is inflection.yaml, `orders` comes from sentences.yaml."""

    part: dict[str, Any]
    orders: dict[str, Any]

    def english(self, clause: Clause, order: str) -> Words:
        places = dict(clause.english)
        if order == "question" and clause.asks_subject:
            order = "statement"
        inverted = order == "question"
        places["auxiliary"], places["verb"] = self._english_verbs(clause, inverted=inverted)
        if clause.negated:
            places["negation"] = [Word("not", (clause.label + 2,))]
        if particle := clause.verb.english_particle:
            # turn on the lamp, but: turn it on
            behind = clause.object is not None and clause.object.pronoun and "object" in places
            places["particle" if behind else "verb"] = [
                *([] if behind else places["verb"]),
                Word(particle, (clause.label,)),
            ]
        return [word for place in self.orders["english"][order] for word in places.get(place, ())]

    def _english_verbs(self, clause: Clause, *, inverted: bool) -> tuple[Words, Words]:
        """The words before and after the place of "not" and of an inverted subject."""
        chain: list[str] = clause.construction["english"]
        tense: str = clause.construction.get("tense", "present")
        head, rest = chain[0], [self._english_element(clause, element) for element in chain[1:]]
        helper, own = (clause.label + 1,), (clause.label,)
        labels = own if head == "verb" else (*own, *helper) if head == "be" else helper
        name = clause.verb.english if head == "verb" else head
        person = clause.subject.person
        if clause.construction["german"] in ("none", "imperative"):
            # No agreement: base form, with "do" only in a negated imperative.
            front = [Word("do", own)] if clause.negated else []
            after = [self._english_element(clause, element) for element in chain]
        elif name in self.part["english_auxiliaries"]:
            front, after = [Word(self._finite_auxiliary(name, tense, person), labels)], rest
        elif inverted or clause.negated:
            front = [Word(self._finite_auxiliary("do", tense, person), labels)]
            after = [Word(name, labels), *rest]
        else:
            front, after = [], [Word(self._finite_verb(clause.verb, head, tense, person), labels), *rest]
        return front, after + [Word(word, own) for word in clause.verb.english_rest]

    def _english_element(self, clause: Clause, element: str) -> Word:
        if element == "verb":
            return Word(clause.verb.english, (clause.label,))
        if element == "verb ing":
            return Word(clause.verb.ing, (clause.label,))
        return Word(element, (clause.label + 1,))

    def _finite_auxiliary(self, name: str, tense: str, person: str) -> str:
        forms = self.part["english_auxiliaries"][name]
        if isinstance(forms, str):
            return forms
        found: str = forms[tense][_english_agreement(person)]
        return found

    def _finite_verb(self, verb: Verb, head: str, tense: str, person: str) -> str:
        third = _english_agreement(person) == "he"
        if head != "verb":
            forms: dict[str, str] = self.part["english_verbs"][head]
            return forms["past"] if tense == "past" else forms["he"] if third else head
        return verb.past if tense == "past" else verb.third if third else verb.english

    def german(self, clause: Clause, order: str) -> Words:
        places = dict(clause.german)
        final = order == "final"
        places["finite"], places["right"] = self._german_verbs(clause, final=final)
        if order == "second" and "front" not in places:
            places["front"] = places.pop("subject")
        elif order == "infinitive" or clause.construction["german"] == "imperative":
            places.pop("subject", None)
        names: list[str] = []
        for place in self.orders["german"][order]:
            names += self.orders["middle"] if place == "middle" else [place]
        return [word for place in names for word in places.get(place, ())]

    def _german_verbs(self, clause: Clause, *, final: bool) -> tuple[Words, Words]:
        """The finite verb and what stands at the end of the clause."""
        verb, kind, person = clause.verb, clause.construction["german"], clause.subject.person
        own, helper = (clause.label,), (clause.label + 1,)
        prefix = verb.prefix
        if kind == "perfect" and not verb.preterite:
            finite = german_form(self.part["german_auxiliaries"][verb.auxiliary]["present"], person)
            return [Word(finite, own)], [Word(verb.participle, own)]
        if kind in ("own", "perfect", "imperative"):
            forms = verb.preterite if kind == "perfect" else verb.present
            finite = verb.imperative if kind == "imperative" else german_form(forms, person)
            if final:
                return [Word(prefix + finite, own)], []
            return [Word(finite, own)], [Word(prefix, own)] if prefix else []
        if clause.construction["right"] == "zu":
            if prefix:
                return [], [Word(f"{prefix}zu{verb.infinitive}", (*own, *helper))]
            return [], [Word("zu", helper), Word(verb.infinitive, own)]
        right = [Word(prefix + verb.infinitive, own)]
        if kind == "none":
            return [], right
        tense: str = clause.construction.get("tense", "present")
        return [Word(german_form(self.part["german_auxiliaries"][kind][tense], person), helper)], right


def _english_agreement(person: str) -> str:
    return "he" if person in ("he", "she", "it") else "I" if person == "I" else "you"
