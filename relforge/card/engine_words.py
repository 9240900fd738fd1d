"""How container engines read their words: options, their values, and where the rest begins.

Standard library only: the stand-in for docker in a card's shells uses it too. Options are those of
docker 26 and podman (``run --help``): what is not listed as a switch takes a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ENGINES = frozenset(("docker", "podman", "nerdctl"))
_SWITCHES = frozenset((
    "all", "all-tags", "attach-all", "debug", "detach", "details", "disable-content-trust",
    "env-host", "follow", "force", "help", "http-proxy", "init", "interactive", "latest",
    "no-healthcheck", "no-hostname", "no-hosts", "no-stream", "no-trunc", "oom-kill-disable",
    "privileged", "publish-all", "quiet", "read-only", "replace", "rm", "rmi", "sig-proxy", "size",
    "timestamps", "tls", "tls-verify", "tlsverify", "tty", "use-api-socket", "version", "volumes",
))  # fmt: skip
_SHORT_SWITCHES = frozenset("ditPqfvDh")
_SHORT_WITH_VALUE = {
    "run": "acehlmpuvw", "create": "acehlmpuvw", "exec": "euw", "build": "tfo", "buildx": "tfo",
}  # fmt: skip
_LONG = {
    "a": "attach", "c": "cpu-shares", "d": "detach", "e": "env", "h": "hostname",
    "i": "interactive", "l": "label", "m": "memory", "P": "publish-all", "p": "publish",
    "q": "quiet", "t": "tty", "u": "user", "v": "volume", "w": "workdir",
}  # fmt: skip
_LONG_OF = {"build": {"t": "tag", "f": "file", "o": "output"}}
_GLOBAL_WITH_VALUE = frozenset((
    "-H", "--host", "-c", "--context", "--config", "-l", "--log-level", "-n", "--namespace",
))  # fmt: skip


@dataclass(frozen=True)
class Given:
    """One option by its long name, without dashes; ``value`` is empty for a switch."""

    name: str
    value: str
    index: int
    """Where it stands among the words."""


def verb_index(words: Sequence[str]) -> int | None:
    """Where the verb stands, behind the engine's own options; None when there is none."""
    index = 0
    while index < len(words) and words[index].startswith("-"):
        index += 2 if words[index] in _GLOBAL_WITH_VALUE else 1
    return index if index < len(words) else None


def options(
    words: Sequence[str], index: int, verb: str, left_out: Callable[[int], bool]
) -> tuple[list[Given], int]:
    """The options from ``index`` on, and where the first word stands that is none.

    ``left_out`` says of a word that looks like none whether it stands for options, as a variable
    can; it is passed over.
    """
    found: list[Given] = []
    while index < len(words):
        word = words[index]
        if word == "--":
            return found, index + 1
        following = words[index + 1] if index + 1 < len(words) else ""
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if equals or name in _SWITCHES:
                found.append(Given(name, value, index))
            else:
                found.append(Given(name, following, index))
                index += 1
        elif word.startswith("-") and len(word) > 1:
            index += _short(word, following, index, verb, found)
        elif not left_out(index):
            return found, index
        index += 1
    return found, index


def _short(word: str, following: str, index: int, verb: str, found: list[Given]) -> int:
    """Reads ``-itd``, ``-p8000:8000`` or ``-p 8000:8000``; how many further words it took."""
    valued = _SHORT_WITH_VALUE.get(verb, "")
    for position, letter in enumerate(word[1:], 1):
        name = _LONG_OF.get(verb, {}).get(letter) or _LONG.get(letter, letter)
        if letter in valued or letter not in _SHORT_SWITCHES:
            rest = word[position + 1 :].removeprefix("=")
            found.append(Given(name, rest or following, index))
            return 0 if rest else 1
        found.append(Given(name, "", index))
    return 0
