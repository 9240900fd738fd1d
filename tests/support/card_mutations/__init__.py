"""Faults that are planted into clean cards, to see whether the rules find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """Plants one fault. ``change`` gives the changed card, or None where it finds no place."""

    rule: str
    name: str
    change: Callable[[str], str | None]
    along: frozenset[str] = frozenset()
    """Other rules that the same fault may wake."""
