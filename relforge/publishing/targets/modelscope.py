"""A model repository of ModelScope: a private repository for drafts first, then the real one.

ModelScope's library knows no pull requests, cannot make a branch, and removes neither tags nor
repositories. So a candidate lies in a private repository of its own, ``<NAME>-candidate``, which
the next candidate uses again, and a withdrawn release keeps its tag (the card says so). There is no
commit "on top of" another either: what somebody else writes at the same moment is seen when the
files are read back, not before.
"""

from __future__ import annotations

from typing import Any

from relforge.publishing.hubs.asking import PUBLICATION
from relforge.publishing.hubs.drafts import DRAFT, Drafts, Looked
from relforge.publishing.hubs.flow import (
    Action,
    HubFlow,
    Scene,
    Work,
    require_not_withdrawn,
    require_our_tag,
    tag_of,
)
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Delivery, Doing, Step


class ModelScopeTarget(HubFlow):
    """See the module's docstring; ``Target`` says what the methods do."""

    hub = "modelscope"

    def place(self, published: Published) -> str:
        return f"{self._endpoint()}/models/{self.repository(published)}"

    def asked(self, work: Work) -> dict[str, Any]:
        step, repository = work.step, work.client.repository
        drafting = self.spec.draft and step != "promote"
        return {
            "tag": tag_of(work.published),
            "draft": repository + DRAFT if drafting else None,
            "publication": None if step == "withdraw" else self.wanted(work)[PUBLICATION].sha256,
        }

    def scene(self, work: Work, answer: dict[str, Any]) -> Drafts:
        published, step = work.published, work.step
        release = Looked.model_validate(answer["release"])
        draft = answer["draft"] and Looked.model_validate(answer["draft"])
        if step == "withdraw":
            files = self.noticed(work, release.main)
        else:
            files = self.wanted(work)
            require_not_withdrawn(published, release.main, self.place(published))
            require_our_tag(published, release.tag, self.place(published))
        return Drafts(
            release=release,
            draft=draft,
            files=files,
            published=published,
            step=step,
            private=self.spec.private,
            repository=work.client.repository,
            address=f"{self._endpoint()}/models",
        )

    def changed_by(self, work: Work, scenes: list[Scene]) -> str:
        del work  # The library tells no history.
        last = scenes[-1]
        files = [one.name for one in last.changes() if one.kind == "file" and one.action != "same"]
        return f"not as they were sent: {', '.join(files[:8])}" if files else ""

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        """A candidate's files are removed from the draft repository; of a promotion those that it
        added. Files that it replaced, and tags, stay: the library cannot bring those back."""
        touched = [one for one in delivery.changes if one.kind == "file" and one.action != "same"]
        if delivery.step == "withdraw" or not touched:
            return
        with self._working(published, delivery.step, doing) as work:
            scene = self._patiently(work, lambda: self.look(work), "look what is there")
            action = self._undoing(scene, delivery.step, touched, doing)
            if action is not None:
                doing.line(f"{self.name}: {action.says}")
                self._patiently(work, lambda: self.ask(work, action, again=False), action.says)

    def _undoing(
        self, scene: Drafts, step: Step, touched: list[Change], doing: Doing
    ) -> Action | None:
        if step == "candidate":
            main = scene.draft.main if scene.draft else None
            ours = {seen.path for seen in main.files} & {*scene.files} if main else set()
            return scene.emptying(sorted(ours)) if ours else None
        kept = [one.name for one in touched if one.action != "add"]
        if kept or scene.release.tag is not None:
            doing.line(
                f"{self.name}: ModelScope keeps the tag and what was replaced: {', '.join(kept)}"
            )
        added = [one.name for one in touched if one.action == "add"]
        return scene.emptying(added, scene.repository) if added and not kept else None
