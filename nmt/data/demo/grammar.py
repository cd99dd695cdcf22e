"""The synchronous grammar of the demo corpus: draws sentences in English and German at once.

The grammar itself is data/demo_grammar/*.yaml, whose comments explain the format; this is its interpreter.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from nmt.data.demo.clauses import Clause, WordOrder
from nmt.data.demo.companions import Companions
from nmt.data.demo.lexicon import Verb, grammar_folder, make_verb, read_grammar
from nmt.data.demo.nouns import Choice, NounPhrases, Options, UnfitError
from nmt.data.demo.phrases import DemoPair, NounPhrase, Pattern, Tables, Word, Words

_ROLES = ("subject", "object", "recipient", "place", "direction", "with")
Combination = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """A drawn sentence pair, its kind, and the combinations of words that compositional tests hold out."""

    pair: DemoPair
    kind: str
    combinations: frozenset[Combination]


class DemoGrammar:
    """Draws sentence pairs. Not safe for threads: a sentence in the making is kept in the object."""

    def __init__(self, parts: dict[str, Any], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.nouns = NounPhrases(parts)
        self.tables = Tables(parts["inflection"])
        sentences = parts["sentences"]
        self.order = WordOrder(parts["inflection"], sentences["word_order"])
        self.constructions: dict[str, dict[str, Any]] = sentences["constructions"]
        self.tenses = {name: Choice(weights) for name, weights in sentences["tenses"].items()}
        self.questions = sentences["questions"]
        self.kinds = sentences["kinds"]
        self.kind_choice = Choice({name: kind["weight"] for name, kind in self.kinds.items()})
        self.patterns = {
            n: (Pattern.compile(k["en"]), Pattern.compile(k["de"])) for n, k in self.kinds.items()
        }
        self.phrases = parts["phrases"]
        self.verbs: dict[str, Verb] = {}
        self.roles: dict[str, dict[str, Options]] = {}
        for key, entry in parts["verbs"]["verbs"].items():
            self.verbs[key] = make_verb(key, entry)
            self.roles[key] = {role: self.nouns.options(entry[role]) for role in _ROLES if role in entry}
        self.companions = Companions(
            self.nouns, self.tables, self.roles, self.questions, self.phrases["frequency"]
        )
        self.pools: dict[tuple[Any, ...], Choice[str]] = {}

    @classmethod
    def load(cls, folder: Path | None = None) -> "DemoGrammar":
        """Read the grammar; its usual folder unless another is given."""
        return cls(*read_grammar(folder or grammar_folder()))

    def sample(self, rng: Random) -> Sample:
        """Draw a sentence pair."""
        while True:
            kind = self.kind_choice.draw(rng)
            self.nouns.start()
            try:
                clauses: dict[str, Clause] = {}
                for name, spec in self.kinds[kind]["clauses"].items():
                    clauses[name] = self._clause(spec, clauses, rng)
                pair = self._render(kind, clauses, rng)
            except UnfitError:
                continue
            return Sample(pair, kind, frozenset(self.nouns.combinations))

    def _render(self, kind: str, clauses: dict[str, Clause], rng: Random) -> DemoPair:
        labels: dict[str, int] = {}
        lists: dict[str, tuple[Words, Words]] = {}
        sides: tuple[Words, Words] = ([], [])
        for side, pattern in enumerate(self.patterns[kind]):
            for body, slot, _, marks in pattern.items:
                name, _, order = body.strip("{}").partition(" ")
                if slot:
                    if slot not in lists:
                        lists[slot] = self.nouns.expression(self.phrases[slot], rng)
                    sides[side].extend(lists[slot][side])
                elif order:
                    arrange = self.order.german if side else self.order.english
                    sides[side].extend(arrange(clauses[name], order))
                else:
                    numbers = tuple(labels.setdefault(m, self.nouns.new_label()) for m in marks if m)
                    sides[side].append(Word(body, numbers))
        return self.tables.pair(*sides)

    # Clauses

    def _clause(self, spec: dict[str, Any], others: dict[str, Clause], rng: Random) -> Clause:
        """Draw a clause by its settings in sentences.yaml; `others` are the sentence's clauses so far."""
        tense: str = spec["tense"]
        how, _, which = tense.partition(" ")
        if which:
            time = others[which].construction["time"]
            tense = f"{how}_{time if time == 'past' or (time == 'future' and how == 'with') else 'present'}"
        name = self.tenses[tense].draw(rng)
        construction = self.constructions[name]
        subject = self._given_subject(spec.get("subject", ""), spec, others, rng)
        often: list[str] = spec.get("often", [])
        verb = self.verbs[rng.choice(often) if often and rng.random() < 0.5 else self._pool(spec).draw(rng)]
        question = rng.choice(spec["question"]) if "question" in spec else ""
        if question == "who":
            subject = NounPhrase("he", 0, self.nouns.new_label(), fixed=("who", "wer", "wen"))
        if subject is None:
            role = "existential" if verb.existential else "subject"
            subject = self.nouns.draw(self.roles[verb.key]["subject"], role, rng)
        self._check(verb, construction, subject)
        if (verb.stative and spec.get("event")) or (verb.measure and "conjunction" in spec):
            raise UnfitError
        clause = Clause(verb, construction, subject, self.nouns.new_label())
        clause.negated = rng.random() < spec.get("negated", 0) and not construction.get("positive")
        clause.asks_subject = question == "who"
        self._fill(clause, spec, others, question, rng)
        if construction.get("right") == "infinitive":
            self.nouns.combinations.add(("construction verb", name, verb.key))
        if "conjunction" in spec:
            self.nouns.combinations.add(("conjunction verb", spec["conjunction"], verb.key))
        return clause

    def _given_subject(
        self, name: str, spec: dict[str, Any], others: dict[str, Clause], rng: Random
    ) -> NounPhrase | None:
        how, _, which = name.partition(" ")
        if not how or (how == "same" and rng.random() >= spec.get("pronoun", 1)):
            return None
        if how == "object":
            found = others[which].object
            if (
                found is None
                or found.person not in ("it", "they")
                or others[which].subject.person in ("it", "they")
            ):
                raise UnfitError
            return self.nouns.pronoun_for(found)
        if how == "hidden":
            return others[which].subject
        if how != "same":
            return self.nouns.fixed_pronoun(how)
        main = others[which]
        if main.subject.person == "it" and main.object is not None and main.object.person == "it":
            raise UnfitError
        return self.nouns.pronoun_for(main.subject)

    def _pool(self, spec: dict[str, Any]) -> Choice[str]:
        """The verbs a clause can have."""
        key = (spec.get("complement", ""), *spec.get("verbs", ()), None, *spec.get("needs", ()))
        if key not in self.pools:
            allowed = spec.get("verbs") or [k for k, v in self.verbs.items() if not v.existential]
            fit = {
                k: self.verbs[k].weight
                for k in allowed
                if self.verbs[k].complement == spec.get("complement", "")
                and all(need in self.roles[k] for need in spec.get("needs", ()))
            }
            self.pools[key] = Choice(fit)
        return self.pools[key]

    def _check(self, verb: Verb, construction: dict[str, Any], subject: NounPhrase) -> None:
        """UnfitError unless verb, construction and subject go together."""
        options = self.roles[verb.key]["subject"]
        if subject.noun is None:
            fits = options.names
        else:
            fits = subject.noun in (options.people if subject.human else options.others)
        who = construction.get("who", "")
        fits = fits and (not who or subject.human or (who == "animate" and self._alive(subject)))
        fits = fits and (not verb.stative or construction.get("stative", False))
        fits = fits and not (verb.involuntary and construction.get("willing"))
        fits = fits and (verb.likes or construction.get("adverb") != "gern")
        # "They ate" would be "fressen" of animals and "essen" of people.
        fits = fits and not (verb.key == "devour" and subject.pronoun and subject.plural)
        # "They put the book on the table" could be present or past.
        ambiguous = (
            verb.past == verb.english
            and construction.get("tense") == "past"
            and construction["english"] == ["verb"]
        )
        if not fits or (ambiguous and subject.person not in ("he", "she", "it")):
            raise UnfitError

    def _alive(self, subject: NounPhrase) -> bool:
        return subject.noun is not None and subject.noun.key in self.nouns.members["animal"]

    def _fill(
        self, clause: Clause, spec: dict[str, Any], others: dict[str, Clause], question: str, rng: Random
    ) -> None:
        self.companions.fill(clause, spec, others, question, rng)
        relative = spec.get("relative", 0)
        if (
            relative
            and rng.random() < relative
            and not clause.verb.stative
            and self._takes_relative(clause.subject)
        ):
            clause.subject.relative = english, german = self._relative(clause.subject, clause.verb, rng)
            clause.english["subject"] = [*clause.english["subject"], *english]
            clause.german["subject"] = [*clause.german["subject"], *german, Word(",")]
        behind = {"with", "place", "direction", "manner", "time", "particle"} & clause.english.keys()
        thing = clause.object
        if relative and thing and "object" in clause.english and not behind and rng.random() < 2 * relative:
            if thing.pronoun or not self._takes_relative(thing):
                return
            thing.relative = english, german = self._relative(thing, clause.verb, rng)
            clause.english["object"] = [*clause.english["object"], *english]
            # A relative clause behind the verb: Anna ruft den Mann an, der in Berlin wohnt.
            clause.german["after"] = german

    @staticmethod
    def _takes_relative(phrase: NounPhrase) -> bool:
        return (
            phrase.noun is not None
            and not phrase.pronoun
            and phrase.determiner in ("definite", "indefinite", "number")
        )

    def _relative(self, phrase: NounPhrase, main: Verb, rng: Random) -> tuple[Words, Words]:
        """A relative clause whose subject or object the phrase is; `main` is the verb of the main clause."""
        assert phrase.noun is not None
        label = self.nouns.new_label()
        as_object = rng.random() < 0.45
        spec: dict[str, Any] = {"tense": "simple", "place": 0.4}
        construction = self.constructions[self.tenses["simple"].draw(rng)]
        verb = self.verbs[self._pool(spec).draw(rng)]
        options = self.roles[verb.key]
        if verb is main:
            raise UnfitError
        if as_object:
            allowed = options.get("object")
            nouns = [] if allowed is None else allowed.people if phrase.human else allowed.others
            if phrase.noun not in nouns or verb.preposition or "recipient" in options:
                raise UnfitError
            subject = self.nouns.draw(options["subject"], "subject", rng)
            self._check(verb, construction, subject)
            clause = Clause(verb, construction, subject, self.nouns.new_label())
            self.companions.fill(clause, spec, {}, "relative_object", rng)
            self.nouns.combinations.add(("verb object", verb.key, phrase.noun.key))
        else:
            stand_in = NounPhrase(
                phrase.person, phrase.column, label, phrase.human, phrase.noun, pronoun=True
            )
            stand_in.adjectives = phrase.adjectives
            self._check(verb, construction, stand_in)
            clause = Clause(verb, construction, stand_in, self.nouns.new_label(), asks_subject=True)
            self.companions.fill(clause, spec, {}, "", rng)
            clause.english.pop("subject")
            clause.german.pop("subject")
        case = verb.case if as_object else "nominative"
        pronoun = ("whom" if as_object else "who") if phrase.human else "that"
        clause.english["front"] = [Word(pronoun, (label,))]
        clause.german["front"] = [Word(self.tables.article("relative", case, phrase.column), (label,))]
        german = [Word(","), *self.order.german(clause, "final")]
        return self.order.english(clause, "statement"), german
