"""A model repository of the Hugging Face Hub: a pull request first, then main and a tag.

A candidate is one open pull request, found again by its title, which names release and digest. A
promotion merges it when it holds what the release holds and nothing else; where others changed main
meanwhile, the same files are committed to main instead and the pull request is closed. The tag is
made last, on a commit that was read back.
"""

from __future__ import annotations

from typing import Any

from relforge.publishing.hubs.asking import PUBLICATION, Fault
from relforge.publishing.hubs.flow import (
    Action,
    HubFlow,
    Scene,
    Work,
    require_not_withdrawn,
    require_our_tag,
    tag_of,
)
from relforge.publishing.hubs.pull_requests import Looked, PullRequests, title_of
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Doing


class HuggingFaceTarget(HubFlow):
    """See the module's docstring; ``Target`` says what the methods do."""

    hub = "huggingface"

    def place(self, published: Published) -> str:
        return f"{self._endpoint()}/{self.repository(published)}"

    def asked(self, work: Work) -> dict[str, Any]:
        published, step = work.published, work.step
        drafting = step != "candidate" or self.spec.draft
        return {
            "tag": tag_of(published),
            "title": title_of(published) if drafting else None,
            "publication": None if step == "withdraw" else self.wanted(work)[PUBLICATION].git_sha1,
        }

    def scene(self, work: Work, answer: dict[str, Any]) -> PullRequests:
        published, step = work.published, work.step
        looked = Looked.model_validate(answer)
        if step == "withdraw":
            files = self.noticed(work, looked.main)
        else:
            files = self.wanted(work)
            require_not_withdrawn(published, looked.main, self.place(published))
            require_our_tag(published, looked.tag, self.place(published))
        return PullRequests(
            looked=looked,
            files=files,
            published=published,
            step=step,
            draft=self.spec.draft,
            private=self.spec.private,
            place=self.place(published),
            unmergeable=frozenset(work.unmergeable),
        )

    def ask(self, work: Work, action: Action, *, again: bool = True) -> dict[str, Any]:
        try:
            return super().ask(work, action, again=again)
        except Fault as fault:
            if action.name in ("merge", "close") and fault.kind in ("conflict", "rejected"):
                # Somebody was faster, or it cannot be merged any more: look again.
                if action.name == "merge":
                    work.unmergeable.add(action.arguments["number"])
                raise Fault("conflict", fault.text, fault.status) from fault
            raise

    def changed_by(self, work: Work, scenes: list[Scene]) -> str:
        try:
            found = work.client.ask("history", {"since": scenes[0].head})["commits"]
        except Fault:
            return ""
        told = [f"{one['by']}: {one['title']!r} ({one['commit'][:12]})" for one in found]
        return "since then there are commits by " + "; ".join(told) if told else ""

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        """A candidate's pull request is closed; of a promotion the files are put back as they were
        and its tag is removed, if nobody committed since. A withdrawal stays."""
        with self._working(published, delivery.step, doing) as work:
            for action in self._undoing(work, delivery):
                doing.line(f"{self.name}: {action.says}")
                self._patiently(
                    work, lambda one=action: self.ask(work, one, again=False), action.says
                )

    def _undoing(self, work: Work, delivery: Delivery) -> list[Action]:
        published = work.published
        made = {(one.kind, one.action): one for one in delivery.changes}
        if delivery.step == "candidate" and ("pull-request", "add") in made:
            scene = self._patiently(work, lambda: self.look(work), "look what is there")
            return [scene.closing(pull, "Publishing was taken back.") for pull in scene.own]
        found: list[Action] = []
        if delivery.step != "promote":
            return found
        if ("tag", "add") in made:
            tag = tag_of(published)
            found.append(Action("untag", {"tag": tag}, f"remove tag {tag}"))
        commit = made.get(("commit", "replace"))
        files = [one for one in delivery.changes if one.kind == "file"]
        if commit is not None and (touched := [one for one in files if one.action != "same"]):
            arguments: dict[str, Any] = {
                "before": commit.before,
                "parent": commit.after,
                "copy": [one.name for one in touched if one.action != "add"],
                "remove": [one.name for one in touched if one.action == "add"],
                "message": f"Take back {published.release}",
            }
            found.append(Action("restore", arguments, "put the files back as they were"))
        return found
