"""A card's commands, run in order as a reader would, and judged (docs/card-test.md)."""
