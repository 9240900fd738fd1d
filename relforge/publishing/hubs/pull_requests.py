"""What was found in a repository of the Hugging Face Hub, and what follows from it for a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relforge.frozen import Frozen
from relforge.publishing.hubs.asking import PUBLICATION
from relforge.publishing.hubs.files import HubFile, Revision, differences
from relforge.publishing.hubs.flow import Action, Scene, changed_files, tag_of
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Step


class Pull(Frozen):
    """An open pull request with our title."""

    number: int
    author: str
    url: str
    draft: bool
    at: Revision


class Looked(Frozen):
    """What the worker found."""

    exists: bool
    main: Revision | None = None
    tag: Revision | None = None
    pulls: tuple[Pull, ...] = ()
    user: str | None = None


@dataclass(frozen=True)
class PullRequests(Scene):
    looked: Looked
    files: Mapping[str, HubFile]
    published: Published
    step: Step
    draft: bool
    private: bool
    place: str
    unmergeable: frozenset[int]

    @property
    def head(self) -> str | None:
        return self.looked.main.commit if self.looked.main else None

    @property
    def tag(self) -> str:
        """Of this release's image."""
        return tag_of(self.published)

    @property
    def own(self) -> tuple[Pull, ...]:
        """Pull requests of this token's owner; nobody else's is written to or closed."""
        return tuple(pull for pull in self.looked.pulls if pull.author == self.looked.user)

    @property
    def good(self) -> tuple[Pull, ...]:
        """Pull requests, of anybody, that hold what the release holds."""
        return tuple(pull for pull in self.looked.pulls if not self._wrong(pull.at))

    @property
    def here(self) -> bool:
        """Whether main holds this very image's release."""
        found = self.looked.main.said if self.looked.main else None
        return found is not None and found.image_digest == self.published.image_digest

    def _wrong(self, there: Revision | None) -> tuple[Change, ...]:
        return tuple(one for one in differences(self.files, there) if one.action != "same")

    @property
    def _mergeable(self) -> Pull | None:
        if not self._wrong(self.looked.main):
            return None
        left = (pull for pull in self.good if pull.number not in self.unmergeable)
        return next((pull for pull in left if self._only_ours(pull)), None)

    def _only_ours(self, pull: Pull) -> bool:
        """Whether merging it changes the release's files alone."""
        main = self.looked.main
        touched = {one.name for one in differences(self.files, main)}

        def others(there: Revision | None) -> set[tuple[str, str | None, str | None]]:
            listed = there.files if there else ()
            return {(f.path, f.git_sha1, f.sha256) for f in listed if f.path not in touched}

        return others(pull.at) == others(main)

    def changes(self) -> tuple[Change, ...]:
        looked = self.looked
        if self.step == "withdraw":
            return self._withdrawal()
        found: list[Change] = []
        if not looked.exists:
            found.append(Change(action="add", kind="repository", name=self.place))
        promoted = not self._wrong(looked.main)
        if self.step == "candidate":
            if not self.draft:
                return tuple(found) or (Change(action="same", kind="repository", name=self.place),)
            base = looked.main
            if not promoted and (pulls := (*self.good, *self.own)):
                base = pulls[0].at
            found += differences(self.files, base)
            if not promoted:
                action: Literal["same", "replace", "add"] = (
                    "same" if self.good else "replace" if self.own else "add"
                )
                found.append(Change(action=action, kind="pull-request", name=self._title()))
            return tuple(found)
        merged = self._mergeable
        # What the pull request holds is there already: merging sends nothing.
        found += [
            one.model_copy(update={"bytes": 0}) if merged else one
            for one in differences(self.files, looked.main)
        ]
        found.append(self._tag_change())
        return (*found, *self._pull_changes(merged))

    def _pull_changes(self, merged: Pull | None) -> tuple[Change, ...]:
        found = []
        for pull in {
            one.number: one for one in (*self.own, *([merged] if merged else []))
        }.values():
            name = f"#{pull.number}"
            if pull is merged:
                found.append(
                    Change(
                        action="replace",
                        kind="pull-request",
                        name=name,
                        before="open",
                        after="merged",
                    )
                )
            else:
                found.append(Change(action="remove", kind="pull-request", name=name))
        return tuple(found)

    def _tag_change(self) -> Change:
        if self.looked.tag is None:
            return Change(action="add", kind="tag", name=self.tag, after=self.head)
        at = self.looked.tag.commit
        return Change(action="same", kind="tag", name=self.tag, before=at, after=at)

    def _withdrawal(self) -> tuple[Change, ...]:
        found = list(self._notice_changes())
        if self.looked.tag is not None:
            found.append(
                Change(action="remove", kind="tag", name=self.tag, before=self.looked.tag.commit)
            )
        return (*found, *self._pull_changes(None))

    def _notice_changes(self) -> tuple[Change, ...]:
        """Cards with the notice, and no results; nothing when that is there already."""
        main = self.looked.main
        found = main.said if main else None
        if not self.here or found is None or found.withdrawn is not None:
            return ()
        touched = ("README.md", "README_zh.md", PUBLICATION)
        return tuple(
            one
            for one in differences(self.files, main)
            if one.name in touched or one.name.startswith(".eval_results/")
        )

    def next(self) -> Action | None:
        if self.step == "withdraw":
            return self._next_of_withdrawal()
        if not self.looked.exists:
            return Action("create", {"private": self.private}, f"create {self.place}")
        wrong = self._wrong(self.looked.main)
        if self.step == "candidate":
            return self._next_of_candidate() if self.draft and wrong else None
        if wrong:
            if (pull := self._mergeable) is not None:
                arguments = {"number": pull.number, "draft": pull.draft}
                return Action("merge", arguments, f"merge pull request {pull.number}")
            return self._commit(self.looked.main, "main", wrong)
        if self.looked.tag is None:
            message = f"{self.published.release}, image {self.published.image_digest}"
            about = {"tag": self.tag, "commit": self.head, "message": message}
            return Action("tag", about, f"tag {self.tag}")
        return self._close("main holds this release now.")

    def _next_of_candidate(self) -> Action | None:
        keep = next((pull for pull in self.own if pull in self.good), None) or next(
            iter(self.own), None
        )
        for pull in self.own:
            if pull is not keep:
                return self.closing(pull, f"#{keep.number if keep else 0} is about the same.")
        if self.good:
            return None
        if keep is not None:
            return self._commit(keep.at, f"refs/pr/{keep.number}", self._wrong(keep.at))
        return self._commit(self.looked.main, None, self._wrong(self.looked.main))

    def _next_of_withdrawal(self) -> Action | None:
        if not self.looked.exists:
            return None
        if wrong := [one for one in self._notice_changes() if one.action != "same"]:
            return self._commit(self.looked.main, "main", tuple(wrong))
        if self.looked.tag is not None:
            return Action("untag", {"tag": self.tag}, f"remove tag {self.tag}")
        return self._close("This release was withdrawn.")

    def _close(self, comment: str) -> Action | None:
        return next((self.closing(pull, comment) for pull in self.own), None)

    def closing(self, pull: Pull, comment: str) -> Action:
        """What closes it."""
        arguments = {"number": pull.number, "comment": comment}
        return Action("close", arguments, f"close pull request {pull.number}")

    def _commit(
        self, on: Revision | None, revision: str | None, changes: tuple[Change, ...]
    ) -> Action:
        add, remove, size = changed_files(self.files, changes)
        count = f"{len(add)} files" + (f", remove {len(remove)}" if remove else "")
        where = "a new pull request" if revision is None else revision
        arguments = {
            "revision": revision,
            "pull": revision is None,
            "parent": on.commit if on else None,
            "message": self._title(),
            "description": f"Image: {self.published.image_digest}",
            "add": add,
            "remove": remove,
        }
        return Action("commit", arguments, f"commit {count} to {where}", upload_bytes=size)

    def _title(self) -> str:
        return title_of(self.published, withdrawn=self.step == "withdraw")

    def references(self) -> tuple[str, ...]:
        if self.step == "candidate" and self._wrong(self.looked.main):
            return tuple(pull.url for pull in self.good[:1]) or (self.place,)
        if self.looked.tag is not None:
            return (f"{self.place}/tree/{self.tag}",)
        return (self.place,)


def title_of(published: Published, *, withdrawn: bool = False) -> str:
    """What finds the pull request again."""
    digest = published.image_digest.removeprefix("sha256:")[:12]
    return f"{'Withdraw' if withdrawn else 'Publish'} {published.release} (image {digest})"
