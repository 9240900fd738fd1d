"""YAML of a card as data, whatever stands in it."""

from __future__ import annotations

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's safe loader, the fast one where there is one."""


def load_yaml(text: str) -> Any:
    """The data of one YAML document.

    Raises yaml.YAMLError, also where the loader's own constructors fail: for a date such as
    2024-02-31, or a tag that its value does not fit.
    """
    try:
        return yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe loader
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise yaml.YAMLError(str(error) or type(error).__name__) from error
