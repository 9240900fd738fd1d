"""Faults that tests plant into clean cards, a module per theme of rules.

A module of this package has ``MUTATIONS: tuple[Mutation, ...]``. A fixture of a rule is
``tests/cards/rules/<rule>.md``; its last line says where the rule must fire, and nothing else may:
``<!-- expect: 7, 9 -->``. A rule about several cards finds the second one in
``tests/cards/rules/<rule>.beside.md``.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Mutation:
    """One fault. ``change`` plants it in a card's text, or returns None where it has no place.

    ``along`` are the other rules that rightly fire with it. ``beside``, for rules about several
    cards, makes the second card of the clean first one.
    """

    rule: str
    name: str
    change: Callable[[str], str | None]
    along: frozenset[str] = frozenset()
    beside: Callable[[str], str] | None = None


def all_mutations() -> tuple[Mutation, ...]:
    """Those of every theme."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(
        mutation for name in modules for mutation in import_module(f"{__name__}.{name}").MUTATIONS
    )


def replaced(pattern: str, by: str | Callable[[re.Match[str]], str]) -> Callable[[str], str | None]:
    """Changes the first match (multi-line, ``.`` stays within a line)."""

    def change(text: str) -> str | None:
        changed, count = re.subn(pattern, by, text, count=1, flags=re.M)
        return changed if count and changed != text else None

    return change


def replaced_all(
    pattern: str, by: str | Callable[[re.Match[str]], str]
) -> Callable[[str], str | None]:
    """Changes every match."""

    def change(text: str) -> str | None:
        changed = re.sub(pattern, by, text, flags=re.M)
        return changed if changed != text else None

    return change


def appended(more: str) -> Callable[[str], str | None]:
    """Adds text to the end of any card."""
    return lambda text: text.rstrip("\n") + "\n\n" + more
