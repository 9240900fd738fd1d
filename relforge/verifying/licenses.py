"""Licences that a policy does not allow, in what the image's packages state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from relforge.manifest.publishing import LicensePolicy


def forbidden_packages(build: Mapping[str, Any], policy: LicensePolicy) -> Iterator[str]:
    """Packages under a forbidden licence that are not allowed by name.

    An identifier counts as a whole word: ``GPL-3.0`` is not part of ``LGPL-3.0``, and
    ``GPL-3.0-only`` is another than ``GPL-3.0-or-later``.
    """
    for name, stated in sorted((build.get("licenses") or {}).items()):
        if name in policy.allowed_packages:
            continue
        for word in policy.forbidden:
            if _names(stated, word):
                yield f"{name} is under {stated}"
                break


def _names(stated: str, word: str) -> bool:
    pattern = rf"(?<![\w.+-]){re.escape(word)}(?![\w.+-])"
    return re.search(pattern, stated, re.IGNORECASE) is not None
