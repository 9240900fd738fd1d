"""What of a log is shown: short, and without what must stay secret."""

from __future__ import annotations

import io
import re
from collections import deque

from relforge import redact
from relforge.serving.diagnosis.lines import Line, is_trouble, pieces, texts

_SHOWN_CHARS = 400
_BEFORE_CHARS = 120
_LAST_LINES = 3
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
    return LastWords.of(log_text).error


def last_words(log_text: str) -> str:
    """What a log says of an end that no cause explains: its last error, else its last lines."""
    return LastWords.of(log_text).text


class LastWords:
    """The last error and the last lines of a log, gathered as it goes by."""

    def __init__(self) -> None:
        self._error: str | None = None
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)

    @classmethod
    def of(cls, log_text: str) -> LastWords:
        words = cls()
        for number, piece in pieces(io.BytesIO(log_text.encode("utf-8", "replace"))):
            words.passed(piece)
            if is_trouble(piece):
                for line in texts(number, piece):
                    words.heard(line)
        return words

    def passed(self, piece: bytes) -> None:
        """Every piece of the log, in order."""
        if piece.strip():
            self._last.append(piece)

    def heard(self, line: Line) -> None:
        """Every line that speaks of trouble, in order."""
        if _ERROR.search(line.text) and not _NO_ERROR.search(line.text):
            self._error = line.text

    @property
    def error(self) -> str | None:
        """The last line that reads like an error and is no pointer to another."""
        return None if self._error is None else shown(self._error)

    @property
    def text(self) -> str:
        """The last error, else the last lines."""
        if self.error is not None:
            return self.error
        lines = [shown(line.text) for piece in self._last for line in texts(0, piece)]
        if not lines:
            return "it wrote nothing to its log"
        said = "\n".join(lines[-_LAST_LINES:])
        return f"its log holds no known error; its last words:\n{said}"
