"""Fills the places of a clause of the demo grammar: objects, places, times, question words, negation."""

from random import Random
from typing import Any

from nmt.data.demo.clauses import Clause
from nmt.data.demo.lexicon import PLURAL
from nmt.data.demo.nouns import NounPhrases, Options, UnfitError
from nmt.data.demo.phrases import NounPhrase, Tables, Word
from nmt.data.demo.predicates import Predicates, require_distinct


class Companions:
    """Fills clauses; `roles` are the companions of each verb."""

    def __init__(
        self,
        nouns: NounPhrases,
        tables: Tables,
        roles: dict[str, dict[str, Options]],
        questions: dict[str, Any],
        frequencies: list[dict[str, Any]],
    ) -> None:
        self.nouns = nouns
        self.tables = tables
        self.roles = roles
        self.questions = questions
        self.frequencies = frequencies
        self.phrases = nouns.phrases
        self.predicates = Predicates(nouns, tables, roles)

    def fill(
        self, clause: Clause, spec: dict[str, Any], others: dict[str, Clause], question: str, rng: Random
    ) -> None:
        """Draw everything but verb and subject."""
        asked = self.questions.get(question, {})
        role = asked.get("role", "")
        self._require(clause, question, role)
        verb, options = clause.verb, self.roles[clause.verb.key]
        self._subject(clause)
        if "recipient" in options:
            recipient = self.nouns.draw(options["recipient"], "object", rng, owner=clause.subject.person)
            require_distinct(clause.subject, recipient)
            self._put(clause, "recipient", recipient, "dative")
        if "object" in options:
            if question == "relative_object":
                pass
            elif asked.get("role") == "object" and "english" in asked:
                self._ask(clause, asked["english"], asked["german"][verb.case])
            else:
                self._object(clause, spec, others, asked, rng)
        if verb.predicate or verb.measure:
            self.predicates.fill(clause, spec, rng)
        # "liest das Buch nicht im Garten" would deny the place instead of the reading.
        free = not (clause.negated and "object" in options)
        for place in ("direction", "place"):
            needed = place in verb.needs
            if (
                place in options
                and role != place
                and (needed or (free and rng.random() < spec.get(place, 0)))
            ):
                self._place(clause, place, options[place], rng)
        if "with" in options and role != "with" and free and rng.random() < spec.get("with", 0):
            self._with(clause, options["with"], rng)
        if (
            verb.manner
            and not clause.negated
            and "adverb" not in clause.construction
            and rng.random() < spec.get("manner", 0)
        ):
            english, german = self.phrases["manner"][rng.choice(verb.manner)]
            label = self.nouns.new_label()
            clause.english["manner"] = [Word(word, (label,)) for word in english.split()]
            clause.german["manner"] = [Word(german, (label,))]
        self._times(clause, spec, role, rng)
        if role == "time" and (clause.lasting or (verb.stative and not verb.needs)):
            raise UnfitError
        if role not in ("", "subject", "object"):
            self._ask(clause, asked["english"], asked["german"])
        self._small_words(clause)

    def _require(self, clause: Clause, question: str, role: str) -> None:
        """UnfitError unless the question can be asked of the verb."""
        if question not in self.questions:
            return
        verb, options = clause.verb, self.roles[clause.verb.key]
        of = self.questions[question].get("of")
        fits = role in options or role in ("time", "reason")
        if role == "object" and fits:
            found = options["object"]
            fits = verb.preposition is None and bool(found.people if of == "human" else found.others)
            fits = fits and (of == "human" or verb.case == "accusative") and (of != "human" or found.names)
        if role == "place" and ("direction" in verb.needs or "direction" in options):
            fits = False
        if role == "with":
            fits = fits and bool(options["with"].people)
        if not fits:
            raise UnfitError

    def _ask(self, clause: Clause, english: str, german: str) -> None:
        label = self.nouns.new_label()
        english_words, german_words = english.split(), german.split()
        same = len(english_words) == len(german_words)
        for places, words in ((clause.english, english_words), (clause.german, german_words)):
            places["front"] = [Word(word, (label + i if same else label,)) for i, word in enumerate(words)]

    def _subject(self, clause: Clause) -> None:
        clause.english["subject"] = self.tables.english(clause.subject, subject=True)
        clause.german["subject"] = self.tables.german(clause.subject, "nominative")
        if clause.verb.reflexive:
            reflexive = self.tables.part["reflexives"][clause.subject.person]
            clause.german["reflexive"] = [Word(reflexive, (clause.label,))]
        if clause.verb.existential:
            clause.english["there"] = [Word("there", (clause.label,))]

    def _put(
        self, clause: Clause, place: str, phrase: NounPhrase, case: str, negation: int | None = None
    ) -> None:
        clause.english[place] = self.tables.english(phrase, subject=False)
        clause.german[place] = self.tables.german(phrase, case, negation=negation)

    def _object(
        self,
        clause: Clause,
        spec: dict[str, Any],
        others: dict[str, Clause],
        asked: dict[str, Any],
        rng: Random,
    ) -> None:
        verb = clause.verb
        phrase = self._drawn_object(clause, spec, others, asked, rng)
        clause.object = phrase
        if phrase.noun:
            self.nouns.combinations.add(("verb object", verb.key, phrase.noun.key))
        if spec.get("thing_object") and (phrase.human or phrase.noun is None):
            raise UnfitError
        if verb.preposition:
            english, german = verb.preposition
            label = self.nouns.new_label()
            clause.english["prepositional"] = [
                *([Word(english, (label,))] if english else []),
                *self.tables.english(phrase, subject=False),
            ]
            own = (label,) if english else (clause.label,)
            clause.german["prepositional"] = [Word(german, own), *self.tables.german(phrase, verb.case)]
            return
        kein = self._kein(clause)
        words = self.tables.german(phrase, verb.case, negation=clause.label + 2 if kein else None)
        if phrase.determiner in ("which", "how_many"):
            clause.english["front"], clause.german["front"] = (
                self.tables.english(phrase, subject=False),
                words,
            )
            return
        clause.english["object"] = self.tables.english(phrase, subject=False)
        clause.german[_german_place(phrase)] = words

    def _drawn_object(
        self,
        clause: Clause,
        spec: dict[str, Any],
        others: dict[str, Clause],
        asked: dict[str, Any],
        rng: Random,
    ) -> NounPhrase:
        verb, options = clause.verb, self.roles[clause.verb.key]["object"]
        if "object" in spec:
            main = others[spec["object"].split()[1]]
            if (
                main.object is None
                or main.object.noun not in options.others
                or clause.subject.person == main.object.person
            ):
                raise UnfitError
            return self.nouns.pronoun_for(main.object)
        if "determiner" in asked:
            noun = rng.choice(options.others)
            plural = asked["determiner"] == "how_many"
            if noun.mass or noun.human:
                raise UnfitError
            column = PLURAL if plural else noun.gender
            return NounPhrase(
                noun.person(plural),
                column,
                self.nouns.new_label(),
                False,
                noun,
                determiner=asked["determiner"],
            )
        phrase = self.nouns.draw(
            options, "object", rng, owner=clause.subject.person, determiners=verb.determiners
        )
        require_distinct(clause.subject, phrase)
        if clause.negated and phrase.determiner == "number":
            raise UnfitError
        if (
            "recipient" in self.roles[verb.key]
            and phrase.determiner == "bare"
            and not (phrase.noun and phrase.noun.mass)
        ):
            # "gives her books" could be her own books.
            raise UnfitError
        return phrase

    def _kein(self, clause: Clause) -> bool:
        """Whether the object carries the negation."""
        phrase = clause.object
        return (
            clause.negated
            and phrase is not None
            and phrase.noun is not None
            and phrase.noun.kein
            and phrase.determiner in ("indefinite", "bare")
            and clause.verb.preposition is None
            and clause.construction.get("adverb") != "gern"
        )

    def _place(self, clause: Clause, place: str, options: Options, rng: Random) -> None:
        nouns, lists = options.others, options.lists
        # A whole list weighs as much as two nouns: fixed places are common.
        index = rng.randrange(len(nouns) + 3 * len(lists))
        where = "to" if place == "direction" else "at"
        if index >= len(nouns):
            entries = self.phrases["places"][lists[(index - len(nouns)) // 3]][where]
            clause.english[place], clause.german[place] = self.nouns.expression(entries, rng)
            return
        noun = nouns[index]
        pair = noun.to if where == "to" else noun.at
        if pair is None:
            raise UnfitError
        furniture = noun.key in self.nouns.members["furniture"]
        english, german = rng.choice(self.phrases["positions"]) if furniture and rng.random() < 0.4 else pair
        phrase = self.nouns.with_determiner(noun, "place", rng)
        label = self.nouns.new_label()
        case = "dative" if where == "at" or german == "zu" else "accusative"
        clause.english[place] = [Word(word, (label,)) for word in english.split()] + self.tables.english(
            phrase, subject=False
        )
        clause.german[place] = [Word(german, (label,)), *self.tables.german(phrase, case)]

    def _with(self, clause: Clause, options: Options, rng: Random) -> None:
        if options.lists and rng.random() < 0.6:
            entries = self.phrases["places"][options.lists[0]]["with"]
            clause.english["with"], clause.german["with"] = self.nouns.expression(entries, rng)
            return
        phrase = self.nouns.draw(options, "companion", rng, owner=clause.subject.person)
        require_distinct(clause.subject, phrase)
        label = self.nouns.new_label()
        clause.english["with"] = [Word("with", (label,)), *self.tables.english(phrase, subject=False)]
        clause.german["with"] = [Word("mit", (label,)), *self.tables.german(phrase, "dative")]

    def _times(self, clause: Clause, spec: dict[str, Any], role: str, rng: Random) -> None:
        kind = clause.construction["time"]
        if (
            kind in ("now", "none")
            or role == "time"
            or (clause.verb.stative and kind != "past")
            or clause.lasting
        ):
            return
        # "does not read every day" would deny the "every day".
        denied = clause.negated and kind == "present"
        verb_alone = kind == "present" and clause.construction["english"] == ["verb"]
        counted = clause.object is not None and clause.object.determiner == "number"
        if verb_alone and not clause.negated and not counted and rng.random() < spec.get("frequency", 0):
            words = self.nouns.expression(self.frequencies, rng)
            clause.english["frequency"], clause.german["frequency"] = words
        elif rng.random() < spec.get("time", 0):
            entries = self.phrases["times"]["any" if denied or rng.random() < 0.3 else kind]
            place = (
                "front" if "front" not in clause.english and rng.random() < spec.get("front", 0) else "time"
            )
            words = self.nouns.expression(entries, rng)
            clause.english[place], clause.german[place] = words

    def _small_words(self, clause: Clause) -> None:
        """nicht, gern and gerade; the place in front of "there is"."""
        adverb = clause.construction.get("adverb", "")
        if adverb:
            clause.german["adverb_gladly" if adverb == "gern" else "adverb_now"] = [
                Word(adverb, (clause.label + 1,))
            ]
        profession = "predicate" in clause.german and clause.german["predicate"][0].text.startswith("kein")
        if clause.negated and not self._kein(clause) and not profession:
            clause.german["negation"] = [Word("nicht", (clause.label + 2,))]
        if clause.verb.existential:
            clause.german["front"] = clause.german.pop("place")


def _german_place(phrase: NounPhrase) -> str:
    """Where an object stands in the German middle field: the more is known of it, the earlier."""
    if phrase.noun is None or phrase.pronoun:
        return "pronoun_object" if phrase.pronoun else "name_object"
    return "indefinite_object" if phrase.indefinite else "definite_object"
