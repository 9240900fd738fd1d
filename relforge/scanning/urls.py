"""Passwords in URLs: ``https://user:password@host``."""

from __future__ import annotations

import re

from relforge.scanning.rules import Rule

_LOGIN = re.compile(
    rb"://(?P<user>[A-Za-z0-9._~%+-]{0,64}):(?P<password>[A-Za-z0-9._~%!$&*+=-]{6,256})@"
    rb"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)(?![\x80-\xff{<$%])"
)
# A token without a user name: `https://TOKEN@host`.
_TOKEN = re.compile(rb"https?://(?P<password>[A-Za-z0-9_-]{24,256})@(?P<host>[A-Za-z0-9.-]+)")
_SHOWN = re.compile(
    rb"user(name)?|login|admin|pass(word|wd|phrase)?\d*|pwd|secret|token|p[4a@][s5$]+w(or)?d|x{3,}|"
    rb"\*+|\.{3}|(my|your|the|some|test)?[_-]?(api[_-]?)?(key|token|password|secret|pass)|"
    rb"foo|bar|foobar|a%20secret|changeme|hunter2|redacted|example|[A-Z]+(_[A-Z]+)+|\$.*|%.*|PASSWORD|TOKEN",
    re.IGNORECASE,
)
# Hosts of examples; and Sentry's, where the word before the host is an address, and public.
_NOBODY = re.compile(
    rb"(.*\.)?(example(\.(com|net|org|edu))?|test|invalid|localhost|localdomain|local)|host(name)?|"
    rb"server|proxy(host)?|domain|(.*\.)?sentry\.io|127\..*|0\.0\.0\.0",
    re.IGNORECASE,
)


def _confirm(data: bytes, at: int) -> bool:
    found = _LOGIN.match(data, at)
    if found is None:
        scheme = max(at - 5, 0)
        found = _TOKEN.search(data, scheme, at + 600)
        if found is None or found.start() > at or not _random(found["password"]):
            return False
    return not (_SHOWN.fullmatch(found["password"]) or _NOBODY.fullmatch(found["host"]))


def _random(token: bytes) -> bool:
    return bool(re.search(rb"\d", token) and re.search(rb"[A-Za-z]", token))


URL_LOGIN = Rule("secret", "url-login", "a URL with a password", (b"://",), _confirm)
