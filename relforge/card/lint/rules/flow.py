"""Steps that go on with what an earlier step made: images and containers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.dockerwords import Docker
from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.shell import Word
from relforge.card.lint.variables import expand

_UNKNOWN = re.compile(r"[$<>`*{]|[^\x00-\x7f]")
_SERVICE = re.compile(r"(?m)^  ([A-Za-z][\w.-]*):\s*$")


def _image(document: Document) -> Iterator[Hit]:
    calls = document.containers
    values = document.variables
    pulled = _names(document, [call for call in calls if call.verb == "pull"])
    if not pulled or any(call.verb in ("load", "import", "commit") for call in calls):
        return
    made: set[str] = set()
    for call in calls:
        if call.verb in ("build", "tag"):
            made.update(expand(one.value, values) for one in call.all("tag", "t"))
            words = (call.subject, *call.arguments) if call.verb == "tag" else ()
            made.update(expand(word.text, values) for word in words if word)
    runs = _names(document, [call for call in calls if call.starts])
    unused = {name for name in pulled if name not in runs and name not in made}
    if not unused:
        return
    for name, word in runs.items():
        if name not in pulled and name not in made and not _UNKNOWN.search(name):
            yield Hit(
                word.line,
                f"`{name}` is run, and what was pulled is {_list(unused)}",
            )


def _names(document: Document, calls: list[Docker]) -> dict[str, Word]:
    """Image references, with variables put in, and ``:latest`` where there is no tag."""
    found: dict[str, Word] = {}
    for call in calls:
        if call.subject is not None:
            name = expand(call.subject.text, document.variables)
            if ":" not in name.rpartition("/")[2] and "$" not in name:
                name += ":latest"
            found.setdefault(name, call.subject)
    return found


def _container(document: Document) -> Iterator[Hit]:
    values = document.variables
    starts = [call for call in document.containers if call.starts]
    services = _services(document)
    if not starts or services is None:
        return
    names = {expand(name, values) for call in starts if (name := call.value("name"))}
    images = [call.subject.text for call in starts if call.subject is not None]
    if any(_UNKNOWN.search(name) for name in names) or not all(map(str.isascii, images)):
        return
    first = min(call.command.line for call in starts)
    for call in document.containers:
        if call.verb == "rename" and call.arguments:
            names.add(expand(call.arguments[0].text, values))
        if not call.names_container or call.subject is None or call.command.line < first:
            continue
        for word in _containers(call):
            name = expand(word.text, values)
            if any(re.fullmatch(rf"\w.*[-_]{re.escape(one)}[-_]\d+", name) for one in services):
                continue
            if name in names or _UNKNOWN.search(name) or re.fullmatch(r"[0-9a-f]{12,64}", name):
                continue
            what = f"only {_list(names)} is started" if names else "no container is given a name"
            yield Hit(word.line, f"`{call.verb}` is meant for `{name}`, and {what}")


def _services(document: Document) -> set[str] | None:
    """The services of the card's compositions; None when they are in a file that is not shown."""
    shown = [
        block.text
        for block in document.blocks
        if block.language in ("yaml", "yml") and "services:" in block.text
    ]
    if not shown and re.search(r"\bdocker[ -]compose\b", document.text):
        return None
    return {match[1] for text in shown for match in _SERVICE.finditer(text)}


def _containers(call: Docker) -> list[Word]:
    """The words of a call that name containers."""
    assert call.subject is not None
    if call.verb == "cp":
        words = [word for word in (call.subject, *call.arguments) if ":" in word.text]
        return [
            Word(word.raw, word.text.partition(":")[0], word.line)
            for word in words
            if not word.text.startswith((".", "/", "~", "$"))
        ]
    if call.verb in ("stop", "rm", "kill", "start", "restart", "wait"):
        words = [call.subject, *call.arguments]
        return [word for word in words if re.fullmatch(r"[\w.-]+|.*[$].*", word.text)]
    return [call.subject]


def _list(names: set[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names))


RULES = (
    Rule(
        id="flow-image",
        severity="error",
        title="Another image is run than was pulled",
        why="The reader pulls one image and runs another, or none that exists.",
        remedy="write the same reference in both steps",
        check=_image,
    ),
    Rule(
        id="flow-container",
        severity="error",
        title="A container's name that no step gave",
        why="The engine says that there is no such container, and the steps end here.",
        remedy="use the name of `--name`",
        check=_container,
    ),
)
