"""What a command line of docker, podman or nerdctl says: verb, options, image, mounts, ports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relforge.card.engine_words import ENGINES, options, verb_index
from relforge.card.lint.shell import Command, Word, commands

_OPTIONS_BY_NAME = re.compile(
    r"(?:OPT|OPTS|OPTIONS?|ARGS?|FLAGS?|CONFIG|PARAMS?|DEVICES?|MOUNTS?|VOLUMES?|ENVS?)$", re.I
)
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)(?:\[[@*]\])?\}?")
_TAKES_IMAGE = frozenset({"run", "create"})
_TAKES_CONTAINER = frozenset(
    {"exec", "logs", "stop", "start", "restart", "rm", "kill", "attach", "cp", "top", "wait",
     "port", "pause", "unpause", "commit", "export", "diff", "rename"}
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One option by its long name, without dashes. ``value`` is empty for flags."""

    name: str
    value: str
    line: int


@dataclass(frozen=True)
class Mount:
    """``source`` is a path of the host or a volume's name; empty for an anonymous volume."""

    source: str
    target: str
    line: int
    kind: str = "bind"


@dataclass(frozen=True)
class Port:
    """A published port. ``host`` is empty where the engine chooses one."""

    host: str
    container: str
    line: int


@dataclass(frozen=True)
class Docker:
    """One call of a container engine.

    ``subject``: the image of ``run``, ``create``, ``pull``, ``push``; the container of ``exec``,
    ``logs`` and their like; else the first word that is no option.
    ``arguments``: what follows the subject.
    """

    command: Command
    verb: str
    options: tuple[Option, ...]
    subject: Word | None
    arguments: tuple[Word, ...]

    @property
    def starts(self) -> bool:
        """Whether a container is made of ``subject``."""
        return self.verb in _TAKES_IMAGE

    @property
    def names_container(self) -> bool:
        """Whether ``subject`` is a container."""
        return self.verb in _TAKES_CONTAINER

    def all(self, *names: str) -> tuple[Option, ...]:
        """The options of these long names, in order."""
        return tuple(option for option in self.options if option.name in names)

    def value(self, *names: str) -> str | None:
        """The last value given for an option, or None."""
        found = self.all(*names)
        return found[-1].value if found else None

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """``-v``, ``--mount`` and ``--tmpfs``."""
        return tuple(mount for option in self.options if (mount := _mount(option)) is not None)

    @property
    def ports(self) -> tuple[Port, ...]:
        """``-p``; the address of the host is left out."""
        found = []
        for option in self.all("publish"):
            parts = option.value.partition("/")[0].rsplit(":", 2)
            host = parts[-2] if len(parts) > 1 else ""
            found.append(Port(host, parts[-1], option.line))
        return tuple(found)

    @property
    def host_network(self) -> bool:
        """Whether the container has the host's ports."""
        return self.value("network", "net") == "host"


def docker(command: Command, values: Mapping[str, str] | None = None) -> Docker | None:
    """Reads a command; None when it calls no container engine, or only its compose.

    ``values``: what variables of the card hold. A word that is one variable alone stands for
    options when its value begins with a dash, or when its name says so; then it is left out.
    """
    words = list(command.started)
    if not words or words[0].text.rpartition("/")[2] not in ENGINES:
        return None
    words = words[1:]
    texts = [word.text for word in words]
    at = verb_index(texts)
    if at is None or texts[at] == "compose":
        return None
    if texts[at] in ("container", "image") and at + 1 < len(texts):
        at += 1
    held = values or {}
    found, first = options(
        texts, at + 1, texts[at], lambda index: _stands_for_options(words[index], held)
    )
    given = tuple(Option(one.name, one.value, words[one.index].line) for one in found)
    rest = words[first:]
    return Docker(command, texts[at], given, rest[0] if rest else None, tuple(rest[1:]))


def inside(call: Docker) -> tuple[Command, ...]:
    """What a call runs in its container: the arguments as a command, or the script of ``-c``."""
    if call.verb not in ("run", "create", "exec") or not call.arguments:
        return ()
    first = call.arguments[0]
    if first.text.rpartition("/")[2] in ("bash", "sh", "zsh"):
        for index, word in enumerate(call.arguments[1:], 1):
            if re.fullmatch(r"-[a-z]*c[a-z]*", word.text):
                # The script is the first word after the shell's own options.
                script = next((w for w in call.arguments[index + 1 :] if w.text[:1] != "-"), None)
                return commands(script.text, script.line) if script is not None else ()
        return ()
    whole = " ".join(word.raw for word in call.arguments)
    return (
        Command(
            program=first.text.rpartition("/")[2],
            words=call.arguments,
            assigned=(),
            line=first.line,
            block_line=call.command.block_line,
            raw=whole,
        ),
    )


def calls(commands: Iterable[Command], values: Mapping[str, str] | None = None) -> list[Docker]:
    """All calls of container engines among commands."""
    return [call for command in commands if (call := docker(command, values)) is not None]


def _stands_for_options(word: Word, values: Mapping[str, str]) -> bool:
    match = _VARIABLE.fullmatch(word.text)
    if match is None:
        return False
    value = values.get(match[1])
    if value is not None and value.strip():
        return value.strip().startswith("-")
    return _OPTIONS_BY_NAME.search(match[1]) is not None


def _mount(option: Option) -> Mount | None:
    if option.name == "volume":
        parts = option.value.split(":")
        if len(parts) == 1:
            return Mount("", parts[0], option.line, "volume")
        # ``${X:-default}`` has a colon of its own.
        if "${" in option.value:
            parts = re.split(r":(?![^{]*\})", option.value)
        if len(parts) < 2:
            return None
        kind = "bind" if parts[0].startswith(("/", ".", "~", "$")) else "volume"
        return Mount(parts[0], parts[1], option.line, kind)
    if option.name == "mount":
        fields = dict(part.partition("=")[::2] for part in option.value.split(","))
        target = fields.get("target") or fields.get("destination") or fields.get("dst") or ""
        source = fields.get("source") or fields.get("src") or ""
        return Mount(source, target, option.line, fields.get("type", "volume")) if target else None
    if option.name == "tmpfs":
        return Mount("", option.value.partition(":")[0], option.line, "tmpfs")
    return None
