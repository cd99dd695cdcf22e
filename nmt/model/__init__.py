"""The encoder-decoder Transformer: tensors in, tensors out."""
