"""Text that was UTF-8, was read in another encoding, and written again."""

from __future__ import annotations

import re
from functools import lru_cache

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CONTROL = re.compile(r"[\x80-\x9f]")


@lru_cache(maxsize=4096)
def repaired(line: str) -> str:
    """The line as it was meant; the line itself where nothing is broken.

    The judgement is that of ftfy, which knows Latin-1, the Windows code pages and Mac-Roman.
    """
    if _NOT_ASCII.search(line) is None:
        return line
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    if not is_bad(line) and _CONTROL.search(line) is None:
        return line
    return fix_encoding(line)
