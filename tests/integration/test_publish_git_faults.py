"""Publishing to git remotes that move, refuse, break off; publishers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import GitTarget as GitSpec
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Doing, Step
from relforge.publishing.targets.git import GitTarget
from relforge.ui.text import error as error_text
from tests.support.git_http import Fault, GitHttp, bare_repository
from tests.support.git_targets import (
    FOLDER,
    LOGIN,
    SITE,
    alone,
    files,
    git,
    label,
    log_in,
    place,
    publish,
    refs,
    somebody_commits,
)
from tests.support.published import make_published
from tests.support.sources import closed_port


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


@pytest.mark.parametrize("moment", ["info/refs?service=git-receive-pack", "/git-receive-pack"])
def test_a_remote_that_moves_in_between_loses_nothing(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path, moment: str
) -> None:
    somebody_commits(repo, "README.md")
    target = place(server, tmp_path)
    target.apply(release, "candidate", Doing())
    theirs = somebody_commits(repo, "between.md")  # after the candidate, before the promotion
    server.faults.append(Fault(moment, holds=True))
    lines: list[str] = []
    done: list[Delivery] = []
    thread = threading.Thread(
        target=lambda: done.append(target.apply(release, "promote", Doing(line=lines.append)))
    )
    thread.start()
    assert server.held.wait(30)
    latest = somebody_commits(repo, "while-it-is-pushed.md")
    server.go_on.set()
    thread.join(60)
    assert done, lines
    history = git(repo, "rev-list", "main").splitlines()
    assert history[1:3] == [latest, theirs]
    assert {"README.md", "between.md", "while-it-is-pushed.md", f"{FOLDER}/NOTES.md"} <= files(repo)
    assert git(repo, "rev-parse", f"{label(release)}^{{commit}}") == history[0]


def test_two_publishers_at_once_both_get_there(server: GitHttp, repo: Path, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    made = []
    for number, name in enumerate(names):
        made.append(
            make_published(
                tmp_path,
                dist=tmp_path / name,
                python=name.encode(),
                record={
                    "release": name,
                    "names": {"release": name, "model": "tiny-adder", "device": "cpu_x86",
                              "vendor": "generic", "variant": str(number)},
                },
            )
        )  # fmt: skip
    targets = [place(server, tmp_path, work=name) for name in names]
    for target, one in zip(targets, made, strict=True):
        target.apply(one, "candidate", Doing())
    failed: list[BaseException] = []

    def promote(target: GitTarget, one: Published) -> None:
        try:
            target.apply(one, "promote", Doing())
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [
        threading.Thread(target=promote, args=pair) for pair in zip(targets, made, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert failed == []
    assert {name.split("/")[0] for name in files(repo)} == set(names)
    assert git(repo, "rev-list", "--count", "main") == "3"
    assert not any(ref.startswith("refs/heads/candidate/") for ref in refs(repo))


_CHILD = """
import sys
from pathlib import Path
from relforge.manifest.publishing import GitTarget as GitSpec
from relforge.manifest.site import Site
from relforge.publishing.published import read_published
from relforge.publishing.target import Doing
from relforge.publishing.targets.git import GitTarget
folder, url, work, step = sys.argv[1:]
place = GitTarget("pages", GitSpec(kind="git", url=url), Site(), work=Path(work))
place.apply(read_published(Path(folder)), step, Doing())
"""


@pytest.mark.parametrize("step", ["candidate", "promote"])
@pytest.mark.parametrize("moment", ["info/refs?service=git-receive-pack", "/git-receive-pack"])
def test_killed_while_pushing_it_is_all_or_nothing_and_goes_on(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path, step: Step, moment: str
) -> None:
    target = place(server, tmp_path)
    if step == "promote":
        target.apply(release, "candidate", Doing())
    before = refs(repo)
    server.faults.append(Fault(moment, holds=True))
    words = [release.folder, server.url("pages.git"), tmp_path / "work", step]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert server.held.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert refs(repo) == before
    server.go_on.set()
    time.sleep(0.5)
    after = refs(repo)
    whole = {f"refs/heads/candidate/{label(release)}"}
    if step == "promote":
        whole = {"refs/heads/main", f"refs/tags/{label(release)}"}
    assert set(after) in (set(before), whole)
    publish(target, release)
    assert set(refs(repo)) == {"refs/heads/main", f"refs/tags/{label(release)}"}
    assert git(repo, "rev-list", "--count", "main") == "1"
    left = [path.name for path in (tmp_path / "work").glob("*/objects-*")]
    assert left == []


def test_locks_of_a_git_that_was_killed_stop_nobody(
    server: GitHttp, repo: Path, release: Published, newer: Published, tmp_path: Path
) -> None:
    target = place(server, tmp_path)
    publish(target, release)
    (cache,) = (tmp_path / "work").glob("*/cache.git")
    for name in ("shallow.lock", "config.lock", "refs/relforge/remote/refs/heads/main.lock"):
        (cache / name).write_text("")
    somebody_commits(repo, "theirs.md")
    publish(target, newer)
    assert git(repo, "rev-list", "--count", "main") == "3"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/git-receive-pack", status=503),
        Fault("/git-receive-pack", status=429, headers={"Retry-After": "1"}),
        Fault("/git-receive-pack", status=500, times=2),
        Fault("/git-receive-pack", status=0),
        Fault("info/refs", status=503),
        Fault("/git-receive-pack", status=0, after_bytes=100),
    ],
    ids=str,
)
def test_passing_faults_are_tried_again(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path, fault: Fault
) -> None:
    server.faults.append(fault)
    publish(place(server, tmp_path), release)
    assert set(refs(repo)) == {"refs/heads/main", f"refs/tags/{label(release)}"}
    assert fault.times == 0


def test_a_wrong_login_is_told_without_it(
    server: GitHttp, release: Published, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for login in (("somebody", "not-the-password-at-all"), None):
        log_in(tmp_path, login)
        lines: list[str] = []
        with pytest.raises(RelforgeError, match="refuses access") as refused:
            place(server, tmp_path).apply(release, "candidate", Doing(line=lines.append))
        assert refused.value.code is ExitCode.PUBLISH
        assert "credential" in (refused.value.hint or "")
        told = error_text(refused.value) + "".join(lines) + "".join(capfd.readouterr())
        assert "not-the-password-at-all" not in told


def test_a_credential_helper_of_git_logs_in(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path
) -> None:
    log_in(tmp_path, LOGIN, helper_for=f"127.0.0.1:{server.port}")
    publish(place(server, tmp_path), release)
    assert f"refs/tags/{label(release)}" in refs(repo)


def test_a_host_that_is_not_there_is_told_at_once(release: Published, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}/pages.git"
    target = GitTarget("pages", GitSpec(kind="git", url=url), SITE, work=tmp_path / "work")
    started = time.monotonic()
    with pytest.raises(RelforgeError, match="cannot be reached") as refused:
        target.plan(release, "candidate")
    assert refused.value.where == url
    assert time.monotonic() - started < 10


def test_a_repository_that_is_not_there_is_told(
    server: GitHttp, release: Published, tmp_path: Path
) -> None:
    target = GitSpec(kind="git", url=server.url("other.git"))
    with pytest.raises(RelforgeError, match="no git repository"):
        GitTarget("pages", target, SITE, work=tmp_path / "work").plan(release, "candidate")


@pytest.mark.parametrize(
    ("name", "each"),
    [("pre-receive", "while read old new ref; do"), ("update", "for ref in $1; do")],
)
def test_what_a_protected_branch_says_is_shown(
    server: GitHttp, repo: Path, release: Published, tmp_path: Path, name: str, each: str
) -> None:
    hook = repo / "hooks" / name
    hook.write_text(
        f"#!/bin/sh\n{each} case $ref in refs/heads/main)\n"
        "echo 'GH006: main is protected: ask the release team' >&2; exit 1;; esac; done\n"
    )
    hook.chmod(0o755)
    target = place(server, tmp_path)
    target.apply(release, "candidate", Doing())
    before = refs(repo)
    with pytest.raises(RelforgeError, match="refused the push") as refused:
        target.apply(release, "promote", Doing())
    assert "ask the release team" in (refused.value.why or "")
    assert refs(repo) == before  # neither branch nor tag nor candidate
