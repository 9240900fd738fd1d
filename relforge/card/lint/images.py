"""References of container images as a card writes them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from relforge.card.lint.document import Document
from relforge.card.lint.kind import container_calls, variables

_WHOLE_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_INTERNAL = re.compile(
    r"(?:[.-]int(?:ra|ranet|ernal)?(?=[.:]|$)|^int(?:ra|ranet|ernal)?[.-]|"
    r"\.(?:local|lan|corp|home|intra|internal|localdomain)(?=:|$))",
    re.I,
)


@dataclass(frozen=True)
class Image:
    """A reference in a ``pull`` or ``run``. ``line`` is where the reference itself stands."""

    reference: str
    verb: str
    line: int

    @property
    def host(self) -> str:
        """The registry that it names, with its port; empty when it names none."""
        first, slash, _ = self.reference.partition("/")
        return first if slash and ("." in first or ":" in first or first == "localhost") else ""

    @property
    def digest(self) -> bool:
        """Whether content cannot change under it."""
        return (
            "@sha256:" in self.reference
            # A digest that the card looks up and keeps in a variable.
            or re.search(r"@\$\{?\w", self.reference) is not None
            or re.match(r"sha256:|[0-9a-f]{12,64}$", self.reference) is not None
        )

    @property
    def repository(self) -> str:
        """The reference without tag and digest."""
        name = self.reference.partition("@")[0]
        head, colon, tag = name.rpartition(":")
        return head if colon and "/" not in tag else name

    @property
    def tag(self) -> str:
        """Its tag, or an empty string."""
        name = self.reference.partition("@")[0]
        _, colon, tag = name.rpartition(":")
        return tag if colon and "/" not in tag else ""


def images(document: Document) -> Iterator[Image]:
    """Images that are pulled or started, in order. A variable that holds one stands for it;
    one that nobody set is left out."""
    held = variables(document)
    loaded = any(call.verb in ("load", "import") for call in container_calls(document))
    pulls = any(call.verb == "pull" for call in container_calls(document))
    for call in container_calls(document):
        if call.subject is None or not (call.starts or call.verb == "pull"):
            continue
        if loaded and not pulls:
            # What runs came out of an archive, under the name that it has there.
            continue
        text, line = call.subject.text, call.subject.line
        match = _WHOLE_VARIABLE.fullmatch(text)
        if match is not None:
            if match[1] not in held or not held[match[1]][0]:
                continue
            text, line = held[match[1]]
        # A word that no engine takes for a reference is some other mistake.
        if re.fullmatch(r"[\w$][\w./:@${}|-]*", text, re.A):
            yield Image(text, call.verb, line)


def made_here(document: Document) -> set[str]:
    """Repositories and references that the card builds, tags or loads by itself."""
    found: set[str] = set()
    if _brings_images(document):
        pulled = {image.repository for image in images(document) if image.verb == "pull"}
        found |= {
            image.reference
            for image in images(document)
            if not image.host and image.repository not in pulled
        }
    for call in container_calls(document):
        if call.verb in ("build", "buildx"):
            found |= {option.value for option in call.all("tag", "t")}
        elif call.verb in ("tag", "commit", "import") and call.arguments:
            found.add(call.arguments[-1].text)
    return found


def _brings_images(document: Document) -> bool:
    """Whether something makes images that no later word names: an archive that is loaded, or
    another tool's ``build``."""
    loads = any(call.verb == "load" for call in container_calls(document))
    return loads or any("build" in command.argv[1:2] for command in document.commands)


def internal(host: str) -> bool:
    """Whether the form of a host's name says that the world does not reach it."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    try:
        return ipaddress.ip_address(name).is_private and not name.startswith("127.")
    except ValueError:
        return _INTERNAL.search(name) is not None


def proxied(reference: str) -> str:
    """The registry that is reached through another one (``proxy.example/quay.io/name``), or ""."""
    parts = reference.split("/")
    if len(parts) > 2 and re.fullmatch(r"(?:[a-z0-9-]+\.)+(?:io|com|org|net|dev|ai|cn)", parts[1]):
        return parts[1]
    return ""
