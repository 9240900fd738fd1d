"""Which licences of a release the site forbids (``publish.licenses`` of the site configuration).

A licence that is a choice (``A OR B``) is forbidden where every side is; one of several that count
at once (``A AND B``) where any is. A GNU licence stands for the versions that it lets one choose:
``GPL-2.0-or-later`` is not forbidden by ``GPL-3.0-only``, ``GPL-3.0-or-later`` is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from relforge.frozen import Frozen
from relforge.manifest.publishing import LicensePolicy
from relforge.sbom import expressions
from relforge.sbom.expressions import Licence, licensing
from relforge.sbom.packages import canonical

_VERSIONS = {
    "AGPL": ("1.0", "3.0"),
    "GFDL": ("1.1", "1.2", "1.3"),
    "GPL": ("1.0", "2.0", "3.0"),
    "LGPL": ("2.0", "2.1", "3.0"),
}
_VERSIONED = re.compile(
    r"(AGPL|GFDL|GPL|LGPL)-(\d\.\d)((?:-no)?-invariants)?-(only|or-later)", re.IGNORECASE
)


class Holder(Frozen):
    """Something with a licence: a package of the image, or a licence file of a source."""

    name: str
    version: str
    licence: Licence
    where: str
    """A path and the layer or tree that it is in."""


class Hit(Frozen):
    """A forbidden licence in something. ``allowed``: the site's reason to have it all the same."""

    name: str
    version: str
    licences: tuple[str, ...]
    """The forbidden ones of its licence expression."""
    forbidden: tuple[str, ...]
    """The entries of the policy that forbid them."""
    where: str
    allowed: str | None


@dataclass(frozen=True)
class _Rule:
    text: str
    choices: frozenset[str]
    """``FAMILY-VERSION`` of a GNU licence, else one identifier, perhaps ``WITH`` an exception."""
    words: re.Pattern[str] | None
    """Where it is no identifier: what to look for in names and texts of licences."""


@dataclass(frozen=True)
class Rules:
    """The site's policy, read."""

    policy: LicensePolicy
    rules: tuple[_Rule, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(map(_rule, self.policy.forbidden)))

    def hits(self, holders: Iterable[Holder]) -> tuple[Hit, ...]:
        """The forbidden ones, each with the entry of the policy that forbids it."""
        allowed = {canonical(n): reason for n, reason in self.policy.allowed_packages.items()}
        return tuple(
            Hit(
                name=one.name,
                version=one.version,
                licences=tuple(sorted({name for name, _ in found})),
                forbidden=tuple(sorted({entry for _, entry in found})),
                where=one.where,
                allowed=allowed.get(canonical(one.name)),
            )
            for one in holders
            if (found := self.forbids(one.licence))
        )

    def forbids(self, licence: Licence) -> frozenset[tuple[str, str]]:
        """Parts of a licence with an entry of the policy that forbids them; empty: permitted."""
        if not self.rules:
            return frozenset()
        return frozenset(self._forbids(expressions.parse(licence.expression), licence.refs))

    def _forbids(self, tree: Any, refs: dict[str, str]) -> set[tuple[str, str]]:
        if isinstance(tree, licensing().AND):
            return set().union(*(self._forbids(side, refs) for side in tree.args))
        if isinstance(tree, licensing().OR):
            sides = [self._forbids(side, refs) for side in tree.args]
            return set().union(*sides) if all(sides) else set()
        key = str(tree.render())
        # Each version that may be chosen has to be forbidden, be it by entries of their own.
        found: set[tuple[str, str]] = set()
        for choice in _choices(key):
            # An exception gives more rights; whoever forbids the licence has not asked for it.
            plain = choice.partition(" WITH ")[0]
            by = {rule.text for rule in self.rules if {choice, plain} & rule.choices}
            by |= {
                rule.text
                for rule in self.rules
                if rule.words is not None and rule.words.search(f"{key}\n{refs.get(key, '')}")
            }
            if not by:
                return set()
            found |= {(key, entry) for entry in by}
        return found


def _rule(text: str) -> _Rule:
    read = expressions.read(text)
    single = read is not None and not re.search(r" (AND|OR) ", read.expression)
    # A name without a version (GPL) is a word that any version has in it.
    if read is not None and read.identified and single and (re.search(r"\d", text) or text in
            licensing().known_symbols):  # fmt: skip
        return _Rule(text, _choices(read.expression), None)
    words = r"[\W_]+".join(re.escape(word) for word in re.split(r"[\W_]+", text) if word)
    return _Rule(text, frozenset(), re.compile(rf"(?<![^\W_]){words}(?![^\W_])", re.IGNORECASE))


def _choices(expression: str) -> frozenset[str]:
    """What one licence lets choose: versions of GNU's licences, else itself alone."""
    plain, joint, exception = expression.partition(" WITH ")
    found = _VERSIONED.fullmatch(plain)
    if found is None:
        return frozenset({expression})
    family, first, invariants, reach = found.groups()
    versions = _VERSIONS[family.upper()]
    later = [v for v in versions if v >= first] if reach == "or-later" else [first]
    return frozenset(
        f"{family.upper()}-{version}{invariants or ''}{joint}{exception}"
        for version in later or [first]
    )
