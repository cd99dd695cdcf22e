"""Configuration and provenance of systems side by side, with what differs told from what does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.provenance import flatten


@dataclass(kw_only=True, slots=True)
class SettingRow:
    """One setting of all systems; an empty value where a system has none of the name."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        """Whether the systems disagree."""
        return len(set(self.values)) > 1


@dataclass(kw_only=True, slots=True)
class SettingGroup:
    """Settings of one kind."""

    title: str
    rows: list[SettingRow]


def setting_groups(evaluations: Sequence[Evaluation]) -> list[SettingGroup]:
    """All that is known of where scores come from, in groups; empty ones are left out."""
    found = [each.provenance for each in evaluations]
    groups: list[tuple[str, list[Mapping[str, Any]]]] = [
        (
            "Model",
            [
                {
                    "system": each.system,
                    "languages": f"{each.source_language}-{each.target_language}"
                    if each.source_language
                    else "",
                    **{f"sha256 of {name}": digest for name, digest in each.files.items()},
                    **each.card,
                }
                for each in found
            ],
        ),
        ("Decoding", [each.decoding for each in found]),
        (
            "Scoring",
            [
                {
                    "date": each.date,
                    "device": each.device,
                    "numbers": each.dtype,
                    "threads": each.threads or "",
                    "resamples": each.resamples,
                    "seed of resampling": each.resampling_seed,
                    **_test_sets(evaluation),
                }
                for each, evaluation in zip(found, evaluations, strict=True)
            ],
        ),
        ("Machine", [each.hardware for each in found]),
        ("Software", [each.software for each in found]),
        ("Training settings", [each.training for each in found]),
    ]
    rows = [SettingGroup(title=title, rows=_rows(values)) for title, values in groups]
    return [group for group in rows if group.rows]


def _test_sets(evaluation: Evaluation) -> dict[str, str]:
    facts = {}
    for own in evaluation.test_sets:
        facts[f"{own.name}: read from"] = ", ".join(own.origin)
        facts[f"{own.name}: hash of sources"] = own.source_hash
        facts[f"{own.name}: hash of references"] = own.reference_hash
    return facts


def _rows(systems: Sequence[Mapping[str, Any]]) -> list[SettingRow]:
    flat = [flatten(each) for each in systems]
    names = dict.fromkeys(name for each in flat for name in each)
    rows = [SettingRow(name=name, values=[_written(each.get(name)) for each in flat]) for name in names]
    return [row for row in rows if any(row.values)]


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
