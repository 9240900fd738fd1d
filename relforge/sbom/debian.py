"""What a Debian package states about its licence: its machine-readable copyright file (DEP-5).

Copyright files in free text are left to syft, which finds names of licences in them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from relforge.sbom import expressions
from relforge.sbom.expressions import Licence


@lru_cache(maxsize=4096)
def licence_of(copyright_file: str) -> Licence | None:
    """All licences of all parts of a package at once; None for a file of another form.

    Where a part gives a choice, the choice is kept.
    """
    from debian_inspector.copyright import CopyrightFilesParagraph, DebianCopyright

    if not re.match(r"\s*Format:", copyright_file):
        return None
    found = DebianCopyright.from_text(copyright_file)
    names = [
        name
        for part in found.paragraphs
        if isinstance(part, CopyrightFilesParagraph) and part.license
        if (name := " ".join((part.license.name or "").split()))
    ]
    return expressions.both(map(synopsis, dict.fromkeys(names)))


@lru_cache(maxsize=4096)
def synopsis(text: str) -> Licence:
    """One line of DEP-5: ``GPL-2+ or Artistic, and BSD``, where a comma separates what is weaker
    than the words around it, and ``and`` is stronger than ``or``."""
    for separator, joined in (
        (r",\s+and\s+", expressions.both),
        (r",\s+or\s+", expressions.either),
        (r"\s+or\s+|\s+and/or\s+|_or_|\s*\|\s*", expressions.either),
        (r"\s+and\s+", expressions.both),
    ):
        parts = [part for part in re.split(separator, text, flags=re.IGNORECASE) if part.strip()]
        if len(parts) > 1:
            # "GPL-3 or later" is one licence; "GPL-2+ with OpenSSL and X exception" is one, too.
            if expressions.read(text) is not None:
                break
            found = joined(map(synopsis, parts))
            assert found is not None
            return found
    return expressions.of(text.strip())
