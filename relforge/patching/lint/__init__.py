"""Checks of a whole FlagScale checkout, or of a folder with patches, without changing either."""
