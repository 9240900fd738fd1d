"""Hubs that fail while they are written to: what is said, what is left behind, what goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.errors import Cancelled
from relforge.publishing.hubs.client import Patience
from relforge.publishing.hubs.flow import tag_of
from relforge.publishing.published import Published
from relforge.publishing.target import Doing
from relforge.retrying import RetryPolicy
from tests.fakes.hub_git import Repository
from tests.fakes.hub_server import Fault
from tests.fakes.huggingface_writing import WritableHub
from tests.fakes.modelscope_writing import WritableModelScope
from tests.support.hub_targets import (
    NAME,
    QUICK,
    TOKEN,
    WEIGHTS,
    apply,
    descendants,
    failing,
    started,
    target_on,
    wanted,
)
from tests.support.published import make_published

KINDS = ("huggingface", "modelscope")
COMMIT = r"POST .*/commit/(main|master)"
TAG = r"POST .*/tag"
PUT = "PUT /storage"


@dataclass
class Place:
    """A stand-in of one kind, and how what is on it is looked at."""

    kind: Any
    hub: WritableHub | WritableModelScope
    token_file: Path

    def target(self, patience: Patience = QUICK, **spec: Any) -> Any:
        return target_on(self.kind, self.hub.url, self.token_file, patience=patience, **spec)

    @property
    def look(self) -> str:
        return "GET .*/refs" if self.kind == "huggingface" else "GET .*/revisions"

    @property
    def repository(self) -> Repository | None:
        return self.hub.repositories.get(NAME)

    def whole(self, published: Published, revision: str) -> bool:
        """Whether a reader of the revision gets the release, whole."""
        if self.repository is None:
            return False
        files = self.repository.files(revision)
        return all(files.get(p) == d for p, d in wanted(published, self.kind).items())

    def no_lie(self, published: Published) -> bool:
        """There is no tag, or it is on the whole release."""
        there = self.repository
        tag = tag_of(published)
        return there is None or f"tags/{tag}" not in there.refs or self.whole(published, tag)

    def promoted(self, published: Published) -> bool:
        """Whole, tagged, and published once."""
        there = self.repository
        assert there is not None
        open_ = [pull for pull in there.pulls.values() if pull.status == "open"]
        ours = [c for c in there.history(there.refs[there.main]) if "initial" not in c.title]
        return self.whole(published, tag_of(published)) and not open_ and len(ours) == 1


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    hub: WritableHub | WritableModelScope = (
        WritableHub({TOKEN: "team-bot"})
        if request.param == "huggingface"
        else WritableModelScope({TOKEN: "team-bot"})
    )
    with hub:
        yield Place(request.param, hub, token_file)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return make_published(tmp_path_factory.mktemp("published"), weights=WEIGHTS)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "does not take it"),
        (401, "does not accept the token"),
        (403, "does not let the owner of this token"),
        (404, "does not know that place"),
        (409, "changed by somebody else"),
        (429, "busy or out of order"),
        (500, "busy or out of order"),
        (503, "busy or out of order"),
    ],
)
def test_a_commit_that_is_refused_for_good(
    place: Place, published: Published, status: int, says: str
) -> None:
    place.hub.faults.append(Fault(COMMIT, status=status, times=100))
    error = failing(place.target(draft=False), published, "promote")
    assert says in error.what
    assert place.kind in error.what or status == 409
    assert "commit" in str(error.why)
    if status != 409:
        assert f"HTTP {status}" in str(error.why)
    assert place.hub.count(COMMIT) == {409: 2, 429: 3, 500: 3, 503: 3}.get(status, 1)
    assert place.repository is not None
    assert list(place.repository.files()) == [".gitattributes"]
    place.hub.faults.clear()
    apply(place.target(draft=False), published, "promote")
    assert place.promoted(published)


@pytest.mark.parametrize("where", ["look", "commit", "tag", "put"])
@pytest.mark.parametrize("kind", ["status", "cut", "lost", "reset"])
def test_what_passes_is_tried_again(
    place: Place, published: Published, where: str, kind: Any
) -> None:
    pattern = {"look": place.look, "commit": COMMIT, "tag": TAG, "put": PUT}[where]
    fault = Fault(pattern, kind)
    place.hub.faults.append(fault)
    apply(place.target(draft=False), published, "promote")
    assert fault.times == 0
    assert place.promoted(published)


def test_a_lost_answer_opens_no_second_pull_request(tmp_path: Path, published: Published) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    hub = WritableHub({TOKEN: "team-bot"})
    with hub:
        fault = Fault(COMMIT, "lost")
        hub.faults.append(fault)
        apply(target_on("huggingface", hub.url, token_file), published, "candidate")
        assert fault.times == 0
        assert len(hub.repositories[NAME].pulls) == 1


def test_the_hub_s_own_word_for_when_to_come_back_counts(
    place: Place, published: Published
) -> None:
    waits = Fault(place.look, status=429, headers={"Retry-After": "2"})
    place.hub.faults.append(waits)
    began = time.monotonic()
    apply(place.target(draft=False), published, "promote")
    assert time.monotonic() - began > 2
    assert place.promoted(published)


@pytest.mark.parametrize("where", ["commit", "put"])
def test_who_is_asked_for_more_patience_than_there_is_does_not_wait(
    place: Place, published: Published, where: str
) -> None:
    pattern = {"commit": COMMIT, "put": PUT}[where]
    place.hub.faults.append(Fault(pattern, status=429, headers={"Retry-After": "3600"}, times=100))
    began = time.monotonic()
    error = failing(place.target(draft=False), published, "promote")
    assert time.monotonic() - began < 60
    assert "asked to wait 3600 s" in str(error.why)
    assert place.hub.count(pattern) == 1


def test_a_body_that_trickles_ends_at_the_limit(place: Place, published: Published) -> None:
    place.hub.faults.append(Fault(place.look, "trickle", times=100))
    hurried = Patience(RetryPolicy(attempts=2, first_wait_s=0.01), answer_s=8.0)
    # The answer has more than 60 bytes, and two of them come in a second.
    place.hub.repositories[NAME] = Repository("main" if place.kind == "huggingface" else "master")
    error = failing(place.target(hurried, draft=False), published, "promote")
    assert "takes too long" in error.what
    assert "within 8 s" in str(error.why)


def test_a_hub_that_is_not_there(place: Place, published: Published) -> None:
    target = target_on(place.kind, "http://127.0.0.1:9", place.token_file)
    error = failing(target, published)
    assert "does not answer" in error.what
    assert "http://127.0.0.1:9" in str(error.where)


@pytest.mark.parametrize("after", [2, 5, 8])
def test_a_token_that_expires_half_way(place: Place, published: Published, after: int) -> None:
    place.hub.expires_after = after
    error = failing(place.target(draft=False), published, "promote")
    assert "does not accept the token" in error.what
    assert str(place.token_file) in str(error.hint)
    assert place.no_lie(published)
    place.hub.expires_after = None
    place.hub.users["another-token-of-ours"] = "team-bot"
    place.token_file.write_text("another-token-of-ours")
    apply(place.target(draft=False), published, "promote")
    assert place.promoted(published)


def test_an_upload_that_is_refused_shows_no_signed_address(
    place: Place, published: Published
) -> None:
    place.hub.faults.append(Fault(PUT, status=403, body=b"", times=100))
    error = failing(place.target(draft=False), published, "promote")
    assert "HTTP 403" in str(error.why)
    assert place.repository is not None
    assert list(place.repository.files()) == [".gitattributes"]


def test_a_token_that_may_only_read(place: Place, published: Published) -> None:
    place.hub.readers.add(TOKEN)
    error = failing(place.target(), published)
    assert "does not let the owner of this token" in error.what


KILLED_AT: dict[str, Callable[[Place], tuple[str, Any]]] = {
    "before the repository is made": lambda _: ("POST /api/(repos/create|v1/models)", "before"),
    "after the repository was made": lambda _: ("POST /api/(repos/create|v1/models)", "after"),
    "in the middle of an upload": lambda _: (PUT, "hold"),
    "after the upload": lambda _: (PUT, "after"),
    "before the commit": lambda _: (COMMIT, "before"),
    "after the commit": lambda _: (COMMIT, "after"),
    "before the tag": lambda _: (TAG, "before"),
    "after the tag": lambda _: (TAG, "after"),
}


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_at_any_moment_the_next_run_completes(
    place: Place, published: Published, moment: str
) -> None:
    where, kind = KILLED_AT[moment](place)
    fault = Fault(where, kind, then=place.hub.hold)
    place.hub.faults.append(fault)
    process = started(place.kind, place.hub, place.token_file, published, "promote")
    assert place.hub.holding.wait(60), process.communicate(timeout=5)
    below = list(descendants(process.pid))
    assert below
    for pid in below:
        # Its stdin alone carries the token.
        assert TOKEN not in Path(f"/proc/{pid}/cmdline").read_text()
        assert TOKEN not in Path(f"/proc/{pid}/environ").read_text()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    place.hub.go_on.set()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in below):
        assert time.monotonic() < deadline, "a child outlives its parent"
        time.sleep(0.05)
    assert place.no_lie(published)
    uploads = place.hub.count(PUT)
    apply(place.target(), published, "promote")
    assert place.promoted(published)
    if "commit" in moment or "tag" in moment or moment == "after the upload":
        assert place.hub.count(PUT) == uploads, "what was there was sent again"


@pytest.mark.parametrize("step", ["candidate", "promote"])
def test_two_publishers_at_once_publish_once(place: Place, published: Published, step: Any) -> None:
    apply(place.target(draft=False), published, "candidate")
    two = [started(place.kind, place.hub, place.token_file, published, step) for _ in range(2)]
    for process in two:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    there = place.repository
    assert there is not None
    if step == "promote":
        assert place.whole(published, tag_of(published))
    elif place.kind == "huggingface":
        assert [pull.status for pull in there.pulls.values()].count("open") == 1
    else:
        assert place.hub.repositories[f"{NAME}-candidate"].files().keys() > WEIGHTS.keys()


def test_a_cancelled_upload_ends_at_once(place: Place, published: Published) -> None:
    cancel = CancelToken()

    def stop() -> None:
        cancel.cancel("the user wants no more")
        place.hub.hold()

    place.hub.faults.append(Fault(PUT, "before", then=stop))
    began = time.monotonic()
    with pytest.raises(Cancelled):
        place.target().apply(published, "promote", Doing(cancel=cancel))
    assert time.monotonic() - began < 30
    place.hub.go_on.set()
    assert place.no_lie(published)
