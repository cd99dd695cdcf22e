"""Words of the demo grammar and their inflection: data/demo_grammar/*.yaml as objects.

Columns of every German table are masculine, feminine, neuter, plural. A grammatical person is named by its
English pronoun (I, you, he, she, it, we, they).
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PARTS = ("inflection", "nouns", "adjectives", "verbs", "phrases", "sentences")
PLURAL = 3
_GENDERS = {"der": 0, "die": 1, "das": 2}
# Forms of a German verb table: ich, du, er, wir; the plural persons share the last.
_PERSON_FORM = {"I": 0, "you": 1, "he": 2, "she": 2, "it": 2, "we": 3, "they": 3}
_VOWELS = "aeiou"


def grammar_folder() -> Path:
    """The folder of the grammar: inside an installed package, at the top of a checkout otherwise.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "embedded" / "demo_grammar", package.parent / "data" / "demo_grammar"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"the demo grammar is missing: no demo_grammar folder in {package}/embedded or {package.parent}/data"
    )


def read_grammar(folder: Path) -> tuple[dict[str, Any], str]:
    """Parse all parts of the grammar; also a hash of their bytes."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    digest = hashlib.sha256()
    parts: dict[str, Any] = {}
    for name in PARTS:
        content = (folder / f"{name}.yaml").read_bytes()
        digest.update(content)
        parts[name] = yaml.load(content, Loader=loader)
    return parts, digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun of both languages; `key` is the English singular."""

    key: str
    english_plural: str
    singular: str
    plural: str
    genitive: str
    weak: str
    gender: int
    mass: bool
    single: bool
    plural_only: bool
    feminine: str
    pronoun: bool
    kein: bool
    human: bool
    family: bool
    at: tuple[str, str] | None
    to: tuple[str, str] | None

    def english(self, plural: bool) -> str:
        return self.english_plural if plural else self.key

    def german(self, case: str, plural: bool) -> str:
        if plural:
            return self.plural + "n" if case == "dative" and self.plural[-1] not in "ns" else self.plural
        if self.weak and case != "nominative":
            return self.weak
        return self.genitive if case == "genitive" else self.singular

    def person(self, plural: bool) -> str:
        """The English pronoun that stands for this noun."""
        if plural:
            return "they"
        return ("he", "she", "it")[self.gender] if self.human else "it"


@dataclass(frozen=True, slots=True)
class Adjective:
    """An adjective of both languages with its comparatives, where it has them."""

    key: str
    german: str
    stem: str
    rank: int
    english_than: str
    german_than: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One reading of a verb: its forms in both languages and its traits."""

    key: str
    english: str
    english_rest: tuple[str, ...]
    english_particle: str
    third: str
    past: str
    ing: str
    prefix: str
    infinitive: str
    present: tuple[str, ...]
    preterite: tuple[str, ...]
    participle: str
    imperative: str
    auxiliary: str
    reflexive: bool
    case: str
    preposition: tuple[str, str] | None
    needs: tuple[str, ...]
    manner: tuple[str, ...]
    measure: str
    determiners: str
    complement: str
    predicate: bool
    stative: bool
    likes: bool
    involuntary: bool
    existential: bool
    weight: float


def german_form(forms: tuple[str, ...] | list[str], person: str) -> str:
    """The form of a German verb table that agrees with the person."""
    return forms[_PERSON_FORM[person]]


@cache
def english_plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in _VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def make_nouns(part: dict[str, Any]) -> tuple[dict[str, Noun], dict[str, frozenset[str]]]:
    """All nouns by key, and the noun keys of every class and group."""
    nouns: dict[str, Noun] = {}
    classes: dict[str, set[str]] = {name: set(entries) for name, entries in part["classes"].items()}
    human = {"person", "profession", "family"}
    for name, entries in part["classes"].items():
        for key, entry in entries.items():
            nouns[key] = _make_noun(key, entry, human=name in human, family=name == "family")
            for also in entry.get("also", []):
                classes.setdefault(also, set()).add(key)
    found = {name: frozenset(keys) for name, keys in classes.items()}

    def members(name: str) -> frozenset[str]:
        groups = [members(inner) for inner in part["groups"].get(name, [])]
        if not groups and name not in found and name not in nouns:
            raise ValueError(f"nouns.yaml: no class, group or noun is called {name!r}")
        own = found.get(name, frozenset((name,)) if name in nouns else frozenset())
        return own.union(*groups)

    names = [*found, *part["groups"], *nouns]
    return nouns, {name: members(name) for name in names}


def _make_noun(key: str, entry: dict[str, Any], *, human: bool, family: bool) -> Noun:
    article, german = entry["de"].split(" ", 1)
    plural_only = entry.get("plural_only", False)
    weak = entry.get("weak", "")
    gender = _GENDERS[article]
    return Noun(
        key=key,
        english_plural=key if plural_only else entry.get("plural_en", english_plural(key)),
        singular=german,
        plural=german if plural_only else entry.get("plural", ""),
        genitive=entry.get("genitive", german if gender == 1 else german + "s"),
        weak=weak,
        gender=gender,
        mass=entry.get("mass", False),
        single=entry.get("single", False),
        plural_only=plural_only,
        feminine=entry.get("feminine", ""),
        pronoun=entry.get("pronoun", True),
        kein=entry.get("kein", True),
        human=human,
        family=family,
        at=_pair(entry.get("at")),
        to=_pair(entry.get("to")),
    )


def _pair(value: list[str] | None) -> tuple[str, str] | None:
    return (value[0], value[1]) if value else None


def make_adjective(key: str, entry: dict[str, Any]) -> Adjective:
    than = entry.get("than", ["", ""])
    return Adjective(key, entry["de"], entry.get("stem", entry["de"]), entry["rank"], than[0], than[1])


def make_verb(key: str, entry: dict[str, Any]) -> Verb:
    """A verb with its regular forms filled in."""
    words, _, particle = entry["en"].partition("|")
    head, *rest = words.split()
    prefix, _, infinitive = entry["de"].rpartition("|")
    present = tuple(entry.get("present") or _german_present(infinitive, entry))
    stem = _german_stem(infinitive)
    joint = "e" if stem[-1] in "td" else ""
    return Verb(
        key=key,
        english=head,
        english_rest=tuple(rest),
        english_particle=particle,
        third=entry.get("third", _english_third(head)),
        past=entry.get("past", _english_past(head)),
        ing=entry.get("ing", head + "ing"),
        prefix=prefix,
        infinitive=infinitive,
        present=present,
        preterite=tuple(entry.get("preterite", ())),
        participle=entry.get("participle", f"{prefix}ge{stem}{joint}t"),
        imperative=entry.get("imperative", stem + ("e" if joint or stem.endswith("er") else "")),
        auxiliary=entry.get("auxiliary", "haben"),
        reflexive=entry.get("reflexive", False),
        case=entry.get("case", "accusative"),
        preposition=_pair(entry.get("preposition")),
        needs=tuple(entry.get("needs", ())),
        manner=tuple(entry.get("manner", ())),
        measure=entry.get("measure", ""),
        determiners=entry.get("determiners", ""),
        complement=entry.get("complement", ""),
        predicate=entry.get("predicate", False),
        stative=entry.get("stative", False),
        likes=entry.get("likes", False),
        involuntary=entry.get("involuntary", False),
        existential=entry.get("existential", False),
        weight=entry.get("weight", 1.0),
    )


def _german_stem(infinitive: str) -> str:
    return infinitive[:-1] if infinitive.endswith(("ern", "eln")) else infinitive[:-2]


def _german_present(infinitive: str, entry: dict[str, Any]) -> list[str]:
    stem = _german_stem(infinitive)
    joint = "e" if stem[-1] in "td" else ""
    he = entry.get("er", f"{stem}{joint}t")
    base = he[:-1] if "er" in entry else stem + joint
    # After a sibilant -st shrinks to -t: du isst, du heißt.
    you = entry.get("du", base + ("t" if base[-1] in "sßzx" else "st"))
    return [entry.get("ich", stem + "e"), you, he, infinitive]


def _english_third(head: str) -> str:
    return english_plural(head)


def _english_past(head: str) -> str:
    return (
        head + "d"
        if head.endswith("e")
        else head[:-1] + "ied"
        if head.endswith("y") and head[-2] not in _VOWELS
        else head + "ed"
    )
