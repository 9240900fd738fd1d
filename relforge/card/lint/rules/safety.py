"""What a container, or whoever wrote the card, may do on the reader's machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.dockerwords import Docker
from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule, Severity
from relforge.card.lint.kind import all_commands, container_calls, is_card, is_deployment

_HOST_FOLDERS = frozenset(
    {"/", "/home", "/root", "/dev", "/etc", "/usr", "/usr/src", "/usr/local", "/lib",
     "/lib/modules", "/var", "/var/lib", "/proc", "/sys", "/run", "/boot", "/opt", "/mnt", "~",
     "$HOME", "${HOME}", "/var/run/docker.sock", "/run/docker.sock"}
)  # fmt: skip
_SHM = "/dev/shm"  # noqa: S108 - a mount of the container
_NODES = re.compile(r"--nnodes|node[_-]rank|ray start|--dist-init-addr|--headless|--master[_-]addr")
_HOST_NETWORK = re.compile(r"network of the host|host(?:'s)? network|主机网络", re.I)
_FABRIC = re.compile(r"^/dev/infiniband")
_ONE_MACHINE = re.compile(r"\b(?:single|one)[ -](?:machine|node|host|server)\b|单机", re.I)
_KEY_OPTION = re.compile(
    r"^--?(?:[\w-]*-)?(?:key|identity|secret|private-key)(?:-?(?:path|file))?$", re.I
)
_KEY_FILE = re.compile(
    r"(?:^|[/=])(?:id_(?:rsa|ed25519|ecdsa)|[\w.-]*_key|[\w.-]*\.(?:pem|key|p12))$"
)
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bsk-(?:proj-)?[A-Za-z0-9_-]{32,}|\bgh[pousr]_[A-Za-z0-9]{36}|"
    r"\bAKIA[0-9A-Z]{16}\b|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|"
    r"\bxox[bp]-[0-9A-Za-z-]{20,}"
)
_SECRET_BEGINS = ("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "AKIA", "-----BEGIN", "xox")
_PIPED = re.compile(r"\b(?:curl|wget)\b[^|;&]*\|\s*(?:sudo\s+)?(?:-E\s+)?(?:ba|z|da)?sh\b")


def _starts(document: Document) -> Iterator[Docker]:
    return (call for call in container_calls(document) if call.starts)


def _severity(document: Document) -> Severity | None:
    """The README of a tool may need what a model server does not."""
    return None if is_card(document) else "note"


def _privileged(document: Document) -> Iterator[Hit]:
    for call in _starts(document):
        for option in call.all("privileged"):
            if option.value != "false":
                told = "--privileged: the container may do everything on the host"
                yield Hit(option.line, told, severity=_severity(document))


def _all_caps(document: Document) -> Iterator[Hit]:
    for call in _starts(document):
        for option in call.all("cap-add"):
            if option.value.upper() in ("ALL", "CAP_ALL"):
                yield Hit(option.line, "the container gets every capability")


def _namespace(document: Document) -> Iterator[Hit]:
    several_nodes = any(_NODES.search(block.text) for block in document.blocks)
    explained = any(_HOST_NETWORK.search(line.text) for line in document.prose)
    for call in _starts(document):
        for option in call.options:
            if option.value != "host":
                continue
            if option.name in ("pid", "uts", "userns"):
                told = f"--{option.name}=host: the container shares this namespace with the host"
                yield Hit(option.line, told, severity=_severity(document))
            needed = option.name in ("net", "network") and (several_nodes or explained)
            shared = option.name in ("net", "network", "ipc")
            if shared and not needed and is_deployment(document):
                told = f"--{option.name}=host: the container shares it with the host"
                yield Hit(option.line, told, severity="note")


def _host_folder(document: Document) -> Iterator[Hit]:
    for call in _starts(document):
        for mount in call.mounts:
            source = mount.source.rstrip("/") or ("/" if mount.source == "/" else "")
            if source in _HOST_FOLDERS:
                told = f"{mount.source} of the host, as a whole"
                yield Hit(mount.line, told, severity=_severity(document))


def _repeated(document: Document) -> Iterator[Hit]:
    for call in _starts(document):
        seen: set[tuple[str, str]] = set()
        for option in call.options:
            key = (option.name, option.value)
            if key in seen:
                yield Hit(
                    option.line, f"--{option.name} {option.value}".rstrip() + " a second time"
                )
            seen.add(key)


def _shm(document: Document) -> Iterator[Hit]:
    for call in _starts(document):
        if call.value("ipc") != "host":
            continue
        sizes = [option.line for option in call.all("shm-size")]
        sizes += [m.line for m in call.mounts if m.kind == "tmpfs" and m.target == _SHM]
        for line in sizes:
            told = "the size of the container's own /dev/shm, and --ipc=host gives it the host's"
            yield Hit(line, told, severity=_severity(document))


def _fabric(document: Document) -> Iterator[Hit]:
    several = any(_NODES.search(block.text) for block in document.blocks)
    if several or not _ONE_MACHINE.search(document.text) or not is_deployment(document):
        return
    for call in _starts(document):
        for option in call.all("device"):
            if _FABRIC.match(option.value):
                yield Hit(option.line, f"{option.value} is passed in, for one machine")


def _key_path(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    explained = any(
        re.search(r"\b(?:private|secret|your|own) key|\bkey (?:pair|file)|密钥|私钥", p.text, re.I)
        for p in document.prose
    )
    for command in all_commands(document) if not explained else ():
        if command.program in ("ssh", "scp", "ssh-keygen", "openssl"):
            continue
        for option, word in zip(command.words, command.words[1:], strict=False):
            if _KEY_OPTION.match(option.text) and _KEY_FILE.search(word.text):
                yield Hit(word.line, f"{word.text}: a key, and no word on who has it")


def _secret(document: Document) -> Iterator[Hit]:
    # Looking for the begin of each first is many times faster than looking for all forms at once.
    if not any(begin in document.text for begin in _SECRET_BEGINS):
        return
    for match in _SECRET.finditer(document.text):
        if not re.search(r"([^-])\1{7}|example", match[0], re.I):
            line = document.text.count("\n", 0, match.start()) + 1
            yield Hit(line, f"{match[0][:8]}… looks like a secret that works")


def _piped(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        for index, text in enumerate(block.text.split("\n") if block.is_shell else ()):
            if _PIPED.search(text) and not text.lstrip().startswith("#"):
                yield Hit(block.first_line + index, "a download is run unseen")


RULES = (
    Rule(
        id="safety-privileged",
        severity="warning",
        title="A privileged container",
        why="Whatever runs in it is root on the host, with every device.",
        remedy="pass in the devices and capabilities that the server needs, and no more",
        check=_privileged,
    ),
    Rule(
        id="safety-all-caps",
        severity="warning",
        title="All capabilities",
        why="The container can load kernel modules, read all memory and reconfigure the network.",
        remedy="name the capabilities that the server needs",
        check=_all_caps,
    ),
    Rule(
        id="safety-host-namespace",
        severity="warning",
        title="A namespace of the host",
        why="The container sees and stops the host's processes, or takes its ports and names.",
        remedy="leave it out; publish the server's port with -p",
        check=_namespace,
    ),
    Rule(
        id="safety-host-folder",
        severity="warning",
        title="A whole folder of the host",
        why="The container reads and overwrites files that it has nothing to do with.",
        remedy="mount the folder of the weights, read-only, and the driver's files one by one",
        check=_host_folder,
    ),
    Rule(
        id="safety-repeated-option",
        severity="warning",
        title="An option twice",
        why="One of them was meant to be something else, or is left over.",
        remedy="remove one of them",
        check=_repeated,
    ),
    Rule(
        id="safety-shm-unused",
        severity="warning",
        title="Shared memory of its own together with the host's",
        why="With --ipc=host the container uses the host's /dev/shm; the size given has no effect.",
        remedy="keep --shm-size, and leave --ipc=host out",
        check=_shm,
    ),
    Rule(
        id="safety-fabric-unused",
        severity="note",
        title="Devices of a network fabric, for one machine",
        why="One machine needs none of them; where they are missing, the container does not start.",
        remedy="leave the device out, or say for how many machines the command is",
        check=_fabric,
    ),
    Rule(
        id="safety-key-path",
        severity="warning",
        title="A key that the card hands nobody",
        why="Readers cannot run the command, or ask for a key to be mailed around.",
        remedy="say who gets a key, how, and that it stays secret",
        check=_key_path,
    ),
    Rule(
        id="safety-secret",
        severity="error",
        title="A secret in the text",
        why="It is public now, for whoever reads the card.",
        remedy="revoke it, and write a variable that the reader sets",
        check=_secret,
    ),
    Rule(
        id="safety-piped-shell",
        severity="note",
        title="A download that is run unseen",
        why="Who controls the server or the way to it runs what they like on the reader's machine.",
        remedy="download it, check its digest, then run it",
        check=_piped,
    ),
)
