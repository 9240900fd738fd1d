"""Any git remote: cards, evidence, record and release notes as a commit, and a tag.

A candidate is a branch of its own, ``candidate/<release>-<digest>``. Promotion moves its files onto
the branch that people read, on top of whatever is there by then, with the tag, in one atomic push:
nobody ever sees a half. Others' commits are never lost, and nothing of theirs is ever forced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from relforge import retrying
from relforge.addresses import shown
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock
from relforge.frozen import sha256_hex
from relforge.manifest.publishing import GitTarget as GitSpec
from relforge.manifest.site import Site
from relforge.manifest.site_file import home_folder
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Delivery, Doing, Step, TargetPlan
from relforge.publishing.targets.git_content import folder_of, notes_text
from relforge.publishing.targets.git_remote import opened
from relforge.publishing.targets.git_steps import Steps, Work, label, plain
from relforge.publishing.targets.github import Releases, Wanted, assets_of
from relforge.publishing.targets.github_api import connected
from relforge.retrying import RetryPolicy, TryAgain

T = TypeVar("T")

# Somebody else's push is over in a moment: come back soon, and not in step with the others.
_RETRIES = RetryPolicy(attempts=8, first_wait_s=0.3, longest_wait_s=5.0)


class GitTarget:
    """A ``git`` target. ``work`` takes the cache of the remote (default: below relforge's home)."""

    def __init__(self, name: str, spec: GitSpec, site: Site, *, work: Path | None = None) -> None:
        self._name = name
        self._spec = spec
        self._site = site
        above = work or home_folder(site) / "publications" / "git"
        self._work = above / sha256_hex(spec.url.encode())[:16]

    @property
    def name(self) -> str:
        """The target's name in the site configuration."""
        return self._name

    def place(self, published: Published) -> str:
        """The remote with branch and folder."""
        folder = folder_of(published, self._spec.path)
        return f"{shown(self._spec.url)} {self._spec.branch}:{folder}"

    def plan(self, published: Published, step: Step) -> TargetPlan:
        """Asks the remote. Raises RelforgeError (PUBLISH, ENVIRONMENT)."""
        doing = Doing()
        with self._opened(published, step, doing) as steps:
            work = self._again(lambda: steps.work(step, doing), doing)
        changes = [*work.changes]
        if self._spec.github is not None:
            with connected(self._spec.github, self._site) as github:
                changes += Releases(github).changes(step, self._wanted(published, work))
        return TargetPlan(
            target=self._name, step=step, place=self.place(published), changes=tuple(changes)
        )

    def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        """Pushes all references of the step at once. Raises RelforgeError (PUBLISH), Cancelled."""
        with self._opened(published, step, doing) as steps:
            if step == "withdraw":
                # What people see goes first, the other way round than it came.
                done, references = self._released(published, step, Work(""), doing)
                work, sent = self._again(lambda: self._push(steps, published, step, doing), doing)
            else:
                work, sent = self._again(lambda: self._push(steps, published, step, doing), doing)
                done, references = self._released(published, step, work, doing)
        if step != "withdraw":
            seen = f"git clone --depth 1 --branch {plain(work.seen)} {shown(self._spec.url)}"
            references = (seen, *references)
        return Delivery(
            target=self._name,
            step=step,
            place=self.place(published),
            image_digest=published.image_digest,
            references=references,
            changes=(*work.changes, *done),
            sent_bytes=sent + sum(change.bytes for change in done if change.action != "same"),
        )

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        """A candidate's branch goes again, or back to what it was. A promotion is taken back by a
        commit more, which others may have seen: history is never rewritten."""
        if delivery.step == "withdraw":
            doing.line("a withdrawal is not taken back: publish another build for that")
            return
        with self._opened(published, delivery.step, doing) as steps:
            released = [c for c in delivery.changes if c.kind == "release" and c.action != "same"]
            if self._spec.github is not None and released:
                made = any(change.action == "add" for change in released)
                how = {"line": doing.line, "cancel": doing.cancel}
                with connected(self._spec.github, self._site, **how) as github:
                    wanted = self._wanted(published, Work(""))
                    Releases(github).undo(delivery.step, wanted, made=made)
            if delivery.step == "candidate":
                self._again(lambda: steps.drop_candidate(delivery), doing)
            else:
                self._again(lambda: steps.revert(delivery), doing)

    def _push(
        self, steps: Steps, published: Published, step: Step, doing: Doing
    ) -> tuple[Work, int]:
        work = steps.work(step, doing)
        if step == "promote":
            steps.require_candidate(work)
        if not work.updates:
            return work, 0
        doing.line(f"pushing to {self.place(published)}")
        return work, steps.push(work)

    @contextmanager
    def _opened(self, published: Published, step: Step, doing: Doing) -> Iterator[Steps]:
        purpose = f"{step} of {published.release} at {self._name}"
        lock = self._work / "lock"
        with (
            held_lock(lock, purpose=purpose, on_wait=doing.line, cancel=doing.cancel),
            opened(
                self._spec.url, self._site, self._work, line=doing.line, cancel=doing.cancel
            ) as remote,
        ):
            yield Steps(remote, published, self._spec, self._name)

    def _again(self, action: Callable[[], T], doing: Doing) -> T:
        try:
            return retrying.call(action, policy=_RETRIES, line=doing.line, cancel=doing.cancel)
        except TryAgain as last:
            raise RelforgeError(
                "the git remote does not take it now",
                code=ExitCode.PUBLISH,
                where=shown(self._spec.url),
                why=str(last),
                hint="run the same command again: what is done stays done",
            ) from last

    def _released(
        self, published: Published, step: Step, work: Work, doing: Doing
    ) -> tuple[list[Change], tuple[str, ...]]:
        """The GitHub release on top, where the target has one."""
        if self._spec.github is None:
            return [], ()
        how = {"line": doing.line, "cancel": doing.cancel}
        with connected(self._spec.github, self._site, **how) as github:
            return Releases(github).apply(step, self._wanted(published, work, doing.reason))

    def _wanted(self, published: Published, work: Work, reason: str = "") -> Wanted:
        tag = label(published.release, published.image_digest)
        return Wanted(
            tag=tag,
            title=tag,
            body=f"Withdrawn: {reason}" if reason else notes_text(work.content),
            assets=assets_of(published.folder, published.files),
            branch=self._spec.branch,
        )
