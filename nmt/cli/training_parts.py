"""The parts of a training run, made from its settings."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice

import torch

from nmt.config import TrainConfig
from nmt.data.batching import BatchShape, batch_shapes
from nmt.data.loader import Loader
from nmt.data.preparation import PreparedData, read_texts
from nmt.data.tokenizer import BEGIN_ID, Tokenizer
from nmt.decoding.translator import Translator
from nmt.evaluation.attention_maps import PairAttention
from nmt.evaluation.attention_pixels import draw_pixels
from nmt.evaluation.config import AttentionMapConfig
from nmt.evaluation.metrics import Scorer
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import TrainState
from nmt.training.config import Sharding
from nmt.training.distributed import Processes
from nmt.training.flops import flops_per_unit, measure_peak
from nmt.training.gauges import Gauges
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.parameters import Parameters
from nmt.training.precision import choose_dtype
from nmt.training.replicas import Replicas, replica_count
from nmt.training.sinks import Pixels
from nmt.training.validation import Validation

# Pieces of a side in a picture of attention.
MOST_SHOWN_PIECES = 60


def shapes(config: TrainConfig) -> list[BatchShape]:
    """The shapes of batches, once rows and size are settled."""
    return batch_shapes(
        config.training.max_tokens_per_batch, config.training.row_length, config.training.long_row_length
    )


def make_replicas(
    config: TrainConfig, prepared: PreparedData, processes: Processes, dtype: str, device: torch.device
) -> Replicas:
    """The model, freshly initialised from the seed: the same on every process."""
    torch.manual_seed(config.seed)
    model = Transformer(
        config.model,
        source_vocabulary_size=prepared.tokenizer.source_vocabulary_size,
        target_vocabulary_size=prepared.tokenizer.target_vocabulary_size,
    )
    if config.training.sharding is Sharding.full:
        # A run that does not need FSDP does not wait for its import.
        from nmt.training.sharding import sharded_replicas

        return sharded_replicas(model, getattr(torch, dtype), device, seed=config.seed, rank=processes.rank)
    model = model.to(device)
    threads = torch.get_num_threads()
    rows = shapes(config)[0].rows
    count = replica_count(threads=threads, rows=rows) if device.type == "cpu" else 1
    return Replicas(
        model,
        FlatParameters(model, getattr(torch, dtype)),
        count=count,
        threads_each=threads // count,
        seed=config.seed,
        rank=processes.rank,
        cuda_graphs=config.training.cuda_graphs and device.type == "cuda",
        compiled=config.training.compile and device.type == "cuda",
    )


def make_optimizer(config: TrainConfig, parameters: Parameters) -> Optimizer:
    """The optimizer of parameters that lie in one tensor or are sharded."""
    if config.training.sharding is Sharding.none:
        return Optimizer(parameters, config.training)
    from nmt.training.sharding import ShardedOptimizer, ShardedParameters

    assert isinstance(parameters, ShardedParameters)
    return ShardedOptimizer(parameters, config.training)


def make_loader(
    config: TrainConfig, prepared: PreparedData, processes: Processes, device: torch.device
) -> Loader:
    """This process's share of the stream of batches."""
    return Loader(
        prepared.train,
        shapes(config),
        begin_id=BEGIN_ID,
        seed=config.seed,
        device=device,
        rank=processes.rank,
        world_size=processes.world_size,
    )


def make_gauges(
    config: TrainConfig, prepared: PreparedData, replicas: Replicas, device: torch.device
) -> Gauges:
    """Gauges against the speed that the device has at this moment."""
    vocabulary_size = prepared.tokenizer.target_vocabulary_size
    peak = measure_peak(
        replicas.models[0].dtype, device, threads=replicas.threads, count=len(replicas.models)
    )
    return Gauges(
        flops_per_unit(config.model, target_vocabulary_size=vocabulary_size), peak_flops=peak, device=device
    )


def first_state(
    config: TrainConfig, prepared: PreparedData, processes: Processes, device: torch.device
) -> TrainState:
    """The state of a run that has not begun, with the settings a resumed run may not change."""
    # Measured by one: two equal processors may come to different results.
    dtype = processes.decide(lambda: str(choose_dtype(config.training.precision, device)))
    training = asdict(config.training)
    fixed = ("max_tokens_per_batch", "row_length", "long_row_length")
    return TrainState(
        world_size=processes.world_size,
        accumulate_batches=config.training.accumulate_batches,
        dtype=dtype.removeprefix("torch."),
        identity={
            "the prepared data": prepared.fingerprint,
            "seed": str(config.seed),
            **{f"model.{name}": str(value) for name, value in asdict(config.model).items()},
            **{f"training.{name}": str(training[name]) for name in fixed},
        },
    )


def make_decode(
    config: TrainConfig,
    prepared: PreparedData,
    processes: Processes,
    model: Transformer,
    device: torch.device,
) -> Callable[[], Validation | None]:
    """Real decoding of the validation set with the weights of the moment, scored by the main process."""
    sources, references = read_texts(
        config.data.valid,
        field="data.valid",
        source_language=config.data.source_language,
        target_language=config.data.target_language,
    )
    count = config.training.validation_sentences or len(sources)
    sources, references = sources[:count], references[:count]
    # A tokenizer that is missing is said now, not at the first validation.
    scorer = Scorer(
        [[text] for text in references], language=config.data.target_language, metrics=("bleu", "chrf")
    )
    # Dealt out like cards: each process gets sentences of every kind.
    shares = [sources[rank :: processes.world_size] for rank in range(processes.world_size)]
    shown = _shown_pair(config, prepared.tokenizer, model, sources, references)

    def decode() -> Validation | None:
        # With the weights of this moment.
        translator = Translator.of(
            model, prepared.tokenizer, config.decoding, source_language=config.data.source_language
        )
        translations = [""] * len(sources)
        for rank, share in enumerate(processes.map(translator.translate, shares)):
            translations[rank :: processes.world_size] = share
        if not processes.is_main:
            return None
        scores = {found.name: found for found in scorer.score(scorer.statistics(translations))}
        samples = config.training.sample_sentences
        return Validation(
            bleu=scores["BLEU"].value,
            chrf=scores["chrF"].value,
            bleu_signature=scores["BLEU"].signature,
            samples=list(zip(sources, references, translations, strict=True))[:samples],
            images={} if shown is None else {"attention": _draw_attention(model, prepared, *shown)},
        )

    return decode


def _shown_pair(
    config: TrainConfig,
    tokenizer: Tokenizer,
    model: Transformer,
    sources: Sequence[str],
    references: Sequence[str],
) -> tuple[str, str] | None:
    """The first sample whose attention fits a picture; none where no process has a whole model."""
    if config.training.sharding is Sharding.full:
        return None
    most = min(MOST_SHOWN_PIECES, model.longest_source or MOST_SHOWN_PIECES)
    for source, reference in islice(zip(sources, references, strict=True), config.training.sample_sentences):
        pieces = (*tokenizer.encode_source([source]), *tokenizer.encode_target([reference]))
        if all(1 < len(side) <= most for side in pieces):
            return source, reference
    return None


def _draw_attention(model: Transformer, prepared: PreparedData, source: str, reference: str) -> Pixels:
    """Cross-attention of the reference, not of a translation: the same rows at every step of the run."""
    attention = PairAttention.of(model, prepared.tokenizer, source, reference)
    return draw_pixels(attention.maps(AttentionMapConfig())[0][0])
