"""Which key of a manifest an error is about."""

from __future__ import annotations

import re

from relforge.errors import RelforgeError
from relforge.manifest.places import Keys

_EXACT = re.compile(r":\d+(:\d+)?$")
# A key, not a file of that name in a folder.
_NAMED = re.compile(
    r"(?<![\w/.-])(?:serve|build|evaluation|smoke|weights|reference|stacks)(?:[./][\w-]+)+"
)


def is_exact(where: str | None) -> bool:
    """Whether a place names its line."""
    return where is not None and _EXACT.search(where) is not None


def device_fact(where: str | None) -> tuple[str, Keys] | None:
    """Device and path of a fact, where an error names it as ``devices/NAME.yaml: PATH``."""
    found = re.search(r"devices/([A-Za-z0-9_]+)\.yaml: ([\w./-]+)$", where or "")
    if found is None:
        return None
    keys = (int(part) if part.isdigit() else part for part in found[2].split("/"))
    return found[1], tuple(keys)


def named_in(error: RelforgeError, otherwise: Keys) -> Keys:
    """The path of keys that an error's text names (``serve.port``), else *otherwise*."""
    for text in (error.what, error.where, error.why, error.hint):
        if text and (found := _NAMED.search(text)):
            return tuple(re.split(r"[./]", found.group()))
    return otherwise
