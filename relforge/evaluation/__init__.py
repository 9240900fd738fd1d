"""Evaluation: per-question outcomes of a served model, and their comparison with a reference.

Importing this package loads neither lm-eval nor SciPy (extra ``eval``).
"""
