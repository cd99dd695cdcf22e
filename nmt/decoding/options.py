"""The settings of decoding as keyword arguments, for type checkers and editors."""

from typing import Literal, TypedDict

from nmt.decoding.config import DecodingPrecision, LengthPenalty, MbrUtility, Stopping


class DecodingOptions(TypedDict, total=False):
    """The fields of DecodingConfig, none of which has to be given."""

    beam_size: int
    length_penalty: float
    length_penalty_formula: LengthPenalty | Literal["wu", "power"]
    coverage_penalty: float
    stopping: Stopping | Literal["bound", "count"]
    diverse_groups: int
    diversity: float
    temperature: float
    top_k: int
    top_p: float
    seed: int
    no_repeat_ngram: int
    banned_words: list[str]
    mbr: MbrUtility | Literal["none", "chrf", "bleu"]
    precision: DecodingPrecision | Literal["auto", "float32", "bfloat16", "float16", "int8"]
    max_length_ratio: float
    max_length_offset: int
    max_tokens_per_batch: int
    max_source_pieces: int
