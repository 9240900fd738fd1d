"""How a withdrawn release is marked where people read of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

LIST = "WITHDRAWN.md"
_HEAD = """\
# Withdrawn

These images are withdrawn: do not use them. Who has one installed should move to another release.

| Image | Withdrawn | Reason |
|---|---|---|
"""
_ROW = re.compile(r"^\| `(sha256:[0-9a-f]{64})` \| (\S+) \| (.*) \|$", re.MULTILINE)
_MARK = "<!-- relforge:withdrawn {digest} -->"
_NOTICES: Mapping[str, str] = {
    "README.md": "> **Withdrawn on {date}.** Do not use this release: {reason}. "
    f"[All withdrawn images]({LIST})",
    "README_zh.md": "> **已于 {date} 撤回。** 请勿使用此发布：{reason}。"  # noqa: RUF001
    f"[所有已撤回的镜像]({LIST})",
}
CARDS = tuple(_NOTICES)


def withdrawn(listed: bytes | None, digest: str) -> tuple[str, str] | None:
    """Date and reason of an image's withdrawal, or None."""
    for found, date, reason in _ROW.findall((listed or b"").decode("utf-8", "replace")):
        if found == digest:
            return date, reason.replace("\\|", "|")
    return None


def listed_with(listed: bytes | None, digest: str, date: str, reason: str) -> bytes:
    """The list with one image more."""
    text = (listed or b"").decode("utf-8", "replace") or _HEAD
    return f"{text.rstrip()}\n| `{digest}` | {date} | {_cell(reason)} |\n".encode()


def card_with(name: str, card: bytes, digest: str, date: str, reason: str) -> bytes:
    """A card that says so before anything else, below its front matter."""
    text = card.decode()
    mark = _MARK.format(digest=digest)
    if mark in text:
        return card
    end = text.find("\n---\n", 3) + len("\n---\n") if text.startswith("---\n") else 0
    notice = _NOTICES[name].format(date=date, reason=" ".join(reason.split()).rstrip("."))
    return f"{text[:end]}\n{mark}\n{notice}\n\n{text[end:].lstrip()}".encode()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
