"""What a repository on a hub says of itself, and a card whose release was taken back."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relforge.publishing.published import Published


@dataclass(frozen=True)
class Notice:
    """Why a release was taken back. ``date`` is ``YYYY-MM-DD``."""

    image_digest: str
    date: str
    reason: str


def noticed(card: str, notice: Notice, *, chinese: bool) -> str:
    """The card with the notice before its first line, and a head without results."""
    import yaml

    head: dict[str, Any] = {}
    body = card
    if card.startswith("---\n") and (end := card.find("\n---\n", 4)) > 0:
        head, body = yaml.safe_load(card[4:end]) or {}, card[end + 5 :].lstrip("\n")
        head.pop("model-index", None)
        head["tags"] = [*(head.get("tags") or []), "withdrawn"]
    reason = " ".join(notice.reason.split()).replace("<", "&lt;") or "-"
    if chinese:
        said = f"> **本版本已于 {notice.date} 撤回,请勿使用。** 原因:{reason}\n>\n> 镜像:"
    else:
        said = (
            f"> **This release was withdrawn on {notice.date}. Do not use it.** Reason: {reason}"
            "\n>\n> Image: "
        )
    said += f"`{notice.image_digest}`\n\n"
    if not head:
        return said + body
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()
    return f"---\n{text}\n---\n\n{said}{body}"


@dataclass(frozen=True)
class Publication:
    """What a repository says of itself. ``files``: SHA-256 of relforge's own files there."""

    release: str
    image_digest: str
    files: Mapping[str, str]
    withdrawn: Notice | None

    @classmethod
    def read(cls, text: str | None) -> Publication | None:
        """None where there is none, or none of ours: then no file there is ours either."""
        try:
            value = json.loads(text or "")
            gone = value.get("withdrawn")
            return cls(
                release=str(value["release"]),
                image_digest=str(value["image_digest"]),
                files={str(path): str(one["sha256"]) for path, one in value["files"].items()},
                withdrawn=gone
                and Notice(str(value["image_digest"]), str(gone["date"]), str(gone["reason"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def notice_for(published: Published, there: Publication | None, reason: str) -> Notice:
    """That of an earlier withdrawal of the same image, else one of today."""
    if there and there.withdrawn and there.image_digest == published.image_digest:
        return there.withdrawn
    return Notice(published.image_digest, time.strftime("%Y-%m-%d", time.gmtime()), reason)


def publication_bytes(
    published: Published, files: Mapping[str, Mapping[str, Any]], notice: Notice | None
) -> bytes:
    """``files``: of each path in the repository ``sha256``, ``bytes``, and ``from``: its path in
    the published folder."""
    value: dict[str, Any] = {
        "release": published.release,
        "image_digest": published.image_digest,
        "files": dict(sorted(files.items())),
    }
    if notice is not None:
        value["withdrawn"] = {"date": notice.date, "reason": notice.reason}
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
