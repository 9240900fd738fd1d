"""What was found in repositories of ModelScope, and what follows from it for a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import yaml

from relforge.frozen import Frozen
from relforge.publishing.hubs.asking import PUBLICATION
from relforge.publishing.hubs.files import HubFile, Revision, differences
from relforge.publishing.hubs.flow import Action, Scene, changed_files, tag_of
from relforge.publishing.hubs.publication import Publication
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Step

DRAFT = "-candidate"
_CARDS = ("README.md", "README_zh.md", PUBLICATION)


class Looked(Frozen):
    """What the worker found of one repository."""

    exists: bool
    main: Revision | None = None
    tag: Revision | None = None


@dataclass(frozen=True)
class Drafts(Scene):
    release: Looked
    draft: Looked | None
    """None where drafts are not wanted, or not looked at."""
    files: Mapping[str, HubFile]
    published: Published
    step: Step
    private: bool
    repository: str
    address: str
    """Of the pages of all repositories."""

    @property
    def head(self) -> str | None:
        main = self.release.main
        return main.commit if main else None

    @property
    def tag(self) -> str:
        """Of this release's image."""
        return tag_of(self.published)

    @property
    def place(self) -> str:
        """The page of the release's repository."""
        return f"{self.address}/{self.repository}"

    def _wrong(self, there: Revision | None) -> tuple[Change, ...]:
        return tuple(one for one in differences(self.files, there) if one.action != "same")

    def holds_it(self, looked: Looked | None) -> Publication | None:
        """What a repository says of itself, where it holds this very image's release."""
        found = looked.main.said if looked and looked.main else None
        return found if found and found.image_digest == self.published.image_digest else None

    def changes(self) -> tuple[Change, ...]:
        if self.step == "withdraw":
            return self._withdrawal()
        if self.step == "promote":
            found = [*self._created(self.release, self.place)]
            found += differences(self.files, self.release.main)
            at = self.release.tag
            found.append(Change(action="same" if at else "add", kind="tag", name=self.tag))
            return tuple(found)
        if self.draft is None or not self._wrong(self.release.main):
            return self._created(self.release, self.place)
        return (
            *self._created(self.draft, self.place + DRAFT),
            *differences(self.files, self.draft.main),
        )

    def _created(self, looked: Looked, place: str) -> tuple[Change, ...]:
        action: Literal["same", "add"] = "same" if looked.exists else "add"
        return (Change(action=action, kind="repository", name=place),)

    def _withdrawal(self) -> tuple[Change, ...]:
        found = list(self._notice_changes())
        if self.release.tag is not None:
            stays = "ModelScope's library removes no tags"
            found.append(Change(action="same", kind="tag", name=self.tag, after=stays))
        found += [
            Change(action="remove", kind="file", name=f"{self.repository}{DRAFT}/{path}")
            for path in self._draft_files()
        ]
        return tuple(found)

    def _notice_changes(self) -> tuple[Change, ...]:
        held = self.holds_it(self.release)
        if held is None or held.withdrawn is not None:
            return ()
        return tuple(
            one for one in differences(self.files, self.release.main) if one.name in _CARDS
        )

    def _draft_files(self) -> list[str]:
        """Ours in the draft repository, where it holds this very image's release."""
        held = self.holds_it(self.draft)
        if held is None or self.draft is None or self.draft.main is None:
            return []
        ours = {*held.files, PUBLICATION}
        return [seen.path for seen in self.draft.main.files if seen.path in ours]

    def next(self) -> Action | None:
        if self.step == "withdraw":
            return self._next_of_withdrawal()
        drafting = self.step == "candidate" and self.draft is not None
        if drafting and not self._wrong(self.release.main):
            return None
        looked = self.draft if drafting and self.draft is not None else self.release
        repository = self.repository + (DRAFT if drafting else "")
        if not looked.exists:
            arguments = {"private": self.private or drafting, "license": self._license()}
            return Action("create", arguments, f"create {repository}", repository)
        if self.step == "candidate" and not drafting:
            return None
        if wrong := self._wrong(looked.main):
            return self._commit(repository, wrong)
        if self.step == "promote" and self.release.tag is None:
            return Action("tag", {"tag": self.tag}, f"tag {self.tag}", repository)
        return None

    def _next_of_withdrawal(self) -> Action | None:
        if wrong := [one for one in self._notice_changes() if one.action != "same"]:
            return self._commit(self.repository, tuple(wrong))
        if gone := self._draft_files():
            return self.emptying(gone)
        return None

    def emptying(self, paths: list[str], repository: str | None = None) -> Action:
        """Removes files; without a ``repository`` from the draft's."""
        repository = repository or self.repository + DRAFT
        message = f"Take back {self.published.release}"
        arguments = {"add": {}, "remove": paths, "message": message}
        return Action("commit", arguments, f"remove {len(paths)} files", repository)

    def _commit(self, repository: str, changes: tuple[Change, ...]) -> Action:
        add, remove, size = changed_files(self.files, changes)
        count = f"{len(add)} files" + (f", remove {len(remove)}" if remove else "")
        digest = self.published.image_digest.removeprefix("sha256:")[:12]
        word = "Withdraw" if self.step == "withdraw" else "Publish"
        message = f"{word} {self.published.release} (image {digest})"
        arguments = {"add": add, "remove": remove, "message": message}
        says = f"commit {count} to {repository}"
        return Action("commit", arguments, says, repository, upload_bytes=size)

    def _license(self) -> str | None:
        """As the card's head has it."""
        text = self.files["README.md"].local.read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
        return head.get("license")

    def references(self) -> tuple[str, ...]:
        if self.step == "candidate" and self.draft is not None and self._wrong(self.release.main):
            return (self.place + DRAFT,)
        if self.step == "promote" and self.release.tag is not None:
            return (f"{self.place}/files?version={self.tag}",)
        return (self.place,)
