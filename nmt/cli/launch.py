"""The command line: which verb, with which settings, and what is said when something is wrong."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nmt import __version__
from nmt.cli import cluster, host
from nmt.cli.completion import SHELLS, complete, completion_script
from nmt.cli.composition import Request, check, checked
from nmt.cli.model_folders import model_folders
from nmt.cli.schemas import SCHEMAS
from nmt.cli.settings import GROUPS, config_folder, group_options, hint, nearest
from nmt.config import ConfigError, TrainConfig
from nmt.training.place import place

# Errors that speak to the user: one line, no traceback. Named, because importing them would import torch.
USER_ERRORS = {
    "nmt.cli.workers": "WorkerError",
    "nmt.data.text_lines": "DataError",
    "nmt.bundle": "BundleError",
    "nmt.evaluation.comparison": "ComparisonError",
    "nmt.evaluation.metrics": "MetricError",
    "nmt.evaluation.saved": "SavedEvaluationError",
    "nmt.evaluation.attention_maps": "AttentionMapError",
    "nmt.evaluation.attention_pictures": "PictureError",
    "nmt.export.refusal": "ExportError",
    "nmt.decoding.guidance": "ConstraintError",
    "nmt.decoding.output_file": "OutputError",
    "nmt.model.device": "DeviceError",
    "nmt.model.teacher_forcing": "LengthError",
    "nmt.training.atomic_writes": "WriteError",
    "nmt.training.averaging": "AveragingError",
    "nmt.training.checkpoint": "CheckpointError",
    "nmt.training.distributed": "ProcessGroupError",
    "nmt.training.lifeline": "ProcessLostError",
    "nmt.training.run_folder": "RunFolderError",
    "nmt.training.sinks": "SinkError",
    "nmt.training.update": "TrainingError",
}

HELP = f"""\
usage: nmt VERB [SETTING=VALUE ...]

Train neural machine translation models from scratch.

  prepare     corpus -> checked, cleaned, tokenised data set
  train       corpus -> model with a score (prepares by itself)
  evaluate    model and test sets -> BLEU, chrF, chrF++ and TER with confidence intervals
  compare     two or more systems -> whether their difference is significant
  report      runs or evaluations -> one HTML page: scores, slices, sentences side by side
  runs        lists runs with scores, status and what differs
  translate   model and text -> text
  score       model, text and its translation -> log-probability of each line
  attend      model and a sentence -> picture of what attends to what
  average     checkpoints of a run -> one model, often a better one
  export      model -> CTranslate2 or Hugging Face, checked against the original

nmt VERB --help shows a verb's settings and examples; nmt --version the version.
Completion of verbs, choices and settings: eval "$(nmt --completion {SHELLS[0]})"
"""

FLAGS = """\
--cfg job shows all settings, --multirun sweeps over comma-separated values,
--config-dir DIR adds a folder of your own choices and experiments."""

# A sweep's own files lie under runs/; nothing else is written, moved or logged by Hydra.
SWEEP_MANNERS = [
    "hydra.output_subdir=null",
    "hydra.sweep.dir=runs/multirun/${now:%Y-%m-%d_%H-%M-%S}",
    "hydra.sweep.subdir=.",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]


def main(arguments: Sequence[str]) -> int:
    """Run one command line; the result is the exit status."""
    program = " ".join(["nmt", *[each for each in arguments if each in SCHEMAS][:1]])
    try:
        return dispatch(parse(arguments))
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        if place():
            leave_at_once(130)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as in `nmt translate | head`. Python would complain once
        # more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        where = place()
        if isinstance(error, user_errors()):
            status, complaint = 2, f"error: {' '.join(str(error).split())}"
        elif not where:
            raise
        else:
            traceback.print_exc()
            status, complaint = 1, f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(": ".join(filter(None, (program, where, complaint))), file=sys.stderr)
        if where:
            leave_at_once(status)
        return status


def leave_at_once(status: int) -> NoReturn:
    """End a process of a job that has failed: what waits for the other processes could hang at exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def dispatch(options: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    if options.completion:
        print(completion_script(options.completion))
    elif options.complete is not None:
        print("\n".join(complete(options.complete)))
    elif options.version:
        print(f"nmt {__version__}")
    elif options.verb is None:
        print(HELP, end="")
    elif options.verb not in SCHEMAS:
        raise ConfigError(f"{options.verb}: no such verb{hint(nearest(options.verb, SCHEMAS), SCHEMAS)}")
    else:
        request = Request.parse(options.verb, options.settings, config_dir=options.config_dir)
        if options.help:
            print(help_text(request))
        elif options.cfg:
            print(OmegaConf.to_yaml(request.compose(), resolve=options.resolve), end="")
        elif options.multirun:
            sweep(request)
        else:
            run_verb(request.verb, request.compose())
    return 0


class Parser(argparse.ArgumentParser):
    """Complains in one line, without repeating its usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options, the verb and the rest, which are its settings.

    Raises:
        ConfigError: an unknown option.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir")
    parser.add_argument("--completion", choices=SHELLS)
    parser.add_argument("--complete")
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings if flag != "--complete"]
        raise ConfigError(f"{unknown[0]}: no such option{hint(nearest(unknown[0], flags), flags)}")
    return options


def help_text(request: Request) -> str:
    """The verb's help from its YAML file, with the values that the given settings lead to."""
    config = request.compose(with_hydra=True).hydra
    template: str = config.help.template
    choices = "\n".join(
        f"  {f'{group}={config.runtime.choices[group]}':32}{', '.join(group_options(group))}"
        for group in GROUPS[request.verb]
    )
    return template.replace("@CHOICES@", choices).replace("@FLAGS@", FLAGS).rstrip()


def run_verb(verb: str, config: DictConfig) -> None:
    """Check the settings, then import and run nmt/cli/<verb>.py."""
    # Before `checked`, which imports torch when it looks into a model folder.
    host.tune()
    if verb == "train":
        host.bound_kept_code()
    settings = checked(config, verb, decoding_of_model)
    if verb == "train" and validates_on_another_corpus(settings):
        print(
            "nmt train: note: data.train is yours, data.valid is still the demo's; see experiment=own_corpus",
            file=sys.stderr,
        )
    importlib.import_module(f"nmt.cli.{verb}").run(settings)


def validates_on_another_corpus(settings: TrainConfig) -> bool:
    """Own training data, but still the demo's validation set: allowed, and hardly ever meant."""
    demo = settings.data.demo
    sources = [str(corpus.source) for corpus in (settings.data.train, settings.data.valid)]
    return demo is not None and [source.startswith(f"{demo.folder}/") for source in sources] == [False, True]


def decoding_of_model(model: str) -> Mapping[str, Any]:
    """The settings of decoding that a model folder records; of several the first."""
    from nmt import bundle

    return bundle.read_settings(bundle.locate(model_folders(model)[0])).decoding


def sweep(request: Request) -> None:
    """Run every combination of the comma-separated values, by Hydra's sweeper and launcher.

    All of them are checked before the first begins.
    """
    for job in request.jobs():
        check(request.compose(job), request.verb)

    def run_job(config: DictConfig) -> None:
        current = HydraConfig.get()
        print(f"nmt: job {current.job.num}: {' '.join(current.overrides.task)}", file=sys.stderr, flush=True)
        config = request.complete(config)
        with cluster.requeued_when_stopped():
            if request.verb == "train":
                config = cluster.resumable(config, folder=f"{current.sweep.dir}/{current.job.num}")
            run_verb(request.verb, config)

    # Hydra prints errors by itself and ends the program unless it is told not to.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["nmt", "--multirun", *SWEEP_MANNERS, *request.overrides]
    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=request.verb)(run_job)()


def user_errors() -> tuple[type[Exception], ...]:
    """ConfigError and those of USER_ERRORS whose modules are loaded; the others cannot have been raised."""
    loaded = ((sys.modules[module], name) for module, name in USER_ERRORS.items() if module in sys.modules)
    return (ConfigError, *(getattr(module, name) for module, name in loaded))
