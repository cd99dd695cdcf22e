"""`nmt prepare`: corpus -> checked, cleaned, tokenised, memory-mapped data."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nmt.config import PrepareConfig


def run(config: "PrepareConfig") -> None:
    """Prepare the data of `config` and print what came of it."""
    from nmt.data.preparation import prepare, summary

    prepared = prepare(config.data, config.tokenizer, summarize=False)
    print(summary(prepared))
    for field, counts in prepared.report["overlap"].items():
        print(f"  {field}: {counts['pairs']:,} pairs, {counts['in_training']:,} of them in the training data")
    for name, counts in prepared.report["train"]["removed"].items():
        if counts["count"]:
            print(f"  removed as {name}: {counts['count']:,}, for example {', '.join(counts['examples'])}")
    source, target = (pieces.tolist() for pieces in prepared.valid.gather([0]))
    print("first validation pair in pieces:")
    print(f"  {' '.join(prepared.tokenizer.pieces_source(prepared.tokenizer.decode_source([source])[0]))}")
    print(f"  {' '.join(prepared.tokenizer.pieces_target(prepared.tokenizer.decode_target([target])[0]))}")
