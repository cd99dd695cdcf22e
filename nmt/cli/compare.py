"""`nmt compare`: systems on the same test sets, and whether their differences are more than chance."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nmt.cli.evaluations import Evaluations
from nmt.cli.schemas import CompareConfig
from nmt.config import ConfigError
from nmt.evaluation import saved
from nmt.evaluation.comparison import Comparison, compare
from nmt.evaluation.tables import comparison_table


def run(config: CompareConfig) -> None:
    """Read or make the evaluations of all systems, compare them, print and write the result."""
    if config.output is not None and not Path(config.output).absolute().parent.is_dir():
        raise ConfigError(f"output={config.output}: the folder does not exist; make it first")
    evaluations = Evaluations(config, verb="compare").all()
    result = compare(
        evaluations,
        config.systems,
        show=config.show,
        resamples=config.scoring.resamples,
        trials=config.trials,
    )
    print(comparison_table(result))
    if config.output is not None:
        try:
            saved.write_json(Path(config.output), as_json(result))
        except OSError as error:
            raise ConfigError(f"output={config.output}: cannot be written ({error.strerror})") from error
        print(f"written to {config.output}", file=sys.stderr)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All that the table says, for programs; evaluations without their sentences."""
    pairs = []
    for pair in comparison.pairs:
        metrics = [
            {**asdict(found), "significant": found.significant, "verdict": found.verdict}
            for found in pair.metrics
        ]
        pairs.append({**asdict(pair), "metrics": metrics})
    return {
        "systems": comparison.names,
        "evaluations": [saved.summary(each) for each in comparison.evaluations],
        "pairs": pairs,
        "seeds": [{**asdict(found), "n": found.count} for found in comparison.seeds],
        "differences": [[asdict(each) for each in found] for found in comparison.differences],
    }
