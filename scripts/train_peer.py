"""BLEU over updates and minutes of Hugging Face MarianMTModel, trained on our data with our settings.

    python scripts/train_peer.py --json peer.json experiment=multi30k data.train.source=train.en ...

The settings are those of `nmt train`: data, pieces, model size, slots per update, learning rate, warm-up and
label smoothing. The loop is the usual one: sentences sorted by length and padded, sdpa, fused AdamW,
clipping, the model's own `generate` to validate, no moving average. The seconds are those of the updates
alone. Stops at `training.max_steps`. Needs the extra `bench`.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("BENCH_CONTESTANT", "MarianMTModel")
from bench_train import PeerTraining, calibrate, processor_name

from nmt.cli.composition import Request
from nmt.config import TrainConfig, load
from nmt.data.preparation import prepare, read_texts
from nmt.data.tokenizer import PAD_ID, Tokenizer
from nmt.decoding.guidance import BANNED_IDS
from nmt.evaluation.metrics import Scorer
from nmt.training.optim import learning_rate
from nmt.training.run_folder import provenance


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, help="updates; training.max_steps if not given")
    parser.add_argument("--json", help="file for the figures, written anew at every validation")
    parser.add_argument("settings", nargs="+", help="as for nmt train")
    return parser.parse_args()


@torch.inference_mode()
def translate(model: Any, tokenizer: Tokenizer, texts: Sequence[str], beam_size: int) -> list[str]:
    """The texts through `generate`, sorted by length."""
    model.eval()
    sources = tokenizer.encode_source(texts)
    order = sorted(range(len(sources)), key=lambda number: len(sources[number]))
    found = [""] * len(sources)
    for start in range(0, len(order), 64):
        numbers = order[start : start + 64]
        own = [torch.tensor(sources[number]) for number in numbers]
        padded = torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=PAD_ID)
        generated = model.generate(
            input_ids=padded,
            attention_mask=(padded != PAD_ID).long(),
            max_length=padded.shape[1] * 2 + 10,
            num_beams=beam_size,
            early_stopping=True,
            suppress_tokens=list(BANNED_IDS),
        )
        for number, text in zip(numbers, tokenizer.decode_target(generated.tolist()), strict=True):
            found[number] = text
    model.train()
    return found


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    config = load(Request.parse("train", arguments.settings).compose(), TrainConfig)
    prepared = prepare(config.data, config.tokenizer)
    texts, references = read_texts(
        config.data.valid,
        field="data.valid",
        source_language=config.data.source_language,
        target_language=config.data.target_language,
    )
    scorer = Scorer([[text] for text in references], language=config.data.target_language, metrics=("bleu",))

    def bleu(model: Any) -> float:
        found = translate(model, prepared.tokenizer, texts, config.decoding.beam_size)
        return scorer.score(scorer.statistics(found))[0].value

    peer = argparse.Namespace(
        device="cpu", vocabulary=0, slots=config.training.max_tokens_per_batch, threads=arguments.threads
    )
    training = PeerTraining(peer, config, prepared, getattr(torch, arguments.dtype))
    figures: list[dict[str, float]] = []
    seconds, pieces, window_seconds, window_pieces = 0.0, 0, 0.0, 0
    for step in range(1, (arguments.steps or config.training.max_steps) + 1):
        for group in training.adam.param_groups:
            group["lr"] = learning_rate(config.training, step)
        start = time.perf_counter()
        pieces += training.update()[1]
        seconds += time.perf_counter() - start
        if step % config.training.validate_every == 0:
            score = bleu(training.model)
            rate = (pieces - window_pieces) / (seconds - window_seconds)
            window_seconds, window_pieces = seconds, pieces
            figures.append(
                {
                    "step": step,
                    "seconds": seconds,
                    "target_pieces": pieces,
                    "target_pieces_per_second": rate,
                    "bleu": score,
                    "calibration_gflops": calibrate("cpu"),
                }
            )
            print(
                f"step {step:,}: {seconds / 60:.1f} min, {rate:,.0f} target pieces/s, BLEU {score:.1f}",
                flush=True,
            )
            if arguments.json:
                save(arguments, figures)


def save(arguments: argparse.Namespace, figures: list[dict[str, float]]) -> None:
    settings = [part for part in arguments.settings if not part.startswith("data.")]
    content = {
        "arguments": vars(arguments) | {"json": "", "settings": settings},
        "processor": processor_name(),
        **provenance(),
        "validations": figures,
    }
    Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
