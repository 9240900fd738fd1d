"""Host names and words that the site does not want to be read elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

from relforge.scanning.rules import Rule

_HOST_SIGN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def host_rules(hosts: Iterable[str]) -> tuple[Rule, ...]:
    """A rule for each host or domain; everything below a domain counts, too."""
    return tuple(_host(host.lower().removeprefix(".").encode()) for host in hosts)


def word_rules(words: Iterable[str]) -> tuple[Rule, ...]:
    """A rule for each word, in whatever case, that stands as a word of its own."""
    return tuple(_word(word) for word in words)


def _host(host: bytes) -> Rule:
    longer = re.compile(rb"[a-z0-9_-]|\.[a-z0-9]")

    def confirm(data: bytes, at: int) -> bool:
        if at > 0 and data[at - 1] in _HOST_SIGN:
            return False
        return longer.match(data, at + len(host)) is None

    what = f"the host name {host.decode()} or one below it"
    return Rule("host", "denied-host", what, (host,), confirm, True)


def _word(word: str) -> Rule:
    # Bytes.lower() knows ASCII alone; other scripts mostly have no case.
    text = word.encode().lower()
    inside = re.compile(rb"[a-z0-9_]")

    def confirm(data: bytes, at: int) -> bool:
        end = at + len(text)
        before = at > 0 and inside.match(data, at - 1) and inside.match(text)
        return not before and not (inside.match(text[-1:]) and inside.match(data, end))

    return Rule(
        "word", "denied-word", f"the word {word!r} of the deny list", (text,), confirm, True
    )
