"""From files of sentence pairs to packed batches of pieces."""
