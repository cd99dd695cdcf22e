"""What two evaluations do not have in common: where to look when two numbers differ that should be one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nmt.evaluation.evaluation import Evaluation

# Different in any two evaluations, and without influence on a score.
_INCIDENTAL = ("date", "system")


@dataclass(kw_only=True, slots=True, frozen=True)
class Difference:
    """A field that two evaluations do not agree in; None where one of them has no such field."""

    field: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.first} / {self.second}"


def differences(first: Evaluation, second: Evaluation) -> list[Difference]:
    """The fields of provenance that differ; when there is none the scores must be equal.

    The date and the path of the system are no such fields. Test sets are compared by the hashes of their
    texts, metrics by their signatures.
    """
    facts = [_facts(first), _facts(second)]
    names = dict.fromkeys([*facts[0], *facts[1]])
    return [
        Difference(field=name, first=facts[0].get(name), second=facts[1].get(name))
        for name in names
        if facts[0].get(name) != facts[1].get(name)
    ]


def equal_scores(first: Evaluation, second: Evaluation) -> bool:
    """True when the scores of all test sets and metrics that both have are the same numbers."""
    for own in first.test_sets:
        other = second.test_set(own.name)
        for score in own.scores if other else []:
            found = other.score(score.name) if other else None
            if found and found.value != score.value:
                return False
    return True


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _facts(evaluation: Evaluation) -> dict[str, Any]:
    facts = flatten(asdict(evaluation.provenance))
    for own in evaluation.test_sets:
        field = f"test_sets.{own.name}"
        facts[f"{field}.source_hash"] = own.source_hash
        facts[f"{field}.reference_hash"] = own.reference_hash
        facts[f"{field}.tokenizer"] = own.tokenizer
        facts |= {f"{field}.{score.name}.signature": score.signature for score in own.scores}
    return {name: value for name, value in facts.items() if name not in _INCIDENTAL}
