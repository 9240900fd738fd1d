"""A docker command line, taken apart. Standard library only: the stand-in for docker uses it too.

Options of docker 26 (``docker run --help``): what is not listed as a switch takes a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SWITCHES = frozenset((
    "--detach", "--interactive", "--tty", "--rm", "--privileged", "--init", "--publish-all",
    "--read-only", "--no-healthcheck", "--oom-kill-disable", "--sig-proxy", "--quiet",
    "--disable-content-trust", "--use-api-socket", "--all-tags", "--force", "--volumes",
    "--all", "--follow", "--timestamps", "--details", "--debug", "--tls", "--tlsverify",
    "--help", "--version", "--no-trunc", "--size", "--latest", "--no-stream", "--attach-all",
))  # fmt: skip
_SHORT_SWITCHES = frozenset("ditPqfvDh")
_SHORT_WITH_VALUE = {"run": "acehlmpuvw", "create": "acehlmpuvw", "exec": "euw"}
_LONG = {
    "d": "--detach", "i": "--interactive", "t": "--tty", "P": "--publish-all", "q": "--quiet",
    "e": "--env", "v": "--volume", "p": "--publish", "u": "--user", "w": "--workdir",
    "h": "--hostname", "l": "--label", "m": "--memory", "c": "--cpu-shares", "a": "--attach",
    "f": "--force",
}  # fmt: skip
_GLOBAL_WITH_VALUE = frozenset(("-H", "--host", "-c", "--context", "--config", "-l", "--log-level"))
_GROUPS = frozenset((
    "container", "image", "compose", "system", "volume", "network", "builder", "buildx",
))  # fmt: skip
_PLAIN = {
    ("image", "rm"): "rmi", ("image", "pull"): "pull", ("image", "load"): "load",
    ("image", "push"): "push", ("image", "tag"): "tag", ("image", "build"): "build",
}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One option by its long name; ``value`` is empty for a switch. ``index``: where it stands."""

    name: str
    value: str
    index: int


@dataclass(frozen=True)
class DockerCall:
    """``docker VERB OPTIONS OPERANDS``. ``verb`` of a group is ``volume rm``, but for those that
    have a short form: ``container run`` is ``run``. Indices count in the words after ``docker``."""

    verb: str
    verb_index: int
    options: tuple[Option, ...]
    operands: tuple[str, ...]
    first_operand: int

    def values(self, name: str) -> tuple[str, ...]:
        """What is given with one option, each time."""
        return tuple(option.value for option in self.options if option.name == name)

    def has(self, name: str) -> bool:
        """Whether a switch is on."""
        found = self.values(name)
        return bool(found) and found[-1] not in ("false", "0")

    @property
    def image(self) -> str | None:
        """Of ``run``, ``create`` and ``pull``."""
        named = self.verb in ("run", "create", "pull") and self.operands
        return self.operands[0] if named else None

    @property
    def on_host_network(self) -> bool:
        """Whether the container's ports are the host's."""
        return "host" in (*self.values("--network"), *self.values("--net"))

    @property
    def enters_shell(self) -> bool:
        """Whether somebody who types on is inside the container: ``exec -it NAME bash``."""
        if self.verb not in ("run", "exec") or not self.has("--interactive"):
            return False
        if self.has("--detach"):
            return False
        words = [word.rpartition("/")[2] for word in self.operands[1:]]
        plain = words[:1] and words[0] in _SHELLS and set(words[1:]) <= {"-l", "-i", "--login"}
        return bool(plain)

    @property
    def binds(self) -> tuple[tuple[str, bool], ...]:
        """Folders and files of the host that the container gets, and whether for reading alone."""
        found: list[tuple[str, bool]] = []
        for value in self.values("--volume"):
            parts = value.split(":")
            if len(parts) > 1 and parts[0][:1] in ("/", ".", "~", "$"):
                found.append((parts[0], "ro" in ",".join(parts[2:]).split(",")))
        for value in self.values("--mount"):
            fields = {
                part.partition("=")[0].strip(): part.partition("=")[2] for part in value.split(",")
            }
            source = fields.get("source") or fields.get("src") or ""
            if fields.get("type") == "bind" and source:
                flags = {"readonly", "ro"} & fields.keys()
                found.append((source, any(fields[f] not in ("false", "0") for f in flags)))
        return tuple(found)

    @property
    def host_ports(self) -> tuple[int, ...]:
        """TCP ports of the host that are published by number."""
        found = []
        for value in self.values("--publish"):
            head, _, protocol = value.partition("/")
            parts = head.split(":")
            if len(parts) > 1 and parts[-2].isdigit() and protocol in ("", "tcp"):
                found.append(int(parts[-2]))
        return tuple(found)


_SHELLS = frozenset(("bash", "sh", "zsh", "ash", "dash"))


def parse(words: Sequence[str]) -> DockerCall | None:
    """The words after ``docker``; None when there is no verb among them."""
    index = 0
    while index < len(words) and words[index].startswith("-"):
        takes = words[index] in _GLOBAL_WITH_VALUE
        index += 2 if takes else 1
    if index >= len(words):
        return None
    verb, at = words[index], index
    if verb in _GROUPS and index + 1 < len(words) and not words[index + 1].startswith("-"):
        at = index + 1
        following = words[at]
        verb = _PLAIN.get((verb, following)) or (
            following if verb == "container" else f"{verb} {following}"
        )
    options, first = _options(words, at + 1, verb)
    return DockerCall(verb, at, tuple(options), tuple(words[first:]), first)


def _options(words: Sequence[str], index: int, verb: str) -> tuple[list[Option], int]:
    found: list[Option] = []
    while index < len(words):
        word = words[index]
        if word == "--":
            return found, index + 1
        following = words[index + 1] if index + 1 < len(words) else ""
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if equals or name in _SWITCHES:
                found.append(Option(name, value, index))
            else:
                found.append(Option(name, following, index))
                index += 1
        elif word.startswith("-") and len(word) > 1:
            index += _short(word, following, index, verb, found)
        elif word.startswith("$") and following.startswith("-"):
            pass  # a variable that holds options, or nothing
        else:
            return found, index
        index += 1
    return found, index


def _short(word: str, following: str, index: int, verb: str, found: list[Option]) -> int:
    """Reads ``-itd``, ``-p8000:8000`` or ``-p 8000:8000``; how many further words it took."""
    valued = _SHORT_WITH_VALUE.get(verb, "")
    for position, letter in enumerate(word[1:], 1):
        name = _LONG.get(letter, f"-{letter}")
        if letter in valued or letter not in _SHORT_SWITCHES:
            rest = word[position + 1 :].removeprefix("=")
            found.append(Option(name, rest or following, index))
            return 0 if rest else 1
        found.append(Option(name, "", index))
    return 0
