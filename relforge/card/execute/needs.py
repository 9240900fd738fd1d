"""What a step needs that a test may lack, and what it would do to this machine, by its words."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from relforge.card.execute.docker_needs import (
    Need,
    Surroundings,
    docker_needs,
    image_host,
    is_local_host,
)
from relforge.card.execute.script import Statement, docker_call, expanded, program
from relforge.card.lint.shell import Command

_HUBS = frozenset(("hf", "huggingface-cli", "modelscope"))
_INSTALLERS = {
    "pip": ("install", "download", "wheel"), "pip3": ("install", "download", "wheel"),
    "uv": ("pip", "sync", "add", "tool"), "conda": ("install", "create", "update"),
    "mamba": ("install", "create"), "npm": ("install", "ci", "i"), "apt": ("update", "install"),
    "apt-get": ("update", "install"), "yum": ("install",), "dnf": ("install",),
    "apk": ("add",), "brew": ("install",), "cargo": ("install",), "go": ("install", "get"),
    "gem": ("install",), "snap": ("install",),
}  # fmt: skip
_FETCHERS = frozenset(("curl", "wget", "http", "https", "aria2c"))
_READERS = frozenset(("sh", "bash", "zsh", "python", "python3"))
_REMOTE = frozenset(("ssh", "scp", "sftp", "rsync"))
_LOGINS = frozenset(("login", "auth"))
_KEYS = re.compile(
    r"^--?(?:key-path|key-file|private-key|identity(?:-file)?|key|token(?:-file)?|"
    r"password(?:-file|-stdin)?|key-passphrase-file|hf-token|access-token)(?:=|$)"
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|KEY_PATH)$", re.I
)
_BLANK = re.compile(
    r"<[A-Za-z][A-Za-z0-9 _.-]*>|/path/to\b|/folder/of\b|\bYOUR[_-]\w+|\bx{3,}\b|\bx\.x\.x\.x\b",
    re.I,
)
_BLANK_BUT = re.compile(r"<(?:EOF|EOT|END)>")
_RUINS = frozenset((
    "mkfs", "wipefs", "fdisk", "parted", "shutdown", "reboot", "poweroff", "halt", "insmod",
    "modprobe", "rmmod", "systemctl", "service", "crontab", "useradd", "userdel", "usermod",
    "passwd", "iptables", "nft", "mount", "umount", "swapoff", "sysctl", "chroot", "pkill",
    "killall",
))  # fmt: skip
_REMOVERS = frozenset(("rm", "rmdir", "shred", "truncate", "mv", "chmod", "chown"))
_OTHER_ENGINES = frozenset(("podman", "nerdctl", "ctr", "crictl", "docker-compose"))


def statement_needs(
    statement: Statement, variables: dict[str, str], there: Surroundings, folder: Path
) -> Iterator[Need]:
    """All needs of one statement that its words show; each once."""
    seen: set[Need] = set()
    for need in _all(statement, variables, there, folder):
        if need not in seen:
            seen.add(need)
            yield need


def _all(
    statement: Statement, variables: dict[str, str], there: Surroundings, folder: Path
) -> Iterator[Need]:
    blank = _BLANK.search(_BLANK_BUT.sub("", statement.text))
    if blank:
        yield Need("reader", f"{blank[0]} is a blank that the reader has to fill in")
    piped = [program(command) for command in statement.commands]
    fetches = any(name in _FETCHERS for name, _ in piped)
    # `python3 -m json.tool` reads data.
    if fetches and piped[-1][0] in _READERS and not {"-m", "-c"} & set(piped[-1][1]):
        yield Need("host", "it runs a program that it has just fetched")
    for target in statement.writes:
        if _outside(expanded(target, variables), folder):
            yield Need("host", f"it writes {target}, outside its folder")
    for command in statement.commands:
        name, words = program(command)
        filled = tuple(expanded(word, variables) for word in words)
        call = docker_call(command, variables)
        if call is not None:
            yield from docker_needs(call, there, str(folder))
            if call.verb == "pull" and call.image:
                host = image_host(call.image)
                if not is_local_host(host) and "$" not in host + call.image[:1]:
                    yield Need("network", f"docker pull from {host}")
        elif name:
            yield from _network(name, filled, folder)
            yield from _host(name, filled, command, folder)
            yield from _hardware(name)
        yield from _secrets(name, command, filled, variables, folder)


def _network(name: str, words: Sequence[str], folder: Path) -> Iterator[Need]:
    rest = words[1:]
    first = next((word for word in rest if not word.startswith("-")), "")
    if name in ("python", "python3") and rest[:2] == ("-m", "pip"):
        name, rest = "pip", rest[2:]
        first = next((word for word in rest if not word.startswith("-")), "")
    if name in _HUBS and first in ("download", "upload", "repo"):
        yield Need("network", f"{name} {first} talks to a hub")
    elif name in _INSTALLERS and first in _INSTALLERS[name]:
        if "--no-index" not in rest:
            yield Need("network", f"{name} {first} fetches packages")
    elif name == "git" and first in ("clone", "fetch", "pull", "push", "submodule", "ls-remote"):
        source = next((w for w in rest[rest.index(first) + 1 :] if not w.startswith("-")), "")
        local = source.startswith("file://") or (source and (folder / source).exists())
        if not local:
            yield Need("network", f"git {first} {source}".rstrip())
    elif name in _REMOTE:
        yield Need("network", f"{name} talks to another machine")
    elif name in _FETCHERS:
        for url in rest:
            host = _host_of(url)
            if host and not is_local_host(host) and "$" not in host:
                yield Need("network", f"{name} asks {host}")


def _host_of(word: str) -> str:
    found = re.match(r"^(?:https?|ftp)://(?:[^/@]*@)?(\[[^\]]+\](?::\d+)?|[^/\s?#]+)", word)
    return found[1] if found else ""


def _hardware(name: str) -> Iterator[Need]:
    if re.fullmatch(r"\w+-smi", name) and shutil.which(name) is None:
        yield Need("hardware", f"this host has no {name}")


def _host(name: str, words: Sequence[str], command: Command, folder: Path) -> Iterator[Need]:
    if command.words and command.words[0].text in ("sudo", "su", "doas"):
        yield Need("host", f"{command.words[0].text} runs it as another user")
    if name in _RUINS or name.startswith("mkfs."):
        yield Need("host", f"{name} changes this machine")
    elif name in _OTHER_ENGINES:
        yield Need("host", f"what {name} makes is not seen by this test")
    elif name == "dd" and any(word.startswith("of=/dev/") for word in words):
        yield Need("host", "dd writes to a device")
    elif name in _REMOVERS:
        for word in words[1:]:
            if not word.startswith("-") and "+" not in word and _outside(word, folder):
                yield Need("host", f"{name} {word} reaches outside its folder")


def _outside(word: str, folder: Path) -> bool:
    """Whether a path leads out of the folder; a variable of unknown value may."""
    if word.startswith(("$PWD/", "${PWD}/")):
        word = word.partition("/")[2]
    if word.startswith("$") or word.startswith("~"):
        return True
    path = os.path.normpath(folder / word)
    free = ("/tmp/", "/dev/null", "/dev/stdout", "/dev/stderr")  # noqa: S108
    if word.startswith(free) and path.startswith(free):
        return False
    return not (path == str(folder) or path.startswith(f"{folder}/"))


def _secrets(
    name: str,
    command: Command,
    words: Sequence[str],
    variables: dict[str, str],
    folder: Path,
) -> Iterator[Need]:
    if name in _HUBS and len(words) > 1 and words[1] in _LOGINS:
        yield Need("secret", f"{name} {words[1]} asks for a token")
    for index, word in enumerate(words):
        if _KEYS.match(word) and name not in ("sort", "apt-key", "docker", "jq"):
            value = word.partition("=")[2] or (words[index + 1] if index + 1 < len(words) else "")
            if not value or not (folder / Path(value).expanduser()).is_file():
                yield Need("secret", f"{word.partition('=')[0]} {value}".rstrip())
    for found in re.finditer(r"\$\{?(\w+)\}?", command.raw):
        if _SECRET_NAME.search(found[1]) and found[1] not in variables:
            yield Need("secret", f"${found[1]} is the reader's own")
