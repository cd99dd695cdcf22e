"""Scores that always carry their signature."""
