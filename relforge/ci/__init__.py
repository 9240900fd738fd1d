"""Continuous integration: workflows that run relforge, and what their jobs report."""
