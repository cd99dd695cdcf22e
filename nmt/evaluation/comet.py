"""COMET (Rei et al., 2020), a metric that is a neural model itself; the extra `comet` brings its library."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np

from nmt.evaluation.metrics import MetricError, first_words
from nmt.evaluation.statistics import Array

_BATCH_SIZE = 16


class Comet:
    """A COMET model. The library unpickles its checkpoint: name only models that you trust."""

    def __init__(self, name: str, model: Any, version: str) -> None:
        self.name = name
        self.model = model
        self.version = version

    @classmethod
    def load(cls, name: str) -> "Comet":
        """
        Raises:
            MetricError: the library is not installed, or the weights cannot be had.
        """
        try:
            import comet
        except ImportError as error:
            raise MetricError(
                f"scoring.comet={name} needs the library of COMET: pip install 'nmt[comet]', or leave it out"
            ) from error
        try:
            model = comet.load_from_checkpoint(comet.download_model(name))
        # The library and the hub behind it have errors of many kinds for what is missing.
        except Exception as error:
            raise MetricError(
                f"scoring.comet={name}: its weights cannot be had ({first_words(error)}); download them"
                " on a machine with a network and copy its cache of the Hugging Face hub, or leave it out"
            ) from error
        return cls(name, model, importlib.metadata.version("unbabel-comet"))

    def statistics(
        self, sources: Sequence[str], references: Sequence[Sequence[str]], hypotheses: Sequence[str]
    ) -> Array:
        """The score of each sentence, times 100 and averaged over its references, and 1: [N, 2]."""
        import torch

        columns = list(zip(*references, strict=True))
        scores = np.zeros(len(sources))
        for column in columns:
            rows = [
                {"src": source, "mt": hypothesis, "ref": reference}
                for source, hypothesis, reference in zip(sources, hypotheses, column, strict=True)
            ]
            predicted = self.model.predict(
                rows, batch_size=_BATCH_SIZE, gpus=int(torch.cuda.is_available()), progress_bar=False
            )
            scores += np.asarray(predicted["scores"], dtype=np.float64)
        return np.stack([100 * scores / len(columns), np.ones(len(scores))], axis=1)

    def signature(self, references: int) -> str:
        """Model and version, in the manner of sacrebleu's signatures."""
        return f"nrefs:{references}|model:{self.name}|version:{self.version}"
