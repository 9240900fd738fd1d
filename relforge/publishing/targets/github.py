"""A GitHub release on top of a git target: a draft for a candidate, published at promotion.

The tag is pushed by git before the release is published, so that GitHub makes none of its own.
Assets are known by name, size and SHA-256: one that is there is not sent again, one whose upload
broke off is deleted and sent anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from relforge.files import sha256_file
from relforge.publishing.target import Change, Step
from relforge.publishing.targets.github_api import Github

_MOST_BODY = 125_000
"""Characters that GitHub takes as a release's text."""
_WITHDRAWN = "<!-- relforge:withdrawn -->"


@dataclass(frozen=True)
class Wanted:
    """The release as it should be. ``assets`` are files by the names that they have there."""

    tag: str
    title: str
    body: str
    assets: Mapping[str, Path]
    branch: str


def assets_of(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Record, cards and bills of materials of a published folder."""
    wanted = {"release.json": folder / "release.json"}
    for name in sorted(names):
        path = folder / name
        if name in ("README.md", "README_zh.md") or _is_sbom(name):
            wanted[path.name] = path
    return wanted


def _is_sbom(name: str) -> bool:
    return name.startswith("evidence/") and (
        name.endswith((".spdx.json", ".cdx.json")) or "sbom" in name.rpartition("/")[2].lower()
    )


class Releases:
    """The releases of one repository, as far as one tag of them is concerned."""

    def __init__(self, github: Github) -> None:
        self._github = github

    def changes(self, step: Step, wanted: Wanted) -> list[Change]:
        """What a step would change. Raises RelforgeError (PUBLISH)."""
        return self._github.again(lambda: self._changes(step, wanted))  # type: ignore[no-any-return]

    def apply(self, step: Step, wanted: Wanted) -> tuple[list[Change], tuple[str, ...]]:
        """Does it; returns what was changed, and where the release is to be seen."""
        if step == "withdraw":
            return self._github.again(lambda: self._withdraw(wanted)), ()
        done = self.changes(step, wanted)
        found = self._find(wanted.tag)
        if found is not None and not found["draft"] and step == "candidate":
            return done, (str(found["html_url"]),)
        if any(change.action != "same" for change in done):
            found = self._github.again(lambda: self._made(wanted))
            for name, path in wanted.assets.items():
                self._github.again(partial(self._uploaded, wanted, name, path))
            if step == "promote":
                found = self._github.again(lambda: self._public(wanted))
        else:
            found = found or self._find(wanted.tag)
        return done, (str(found["html_url"]),) if found else ()

    def undo(self, step: Step, wanted: Wanted, *, made: bool) -> None:
        """Takes back what ``apply`` did: deletes the draft that it ``made``, hides the release that
        it published."""

        def action() -> None:
            found = self._release(wanted.tag)
            if found is None:
                return
            if step == "promote":
                if not found["draft"]:
                    self._github.ask("PATCH", self._url(found), {"draft": True})
            elif found["draft"] and made:
                self._github.ask("DELETE", self._url(found))

        self._github.again(action)

    def _find(self, tag: str) -> Any:
        return self._github.again(lambda: self._release(tag))

    def _release(self, tag: str) -> dict[str, Any] | None:
        # A draft is not to be had by its tag. Of several, the one that people see counts.
        found = [
            one
            for one in self._github.pages(f"{self._github.repository}/releases")
            if one.get("tag_name") == tag
        ]
        return min(found, key=lambda one: (one["draft"], one["id"]), default=None)

    def _url(self, release: Mapping[str, Any]) -> str:
        return f"{self._github.repository}/releases/{release['id']}"

    def _assets(self, release: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self._github.pages(f"{self._url(release)}/assets")}

    def _changes(self, step: Step, wanted: Wanted) -> list[Change]:
        found = self._release(wanted.tag)
        if step == "withdraw":
            return _hiding(found, wanted.tag)
        title = f"GitHub release {wanted.tag}"
        if found is None:
            new = Change(action="add", kind="release", name=title, after=_state(step))
            return [new, *(_asset("add", name, path) for name, path in wanted.assets.items())]
        if step == "candidate" and not found["draft"]:
            return [Change(action="same", kind="release", name=title, after="published")]
        same = _says(found, wanted) and (step == "candidate" or not found["draft"])
        changes = [
            Change(
                action="same" if same else "replace",
                kind="release",
                name=title,
                before="draft" if found["draft"] else "published",
                after=_state(step) if found["draft"] else "published",
            )
        ]
        there = self._assets(found)
        for name, path in wanted.assets.items():
            if name not in there:
                changes.append(_asset("add", name, path))
            elif self._is(there[name], path):
                changes.append(_asset("same", name, path))
            else:
                changes.append(_asset("replace", name, path))
        return changes

    def _is(self, asset: Mapping[str, Any], path: Path) -> bool:
        """Whether an asset is this file, whole."""
        if asset.get("state") != "uploaded" or asset.get("size") != path.stat().st_size:
            return False
        digest = asset.get("digest")
        if digest is None:  # older servers do not tell it
            digest = "sha256:" + hashlib.sha256(self._github.download(asset["url"])).hexdigest()
        return bool(digest == f"sha256:{sha256_file(path)}")

    def _made(self, wanted: Wanted) -> dict[str, Any]:
        """The release with its text; a draft where there was none."""
        found = self._release(wanted.tag)
        text = {"name": wanted.title, "body": _cut(wanted.body)}
        if found is None:
            value = {"tag_name": wanted.tag, "target_commitish": wanted.branch, "draft": True}
            found = self._github.ask(
                "POST", f"{self._github.repository}/releases", {**value, **text}
            )
        elif not _says(found, wanted):
            found = self._github.ask("PATCH", self._url(found), text)
        return found

    def _uploaded(self, wanted: Wanted, name: str, path: Path) -> None:
        release = self._release(wanted.tag)
        assert release is not None
        there = self._assets(release).get(name)
        if there is not None:
            if self._is(there, path):
                return
            self._github.ask("DELETE", f"{self._github.repository}/releases/assets/{there['id']}")
        place = str(release["upload_url"]).partition("{")[0]
        with path.open("rb") as data:
            self._github.upload(f"{place}?name={name}", data, path.stat().st_size)

    def _public(self, wanted: Wanted) -> dict[str, Any]:
        found = self._release(wanted.tag)
        assert found is not None
        if found["draft"]:
            value = {"draft": False, "tag_name": wanted.tag}
            found = self._github.ask("PATCH", self._url(found), value)
        return found

    def _withdraw(self, wanted: Wanted) -> list[Change]:
        found = self._release(wanted.tag)
        changes = _hiding(found, wanted.tag)
        if found is None or all(change.action == "same" for change in changes):
            return changes
        if changes[0].action == "remove":
            self._github.ask("DELETE", self._url(found))
            return changes
        value = {
            "draft": True,
            "name": f"Withdrawn: {wanted.title}",
            "body": _cut(f"{_WITHDRAWN}\n\n{wanted.body}\n\n{found.get('body') or ''}"),
        }
        self._github.ask("PATCH", self._url(found), value)
        return changes


def _hiding(found: Mapping[str, Any] | None, tag: str) -> list[Change]:
    """A release that people saw becomes a draft that says why; one that nobody saw goes."""
    if found is None:
        return []
    title = f"GitHub release {tag}"
    if _WITHDRAWN in (found.get("body") or ""):
        action = "same" if found["draft"] else "replace"
        return [Change(action=action, kind="release", name=title, after="withdrawn draft")]
    if found["draft"]:
        return [Change(action="remove", kind="release", name=title, before="draft")]
    return [
        Change(
            action="replace",
            kind="release",
            name=title,
            before="published",
            after="withdrawn draft",
        )
    ]


def _state(step: Step) -> str:
    return "published" if step == "promote" else "draft"


def _asset(action: Any, name: str, path: Path) -> Change:
    size = path.stat().st_size
    return Change(action=action, kind="attachment", name=name, bytes=size)


def _says(found: Mapping[str, Any], wanted: Wanted) -> bool:
    body = (found.get("body") or "").replace("\r\n", "\n")
    return bool(found.get("name") == wanted.title and body == _cut(wanted.body))


def _cut(body: str) -> str:
    if len(body) <= _MOST_BODY:
        return body
    more = "\n\nThe rest is in NOTES.md of the tag.\n"
    return body[: _MOST_BODY - len(more)].rpartition("\n")[0] + more
