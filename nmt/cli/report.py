"""`nmt report`: one HTML page about one or several systems, and their scores as rows of a Markdown table."""

import sys
from collections.abc import Sequence
from pathlib import Path

from nmt.cli.evaluations import Evaluations
from nmt.cli.reported_systems import attention_maps, model_folder, run_folder
from nmt.cli.schemas import ReportConfig
from nmt.cli.training_words import TrainingWordsError, training_words
from nmt.config import ConfigError
from nmt.decoding.output import check_output, open_output
from nmt.evaluation.comparison import compare, shared_sets
from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.report.content import LETTERS, ReportedSystem, make_report
from nmt.evaluation.report.learning_curves import read_checkpoint_scores, read_curves
from nmt.evaluation.report.markdown import markdown_table
from nmt.evaluation.report.page import render
from nmt.evaluation.report.plots import can_plot
from nmt.evaluation.word_frequency import TrainingWords


def run(config: ReportConfig) -> None:
    """Read or make the evaluations of all systems and write the page."""
    for name in ("output", "markdown"):
        if (path := getattr(config, name)) is not None:
            check_output(Path(path), [Path(system) for system in config.systems], name=name)
    evaluations = Evaluations(config, verb="report").all()
    test_sets = shared_sets(evaluations)
    comparison = compare(
        evaluations, config.systems, show=0, resamples=config.scoring.resamples, trials=config.trials
    )
    notes = _Notes(several=len(evaluations) > 1)
    if not can_plot():
        notes.add(None, "plots", "matplotlib is not installed; pip install 'nmt[plots]'")
    training = _training_words(evaluations, notes)
    systems = _systems(config, evaluations, test_sets, notes)
    report = make_report(
        systems,
        comparison,
        test_sets=test_sets,
        training=training,
        listed=config.sentences,
        resamples=config.scoring.resamples,
        notes=notes.lines,
    )
    _write(config.output, render(report), "output")
    rows = markdown_table(config.systems, evaluations, test_sets)
    if config.markdown is None:
        print(rows, end="")
    else:
        _write(config.markdown, rows, "markdown")


class _Notes:
    """What is left out, said on standard error and in the page."""

    def __init__(self, *, several: bool) -> None:
        self.several = several
        self.lines: list[str] = []

    def add(self, system: int | None, what: str, reason: str) -> None:
        """One thing that is left out, of one system or of all."""
        of_system = f"{LETTERS[system]}: " if self.several and system is not None else ""
        self.lines.append(f"{of_system}{what} are left out: {reason}")
        print(f"nmt report: {self.lines[-1]}", file=sys.stderr)


def _training_words(evaluations: Sequence[Evaluation], notes: _Notes) -> TrainingWords | None:
    """Those of the first system whose training data is at hand: all systems are judged by the same words."""
    reason = ""
    for evaluation in evaluations:
        try:
            return training_words(evaluation.provenance)
        except TrainingWordsError as error:
            reason = reason or str(error)
    notes.add(None, "slices by rare words and word accuracy", reason)
    return None


def _systems(
    config: ReportConfig, evaluations: Sequence[Evaluation], test_sets: Sequence[str], notes: _Notes
) -> list[ReportedSystem]:
    systems = []
    for number, (name, evaluation) in enumerate(zip(config.systems, evaluations, strict=True)):
        system = ReportedSystem(name=name, evaluation=evaluation)
        folder = model_folder(name, evaluation)
        if (run := run_folder(name, folder)) is not None:
            system.curves, system.checkpoint_curves = read_curves(run), read_checkpoint_scores(run)
        if not system.curves and evaluation.provenance.decoding:
            notes.add(number, "learning curves", "the run has no metrics.jsonl here")
        if config.attention_maps and evaluation.provenance.decoding:
            if folder is None:
                gone = evaluation.provenance.system
                notes.add(number, "attention maps", f"the model of this evaluation is not in {gone} any more")
            else:
                system.maps = attention_maps(folder, evaluation, evaluations[0], test_sets, config)
        systems.append(system)
    return systems


def _write(path: str, text: str, name: str) -> None:
    try:
        with open_output(Path(path)) as output:
            # Half of a pair of surrogates, which JSON can hold, is no text.
            output.write(text.encode("utf-8", "replace"), lines=0)
            output.finish()
    except OSError as error:
        raise ConfigError(f"{name}={path}: cannot be written ({error.strerror})") from error
    print(f"written to {path} ({Path(path).stat().st_size / 1e6:.1f} MB)", file=sys.stderr)
