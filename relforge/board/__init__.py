"""The board: what is released, what is stale and why, as a page made from records and runs."""
