"""One module per stage, in the order of relforge/pipeline.py."""
