"""A GitHub release on top of a git remote: whole or not to be seen, sent once, whatever happens."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import GithubSite
from relforge.manifest.publishing import GitTarget as GitSpec
from relforge.manifest.site import Site
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Doing
from relforge.publishing.targets import github_api
from relforge.publishing.targets.git import GitTarget
from relforge.retrying import RetryPolicy
from relforge.ui.text import error as error_text
from tests.fakes.github import REPOSITORY, TOKEN, FakeGithub, Fault
from tests.support.git_http import bare_repository
from tests.support.published import make_published

NAMES = {"release.json", "README.md", "README_zh.md", "sbom.spdx.json"}
RELEASES = "/releases(\\?|$)"


@pytest.fixture
def fake() -> Iterator[FakeGithub]:
    with FakeGithub() as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quick = RetryPolicy(attempts=4, first_wait_s=0.02, hint_limit_s=5.0)
    real = github_api.Github

    def made(*args: object, **how: object) -> github_api.Github:
        return real(*args, **{"policy": quick, "answer_s": 1.0, **how})  # type: ignore[arg-type]

    monkeypatch.setattr(github_api, "Github", made)
    monkeypatch.setattr(redact, "_secrets", set())
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "token").write_text(f"{TOKEN}\n")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return bare_repository(tmp_path / "pages.git")


@pytest.fixture
def release(tmp_path: Path) -> Published:
    sbom = {"sbom.spdx.json": b'{"spdxVersion": "SPDX-2.3"}'}
    return make_published(tmp_path, dist=tmp_path / "first", evidence=sbom)


@pytest.fixture
def target(fake: FakeGithub, repo: Path, tmp_path: Path) -> GitTarget:
    github = GithubSite(repository=REPOSITORY, token_file=tmp_path / "token", api=fake.url)
    spec = GitSpec(kind="git", url=f"file://{repo}", github=github)
    return GitTarget("pages", spec, Site(), work=tmp_path / "work")


def tag(release: Published) -> str:
    return f"{release.release}-{release.image_digest[7:19]}"


def publish(target: GitTarget, release: Published) -> Delivery:
    target.apply(release, "candidate", Doing())
    return target.apply(release, "promote", Doing())


def assert_whole(fake: FakeGithub, release: Published) -> None:
    found = fake.release(tag(release))
    assert found["draft"] is False
    assert set(fake.assets(tag(release))) == NAMES
    for name, data in fake.assets(tag(release)).items():
        path = release.folder / name
        assert data == (path if path.exists() else release.folder / "evidence" / name).read_bytes()
    assert all(one["state"] == "uploaded" for one in found["assets"])
    assert found["body"].startswith("# Release notes")


def test_a_draft_with_assets_is_published_at_promotion(
    fake: FakeGithub, target: GitTarget, release: Published, repo: Path
) -> None:
    planned = target.plan(release, "candidate")
    assert fake.changed() == 0
    assert {c.name for c in planned.changes if c.kind == "attachment"} == NAMES
    done = target.apply(release, "candidate", Doing())
    assert done.changes == planned.changes
    assert fake.release(tag(release))["draft"] is True
    assert set(fake.assets(tag(release))) == NAMES
    promoted = target.apply(release, "promote", Doing())
    assert_whole(fake, release)
    assert promoted.references[1].startswith("https://github.example/")
    assert len(fake.uploads) == len(NAMES)
    # The text is what the tag has, without our own mark.
    notes = subprocess.run(
        ["git", "-C", repo, "show", f"{tag(release)}:tiny-adder-cpu_x86/NOTES.md"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert notes.startswith(fake.release(tag(release))["body"].rstrip())
    assert "relforge:notes" not in fake.release(tag(release))["body"]


def test_again_sends_nothing(fake: FakeGithub, target: GitTarget, release: Published) -> None:
    publish(target, release)
    before = fake.changed()
    for step in ("candidate", "promote"):
        assert target.plan(release, step).nothing
        assert target.apply(release, step, Doing()).sent_bytes == 0
    assert fake.changed() == before


def test_a_server_that_tells_no_digests_is_asked_for_the_content(
    target: GitTarget, release: Published, fake: FakeGithub
) -> None:
    fake.tells_digests = False
    publish(target, release)
    assert target.plan(release, "promote").nothing
    for one in fake.release(tag(release))["assets"]:
        if one["name"] == "README.md":
            fake.contents[one["id"]] = bytes(one["size"])  # as long, and another one
    changed = [c.name for c in target.plan(release, "promote").changes if c.action == "replace"]
    assert "README.md" in changed


def test_a_published_release_is_not_touched_by_a_candidate(
    fake: FakeGithub, target: GitTarget, release: Published, tmp_path: Path
) -> None:
    publish(target, release)
    old = fake.assets(tag(release))
    sbom = {"sbom.spdx.json": b'{"spdxVersion": "SPDX-2.3"}'}
    reworded = make_published(tmp_path, dist=tmp_path / "again", free="Hello.", evidence=sbom)
    target.apply(reworded, "candidate", Doing())
    assert fake.assets(tag(release)) == old
    target.apply(reworded, "promote", Doing())
    assert b"Hello." in fake.assets(tag(release))["README.md"]
    assert len(fake.uploads) == len(NAMES) + 1


def test_releases_on_later_pages_are_found(
    fake: FakeGithub, target: GitTarget, release: Published
) -> None:
    target.apply(release, "candidate", Doing())
    for number in range(5):
        other = {"id": 900 + number, "tag_name": f"other-{number}", "draft": False, "assets": []}
        fake.releases.append(other)
    target.apply(release, "promote", Doing())
    assert_whole(fake, release)


UPLOAD = "/assets\\?name=README.md"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", RELEASES, status=503),
        Fault("GET", RELEASES, status=429, headers={"Retry-After": "1"}),
        Fault("GET", RELEASES, status=403, headers={"Retry-After": "1"},
              message="You have exceeded a secondary rate limit"),
        Fault("GET", RELEASES, status=403, message="API rate limit exceeded",
              headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}),
        Fault("GET", RELEASES, cut=True),
        Fault("GET", RELEASES, drip_s=0.4),
        Fault("POST", "/releases$", status=500),
        Fault("POST", "/releases$", status=500, afterwards=True),
        Fault("POST", "/releases$", afterwards=True),
        Fault("POST", "/releases$", cut=True),
        Fault("POST", "/releases$", status=409),
        Fault("POST", UPLOAD, reset=100),
        Fault("POST", UPLOAD, reset=100, times=3),
        Fault("POST", UPLOAD, status=503),
        Fault("POST", UPLOAD, afterwards=True),
        Fault("POST", UPLOAD, status=422, afterwards=True,
              errors=({"code": "already_exists", "field": "name"},)),
        Fault("PATCH", "/releases/\\d+", status=503, times=2),
        Fault("PATCH", "/releases/\\d+", afterwards=True),
    ],
    ids=lambda fault: f"{fault.method}-{fault.status or (fault.cut and 'cut') or 'broken'}",
)  # fmt: skip
def test_passing_faults_leave_one_whole_release(
    fake: FakeGithub, target: GitTarget, release: Published, fault: Fault
) -> None:
    fake.faults.append(fault)
    publish(target, release)
    assert fault.times == 0
    assert len(fake.releases) == 1
    assert_whole(fake, release)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("POST", UPLOAD, status=503, times=99), "does not do it now"),
        (Fault("GET", RELEASES, status=403, times=99, headers={"Retry-After": "3600"},
               message="secondary rate limit"), "does not do it now"),
        (Fault("POST", "/releases$", status=403, message="Resource not accessible"), "refuses"),
        (Fault("POST", "/releases$", status=404, message="Not Found"), "refuses"),
        (Fault("POST", "/releases$", status=422, message="Validation Failed",
               errors=({"code": "custom", "message": "tag_name is not well-formed"},)),
         "tag_name is not well-formed"),
        (Fault("POST", UPLOAD, reset=100, times=99), "does not answer"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_told_and_the_next_call_completes_it(
    fake: FakeGithub, target: GitTarget, release: Published, fault: Fault, told: str
) -> None:
    fake.faults.append(fault)
    started = time.monotonic()
    with pytest.raises(RelforgeError) as refused:
        publish(target, release)
    assert time.monotonic() - started < 20  # nobody waits an hour
    assert told in f"{refused.value.what} {refused.value.why}"
    assert refused.value.code is ExitCode.PUBLISH
    assert all(one["draft"] for one in fake.releases)  # nobody sees a half
    fake.faults.clear()
    publish(target, release)
    assert len(fake.releases) == 1
    assert_whole(fake, release)


def test_a_token_that_expires_half_way_is_told_without_it(
    fake: FakeGithub, target: GitTarget, release: Published, tmp_path: Path
) -> None:
    target.apply(release, "candidate", Doing())
    fake.token = "another"
    with pytest.raises(RelforgeError, match="does not accept the token") as refused:
        target.apply(release, "promote", Doing())
    assert str(tmp_path / "token") in (refused.value.hint or "")
    assert TOKEN not in error_text(refused.value)
    assert all(one["draft"] for one in fake.releases)
    (tmp_path / "token").write_text("another")
    target.apply(release, "promote", Doing())
    assert_whole(fake, release)


def test_a_token_file_that_cannot_be_read_is_told(
    target: GitTarget, release: Published, tmp_path: Path
) -> None:
    for text in (None, " \n"):
        (tmp_path / "token").unlink()
        if text is not None:
            (tmp_path / "token").write_text(text)
        else:
            (tmp_path / "token").symlink_to("nowhere")
        with pytest.raises(RelforgeError, match="token for GitHub cannot be read") as refused:
            target.plan(release, "candidate")
        assert refused.value.code is ExitCode.ENVIRONMENT


def test_the_token_goes_to_no_other_host(
    fake: FakeGithub, target: GitTarget, release: Published
) -> None:
    fake.next_page = "http://127.0.0.2:9/repos/x/releases?page=2"
    with pytest.raises(RelforgeError, match="names a page elsewhere"):
        target.plan(release, "candidate")


def test_withdrawn_the_release_is_a_draft_that_says_why(
    fake: FakeGithub, target: GitTarget, release: Published
) -> None:
    publish(target, release)
    doing = Doing(reason="wrong sums")
    assert not target.plan(release, "withdraw").nothing
    target.apply(release, "withdraw", doing)
    found = fake.release(tag(release))
    assert found["draft"] is True
    assert "Withdrawn: wrong sums" in found["body"]
    before = json.dumps(fake.releases)
    assert target.plan(release, "withdraw").nothing
    target.apply(release, "withdraw", doing)
    assert json.dumps(fake.releases) == before


def test_a_candidate_is_withdrawn_or_undone_without_a_trace(
    fake: FakeGithub, target: GitTarget, release: Published
) -> None:
    delivery = target.apply(release, "candidate", Doing())
    target.undo(release, delivery, Doing())
    assert fake.releases == []
    target.apply(release, "candidate", Doing())
    target.apply(release, "withdraw", Doing(reason="never mind"))
    assert fake.releases == []


def test_an_undone_promotion_is_a_draft_again(
    fake: FakeGithub, target: GitTarget, release: Published
) -> None:
    delivery = publish(target, release)
    target.undo(release, delivery, Doing())
    assert fake.release(tag(release))["draft"] is True
    target.apply(release, "promote", Doing())
    assert_whole(fake, release)
