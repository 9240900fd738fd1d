"""Redaction by value: a secret registered once never appears in output, logs or records."""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote

_MARK = "[redacted]"
_MIN_LENGTH = 6
# Private keys are recognised wherever they stand, also where nobody expected one.
_PRIVATE = re.compile(
    r"AGE-SECRET-KEY-1[0-9A-Z]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.IGNORECASE | re.DOTALL,
)
_secrets: set[str] = set()
_lock = threading.Lock()


def register(secret: str) -> None:
    """Adds a secret value. Values under 6 characters would hit ordinary words and are left."""
    value = secret.strip()
    if len(value) < _MIN_LENGTH:
        return
    forms = {
        value,
        quote(value, safe=""),
        # As it stands in JSON, and in what Python shows of a value.
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        *(ln for ln in value.splitlines() if len(ln) > 20),
    }
    with _lock:
        _secrets.update(forms)


def text(value: str) -> str:
    """*value* with every registered secret replaced, longest first."""
    value = _PRIVATE.sub(_MARK, value)
    if not _secrets:
        return value
    with _lock:
        known = sorted(_secrets, key=len, reverse=True)
    for secret in known:
        if secret in value:
            value = value.replace(secret, _MARK)
    return value


def values() -> frozenset[str]:
    """Every registered form of every secret, for those who look where one must not be."""
    with _lock:
        return frozenset(_secrets)
