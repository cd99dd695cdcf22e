"""Evaluations of the systems that a verb is given: runs, model folders, saved evaluations, translations."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from nmt.cli.schemas import SystemsConfig
from nmt.config import ConfigError
from nmt.data.test_sets import TestSet, read_test_set
from nmt.data.text_lines import read_lines
from nmt.evaluation import saved
from nmt.evaluation.comparison import ComparisonError, shared_sets
from nmt.evaluation.config import METRICS
from nmt.evaluation.evaluation import Evaluation, Provenance, Scoring, evaluate_outputs, rescore


@dataclass(slots=True)
class Evaluations:
    """Finds the evaluation of each system, by the cheapest way there is."""

    config: SystemsConfig
    # For messages.
    verb: str
    found: dict[str, Evaluation] = field(default_factory=dict)

    def all(self) -> list[Evaluation]:
        """In the order of the systems, all scored by the same metrics."""
        names = self.config.systems
        for name in names:
            if not Path(name).exists():
                raise ConfigError(
                    f"{name}: no such run, model folder, saved evaluation or file of translations"
                )
        outputs = [name for name in names if Path(name).is_file() and Path(name).suffix != ".json"]
        for name in names:
            if name not in outputs:
                self.found[name] = self._of_folder(name) if Path(name).is_dir() else saved.read(Path(name))
        # Files of translations are scored on the test set of the others, which must be known first.
        if outputs:
            scoring = self._scoring([self._test_set_of(outputs[0])])
            for name in outputs:
                self.found[name] = _of_output(Path(name), scoring)
        evaluations = [self.found[name] for name in names]
        shared = shared_sets(evaluations)
        if not self._scored_alike(evaluations, shared):
            print(f"nmt {self.verb}: scoring all systems anew, by the same metrics", file=sys.stderr)
            scoring = self._scoring(
                [own.test_set() for own in evaluations[0].test_sets if own.name in shared]
            )
            evaluations = [rescore(each, scoring) for each in evaluations]
        return evaluations

    def _of_folder(self, name: str) -> Evaluation:
        """What was saved of these very files on these test sets; otherwise the model is evaluated now."""
        # Imports torch, which nobody needs who compares saved evaluations.
        from nmt import bundle
        from nmt.cli.evaluate import saved_path
        from nmt.cli.systems import model_files, read_test_sets

        folder = bundle.locate(name)
        settings = bundle.read_settings(folder)
        given = read_test_sets(
            self.config.data.test,
            source_language=settings.source_language,
            target_language=settings.target_language,
        )
        files = model_files(folder)
        path = saved_path(folder)
        # Evaluations on other test sets than those that the model records have a file of their own.
        own_path = path.with_name(".".join([path.stem, *self.config.data.test, "json"]))
        for each in dict.fromkeys([path, own_path]):
            found = _read_if_whole(each)
            if found and found.provenance.files == files and (chosen := _restricted(found, given)):
                return chosen
        return self._evaluate(name, own_path)

    def _evaluate(self, name: str, path: Path) -> Evaluation:
        import torch

        from nmt.cli.evaluate import make_evaluation, write
        from nmt.data.processors import available_cores
        from nmt.model.device import choose_device

        print(f"nmt {self.verb}: evaluating {name}, of which there is no saved evaluation", file=sys.stderr)
        torch.set_num_threads(self.config.threads or available_cores())
        evaluation = make_evaluation(
            name,
            device=choose_device(self.config.device),
            test_sets=self.config.data.test,
            scoring=self.config.scoring,
        )
        write(evaluation, path)
        return evaluation

    def _test_set_of(self, output: str) -> TestSet:
        """The one test set that files of translations are of: the given one, or that of the other systems."""
        test_sets = {own.name: own.test_set() for each in self.found.values() for own in each.test_sets}
        if given := self.config.data.test:
            known = next((each.provenance for each in self.found.values()), Provenance(system="", files={}))
            source = known.source_language or "source"
            target = self.config.target_language or known.target_language or "target"
            test_sets = {
                name: read_test_set(name, corpus, source_language=source, target_language=target)
                for name, corpus in given.items()
            }
        if len(test_sets) != 1:
            raise ComparisonError(
                f"{output}: of which test set are these translations? Give that one set with"
                " data.test.NAME.source=FILE and data.test.NAME.target=FILE"
            )
        return next(iter(test_sets.values()))

    def _scoring(self, test_sets: list[TestSet]) -> Scoring:
        """By the settings, and with the tokenizer that was chosen before when there is one."""
        scored = [own.tokenizer for each in self.found.values() for own in each.test_sets]
        if not self.config.target_language and scored:
            config = replace(self.config.scoring, tokenizer=self.config.scoring.tokenizer or scored[0])
        else:
            config = self.config.scoring
        return Scoring.of(test_sets, config, language=self.config.target_language)

    def _scored_alike(self, evaluations: list[Evaluation], shared: list[str]) -> bool:
        """True when all have the same metrics with the same signatures, and those that are asked for."""
        asked = self.config.scoring
        for name in shared:
            sets = [own for each in evaluations for own in each.test_sets if own.name == name]
            signatures = [{score.name: score.signature for score in own.scores} for own in sets]
            if any(each != signatures[0] for each in signatures):
                return False
            by_sacrebleu = signatures[0].keys() - {"COMET"}
            if asked.metrics and {METRICS[each] for each in asked.metrics} != by_sacrebleu:
                return False
            if asked.tokenizer and asked.tokenizer != sets[0].tokenizer:
                return False
            if asked.comet and "COMET" not in signatures[0]:
                return False
        return True


def _read_if_whole(path: Path) -> Evaluation | None:
    try:
        return saved.read(path)
    except saved.SavedEvaluationError:
        return None


def _restricted(evaluation: Evaluation, given: list[TestSet]) -> Evaluation | None:
    """The evaluation on the given test sets alone; None when it lacks one of them. All when none is given."""
    if not given:
        return evaluation
    found = [(evaluation.test_set(own.name), own) for own in given]
    if all(known and known.hashes == (own.source_hash(), own.reference_hash()) for known, own in found):
        evaluation.test_sets = [known for known, _ in found if known]
        return evaluation
    return None


def _of_output(path: Path, scoring: Scoring) -> Evaluation:
    (test_set,) = scoring.test_sets
    lines = [line for block in read_lines(path, field="systems") for line in block]
    if len(lines) != len(test_set):
        raise ComparisonError(
            f"{path}: has {len(lines)} lines but test set {test_set.name} {len(test_set)} sentences; line n"
            " must be the translation of sentence n"
        )
    provenance = Provenance(system=str(path), files={"translations": saved.file_hash(path)})
    return evaluate_outputs({test_set.name: lines}, scoring, provenance)
