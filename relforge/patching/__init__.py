"""Patch sets: plain folders and sealed bundles, and how they are applied to a source."""
