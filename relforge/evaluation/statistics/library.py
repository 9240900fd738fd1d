"""SciPy and statsmodels, which only extra ``eval`` brings, imported when a function needs them."""

from __future__ import annotations

import importlib
from typing import Any

from relforge.errors import ExitCode, RelforgeError


def library(module: str) -> Any:
    """The module of that name. Raises RelforgeError (ENVIRONMENT) where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = {"scipy": "SciPy"}.get(module.split(".")[0], module.split(".")[0])
        raise RelforgeError(
            f"comparing evaluations needs {name}",
            code=ExitCode.ENVIRONMENT,
            why=str(error),
            hint="pip install 'relforge[eval]'",
        ) from error
