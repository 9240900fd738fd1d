"""Whether a release, wherever it lies, is what was made, tested and signed."""
