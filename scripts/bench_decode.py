"""Decoding speed beside CTranslate2 and Hugging Face transformers: same weights, sentences, beam and rules.

    python scripts/bench_decode.py --model runs/latest --input test.en --threads 1 --json decode.json
    python scripts/bench_decode.py --model runs/latest --input test.en --shape base --vocabulary 32000 \\
        --length 26 --sentences 64

Every contestant has a process of its own and translates all sentences once per round; the rounds take turns
(ours, theirs, ours, ...), with a matrix product timed before and after, because shared machines drift. All
follow one rule: a beam of W, log-probability over length, an end when W hypotheses have ended, the same
greatest length; each sorts by length and batches as suits it best (--batch tries several and keeps the
fastest). Their outputs are compared piece by piece with those of our float32.

--shape takes a model of another size with random weights in place of the trained one, and sentences of about
--length pieces: their translations are nonsense of just that length, the same work for all. Needs the extras
`ctranslate2` and `huggingface`.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nmt.cli import host

if not os.environ.get("BENCH_PEER"):
    host.tune()

import torch
from bench_train import calibrate, processor_name

from nmt import bundle
from nmt.cli.composition import Request
from nmt.config import TrainConfig, load
from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, Tokenizer
from nmt.decoding.config import DecodingConfig, DecodingPrecision, LengthPenalty, Stopping
from nmt.decoding.engine import Engine
from nmt.decoding.guidance import BANNED_IDS
from nmt.export import ctranslate2 as export_ctranslate2
from nmt.export import huggingface as export_huggingface
from nmt.export.config import Quantization
from nmt.model.transformer import Transformer
from nmt.training.run_folder import provenance

CPU = torch.device("cpu")
# Pieces of each sentence, END left out, in the order of the sentences.
Outputs = list[list[int]]
Translate = Callable[[int], Outputs]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="run or model folder")
    parser.add_argument("--input", required=True, help="text file, a sentence per line")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument(
        "--length", type=int, default=64, help="greatest length of a translation, END included"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", help="a file of configs/model: random weights of that size")
    parser.add_argument("--vocabulary", type=int, default=0, help="with --shape; 0: the tokenizer's")
    parser.add_argument("--ours", nargs="*", default=["float32", "bfloat16", "int8"])
    parser.add_argument(
        "--peers",
        nargs="*",
        default=["ctranslate2:float32", "ctranslate2:int8", "transformers:float32"],
    )
    parser.add_argument("--batch", type=int, nargs="*", default=[16, 32, 64], help="sentences to try")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def load_model(arguments: argparse.Namespace) -> bundle.Bundle:
    """The trained model, or one of another size with random weights in its place."""
    loaded = bundle.load(arguments.model, device=CPU)
    if arguments.shape:
        request = Request.parse("train", [f"model={arguments.shape}"])
        shape = load(request.compose(), TrainConfig).model
        size = max(arguments.vocabulary, loaded.settings.target_vocabulary_size)
        torch.manual_seed(1)
        loaded.model = Transformer(shape, source_vocabulary_size=size, target_vocabulary_size=size)
        loaded.settings.model = shape
        loaded.settings.source_vocabulary_size = loaded.settings.target_vocabulary_size = size
        widen(loaded.tokenizer, size)
    return loaded


def widen(tokenizer: Tokenizer, size: int) -> None:
    """Let a vocabulary go on with pieces that no text has: exports write one as large as the model's."""
    for name in ("source_vocabulary", "target_vocabulary"):
        pieces = getattr(tokenizer, name)()
        pieces += [f"<further {number}>" for number in range(len(pieces), size)]
        setattr(tokenizer, name, lambda pieces=pieces: pieces)


def encoded_sources(arguments: argparse.Namespace) -> list[list[int]]:
    """The sentences to translate, as pieces; with --shape those of about --length pieces."""
    lines = Path(arguments.input).read_text(encoding="utf-8").splitlines()
    sources = load_model(arguments).tokenizer.encode_source(lines)
    if arguments.shape:
        sources = [source for source in sources if abs(len(source) - arguments.length) <= 4]
    return sources[: arguments.sentences]


def ours(arguments: argparse.Namespace, kind: str, sources: Sequence[list[int]]) -> Translate:
    config = DecodingConfig(
        beam_size=arguments.beam,
        length_penalty=1.0,
        length_penalty_formula=LengthPenalty.power,
        stopping=Stopping.count,
        max_length_ratio=0,
        max_length_offset=arguments.length,
        precision=DecodingPrecision(kind),
    )
    engine = Engine(load_model(arguments).model, config, CPU)
    longest = max(map(len, sources))

    def translate(batch: int) -> Outputs:
        engine.config.max_tokens_per_batch = batch * arguments.beam * longest
        return [best[0].pieces for best in engine.search(sources)]

    return translate


def ctranslate2(
    arguments: argparse.Namespace, kind: str, sources: Sequence[list[int]], folder: Path
) -> Translate:
    import ctranslate2 as engine

    export_ctranslate2.write(load_model(arguments), folder, Quantization.float32)
    translator = engine.Translator(
        str(folder), compute_type=kind, inter_threads=1, intra_threads=arguments.threads
    )
    tokenizer = load_model(arguments).tokenizer
    pieces, ids = tokenizer.source_vocabulary(), {}
    ids = {piece: number for number, piece in enumerate(tokenizer.target_vocabulary())}
    tokens = [[pieces[number] for number in source[:-1]] for source in sources]

    def translate(batch: int) -> Outputs:
        found = translator.translate_batch(
            tokens,
            beam_size=arguments.beam,
            length_penalty=1.0,
            max_input_length=0,
            max_decoding_length=arguments.length - 1,
            min_decoding_length=0,
            max_batch_size=batch,
        )
        return [[ids[piece] for piece in each.hypotheses[0]] for each in found]

    return translate


def transformers(
    arguments: argparse.Namespace, kind: str, sources: Sequence[list[int]], folder: Path
) -> Translate:
    from transformers import AutoModelForSeq2SeqLM

    export_huggingface.write(load_model(arguments), folder, Quantization.float32)
    model = AutoModelForSeq2SeqLM.from_pretrained(str(folder)).eval().to(getattr(torch, kind))
    order = sorted(range(len(sources)), key=lambda number: len(sources[number]))
    beams: dict[str, Any] = {"num_beams": arguments.beam}
    if arguments.beam > 1:
        beams |= {"length_penalty": 1.0, "early_stopping": True}

    @torch.inference_mode()
    def translate(batch: int) -> Outputs:
        found: Outputs = [[] for _ in sources]
        for start in range(0, len(order), batch):
            numbers = order[start : start + batch]
            own = [torch.tensor(sources[number]) for number in numbers]
            padded = torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=PAD_ID)
            generated = model.generate(
                input_ids=padded,
                attention_mask=(padded != PAD_ID).long(),
                max_length=arguments.length + 1,
                suppress_tokens=list(BANNED_IDS),
                **beams,
            )
            for number, row in zip(numbers, generated.tolist(), strict=True):
                found[number] = [piece for piece in row if piece not in (BEGIN_ID, END_ID, PAD_ID)]
        return found

    return translate


@dataclass
class Round:
    """What one contestant did in one round."""

    seconds: float
    outputs: Outputs
    calibration_gflops: list[float]
    peak_mb: float


def compete(arguments: argparse.Namespace, name: str, commands: Connection) -> None:
    """The process of one contestant: it translates all sentences for every batch size that it receives."""
    side, kind = name.split(":")
    torch.set_num_threads(arguments.threads)
    sources = encoded_sources(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if side == "nmt":
            translate = ours(arguments, kind, sources)
        else:
            make = ctranslate2 if side == "ctranslate2" else transformers
            translate = make(arguments, kind, sources, Path(folder))
        commands.send("ready")
        while batch := commands.recv():
            calibrations = [calibrate("cpu")]
            start = time.perf_counter()
            outputs = translate(batch)
            seconds = time.perf_counter() - start
            calibrations.append(calibrate("cpu"))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
            commands.send(Round(seconds, outputs, calibrations, peak))


def main() -> None:
    arguments = parse()
    names = [f"nmt:{kind}" for kind in arguments.ours] + arguments.peers
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        # Read where this file is imported anew, before torch.
        os.environ["BENCH_PEER"] = "" if name.startswith("nmt:") else name
        processes.append(context.Process(target=compete, args=(arguments, name, theirs)))
        processes[-1].start()
        # So that the end of a contestant that fails is seen, not waited for.
        theirs.close()
        assert pipes[name].recv() == "ready"

    def turn(name: str, batch: int) -> Round:
        pipes[name].send(batch)
        found: Round = pipes[name].recv()
        return found

    # Warms up, and finds the batch that suits each.
    tried = {name: {batch: turn(name, batch) for batch in arguments.batch} for name in names}
    best = {name: min(rounds, key=lambda batch: rounds[batch].seconds) for name, rounds in tried.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            rounds[name].append(turn(name, best[name]))
    for name, process in zip(names, processes, strict=True):
        pipes[name].send(0)
        process.join()
    reference = rounds["nmt:float32"][0].outputs if "nmt:float32" in rounds else None
    figures = [summary(name, rounds[name], best[name], arguments.threads, reference) for name in names]
    report(arguments, figures)
    if arguments.json:
        content = {
            "arguments": vars(arguments) | {"model": "", "input": Path(arguments.input).name, "json": ""},
            "processor": processor_name(),
            **provenance(),
            "contestants": figures,
        }
        Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def summary(
    name: str, rounds: list[Round], batch: int, threads: int, reference: Outputs | None
) -> dict[str, Any]:
    """Medians and spread of one contestant's rounds."""
    outputs = rounds[0].outputs
    rates = [len(outputs) / each.seconds for each in rounds]
    # END included.
    pieces = sum(len(own) + 1 for own in outputs)
    return {
        "name": name,
        "sentences_per_second": statistics.median(rates),
        "sentences_per_second_per_thread": statistics.median(rates) / threads,
        "min": min(rates),
        "max": max(rates),
        "pieces_per_second": statistics.median(rates) * pieces / len(outputs),
        "pieces_per_sentence": pieces / len(outputs),
        "batch_sentences": batch,
        "peak_mb": max(each.peak_mb for each in rounds),
        "differs_from_our_float32": None
        if reference is None
        else sum(own != other for own, other in zip(outputs, reference, strict=True)),
        "calibration_gflops": [rate for each in rounds for rate in each.calibration_gflops],
    }


def report(arguments: argparse.Namespace, figures: list[dict[str, Any]]) -> None:
    calibrations = [rate for each in figures for rate in each["calibration_gflops"]]
    peers = [each for each in figures if not each["name"].startswith("nmt:")]
    print(
        f"model {arguments.shape or 'trained'}, beam {arguments.beam}, {arguments.sentences} sentences,"
        f" {arguments.threads} threads, {arguments.rounds} rounds; calibration (float32 product)"
        f" {min(calibrations):.0f}-{max(calibrations):.0f} GFLOP/s"
    )
    print(
        f"{'':24}{'sentences/s':>12}{'min':>8}{'max':>8}{'per thread':>12}{'pieces/s':>10}{'pieces':>8}"
        f"{'batch':>7}{'peak MB':>9}{'differ':>8}   ratio to each peer"
    )
    for each in figures:
        rate = each["sentences_per_second"]
        ratios = "  ".join(f"{rate / peer['sentences_per_second']:.2f}" for peer in peers)
        print(
            f"{each['name']:24}{rate:12,.1f}{each['min']:8,.1f}{each['max']:8,.1f}"
            f"{rate / arguments.threads:12,.1f}{each['pieces_per_second']:10,.0f}"
            f"{each['pieces_per_sentence']:8.1f}{each['batch_sentences']:7}{each['peak_mb']:9,.0f}"
            f"{each['differs_from_our_float32']!s:>8}   {ratios}"
        )


if __name__ == "__main__":
    main()
