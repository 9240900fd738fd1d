"""Weights: where they are put, what the container sees, and what is served."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from relforge.card.lint.dockerwords import Docker
from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.steps import Step, holds, option, path

_HUB_CLONE = re.compile(r"(?:huggingface\.co|hf-mirror\.com|modelscope\.cn)/(.+?)(?:\.git)?/?$")


@dataclass(frozen=True)
class Download:
    """Weights that a step puts into a folder."""

    folder: str
    line: int
    within: bool


def _downloads(document: Document) -> Iterator[Download]:
    for step in document.steps:
        folder = _folder(step)
        known = path(folder, document.variables) if folder else None
        if known is not None:
            yield Download(known, step.command.line, step.within)


def _folder(step: Step) -> str | None:
    words = step.command.started
    texts = [word.text for word in words]
    if texts[:2] in (["hf", "download"], ["huggingface-cli", "download"]) or texts[:2] == [
        "modelscope",
        "download",
    ]:
        given = option(words, "--local-dir", "--local_dir")
        return given[1] if given else None
    if texts[:2] == ["git", "clone"]:
        rest = [text for text in texts[2:] if not text.startswith("-")]
        address = next((text for text in rest if _HUB_CLONE.search(text)), None)
        if address is None:
            return None
        after = rest[rest.index(address) + 1 :]
        return after[0] if after else posixpath.basename(address.rstrip("/")).removesuffix(".git")
    return None


def _weights(document: Document) -> Iterator[Hit]:
    runs = [call for call in document.containers if call.starts]
    downloads = list(_downloads(document))
    copied = " ".join(call.command.raw for call in document.containers if call.verb == "cp")
    outside = [one for one in downloads if not one.within]
    if not runs or not outside or any(posixpath.basename(o.folder) in copied for o in outside):
        return
    mounts = [pair for run in runs for pair in _mounts(document, run)]
    if any(None in pair for pair in mounts) or not mounts:
        return
    binds = [(source, target) for source, target in mounts if source and target]
    told = False
    for server in document.servers:
        served = path(server.model, document.variables)
        if not server.within or served is None or not served.startswith("/"):
            continue
        if any(holds(one.folder, served) for one in downloads if one.within):
            continue
        seen = [
            posixpath.normpath(source + "/" + posixpath.relpath(served, target))
            for source, target in binds
            if holds(target, served)
        ]
        if not seen:
            told = True
            yield Hit(
                server.line,
                f"`{served}` is served, and no mount of the container holds it; the weights are"
                f" at `{outside[-1].folder}` of the host",
                "mount the folder of the weights there, or serve the folder that is mounted",
            )
        elif not any(_same(folder, one.folder) for folder in seen for one in outside):
            told = True
            yield Hit(
                server.line,
                f"`{served}` is `{seen[-1]}` of the host, and the weights were put into"
                f" `{outside[-1].folder}`",
                "download, mount and serve the same folder",
            )
    if not told:
        yield from _unseen(document, outside, [source for source, _ in binds])


def _unseen(document: Document, outside: list[Download], sources: list[str]) -> Iterator[Hit]:
    """Downloads that no container sees, or that nothing below speaks of again."""
    for one in outside:
        if any(_same(source, one.folder) for source in sources):
            if one.folder not in sources and not _named_again(document, one):
                yield Hit(
                    one.line,
                    f"the weights are put into `{one.folder}`, and no later step uses that folder",
                    "name the folder where the server is told its model, or leave the step out",
                    severity="warning",
                )
        elif one.folder.startswith(("/", "~")) and not _named_again(document, one):
            yield Hit(
                one.line,
                f"the weights are put into `{one.folder}`, which no container mounts",
                "mount that folder into the container",
            )


def _named_again(document: Document, one: Download) -> bool:
    name = posixpath.basename(one.folder)
    for block in document.blocks:
        for number, line in enumerate(block.text.split("\n"), block.first_line):
            if number > one.line and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", line):
                return True
    return False


def _same(left: str, right: str) -> bool:
    """Whether two folders of the host may be one, or one may hold the other."""
    if holds(left, right) or holds(right, left):
        return True
    if left.startswith("/") == right.startswith("/") and left[:1] != "~" != right[:1]:
        return False
    # One is relative or the user's: only the names can be compared.
    return posixpath.basename(left) == posixpath.basename(right)


def _mounts(document: Document, run: Docker) -> Iterator[tuple[str | None, str | None]]:
    for mount in run.mounts:
        if mount.kind == "bind" and mount.source:
            yield path(mount.source, document.variables), path(mount.target, document.variables)


RULES = (
    Rule(
        id="flow-weights",
        severity="error",
        title="Weights that are not where the server looks for them",
        why="The server ends with a missing folder, or downloads everything again.",
        remedy="download, mount and serve the same folder",
        check=_weights,
    ),
)
