"""The rules, a module per theme. A rule names no vendor, no model and no card."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from relforge.card.lint.finding import Rule

_THEMES: tuple[str, ...] = (
    "shell",
    "shell_variables",
    "shell_placeholders",
    "yaml_blocks",
    "flow",
    "flow_folders",
    "flow_paths",
    "flow_serving",
    "flow_promised",
    "encoding",
    "markup",
    "identity",
    "evaluation",
    "comparison",
    "claims",
    "settings",
    "safety",
    "site",
    "metadata",
    "steps",
    "requests",
    "python",
    "text",
    "links",
    "supply",
)
"""Modules with a ``RULES`` tuple, in the order in which ``card lint --rules`` lists them."""


@lru_cache(maxsize=1)
def all_rules() -> tuple[Rule, ...]:
    """Every rule there is."""
    return tuple(rule for theme in _THEMES for rule in import_module(f"{__name__}.{theme}").RULES)
