"""What is at hand of a system beside its evaluation: its model folder, its run, and maps of its attention."""

from collections.abc import Sequence
from pathlib import Path

from nmt.cli.schemas import ReportConfig
from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.report.attention import CompactMap, chosen_places, fits
from nmt.evaluation.report.listing import listed_places
from nmt.evaluation.saved import file_hash
from nmt.evaluation.worst_sentences import worst_sentences


def model_folder(name: str, evaluation: Evaluation) -> Path | None:
    """The folder of the very model that was evaluated; None when it is gone, has changed, or is an ensemble.

    Args:
        name: the system as it was given: a folder, or a saved evaluation.
    """
    files = evaluation.provenance.files
    if not evaluation.provenance.decoding or any("/" in file for file in files):
        return None
    recorded = Path(evaluation.provenance.system)
    # Beside a saved evaluation lies its model, wherever the run was moved to.
    candidates = [Path(name), Path(name) / "model", recorded, Path(name).parent / recorded.name]
    return next((folder for folder in candidates if _holds(folder, files)), None)


def _holds(folder: Path, files: dict[str, str]) -> bool:
    try:
        return all(file_hash(folder / file) == digest for file, digest in files.items())
    except OSError:
        return False


def run_folder(name: str, folder: Path | None) -> Path | None:
    """The run that a model folder or a saved evaluation lies in."""
    candidates = [Path(name), Path(name).parent]
    if folder is not None:
        candidates += list(folder.absolute().parents)[:2]
    return next((each for each in candidates if (each / "metrics.jsonl").is_file()), None)


def attention_maps(
    folder: Path,
    evaluation: Evaluation,
    first: Evaluation,
    test_sets: Sequence[str],
    config: ReportConfig,
) -> dict[tuple[str, int], CompactMap]:
    """Maps of some listed sentences by test set and place: the first ones, and those that `first` does worst.

    Raises:
        BundleError: the model cannot be read.
    """
    import torch

    from nmt import bundle
    from nmt.data.processors import available_cores
    from nmt.evaluation.attention_maps import PairAttention
    from nmt.model.device import choose_device
    from nmt.model.teacher_forcing import LengthError

    torch.set_num_threads(config.threads or available_cores())
    loaded = bundle.load(folder, device=choose_device(config.device))
    maps = {}
    for test_set in test_sets:
        own = evaluation.test_set(test_set)
        leading = first.test_set(test_set)
        assert own is not None
        assert leading is not None
        count = len(own.sentences)
        order = [each.place for each in worst_sentences(leading, count)]
        readable = [
            place
            for place in listed_places(count, config.sentences)
            if fits(own.sentences[place].source, own.sentences[place].hypothesis)
        ]
        for place in chosen_places(order, readable, config.attention_maps):
            sentence = own.sentences[place]
            try:
                found = PairAttention.of(loaded.model, loaded.tokenizer, sentence.source, sentence.hypothesis)
            except LengthError:
                continue
            maps[test_set, place] = CompactMap.of(found)
    return maps
