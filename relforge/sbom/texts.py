"""Licence texts: which licence a file is the text of, by the ``identify`` library.

It knows the 35 texts of choosealicense.com, and takes a text for one of them that differs from it
in at most 5 % of its letters, copyright lines aside. What follows the terms of a long licence is
advice on how to use it, which many files leave out.
"""

from __future__ import annotations

import re
import tempfile
from functools import lru_cache
from pathlib import PurePosixPath

from relforge.sbom.expressions import Licence, read

_NAME = re.compile(r"(licen[cs]e|copying|unlicense)([-._].*)?", re.IGNORECASE)
_CODE = (".py", ".pyi", ".js", ".ts", ".c", ".cc", ".cpp", ".h", ".go", ".rs", ".json", ".sh")
_LONGEST = 100_000
_END = "END OF TERMS AND CONDITIONS"


def is_licence_file(path: str) -> bool:
    """Whether a file's name says that it holds a licence."""
    name = PurePosixPath(path)
    return bool(_NAME.fullmatch(name.name)) and name.suffix.lower() not in _CODE


@lru_cache(maxsize=1024)
def licence_of(text: str) -> Licence | None:
    """The licence whose text this is, None where it is none of those that are known."""
    if not text.strip() or len(text) > _LONGEST:
        return None
    from identify.identify import license_id

    if (terms := _terms(text)) is not None and terms in (known := _by_terms()):
        return read(known[terms])
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write(text)
        file.flush()
        found = license_id(file.name)
    return read(found) if found else None


def _terms(text: str) -> str | None:
    before, end, _ = text.partition(_END)
    return " ".join(before.split()) if end else None


@lru_cache(maxsize=1)
def _by_terms() -> dict[str, str]:
    from identify.vendor.licenses import LICENSES

    found = {_terms(text): spdx for spdx, text in LICENSES}
    return {terms: spdx for terms, spdx in found.items() if terms is not None}
