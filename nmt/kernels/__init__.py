"""Functions in C for a CPU, where PyTorch would take many short operations: in a decoding step."""
