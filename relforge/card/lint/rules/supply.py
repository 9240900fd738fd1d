"""Where images and sources come from, and whether they stay what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule, Severity
from relforge.card.lint.images import images, internal, made_here, proxied
from relforge.card.lint.kind import all_commands, is_card, is_deployment
from relforge.card.lint.shell import Command

_PROXY = re.compile(r"https?://[\w.:-]+/(?:[\w-]+/)?https?:/{1,2}[\w.-]+")
_ARCHIVE = re.compile(r"https?://(?:web\.)?archive\.|https?://translate\.")
_HEX = re.compile(r"[0-9a-f]{7,40}")
_NO_NAMESPACE = frozenset(
    {"ubuntu", "debian", "alpine", "busybox", "python", "node", "golang", "rust", "redis", "nginx",
     "postgres", "mysql", "mariadb", "mongo", "registry", "hello-world", "centos", "fedora",
     "rockylinux", "almalinux", "httpd", "traefik", "docker", "gcc", "openjdk", "ruby", "php",
     "memcached", "rabbitmq", "haproxy", "caddy", "julia", "haskell", "perl", "elasticsearch"}
)  # fmt: skip
"""Official images of Docker Hub, which have no namespace."""


def _mutable(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    made = made_here(document)
    for image in images(document):
        if image.digest or image.reference in made or image.repository in made:
            continue
        has = f"the tag {image.tag!r}" if image.tag else "no tag, so :latest,"
        yield Hit(image.line, f"{image.reference} has {has} and no digest")


def _no_registry(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    for image in images(document):
        name = image.repository
        if image.verb != "pull" or re.search(r"[/$]", name) or name in _NO_NAMESPACE:
            continue
        yield Hit(
            image.line,
            f"{image.reference} names no registry: engines ask for docker.io/library/{name}",
        )


def _severity(document: Document) -> Severity | None:
    """Documentation of a registry names hosts as examples."""
    return None if is_card(document) else "note"


def _internal(document: Document) -> Iterator[Hit]:
    for image in images(document):
        if image.host and internal(image.host):
            told = f"{image.host} is a host inside a private network"
            yield Hit(image.line, told, severity=_severity(document))


def _proxy_registry(document: Document) -> Iterator[Hit]:
    for image in images(document):
        behind = proxied(image.reference)
        if behind:
            told = f"{image.host} only passes on images of {behind}"
            yield Hit(image.line, told, severity=_severity(document))


def _proxy_url(document: Document) -> Iterator[Hit]:
    for number, text in enumerate(document.lines, 1):
        match = _PROXY.search(text)
        if match and not _ARCHIVE.match(match[0]):
            yield Hit(number, f"an address behind somebody's proxy: {match[0]}")


def _clone(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    commands = all_commands(document)
    for index, command in enumerate(commands):
        words = command.argv
        if "clone" not in words[1:3] or command.program != "git":
            continue
        branch = _after(words, "-b", "--branch", "--revision")
        if branch and re.search(r"\d", branch):
            continue
        if not any(_checks_out(later) for later in _until_next_clone(commands[index + 1 :])):
            url = next((word for word in words if "://" in word or word.startswith("git@")), "")
            yield Hit(command.line, f"{url or command.raw} is cloned at whatever it is that day")


def _until_next_clone(commands: tuple[Command, ...]) -> Iterator[Command]:
    for command in commands:
        if command.program == "git" and "clone" in command.argv[1:3]:
            return
        yield command


def _checks_out(command: Command) -> bool:
    if command.program != "git":
        return False
    words = command.argv
    return any(verb in words for verb in ("checkout", "reset", "switch", "worktree"))


def _after(words: tuple[str, ...], *options: str) -> str:
    for word, following in pairwise((*words, "")):
        if word in options:
            return following
        for option in options:
            if word.startswith(f"{option}="):
                return word.partition("=")[2]
    return ""


def _pip_head(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    for command in all_commands(document):
        if "install" not in command.argv:
            continue
        for word in command.words:
            match = re.search(r"git\+(?:https?|ssh)://\S+", word.text)
            if match and not re.search(r"(?:\.git|/[\w.-]+)@[\w.-]+", match[0].partition("://")[2]):
                yield Hit(word.line, f"{match[0]} is installed at whatever it is that day")


def _unexplained_commit(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    out = {w for c in document.commands if _checks_out(c) for w in c.argv if _is_hash(w)}
    for command in document.commands:
        if command.program in ("git", "hf", "huggingface-cli", "modelscope"):
            continue
        for option, word in zip(command.words, command.words[1:], strict=False):
            if re.match(r"--?[\w-]*(?:commit|revision|sha)", option.text) and _is_hash(word.text):
                known = any(h.startswith(word.text) or word.text.startswith(h) for h in out)
                if out and not known and document.text.count(word.text) == 1:
                    yield Hit(
                        word.line,
                        f"{word.text} is another commit than the one checked out, and nothing says "
                        "of what",
                    )


def _is_hash(word: str) -> bool:
    return _HEX.fullmatch(word) is not None and re.search(r"\d", word) is not None


RULES = (
    Rule(
        id="supply-mutable-tag",
        severity="warning",
        title="An image without a digest",
        why="A tag can be moved: what a reader gets need not be what was tested.",
        remedy="name the image with its digest: REGISTRY/NAME@sha256:…",
        check=_mutable,
    ),
    Rule(
        id="supply-no-registry",
        severity="warning",
        title="An image without a registry",
        why="Without one, engines ask Docker Hub, which does not have it or has another's.",
        remedy="write registry and namespace: REGISTRY/NAMESPACE/NAME",
        check=_no_registry,
    ),
    Rule(
        id="supply-internal-registry",
        severity="error",
        title="A registry inside a private network",
        why="Nobody outside can pull the image.",
        remedy="publish the image in a registry that readers reach, and name that one",
        check=_internal,
    ),
    Rule(
        id="supply-proxy-registry",
        severity="warning",
        title="An image behind somebody's mirror",
        why="The mirror may hold another image, or none tomorrow; readers elsewhere wait for it.",
        remedy="name the image's own registry, with a digest; mention the mirror in the text",
        check=_proxy_registry,
    ),
    Rule(
        id="supply-proxy-url",
        severity="error",
        title="An address behind somebody's proxy",
        why="Whoever runs the proxy chooses what the reader's machine runs.",
        remedy="give the address itself",
        check=_proxy_url,
    ),
    Rule(
        id="supply-clone-head",
        severity="warning",
        title="A clone without a commit",
        why="The repository goes on; what was tested cannot be had again.",
        remedy="check out the commit that was tested",
        check=_clone,
    ),
    Rule(
        id="supply-pip-head",
        severity="warning",
        title="A package installed from a moving branch",
        why="The repository goes on; what was tested cannot be had again.",
        remedy="pin the commit: git+https://…@COMMIT",
        check=_pip_head,
    ),
    Rule(
        id="supply-unexplained-commit",
        severity="note",
        title="A commit that nothing explains",
        why="A reader cannot tell which of two commits the result belongs to.",
        remedy="say which repository the commit is of, and why it is this one",
        check=_unexplained_commit,
    ),
)
