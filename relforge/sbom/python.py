"""What a Python distribution states about its licence (core metadata, PEP 639)."""

from __future__ import annotations

from collections.abc import Sequence
from email import message_from_string
from typing import Literal, NamedTuple

from relforge.sbom import expressions
from relforge.sbom.expressions import Licence
from relforge.sbom.texts import licence_of

Basis = Literal[
    "License-Expression", "License", "classifiers", "licence file", "copyright file", "syft"
]
_NOTHING = {"", "unknown", "none", "dual license", "see license", "other/proprietary license"}


class Stated(NamedTuple):
    """A licence, and what says so."""

    licence: Licence
    basis: Basis


def stated(metadata: str, files: Sequence[str] = ()) -> Stated | None:
    """The licence of a distribution by its METADATA and the texts of its licence files.

    The first that leads to SPDX identifiers counts: License-Expression, License, classifiers (all
    of them together), licence files. Where none does, the first that says anything.
    """
    message = message_from_string(metadata)
    expression = (message.get("License-Expression") or "").strip()
    if expression:
        return Stated(expressions.of(expression), "License-Expression")
    found: list[Stated] = []
    free = (message.get("License") or "").strip()
    if free.casefold() not in _NOTHING:
        known = expressions.read(free) or licence_of(_unfolded(free))
        found.append(Stated(known or expressions.named(free), "License"))
    classifiers = [
        words.rpartition(" :: ")[2]
        for words in message.get_all("Classifier") or ()
        if words.startswith("License :: ") and words.count(" :: ") > 1
    ]
    told = [words for words in classifiers if words.casefold() not in _NOTHING]
    if (joined := expressions.both(map(expressions.of, told))) is not None:
        found.append(Stated(joined, "classifiers"))
    if not any(one.licence.identified for one in found):
        texts = [licence for text in files if (licence := licence_of(text)) is not None]
        if texts and (joined := expressions.both(texts)) is not None:
            found.append(Stated(joined, "licence file"))
    whole = [one for one in found if one.licence.identified]
    return next(iter([*whole, *found]), None)


def _unfolded(text: str) -> str:
    """A text of several lines without the indentation that headers have."""
    return "\n".join(line.strip() for line in text.splitlines())
