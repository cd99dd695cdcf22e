"""Train neural machine translation models from scratch."""

__version__ = "0.1.0"
