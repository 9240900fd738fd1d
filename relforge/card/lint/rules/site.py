"""What exists on the writer's machine alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import container_calls, is_deployment

_SYSTEM = re.compile(
    r"^/(?:usr|etc|dev|lib|lib64|var|proc|sys|opt|tmp|root|run|bin|sbin|boot|path)(?:/|$)|^/$"
)
_INTERFACE_NAME = re.compile(r"(?:IFNAME|NICS?|_HCA|INTERFACE|SOCKET_IF)\w*$")
_INTERFACE = re.compile(r"^(?:[\^=]*)(?:eth|ens|enp|eno|ib|bond|mlx5_|roce)\d", re.I)
_EXPLAINED_INTERFACE = re.compile(
    r"\binterfaces?\b|\bNICs?\b|network card|网卡|网口|网络接口", re.I
)
_ADDRESS = re.compile(
    r"(?<![\d.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?![\d.])"
)
_EXPLAINED_ADDRESS = re.compile(r"\b(?:IP|addresse?s?)\b|\breplace\b|地址|替换", re.I)


def _mount(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    starts = [call for call in container_calls(document) if call.starts]
    started = [call.command for call in starts]
    code = [command.raw for command in document.commands if command not in started]
    code += [word.text for call in starts for word in call.arguments]
    code += [block.text for block in document.blocks if not block.is_shell]
    elsewhere = "\n".join([*code, document.words])
    for call in starts:
        for mount in call.mounts:
            source, target = mount.source.rstrip("/"), mount.target.rstrip("/")
            if not source.startswith("/") or _SYSTEM.match(f"{source}/"):
                continue
            # Its place on the host is named, or what it is in the container is used.
            if not any(_named(path, elsewhere) for path in (source, target) if path):
                yield Hit(mount.line, f"nothing says what {mount.source} is")


def _named(path: str, text: str) -> bool:
    # Without a pattern: compiling one for every path takes longer than all the rest of the rule.
    at = text.find(path)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(path) : at + len(path) + 1]
        if not (before.isalnum() or before in ("_", "/")) and not (
            after.isalnum() or after in ("_", "-")
        ):
            return True
        at = text.find(path, at + 1)
    return False


def _interface(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    if any(_EXPLAINED_INTERFACE.search(text) for text in _text(document)):
        return
    for call in container_calls(document):
        for option in call.all("env"):
            name, _, value = option.value.partition("=")
            if _INTERFACE_NAME.search(name) and _INTERFACE.match(value):
                yield Hit(option.line, f"{name} is {value}: interfaces of the writer's machine")


def _address(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    if any(_EXPLAINED_ADDRESS.search(line.text) for line in document.prose):
        return
    for block in document.blocks:
        for index, text in enumerate(block.text.split("\n")):
            match = _ADDRESS.search(text)
            # A registry's address is another rule's.
            if match and not re.match(r"(?::\d+)?/\w[\w/-]*[:@]", text[match.end() :]):
                yield Hit(
                    block.first_line + index, f"{match[0]} is an address of the writer's network"
                )


def _text(document: Document) -> Iterator[str]:
    yield from (line.text for line in document.prose)
    for block in document.blocks:
        yield from (t for t in block.text.split("\n") if t.lstrip().startswith("#"))


RULES = (
    Rule(
        id="site-mount",
        severity="warning",
        title="A mounted folder that nothing explains",
        why="Readers do not have it, and the engine makes an empty one without a word.",
        remedy="say what the folder holds, or leave the mount out",
        check=_mount,
    ),
    Rule(
        id="site-interface",
        severity="note",
        title="Network interfaces of the writer's machine",
        why="Under another name the processes do not find each other, and hang.",
        remedy="say that the names are the reader's own, and how to find them",
        check=_interface,
    ),
    Rule(
        id="site-address",
        severity="note",
        title="Addresses of the writer's network",
        why="Readers paste them, and connect to a machine that is not theirs.",
        remedy="set the addresses in a variable that the text asks the reader to fill in",
        check=_address,
    ),
)
