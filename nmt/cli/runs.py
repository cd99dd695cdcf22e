"""`nmt runs`: the runs under a folder with status, time, best scores and the settings that differ."""

import time
from pathlib import Path
from typing import Any

from nmt.cli.run_list import RunFacts, differing_settings, find_runs
from nmt.cli.schemas import RunsConfig
from nmt.config import ConfigError
from nmt.evaluation.tables import table

# Settings that are written out in full for each run; more are only counted.
_SHOWN = 12


def run(config: RunsConfig) -> None:
    """Print the list."""
    folder = Path(config.folder)
    if not folder.is_dir():
        raise ConfigError(f"folder={folder}: no such folder; nmt train makes runs/ where it is started")
    runs = find_runs(folder)
    if not runs:
        raise ConfigError(f"folder={folder}: holds no runs; each has an environment.json")
    print("\n".join(listing(runs, folder)))


def listing(runs: list[RunFacts], root: Path) -> list[str]:
    """One line per run, then what is usual and in what each is not, then the signatures of the scores."""
    numbers = signature_numbers(runs)
    rows = [("run", "started", "status", "steps", "time", "best validation BLEU", "test BLEU")]
    for each in runs:
        name = each.folder.relative_to(root).as_posix() if each.folder != root else str(root)
        best = "-" if each.best_bleu is None else f"{each.best_bleu:.2f} at {each.best_step:,}"
        best += _mark(numbers, each.signature) if each.best_bleu is not None else ""
        tests = ", ".join(
            f"{test} {score['value']:.2f}{_mark(numbers, score['signature'])}"
            for test, score in each.test_scores.items()
        )
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.started))
        cells = (name, started, str(each.status), f"{each.steps:,}", _time(each.seconds), best, tests or "-")
        rows.append(cells)
    lines = table(rows, "<<<>>><")
    if usual := usual_settings(runs):
        lines += ["", f"usual: {_listed(usual)}"]
        for row, each in zip(rows[1:], runs, strict=True):
            own = {name: each.settings.get(name) for name in usual if each.settings.get(name) != usual[name]}
            lines.append(f"{row[0]}: {_listed(own) or 'as usual'}")
    return [*lines, "", *(f"({number}) {signature}" for signature, number in numbers.items())]


def usual_settings(runs: list[RunFacts]) -> dict[str, Any]:
    """Of the settings in which runs differ, what most of them have; of equally many what came first."""
    usual = {}
    for name in differing_settings(runs):
        values = [run.settings.get(name) for run in runs]
        usual[name] = max(values, key=values.count)
    return usual


def signature_numbers(runs: list[RunFacts]) -> dict[str, int]:
    """A number for every signature, in the order in which they are met."""
    found = [score["signature"] for run in runs for score in run.test_scores.values()]
    found += [run.signature for run in runs if run.best_bleu is not None]
    return {signature: number for number, signature in enumerate(dict.fromkeys(filter(None, found)), start=1)}


def _mark(numbers: dict[str, int], signature: str) -> str:
    return f" ({numbers[signature]})" if signature in numbers else " (signature unknown)"


def _listed(settings: dict[str, Any]) -> str:
    shown = [f"{name}={value}" for name, value in list(settings.items())[:_SHOWN]]
    more = len(settings) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
