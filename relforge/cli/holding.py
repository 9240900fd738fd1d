"""What a verb holds while it works: its place among those who use the home.

A verb that relies on what the home keeps, or adds to it, keeps collectors away until it has ended
(``in_use.py``). Verbs that only look do not: what they print may be gone a moment later anyway, and
some of them look for days.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from relforge.in_use import using
from relforge.locks import not_waiting

LOOKING = frozenset(
    {
        "board", "check", "ci", "devices", "doctor", "explain", "init", "keys", "notes", "plan",
        "render", "runs", "schema", "verify",
        "worker",  # each of its jobs holds for itself
    }
)  # fmt: skip

_WITHOUT = frozenset({"card", "mirror", "patch", "promote", "withdraw"})
"""May do without a home: one that is not there yet has nothing to keep, and is not made for it."""


class _Held:
    verb: str | None = None
    homes: set[Path] = set()
    stack = ExitStack()


def begin(verb: str) -> None:
    """Names the verb that begins."""
    _Held.verb = verb


def use(home: Path, on_wait: Callable[[str], None]) -> None:
    """Keeps collectors away from the home until ``end``, unless the verb only looks.

    Raises RelforgeError (ENVIRONMENT) where it is not to wait for one.
    """
    verb = _Held.verb
    if verb is None or verb in LOOKING or home in _Held.homes:
        return
    if verb in _WITHOUT and not home.exists():
        return
    _Held.stack.enter_context(using(home, f"relforge {verb}", on_wait=on_wait))
    _Held.homes.add(home)


def refuse_to_wait() -> None:
    """From here to ``end`` no lock waits for another process."""
    _Held.stack.enter_context(not_waiting())


def end() -> None:
    """The verb has ended."""
    _Held.verb = None
    _Held.homes = set()
    _Held.stack.close()
    _Held.stack = ExitStack()
