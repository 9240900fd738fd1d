"""How a step at a hub is done: look, do the one next thing, look again, until nothing is left.

So a step that was killed anywhere goes on by itself, what was sent is read back before a tag names
it, and an answer that was lost on its way does no harm: it is never asked again blindly.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from relforge import retrying
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import HubTarget
from relforge.manifest.site import Site
from relforge.publishing.hubs.asking import PUBLICATION, Fault
from relforge.publishing.hubs.client import HubClient, Patience, endpoint_of
from relforge.publishing.hubs.faults import hub_error
from relforge.publishing.hubs.files import Hub, HubFile, Revision, hub_files
from relforge.publishing.hubs.publication import notice_for
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Delivery, Doing, Step, TargetPlan

_TWICE = 2


@dataclass(frozen=True)
class Action:
    """One thing to ask of the hub. ``says`` is what it does, for people."""

    name: str
    arguments: Mapping[str, Any]
    says: str
    repository: str | None = None
    upload_bytes: int = 0

    @property
    def key(self) -> tuple[str, str | None, str]:
        """What makes it the same action again, whatever commit it starts from."""
        about = {k: v for k, v in self.arguments.items() if k not in ("parent", "commit")}
        return self.name, self.repository, repr(sorted(about.items()))


class Scene(ABC):
    """What was found at a hub, and what follows from it for a step."""

    @abstractmethod
    def changes(self) -> tuple[Change, ...]:
        """All that the step would change from here."""

    @abstractmethod
    def next(self) -> Action | None:
        """The next thing to do; None when the step is done."""

    @abstractmethod
    def references(self) -> tuple[str, ...]:
        """What a reader opens."""

    @property
    @abstractmethod
    def head(self) -> str | None:
        """The commit that people see now."""


@dataclass
class Work:
    """One step at one hub while it is done."""

    published: Published
    step: Step
    client: HubClient
    scratch: Path
    doing: Doing = field(default_factory=Doing)
    unmergeable: set[int] = field(default_factory=set)
    """Pull requests that the hub refused to merge."""
    files: Mapping[str, HubFile] | None = None
    looked: dict[str, Any] | None = None
    """What was seen right after the last action."""


class HubFlow(ABC):
    """What both hubs' targets have in common; ``Target`` says what the methods do."""

    hub: ClassVar[Hub]

    def __init__(
        self, name: str, spec: HubTarget, site: Site, *, patience: Patience | None = None
    ) -> None:
        self._name, self.spec, self.site = name, spec, site
        self._patience = patience or Patience()

    @property
    def name(self) -> str:
        return self._name

    def repository(self, published: Published) -> str:
        """``NAMESPACE/NAME``."""
        return published.fill(self.spec.repository)

    @abstractmethod
    def place(self, published: Published) -> str:
        """The address of the repository's page."""

    @abstractmethod
    def asked(self, work: Work) -> dict[str, Any]:
        """The arguments of the worker's ``look``."""

    @abstractmethod
    def scene(self, work: Work, answer: dict[str, Any]) -> Scene:
        """What the worker's answer to ``look`` means. Raises RelforgeError (PUBLISH)."""

    def look(self, work: Work) -> Any:
        """Asks the hub, unless the last action's answer tells already.

        Raises Fault, RelforgeError, Cancelled.
        """
        answer, work.looked = work.looked, None
        if answer is None:
            answer = work.client.ask(
                "look", self.asked(work), line=work.doing.line, cancel=work.doing.cancel
            )
        return self.scene(work, answer)

    def wanted(self, work: Work) -> Mapping[str, HubFile]:
        """The files that are to be there."""
        if work.files is None:
            work.files = hub_files(
                work.published, self.hub, weights=self.spec.weights, scratch=work.scratch
            )
        return work.files

    def noticed(self, work: Work, main: Revision | None) -> Mapping[str, HubFile]:
        """The same with the notice of a withdrawal."""
        notice = notice_for(work.published, main.said if main else None, work.doing.reason)
        return hub_files(
            work.published,
            self.hub,
            weights=self.spec.weights,
            scratch=work.scratch,
            notice=notice,
        )

    def plan(self, published: Published, step: Step) -> TargetPlan:
        with self._working(published, step, Doing()) as work:
            scene = self._patiently(work, lambda: self.look(work), "look what is there")
        return TargetPlan(
            target=self.name, step=step, place=self.place(published), changes=scene.changes()
        )

    def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        with self._working(published, step, doing) as work:
            scenes: list[Scene] = []
            done: Counter[tuple[str, str | None, str]] = Counter()
            sent_bytes = 0
            going = True
            while going:
                going, sent = self._one(work, scenes, done)
                sent_bytes += sent
        last = scenes[-1]
        changes = scenes[0].changes()
        heads = [scene.head for scene in scenes if scene.head is not None]
        if heads and heads[0] != heads[-1]:
            changes += (
                Change(
                    action="replace",
                    kind="commit",
                    name="main",
                    before=heads[0],
                    after=heads[-1],
                ),
            )
        return Delivery(
            target=self.name,
            step=step,
            place=self.place(published),
            image_digest=published.image_digest,
            references=last.references(),
            changes=changes,
            sent_bytes=sent_bytes,
        )

    @abstractmethod
    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        """What of a delivery the hub lets be taken back."""

    def _one(
        self, work: Work, scenes: list[Scene], done: Counter[tuple[str, str | None, str]]
    ) -> tuple[bool, int]:
        """Looks and does the next thing; whether there was one, and the bytes that were sent."""
        says = ["look what is there"]

        def once() -> tuple[bool, int]:
            says[0] = "look what is there"
            scene = self.look(work)
            scenes.append(scene)
            action = scene.next()
            if action is None:
                return False, 0
            says[0] = action.says
            if done[action.key] == _TWICE:
                # What was sent twice and is not there was undone by somebody, each time.
                raise Fault("conflict", "it was done, and is not there any more")
            work.doing.line(f"{self.name}: {action.says}")
            answer = self.ask(work, action)
            done[action.key] += 1
            return True, int(answer.get("sent_bytes", 0))

        going, sent_bytes = self._patiently(work, once, says, scenes)
        return going, sent_bytes

    def ask(self, work: Work, action: Action, *, again: bool = True) -> dict[str, Any]:
        """Has the worker do it, and look ``again`` at once. Raises Fault, Cancelled."""
        answer = work.client.ask(
            action.name,
            dict(action.arguments),
            look=self.asked(work) if again else None,
            repository=action.repository,
            upload_bytes=action.upload_bytes,
            line=work.doing.line,
            cancel=work.doing.cancel,
        )
        work.looked = answer.get("looked")
        return answer

    def _patiently(
        self, work: Work, act: Any, says: str | list[str], scenes: list[Scene] | None = None
    ) -> Any:
        """Tries again what may pass; one conflict is answered by looking again, a second is not."""
        conflicts = 0

        def counted() -> Any:
            nonlocal conflicts
            try:
                return act()
            except Fault as fault:
                conflicts += fault.kind == "conflict"
                raise

        def judge(error: BaseException) -> retrying.Again | None:
            if not isinstance(error, Fault):
                return None
            passing = error.kind in ("busy", "unreachable")
            if passing or (error.kind == "conflict" and conflicts == 1):
                return retrying.Again(error.text, error.after_s)
            return None

        try:
            return retrying.call(
                counted,
                policy=self._patience.policy,
                judge=judge,
                line=work.doing.line,
                cancel=work.doing.cancel,
            )
        except Fault as fault:
            said = says if isinstance(says, str) else says[0]
            raise self._error(work, fault, said, scenes or []) from fault

    def _error(self, work: Work, fault: Fault, says: str, scenes: list[Scene]) -> RelforgeError:
        changed_by = ""
        if fault.kind == "conflict" and scenes:
            changed_by = self.changed_by(work, scenes)
        return hub_error(
            fault,
            hub=self.hub,
            place=self.place(work.published),
            doing=says,
            token_file=work.client.hub_site.token_file,
            changed_by=changed_by,
        )

    @abstractmethod
    def changed_by(self, work: Work, scenes: list[Scene]) -> str:
        """Who changed what since the first of these, as far as the hub tells."""

    @contextmanager
    def _working(self, published: Published, step: Step, doing: Doing) -> Iterator[Work]:
        with tempfile.TemporaryDirectory(prefix="relforge-hub-") as folder:
            scratch = Path(folder)
            client = HubClient(
                hub=self.hub,
                repository=self.repository(published),
                site=self.site,
                scratch=scratch,
                patience=self._patience,
            )
            yield Work(published, step, client, scratch, doing)

    def _endpoint(self) -> str:
        return endpoint_of(self.hub, self.site)


def tag_of(published: Published) -> str:
    """The tag that names a release's image in a repository, and never moves."""
    return f"{published.release}-{published.image_digest.removeprefix('sha256:')[:12]}"


def changed_files(
    files: Mapping[str, HubFile], changes: tuple[Change, ...]
) -> tuple[dict[str, str], list[str], int]:
    """Of differences: what a commit adds (path: local file), what it removes, and the bytes.

    Raises RelforgeError (PUBLISH) for a local file that was altered.
    """
    sending = [files[one.name] for one in changes if one.action in ("add", "replace")]
    for file in sending:
        assert file.git_sha1  # Reading it checks its SHA-256.
    removed = [one.name for one in changes if one.action == "remove"]
    return (
        {file.path: str(file.local) for file in sending},
        removed,
        sum(file.size for file in sending),
    )


def require_our_tag(published: Published, tagged: Revision | None, place: str) -> None:
    """Raises RelforgeError (PUBLISH) where the release's tag is on something else already."""
    if tagged is None:
        return
    other = tagged.said
    ours = any(seen.path == PUBLICATION for seen in tagged.files)
    if tagged.publication is not None:
        ours = other is not None and other.image_digest == published.image_digest
    if not ours:
        raise RelforgeError(
            f"the tag {tag_of(published)} is about something else",
            code=ExitCode.PUBLISH,
            where=place,
            why="it holds " + (other.image_digest if other else "no release of relforge's"),
            hint="tags of releases never move: remove it on the hub if nobody needs it",
        )


def require_not_withdrawn(published: Published, main: Revision | None, place: str) -> None:
    """Raises RelforgeError (PUBLISH) where people see that this very image was withdrawn."""
    said = main.said if main else None
    if said and said.withdrawn and said.image_digest == published.image_digest:
        raise RelforgeError(
            "this image was withdrawn there, and does not come back",
            code=ExitCode.PUBLISH,
            where=place,
            why=f"on {said.withdrawn.date}: {said.withdrawn.reason}",
            hint=f"publish another build; or delete {PUBLICATION} there, if withdrawing it was "
            "the mistake",
        )
