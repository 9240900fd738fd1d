"""What samples say: intervals, verdicts against a margin, and which figures there can be."""
