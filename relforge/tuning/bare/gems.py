"""FlagGems with some of its operators: their names, switching, and planted mistakes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relforge.coverage.probe.dispatch import Watch

_LOGGED = re.compile(r"^\[DEBUG\] flag_gems[\w.]*\.(\w+): ", re.M)


class Gems:
    """What FlagGems 5 has. Operators are its functions: those names its lists exclude by."""

    def __init__(self, package: Any) -> None:
        self.package = package
        self.enabled: frozenset[str] = frozenset()
        self.operators = sorted({_name(entry) for entry in package._FULL_CONFIG})

    @contextmanager
    def without(self, disabled: Sequence[str], record: Path | None = None) -> Iterator[None]:
        """All operators but the disabled ones, while the block runs."""
        self.enabled = frozenset(self.operators).difference(disabled)
        with self.package.use_gems(exclude=list(disabled), record=record is not None, path=record):
            yield

    def plant(self, mistakes: Sequence[str]) -> None:
        """Makes operators wrong: ``silu`` always, ``silu+cat`` only while cat is enabled too.

        To see whether exactly those are found. Raises ValueError for names that are none.
        """
        partners: dict[str, frozenset[str]] = {}
        for mistake in mistakes:
            name, *others = mistake.split("+")
            if unknown := {name, *others}.difference(self.operators):
                raise ValueError(f"FlagGems has no {', '.join(sorted(unknown))}")
            partners[name] = frozenset(others)
        self.package._FULL_CONFIG = tuple(
            (entry[0], self._wrong(entry[1], partners[_name(entry)]), *entry[2:])
            if _name(entry) in partners
            else entry
            for entry in self.package._FULL_CONFIG
        )

    def _wrong(self, function: Callable[..., Any], others: frozenset[str]) -> Callable[..., Any]:
        def wrong(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if others <= self.enabled:
                result.neg_()
            return result

        wrong.__name__ = function.__name__
        return wrong

    def used(self, work: Callable[[], object]) -> tuple[list[str], str]:
        """Operators that *work* calls, as far as can be seen, and what kept it from more.

        What torch dispatches natively, and what FlagGems itself logs until a mistake ends the work.
        """
        watch = Watch()
        with watch.mode():
            work()
        keys = {name.partition("::")[2] for name in watch.names}
        names = {_name(entry) for entry in self.package._FULL_CONFIG if entry[0] in keys}
        ended = ""
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "operators"
            with self.without((), record=log):
                try:
                    work()
                except Exception as error:  # noqa: BLE001 - a wrong operator may raise anything
                    ended = f"{type(error).__name__}: {error}"
            names |= set(_LOGGED.findall(log.read_text("utf-8", "replace")))
        return sorted(names.intersection(self.operators)), ended


def _name(entry: Sequence[Any]) -> str:
    return str(getattr(entry[1], "__name__", entry[1]))
