"""Out of the house: models in other engines' formats, each checked against the original."""
