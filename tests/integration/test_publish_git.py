"""Publishing to git remotes: a real server over HTTP with a login, files, and ssh."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relforge.errors import RelforgeError
from relforge.manifest.publishing import GitTarget as GitSpec
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Doing
from relforge.publishing.targets.git import GitTarget
from tests.support.git_http import GitHttp, bare_repository
from tests.support.git_targets import (
    FOLDER,
    LOGIN,
    SITE,
    alone,
    files,
    git,
    label,
    place,
    publish,
    refs,
    somebody_commits,
)
from tests.support.published import make_published
from tests.support.sources import closed_port
from tests.support.ssh_server import ssh_server


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return bare_repository(tmp_path / "served" / "pages.git")


@pytest.fixture
def server(repo: Path) -> Iterator[GitHttp]:
    with GitHttp(repo.parent, login=LOGIN) as running:
        yield running


@pytest.fixture
def release(tmp_path: Path) -> Published:
    return make_published(tmp_path, dist=tmp_path / "first")


@pytest.fixture
def newer(tmp_path: Path) -> Published:
    return make_published(tmp_path, dist=tmp_path / "second", python=b"print('newer')\n")


def test_a_candidate_waits_beside_the_branch_until_it_is_promoted(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    planned = target.plan(release, "candidate")
    assert refs(repo) == {}
    waiting = target.apply(release, "candidate", Doing())
    assert waiting.changes == planned.changes
    assert waiting.sent_bytes > 1000
    assert set(refs(repo)) == {f"refs/heads/candidate/{label(release)}"}
    promoted = target.apply(release, "promote", Doing())
    assert set(refs(repo)) == {"refs/heads/main", f"refs/tags/{label(release)}"}
    assert promoted.sent_bytes < 1000  # the files are there already
    assert {
        "NOTES.md",
        "NOTES_zh.md",
        "README.md",
        "README_zh.md",
        "release.json",
        "contents.json",
    } | {f"evidence/{name}" for name in ("smoke.json", "evaluation.json", "server.log")} == {
        name.removeprefix(f"{FOLDER}/") for name in files(repo)
    }
    for name in ("README.md", "release.json", "evidence/smoke.json"):
        sent = subprocess.run(
            ["git", "-C", repo, "show", f"{label(release)}:{FOLDER}/{name}"],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        assert sent == (release.folder / name).read_bytes()
    assert git(repo, "cat-file", "-t", label(release)) == "tag"
    text = git(repo, "log", "-1", "--format=%an <%ae> %at %s%n%b", "main")
    assert text.startswith("A Maker <maker@example.org> 1767225600 Release tiny-adder-cpu_x86-")
    assert f"Image: {release.image_digest}" in text
    git(repo, "fsck", "--strict")


def test_again_sends_nothing(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    before, pushes = refs(repo), server.pushes()
    for step in ("candidate", "promote", "candidate"):
        assert target.plan(release, step).nothing
        done = target.apply(release, step, Doing())
        assert done.sent_bytes == 0
        assert all(change.action == "same" for change in done.changes)
    assert refs(repo) == before
    assert server.pushes() == pushes
    # Another host, which has no cache, makes nothing else of it.
    assert place(server, tmp_path, work="elsewhere").plan(release, "promote").nothing


def test_another_card_of_the_same_image_is_a_commit_and_keeps_the_tag(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    tagged = refs(repo)[f"refs/tags/{label(release)}"]
    reworded = make_published(tmp_path, dist=tmp_path / "reworded", free="Ask in the forum.")
    assert reworded.image_digest == release.image_digest
    planned = target.plan(reworded, "candidate")
    changed = {c.name for c in planned.changes if c.action != "same" and c.kind == "file"}
    assert changed == {f"{FOLDER}/README.md", f"{FOLDER}/contents.json"}
    publish(target, reworded)
    assert "Ask in the forum." in git(repo, "show", f"main:{FOLDER}/README.md")
    assert refs(repo)[f"refs/tags/{label(release)}"] == tagged
    assert git(repo, "rev-list", "--count", "main") == "2"


def test_notes_are_made_from_the_release_that_lies_there(
    server: GitHttp, repo: Path, release: Published, newer: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    assert "first release" in git(repo, "show", f"main:{FOLDER}/NOTES.md")
    publish(target, newer)
    notes = git(repo, "show", f"main:{FOLDER}/NOTES.md")
    assert f"before: `{FOLDER}` | `{release.image_digest}`" in notes
    assert "发布说明" in git(repo, "show", f"main:{FOLDER}/NOTES_zh.md")
    # Published again with another card, the notes still say what changed since the other image.
    reworded = make_published(
        tmp_path, dist=tmp_path / "reworded", python=b"print('newer')\n", free="Hello."
    )
    publish(target, reworded)
    assert git(repo, "show", f"main:{FOLDER}/NOTES.md") == notes


def test_files_of_others_stay_and_what_is_no_evidence_any_more_goes(
    server: GitHttp, repo: Path, newer: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    more = make_published(tmp_path, dist=tmp_path / "more", evidence={"extra.json": b"{}"})
    publish(target, more)
    somebody_commits(repo, f"{FOLDER}/FAQ.md")
    somebody_commits(repo, "LICENSE")
    planned = target.plan(newer, "candidate")
    removed = [c.name for c in planned.changes if c.action == "remove"]
    assert removed == [f"{FOLDER}/evidence/extra.json"]
    publish(target, newer)
    assert {f"{FOLDER}/FAQ.md", "LICENSE"} <= files(repo)
    assert f"{FOLDER}/evidence/extra.json" not in files(repo)


def withdraw(target: GitTarget, release: Published, reason: str) -> tuple[Delivery, list[str]]:
    lines: list[str] = []
    return target.apply(release, "withdraw", Doing(line=lines.append, reason=reason)), lines


def test_withdrawn_it_says_so_everywhere_and_does_not_come_back(
    server: GitHttp, repo: Path, release: Published, newer: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    assert not target.plan(release, "withdraw").nothing
    _, lines = withdraw(target, release, "sums | of kernels are wrong")
    assert any("git tag --delete" in line for line in lines)
    assert set(refs(repo)) == {"refs/heads/main"}
    card = git(repo, "show", f"main:{FOLDER}/README.md")
    assert card.startswith("---\n")  # the front matter still comes first
    assert "Do not use this release: sums | of kernels are wrong." in card
    assert "已于" in git(repo, "show", f"main:{FOLDER}/README_zh.md")
    listed = git(repo, "show", f"main:{FOLDER}/WITHDRAWN.md")
    assert f"| `{release.image_digest}` | 20" in listed
    head = refs(repo)
    assert target.plan(release, "withdraw").nothing
    again, _ = withdraw(target, release, "again")
    assert again.sent_bytes == 0
    assert refs(repo) == head
    for step in ("candidate", "promote"):
        with pytest.raises(RelforgeError, match="was withdrawn on") as refused:
            target.apply(release, step, Doing())
        assert refused.value.why == "sums | of kernels are wrong"
    publish(target, newer)
    assert "Do not use" not in git(repo, "show", f"main:{FOLDER}/README.md")
    assert release.image_digest in git(repo, "show", f"main:{FOLDER}/WITHDRAWN.md")


def test_an_older_release_is_withdrawn_without_a_word_on_the_newer_card(
    server: GitHttp, repo: Path, release: Published, newer: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    publish(target, newer)
    withdraw(target, release, "too old")
    assert set(refs(repo)) == {"refs/heads/main", f"refs/tags/{label(newer)}"}
    assert "Withdrawn" not in git(repo, "show", f"main:{FOLDER}/README.md")
    assert "too old" in git(repo, "show", f"main:{FOLDER}/WITHDRAWN.md")


def test_a_candidate_alone_is_withdrawn_without_a_trace(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    target.apply(release, "candidate", Doing())
    withdraw(target, release, "never mind")
    assert refs(repo) == {}
    assert target.plan(release, "withdraw").changes == ()


def test_what_was_no_candidate_is_not_promoted(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    with pytest.raises(RelforgeError, match="no candidate"):
        target.apply(release, "promote", Doing())
    target.apply(release, "candidate", Doing())
    (release.folder / "evidence" / "smoke.json").chmod(0o644)
    (release.folder / "evidence" / "smoke.json").write_text('{"verdict": "forged"}')
    with pytest.raises(RelforgeError, match="not what would be promoted") as refused:
        target.apply(release, "promote", Doing())
    assert "evidence/smoke.json" in (refused.value.why or "")
    assert set(refs(repo)) == {f"refs/heads/candidate/{label(release)}"}


def test_a_tag_of_another_release_is_not_moved(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    theirs = somebody_commits(repo, "README.md")
    git(repo, "update-ref", f"refs/tags/{label(release)}", theirs)
    for step in ("candidate", "promote", "withdraw"):
        with pytest.raises(RelforgeError, match="tags never move") as refused:
            place(server, tmp_path).apply(release, step, Doing())
        assert theirs in (refused.value.why or "")
        assert release.image_digest in (refused.value.why or "")
    assert refs(repo)[f"refs/tags/{label(release)}"] == theirs


def test_undone_a_candidate_leaves_nothing(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    somebody_commits(repo, "README.md")
    before = refs(repo)
    target = place(server, tmp_path)
    delivery = target.apply(release, "candidate", Doing())
    target.undo(release, delivery, Doing())
    assert refs(repo) == before
    # A candidate that was there before is what it was.
    first = target.apply(release, "candidate", Doing())
    waiting = refs(repo)
    reworded = make_published(tmp_path, dist=tmp_path / "reworded", free="Hello.")
    target.undo(reworded, target.apply(reworded, "candidate", Doing()), Doing())
    assert refs(repo) == waiting
    assert any(c.kind == "commit" and c.action == "add" for c in first.changes)


def test_undone_a_promotion_is_taken_back_by_a_commit_more(
    server: GitHttp, repo: Path, release: Published, newer: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    before = git(repo, "rev-parse", "main:")
    delivery = publish(target, newer)
    somebody_commits(repo, "theirs.md")
    target.undo(newer, delivery, Doing())
    assert git(repo, "rev-parse", f"main:{FOLDER}") == git(repo, "rev-parse", f"{before}:{FOLDER}")
    assert "theirs.md" in files(repo)
    assert set(refs(repo)) == {
        "refs/heads/main", f"refs/tags/{label(release)}", f"refs/heads/candidate/{label(newer)}",
    }  # fmt: skip
    target.apply(newer, "promote", Doing())
    assert f"refs/tags/{label(newer)}" in refs(repo)


def test_a_server_without_partial_clones_does_as_well(
    release: Published, newer: Published, tmp_path: Path
) -> None:
    repo = bare_repository(tmp_path / "plain" / "pages.git", filters=False)
    with GitHttp(repo.parent) as server:
        target = place(server, tmp_path)
        publish(target, release)
        publish(target, newer)
    assert git(repo, "rev-list", "--count", "main") == "2"


def test_a_repository_on_this_host_and_its_root_as_folder(
    release: Published, newer: Published, tmp_path: Path
) -> None:
    repo = bare_repository(tmp_path / "local.git")
    somebody_commits(repo, "LICENSE")
    spec = GitSpec(kind="git", url=f"file://{repo}", path=".", branch="main")
    target = GitTarget("here", spec, SITE, work=tmp_path / "work")
    publish(target, release)
    publish(target, newer)
    assert {"LICENSE", "README.md", "release.json", "evidence/smoke.json"} <= files(repo)
    assert git(repo, "rev-list", "--count", "main") == "3"


@pytest.mark.parametrize("path", ["../up", "/top", "a/../../b", ".git/hooks", "a/.GIT"])
def test_a_path_that_leaves_the_repository_is_refused(
    server: GitHttp, release: Published, tmp_path: Path, path: str
) -> None:
    with pytest.raises(RelforgeError, match="no folder of a repository"):
        place(server, tmp_path, path=path).plan(release, "candidate")


def test_a_file_in_the_way_of_the_folder_is_told(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    somebody_commits(repo, "pages")
    with pytest.raises(RelforgeError, match="pages is no folder"):
        place(server, tmp_path, path="pages/{release}").plan(release, "candidate")


def test_over_ssh(release: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = bare_repository(tmp_path / "over-ssh.git")
    (tmp_path / "ssh").mkdir()
    here = SimpleNamespace(address="127.0.0.1", socket="unix:///nowhere", inside=lambda *w: w)
    host: Any = here
    port = closed_port()
    with ssh_server(host, tmp_path / "ssh", port=port) as server:
        monkeypatch.setenv("PATH", server.path)
        url = f"ssh://root@127.0.0.1:{port}{repo}"
        target = GitTarget("pages", GitSpec(kind="git", url=url), SITE, work=tmp_path / "work")
        publish(target, release)
    assert json.loads(git(repo, "show", f"main:{FOLDER}/release.json"))["release"] == FOLDER
