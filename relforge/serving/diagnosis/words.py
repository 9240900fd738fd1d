"""What of a log is shown: short, and without what must stay secret."""

from __future__ import annotations

import re

from relforge import redact
from relforge.serving.diagnosis.lines import texts

_SHOWN_CHARS = 400
_BEFORE_CHARS = 120
_LAST_LINES = 3
_READ_BYTES = 64 << 10
_MARK = "[redacted]"
# Logs of others hold secrets that nobody registered here.
_SECRETS = re.compile(
    r"\b(?:hf_|sk-|ghp_|github_pat_|glpat-|AKIA)[A-Za-z0-9_-]{12,}"
    r"|(?<=//)[^/\s:@]{1,200}:[^/\s@]{1,200}(?=@)"
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:(?:api[_-]?key|token|secret|passwo?r?d)['\"]?\s*[=:]\s*\[?['\"]?)(?!None\b)"
    r"[A-Za-z0-9._~+/-]{8,}"
)
_ERROR = re.compile(
    r"\b\w{0,60}(Error|Exception)\b\s{0,8}:|\b(fatal|panic|aborted)\b|^error\b", re.I
)
_MAY_BE_ERROR = re.compile(rb"(?i)error|exception|fatal|panic|aborted")
_NO_ERROR = re.compile(r"\b(INFO|WARNING|DEBUG)\b|see (the )?(root cause|stack trace)", re.I)


def shown(text: str, at: int = 0) -> str:
    """At most some 400 characters of a line, with those at position *at*, without secrets."""
    at = len(redacted(text[:at].lstrip()))
    text = redacted(text.strip())
    if len(text) <= _SHOWN_CHARS:
        return text
    start = at - _BEFORE_CHARS if at > _SHOWN_CHARS - _BEFORE_CHARS else 0
    cut = text[start : start + _SHOWN_CHARS]
    return ("... " if start else "") + cut + (" ..." if start + _SHOWN_CHARS < len(text) else "")


def redacted(text: str) -> str:
    """Without registered secrets, and without what has the form of a token or a login."""
    return _SECRETS.sub(_MARK, redact.text(text))


def last_error_line(log_text: str) -> str | None:
    """The log's last line that reads like an error, for causes nobody has named yet.

    Lines that only point at another one ("see root cause above") are passed over.
    """
    for raw in reversed(log_text.encode("utf-8", "replace").splitlines()):
        if not _MAY_BE_ERROR.search(raw[:_READ_BYTES]):
            continue
        for line in reversed(list(texts(0, raw[:_READ_BYTES]))):
            if _ERROR.search(line.text) and not _NO_ERROR.search(line.text):
                return shown(line.text)
    return None


def last_words(log_text: str) -> str:
    """What a log says of an end that no cause explains: its last error, else its last lines."""
    error = last_error_line(log_text)
    if error is not None:
        return error
    lines = [
        shown(line.text)
        for raw in log_text[-_READ_BYTES:].encode("utf-8", "replace").splitlines()
        for line in texts(0, raw)
    ][-_LAST_LINES:]
    if not lines:
        return "it wrote nothing to its log"
    return "its log holds no known error; its last words:\n" + "\n".join(lines)
