"""Text that was UTF-8, was read in another encoding, and written again."""

from __future__ import annotations

import re
from functools import lru_cache

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CONTROL = re.compile(r"[\x80-\x9f]")
_RUN = re.compile(r"[^\x00-\x7f]{3,}")


@lru_cache(maxsize=4096)
def repaired(line: str) -> str:
    """The line as it was meant; the line itself where nothing is broken.

    The judgement is that of ftfy, which knows Latin-1, the Windows code pages and Mac-Roman, but
    is careful with the latter; signs that take three or four bytes are looked at here as well.
    """
    if _NOT_ASCII.search(line) is None:
        return line
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    fixed = fix_encoding(line) if is_bad(line) or _CONTROL.search(line) else line
    return _RUN.sub(_from_mac_roman, fixed)


def _from_mac_roman(match: re.Match[str]) -> str:
    """A run of signs as the UTF-8 that Mac-Roman made it of, where it is nothing else.

    No language writes three signs beyond ASCII in a row that are valid bytes of such a sequence.
    """
    run = match[0]
    try:
        meant = run.encode("mac_roman").decode("utf-8")
    except UnicodeError:
        return run
    return meant if all(ord(char) > 0x7FF for char in meant) else run
