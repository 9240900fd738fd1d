"""Licence expressions of SPDX (version 2.3, annex D), by the ``license-expression`` library.

What no identifier stands for gets a name of its own, ``LicenseRef-...``, and keeps its text.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from relforge.frozen import Frozen
from relforge.sbom.words import spdx_of

if TYPE_CHECKING:
    from license_expression import Licensing

_SHORT = 60
_EXPRESSION = re.compile(r"[A-Za-z0-9.+:() -]+")
_REF = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


class Licence(Frozen):
    """A licence expression. ``refs`` has the text of each ``LicenseRef`` in it."""

    expression: str
    refs: dict[str, str] = {}

    @property
    def identified(self) -> bool:
        """Whether all of it are SPDX identifiers."""
        return not _REF.search(self.expression)


_loading = threading.Lock()


def licensing() -> Licensing:
    """The library with SPDX's identifiers; loading them takes some 40 ms.

    Releases are looked at side by side, and the library lets others see a tokenizer that it is
    still filling: it is whole before anybody gets it.
    """
    with _loading:
        return _licensing()


@lru_cache(maxsize=1)
def _licensing() -> Licensing:
    from license_expression import get_spdx_licensing

    found = get_spdx_licensing()
    found.get_advanced_tokenizer()
    return found


@lru_cache(maxsize=4096)
def read(words: str) -> Licence | None:
    """The licence that one statement names: an expression, or a name that is well known.

    None where no part of it is known.
    """
    text = " ".join(words.split())
    if _REF.fullmatch(text):
        return Licence(expression=text, refs={text: text})
    found = _expression(text) if len(text) <= 1000 and _EXPRESSION.fullmatch(text) else None
    if (found is None or found.refs) and (known := spdx_of(text)) is not None:
        # "GPL-3 or later" is one licence, and no choice.
        return Licence(expression=known)
    return found


def _expression(text: str) -> Licence | None:
    from license_expression import ExpressionError

    try:
        parsed = licensing().parse(text)
    except ExpressionError:
        return None
    if parsed is None:
        return None
    known = licensing().known_symbols
    replaced: dict[Any, Any] = {}
    refs: dict[str, str] = {}
    symbols = licensing().license_symbols(parsed, unique=True, decompose=False)
    for symbol in symbols:
        if all(one.key in known and not _REF.match(one.key) for one in symbol.decompose()):
            continue
        # Names of the ScanCode data base are no identifiers of SPDX, and nobody defines them here.
        key = str(symbol.render())
        if (spdx := spdx_of(key)) is not None:
            replaced[symbol] = known[spdx]
        else:
            refs |= (own := named(key)).refs
            replaced[symbol] = licensing().parse(own.expression)
    if len(refs) == len(symbols):
        return None
    return Licence(expression=_rendered(parsed.subs(replaced)), refs=refs)


def _rendered(tree: Any) -> str:
    return str(licensing().dedup(tree).render())


def named(text: str) -> Licence:
    """A licence that no identifier stands for, by its words or its whole text."""
    line = " ".join(text.split())
    if _REF.fullmatch(line):
        return Licence(expression=line, refs={line: line})
    if len(line) <= _SHORT:
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", line).strip("-")
    else:
        slug = hashlib.sha256(text.encode()).hexdigest()[:16]
    ref = f"LicenseRef-{slug or 'unnamed'}"
    return Licence(expression=ref, refs={ref: text})


def of(words: str) -> Licence:
    """The licence that one statement names; one that nobody knows is named after its words."""
    return read(words) or named(words)


def both(parts: Iterable[Licence]) -> Licence | None:
    """All of them at once (``AND``), each named once, sorted; None for no part."""
    return _joined(parts, licensing().AND)


def either(parts: Iterable[Licence]) -> Licence | None:
    """A choice among them (``OR``)."""
    return _joined(parts, licensing().OR)


def _joined(parts: Iterable[Licence], operator: Any) -> Licence | None:
    found = {part.expression: part for part in parts}
    if not found:
        return None
    if len(found) == 1:
        return next(iter(found.values()))
    trees: dict[str, Any] = {}
    for expression in found:
        tree = parse(expression)
        # A and (B and C) is A and B and C: so equal statements are equal text.
        for one in tree.args if isinstance(tree, operator) else (tree,):
            trees[str(one.render())] = one
    refs: dict[str, str] = {}
    for part in found.values():
        refs |= part.refs
    ordered = [trees[key] for key in sorted(trees)]
    joined = ordered[0] if len(ordered) == 1 else operator(*ordered)
    return Licence(expression=_rendered(joined), refs=dict(sorted(refs.items())))


def parse(expression: str) -> Any:
    """The tree of an expression of ours, whose LicenseRefs are symbols of their own."""
    return licensing().parse(expression)
