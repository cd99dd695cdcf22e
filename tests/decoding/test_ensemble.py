"""An ensemble searches with the mean of its members' probabilities, whatever their sizes."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nmt import bundle
from nmt.bundle import BundleError
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import BEGIN_ID, END_ID, Tokenizer
from nmt.decoding import ensemble
from nmt.decoding.config import DecodingConfig, DecodingPrecision
from nmt.decoding.engine import Engine
from nmt.decoding.ensemble import Ensemble, TranslationModel
from nmt.decoding.search import Hypothesis
from nmt.model.config import Positions, TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

CPU = torch.device("cpu")


def make_model(
    seed: int,
    *,
    vocabulary: int = 40,
    layers: int = 1,
    width: int = 16,
    max_positions: int | None = None,
) -> Transformer:
    torch.manual_seed(seed)
    config = TransformerConfig(
        encoder_layers=layers,
        decoder_layers=layers,
        width=width,
        heads=2,
        feed_forward_width=32,
        tied_embeddings=TiedEmbeddings.none,
        positions=Positions.sinusoidal if max_positions is None else Positions.learned,
        max_positions=max_positions or 64,
    )
    model = Transformer(config, source_vocabulary_size=vocabulary, target_vocabulary_size=vocabulary).eval()
    with torch.no_grad():
        # Sharp enough that the best beams are no matter of rounding.
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.requires_grad_(False)


def sources(count: int, vocabulary: int = 40) -> list[list[int]]:
    generator = torch.Generator().manual_seed(6)
    return [
        [*torch.randint(4, vocabulary, (1 + number % 9,), generator=generator).tolist(), END_ID]
        for number in range(count)
    ]


def search(
    model: TranslationModel,
    batch: list[list[int]],
    *,
    beam_size: int = 4,
    ratio: float = 1.0,
    offset: int = 4,
) -> list[list[Hypothesis]]:
    config = DecodingConfig(
        beam_size=beam_size,
        max_length_ratio=ratio,
        max_length_offset=offset,
        precision=DecodingPrecision.float32,
        # Few rows, so that sentences wait, leave and take each other's rows.
        max_tokens_per_batch=150,
    )
    return Engine(model, config, CPU).search(batch)


def mean_log_probs(models: Sequence[Transformer], source: list[int], pieces: Sequence[int]) -> Tensor:
    """Of each position, by full passes without a cache: [T, V], double."""
    probabilities = torch.zeros((), dtype=torch.double)
    source_BS, target_BT = torch.tensor([source]), torch.tensor([[BEGIN_ID, *pieces]])
    for model in models:
        logits_BTV = model(
            source_BS=source_BS,
            source_segments_BS=torch.ones_like(source_BS),
            source_positions_BS=torch.arange(len(source))[None],
            target_BT=target_BT,
            target_segments_BT=torch.ones_like(target_BT),
            target_positions_BT=torch.arange(target_BT.shape[1])[None],
        )
        probabilities = probabilities + logits_BTV[0].double().softmax(-1)
    return (probabilities / len(models)).log()


def mean_log_probability(models: Sequence[Transformer], source: list[int], pieces: Sequence[int]) -> float:
    log_probs_TV = mean_log_probs(models, source, pieces)
    return sum(log_probs_TV[place, piece].item() for place, piece in enumerate([*pieces, END_ID]))


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_an_ensemble_of_one_model_is_that_model(beam_size: int, copies: int) -> None:
    model, batch = make_model(1), sources(30)
    alone = search(model, batch, beam_size=beam_size)
    together = search(Ensemble([model] * copies), batch, beam_size=beam_size)
    assert [[h.pieces for h in own] for own in together] == [[h.pieces for h in own] for own in alone]
    assert len({len(own[0].pieces) for own in alone}) > 2
    for ours, theirs in zip(together, alone, strict=True):
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-5)


def test_models_of_all_sizes_search_with_their_mean_probability() -> None:
    """Every hypothesis that there is, with its probability, against full passes of each model."""
    vocabulary, longest = 7, 4
    models = [
        make_model(1, vocabulary=vocabulary),
        make_model(2, vocabulary=vocabulary, layers=2, width=32),
        make_model(3, vocabulary=vocabulary, layers=3),
    ]
    words = range(END_ID + 1, vocabulary)
    everything = [pieces for length in range(longest) for pieces in itertools.product(words, repeat=length)]
    batch = sources(12, vocabulary)
    found = search(Ensemble(models), batch, beam_size=len(everything), ratio=0, offset=longest)
    for source, hypotheses in zip(batch, found, strict=True):
        expected = {pieces: mean_log_probability(models, source, pieces) for pieces in everything}
        assert {tuple(h.pieces) for h in hypotheses} == expected.keys()
        for each in hypotheses:
            assert each.log_probability == pytest.approx(expected[tuple(each.pieces)], abs=1e-4)
        best = max(expected, key=lambda pieces: expected[pieces] / ((6 + len(pieces)) / 6) ** 0.6)
        assert tuple(hypotheses[0].pieces) == best


def test_beams_that_change_places_do_so_in_every_member() -> None:
    models = [make_model(4), make_model(5, layers=2, width=32)]
    batch = sources(30)
    for source, hypotheses in zip(batch, search(Ensemble(models), batch), strict=True):
        for each in hypotheses:
            expected = mean_log_probability(models, source, each.pieces)
            assert each.log_probability == pytest.approx(expected, abs=1e-4)


def test_an_impossible_piece_keeps_its_rank() -> None:
    """Probabilities too small for float32 still have logarithms."""
    model = make_model(1)
    with torch.no_grad():
        model.output_projection.weight.mul_(200)
    both = Ensemble([model, model])
    source_BS, begin_B1 = torch.tensor(sources(1)), torch.tensor([[BEGIN_ID]])
    log_probs_BWV = both.step(begin_B1, both.start_cache(source_BS, beam_size=1))
    expected = model.step(begin_B1, model.start_cache(source_BS, beam_size=1)).log_softmax(-1)
    assert expected.min() < -200
    torch.testing.assert_close(log_probs_BWV, expected)


def test_the_members_stay_as_they_are_and_share_their_weights() -> None:
    model = make_model(1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    config = DecodingConfig(precision=DecodingPrecision.bfloat16)
    engine = Engine(Ensemble([model, model]), config, CPU)
    assert isinstance(engine.model, Ensemble)
    assert engine.model.dtype is torch.bfloat16
    assert engine.model.members[0] is engine.model.members[1]
    assert model.dtype is torch.float32
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_the_shortest_reach_of_a_member_is_that_of_all() -> None:
    reaching = [make_model(1), make_model(2, max_positions=24), make_model(3, max_positions=12)]
    assert Ensemble(reaching).longest_source == 12
    assert Ensemble(reaching[:1]).longest_source is None
    batch = sources(5)
    found = search(Ensemble(reaching), batch, ratio=0, offset=40)
    assert max(len(h.pieces) for own in found for h in own) < 12


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="one vocabulary size"):
        Ensemble([make_model(1), make_model(1, vocabulary=41)])
    with pytest.raises(ValueError, match="one vocabulary size"):
        Ensemble([])


def write_folder(folder: Path, seed: int, *, words: str = "the small dog", languages: str = "en-de") -> Path:
    tokenizer = Tokenizer.train([(words, words.upper())] * 4, TokenizerConfig(vocabulary_size=300))
    size = tokenizer.source_vocabulary_size
    model = make_model(seed, vocabulary=size, layers=1 + seed % 2)
    source_language, target_language = languages.split("-")
    settings = bundle.BundleSettings(
        source_language=source_language,
        target_language=target_language,
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        model=model.config,
        decoding=DecodingConfig(beam_size=1 + seed, max_length_ratio=0, max_length_offset=6).plain(),
    )
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder


def test_folders_are_loaded_together(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    loaded = ensemble.load(folders, device=CPU)
    assert isinstance(loaded.model, Ensemble)
    assert (loaded.folder, loaded.settings.decoding["beam_size"]) == (folders[0], 2)
    single = [ensemble.load(folder, device=CPU) for folder in folders]
    assert [len(each.bundles) for each in single] == [1, 1]
    members = [each.model for each in single]
    assert not any(isinstance(each, Ensemble) for each in members)
    batch = loaded.tokenizer.encode_source(["the dog", "a small dog"])
    for source, hypotheses in zip(batch, search(loaded.model, batch), strict=True):
        for each in hypotheses:
            expected = mean_log_probability(members, source, each.pieces)  # type: ignore[arg-type]
            assert math.isclose(each.log_probability, expected, abs_tol=1e-4)


def test_folders_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "first", 1)
    # As many pieces, other ones.
    other = write_folder(tmp_path / "other", 1, words="the small xog")
    sizes = [bundle.read_settings(folder).source_vocabulary_size for folder in (first, other)]
    assert sizes[0] == sizes[1]
    with pytest.raises(BundleError, match=r"first and \S+other have different vocabularies"):
        ensemble.load([first, other], device=CPU)
    turned = write_folder(tmp_path / "turned", 1, languages="de-en")
    with pytest.raises(BundleError, match=r"first translates en-de, \S+turned de-en"):
        ensemble.load([first, first, turned], device=CPU)
    with pytest.raises(BundleError, match="nowhere: no such folder"):
        ensemble.load([first, tmp_path / "nowhere"], device=CPU)
