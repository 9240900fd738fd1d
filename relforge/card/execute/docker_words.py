"""A docker command line, taken apart. Standard library only, for the stand-in of docker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relforge.card.engine_words import Given, options, verb_index

_GROUPS = frozenset((
    "container", "image", "compose", "system", "volume", "network", "builder", "buildx",
))  # fmt: skip
_PLAIN = {
    ("image", "rm"): "rmi", ("image", "pull"): "pull", ("image", "load"): "load",
    ("image", "push"): "push", ("image", "tag"): "tag", ("image", "build"): "build",
}  # fmt: skip


@dataclass(frozen=True)
class DockerCall:
    """``docker VERB OPTIONS OPERANDS``. ``verb`` of a group is ``volume rm``, but for those that
    have a short form: ``container run`` is ``run``. Indices count in the words after ``docker``."""

    verb: str
    verb_index: int
    options: tuple[Given, ...]
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
        return "host" in (*self.values("network"), *self.values("net"))

    @property
    def enters_shell(self) -> bool:
        """Whether somebody who types on is inside the container: ``exec -it NAME bash``."""
        if self.verb not in ("run", "exec") or not self.has("interactive"):
            return False
        if self.has("detach"):
            return False
        words = [word.rpartition("/")[2] for word in self.operands[1:]]
        plain = words[:1] and words[0] in _SHELLS and set(words[1:]) <= {"-l", "-i", "--login"}
        return bool(plain)

    @property
    def binds(self) -> tuple[tuple[str, bool], ...]:
        """Folders and files of the host that the container gets, and whether for reading alone."""
        found: list[tuple[str, bool]] = []
        for value in self.values("volume"):
            parts = value.split(":")
            if len(parts) > 1 and parts[0][:1] in ("/", ".", "~", "$"):
                found.append((parts[0], "ro" in ",".join(parts[2:]).split(",")))
        for value in self.values("mount"):
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
        for value in self.values("publish"):
            head, _, protocol = value.partition("/")
            parts = head.split(":")
            if len(parts) > 1 and parts[-2].isdigit() and protocol in ("", "tcp"):
                found.append(int(parts[-2]))
        return tuple(found)


_SHELLS = frozenset(("bash", "sh", "zsh", "ash", "dash"))


def parse(words: Sequence[str]) -> DockerCall | None:
    """The words after ``docker``; None when there is no verb among them."""
    at = verb_index(words)
    if at is None:
        return None
    verb = words[at]
    if verb in _GROUPS and at + 1 < len(words) and not words[at + 1].startswith("-"):
        at += 1
        following = words[at]
        verb = _PLAIN.get((verb, following)) or (
            following if verb == "container" else f"{verb} {following}"
        )

    def holds_options(index: int) -> bool:
        """A variable before options holds options, or nothing."""
        return words[index].startswith("$") and "".join(words[index + 1 : index + 2])[:1] == "-"

    found, first = options(words, at + 1, verb, holds_options)
    return DockerCall(verb, at, tuple(found), tuple(words[first:]), first)
