"""What each verb of the command line is given: its dataclass, as Hydra composes it.

Nothing here imports torch, so that a wrong setting is reported at once.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from nmt.config import PrepareConfig, TrainConfig
from nmt.data.config import TestSetConfig, check_source
from nmt.decoding.config import DecodingConfig, OutputFormat
from nmt.evaluation.config import AttentionMapConfig, CheckpointChoice, ScoringConfig
from nmt.export.config import CheckConfig, ExportFormat, Quantization
from nmt.training.config import Device, ModelWeights


@dataclass(kw_only=True, slots=True)
class EvaluationDataConfig:
    """Test sets by name; none means those recorded in the model folder."""

    test: dict[str, TestSetConfig] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class EvaluateConfig:
    """Settings of `nmt evaluate`."""

    # Run folder, checkpoint or model folder; several, as A,B, are an ensemble.
    model: str = MISSING
    data: EvaluationDataConfig = field(default_factory=EvaluationDataConfig)
    # JSON file for the scores; the sentences are written beside it.
    output: str | None = None
    # Evaluate every checkpoint of the run instead of its best model.
    checkpoints: CheckpointChoice = CheckpointChoice.none
    # SVG, PNG or PDF file for the scores of checkpoints; null is beside the JSON file.
    plot: str | None = None
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    device: Device = Device.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        for name, corpus in self.data.test.items():
            check_source(corpus, f"data.test.{name}")
        if self.plot is not None and self.checkpoints is CheckpointChoice.none:
            raise ValueError("plot draws scores by step, which needs checkpoints=all")
        if self.plot is not None and not self.plot.lower().endswith((".svg", ".png", ".pdf")):
            raise ValueError(f"plot={self.plot}: the name must end in .svg, .png or .pdf")


@dataclass(kw_only=True, slots=True)
class SystemsConfig:
    """Systems that are looked at side by side: what `nmt compare` and `nmt report` have in common."""

    # Runs, model folders, saved evaluations (.json), files of translations; the others meet the first.
    systems: list[str] = field(default_factory=list)
    # For files of translations, and in place of the test sets that the others were evaluated on.
    data: EvaluationDataConfig = field(default_factory=EvaluationDataConfig)
    # Language of the references of files of translations, which decides on the tokenizer.
    target_language: str = ""
    # Shuffles of the test of significance.
    trials: int = 10000
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    device: Device = Device.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        for name, corpus in self.data.test.items():
            check_source(corpus, f"data.test.{name}")
        if self.trials < 100:
            raise ValueError(f"trials must be at least 100, not {self.trials}")


@dataclass(kw_only=True, slots=True)
class CompareConfig(SystemsConfig):
    """Settings of `nmt compare`."""

    # Sentences that are listed, of gains and of losses each.
    show: int = 3
    # JSON file for all figures.
    output: str | None = None

    def __post_init__(self) -> None:
        SystemsConfig.__post_init__(self)
        if not 2 <= len(self.systems) <= 26:
            raise ValueError(
                f"nmt compare takes 2 to 26 systems, not {len(self.systems)}: nmt compare A B [C ...], each a"
                " run, model folder, saved evaluation or file of translations"
            )
        if self.show < 0:
            raise ValueError(f"show must not be negative, not {self.show}")


@dataclass(kw_only=True, slots=True)
class ReportConfig(SystemsConfig):
    """Settings of `nmt report`."""

    # HTML file, which holds all that it shows.
    output: str = "report.html"
    # Markdown file for the scores as rows of a table; null prints them.
    markdown: str | None = None
    # Sentences of each test set that are listed at most, drawn evenly.
    sentences: int = 2000
    # Of these, sentences of each test set and system with an attention map; 0 needs no model.
    attention_maps: int = 40

    def __post_init__(self) -> None:
        SystemsConfig.__post_init__(self)
        if not 1 <= len(self.systems) <= 26:
            raise ValueError(
                f"nmt report takes 1 to 26 systems, not {len(self.systems)}: nmt report A [B ...], each a"
                " run, model folder, saved evaluation or file of translations"
            )
        for name, least in (("sentences", 1), ("attention_maps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.output.lower().endswith((".html", ".htm")):
            raise ValueError(f"output={self.output}: a report is an .html file")


@dataclass(kw_only=True, slots=True)
class RunsConfig:
    """Settings of `nmt runs`."""

    folder: str = "runs"


@dataclass(kw_only=True, slots=True)
class TranslateConfig:
    """Settings of `nmt translate`."""

    # Run folder, checkpoint or model folder; several, as A,B, are an ensemble.
    model: str = MISSING
    # A text file, or several as [FILE,FILE]; null is standard input and standard output.
    input: str | None = None
    # A file, or a folder for files of the names of the inputs.
    output: str | None = None
    format: OutputFormat = OutputFormat.text
    # Candidates written for each line, best first.
    n_best: int = 1
    # Write the word alignment of each candidate.
    alignment: bool = False
    # File of lines TERM<tabulator>TRANSLATION: where the term stands, its translation has to appear.
    terms: str | None = None
    # A file, or one for each input: line n is what the translation of line n begins with.
    prefixes: str | None = None
    # With what an earlier job has left: true goes on, false throws it away, null refuses.
    resume: bool | None = None
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    device: Device = Device.auto
    # Processes that translate, each with a GPU of its own or its share of the threads; 0 takes as many as
    # there are threads or GPUs when the input is long enough.
    workers: int = 0
    # CPU threads of all workers; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        if self.workers < 0:
            raise ValueError(f"workers must be 0 (as many as are useful) or more, not {self.workers}")
        if self.n_best < 1:
            raise ValueError(f"n_best must be at least 1, not {self.n_best}")
        if self.n_best > 1 and self.format is OutputFormat.text:
            raise ValueError(
                f"n_best={self.n_best} needs format=tsv or format=jsonl; text has one line for each line"
            )
        if self.alignment and self.format is OutputFormat.text:
            raise ValueError("alignment=true needs format=tsv or format=jsonl; text has no place for it")
        if self.prefixes is not None and self.input is None:
            raise ValueError("prefixes belong to the lines of input=FILE; standard input has none")
        if self.resume and (self.input is None or self.output is None):
            raise ValueError("resume=true needs input=FILE and output=FILE, which can be read again")


@dataclass(kw_only=True, slots=True)
class ScoreConfig:
    """Settings of `nmt score`."""

    # Run folder, checkpoint or model folder.
    model: str = MISSING
    # Text files, line n of both a pair.
    source: str = MISSING
    target: str = MISSING
    # null is standard output.
    output: str | None = None
    device: Device = Device.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)


@dataclass(kw_only=True, slots=True)
class AttendConfig(AttentionMapConfig):
    """Settings of `nmt attend`."""

    # Run folder, checkpoint or model folder.
    model: str = MISSING
    # A sentence and its translation; null is the translation that the model finds.
    source: str = MISSING
    target: str | None = None
    # .png or .svg; null draws in the terminal.
    output: str | None = None
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    device: Device = Device.auto
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        AttentionMapConfig.__post_init__(self)
        _check_threads(self.threads)
        if self.output is not None and not self.output.lower().endswith((".png", ".svg")):
            raise ValueError(f"output={self.output}: a picture is a .png or .svg file")


@dataclass(kw_only=True, slots=True)
class AverageConfig:
    """Settings of `nmt average`."""

    # Run folder, or its folder of checkpoints, of which `last` or `best` are averaged.
    model: str | None = None
    # Newest checkpoints, or those of the best validation BLEU; 0 is not chosen.
    last: int = 0
    best: int = 0
    # Only checkpoints of earlier steps; 0 takes all.
    before: int = 0
    # In place of these four: checkpoints and model folders by name.
    models: list[str] = field(default_factory=list)
    # What is averaged: the weights of the checkpoints, or the moving averages that they keep.
    of: ModelWeights = ModelWeights.weights
    # Model folder, which must not exist yet.
    output: str = MISSING

    def __post_init__(self) -> None:
        for name in ("last", "best", "before"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if (self.model is None) == (not self.models):
            raise ValueError(
                "give model=RUN with last=N or best=N, or models=[FOLDER,FOLDER]; one of the two"
            )
        if self.models and (self.last or self.best or self.before):
            raise ValueError(
                "last, best and before choose from model=RUN; models=[...] names all that is taken"
            )
        if self.model is not None and (self.last > 0) == (self.best > 0):
            raise ValueError("give last=N or best=N: how many checkpoints are averaged; one of the two")


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """Settings of `nmt export`."""

    # Run folder, checkpoint or model folder.
    model: str = MISSING
    format: ExportFormat = MISSING
    # Folder of the exported model, which must not exist yet.
    output: str = MISSING
    quantization: Quantization = Quantization.float32
    # Sentences that both engines translate: test sets, none meaning those recorded in the model folder, or
    # a text file without references.
    data: EvaluationDataConfig = field(default_factory=EvaluationDataConfig)
    input: str | None = None
    check: CheckConfig = field(default_factory=CheckConfig)
    # CPU threads; 0 takes every core.
    threads: int = 0

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        for name, corpus in self.data.test.items():
            check_source(corpus, f"data.test.{name}")
        if self.input is not None and self.data.test:
            raise ValueError("input and data.test both name the sentences of the check; give one of the two")


# What each verb is given. `prepare` is composed with the schema of `train`, so that it takes the
# same experiments, and cut down to its two sections.
SCHEMAS: dict[str, type[Any]] = {
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "translate": TranslateConfig,
    "score": ScoreConfig,
    "attend": AttendConfig,
    "average": AverageConfig,
    "compare": CompareConfig,
    "report": ReportConfig,
    "runs": RunsConfig,
    "export": ExportConfig,
}


def register_schemas() -> None:
    """Make the schemas known to Hydra under the names that configs/*.yaml begin with.

    With a trained model every setting of decoding starts out missing: what is not given is taken
    from the model folder. YAML cannot say so, because a merged ??? never replaces a value.
    """
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    for verb in ("average", "compare", "report", "runs", "score", "export"):
        store.store(name=f"{verb}_schema", node=SCHEMAS[verb])
    for verb in ("evaluate", "translate", "attend"):
        schema = OmegaConf.structured(SCHEMAS[verb])
        for name in schema.decoding:
            schema.decoding[name] = MISSING
        store.store(name=f"{verb}_schema", node=schema)


def _check_threads(threads: int) -> None:
    if threads < 0:
        raise ValueError(f"threads must be 0 (every core) or more, not {threads}")
