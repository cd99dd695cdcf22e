"""Search over hypotheses, and text in, text out around it."""
