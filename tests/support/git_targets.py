"""Git remotes that tests publish to: how they are reached, and what they hold."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relforge.manifest.publishing import GitTarget as GitSpec
from relforge.manifest.site import PythonSite, Site
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Doing
from relforge.publishing.targets.git import GitTarget
from relforge.sources import places
from tests.support.git_http import GitHttp

LOGIN = ("somebody", "hunter2-keeps-a-secret")
SITE = Site(python=PythonSite(index_timeout_s=2.0))
FOLDER = "tiny-adder-cpu_x86"


def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home of the test's own, where somebody is logged in."""
    monkeypatch.setattr(places, "_unreachable", {})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    log_in(tmp_path, LOGIN)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "home" / ".gitconfig"))


def log_in(tmp_path: Path, login: tuple[str, str] | None, *, helper_for: str = "") -> None:
    """A login in ~/.netrc, or, with the address that it is for, in git's own credential helper."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    config = "[user]\n\tname = A Maker\n\temail = maker@example.org\n"
    for name in (".netrc", "logins"):
        (home / name).unlink(missing_ok=True)
    if login and helper_for:
        config += f"[credential]\n\thelper = store --file={home / 'logins'}\n"
        (home / "logins").write_text(f"http://{':'.join(login)}@{helper_for}\n")
    elif login:
        (home / ".netrc").write_text(f"machine 127.0.0.1 login {login[0]} password {login[1]}\n")
        (home / ".netrc").chmod(0o600)
    (home / ".gitconfig").write_text(config)


def place(server: GitHttp, tmp_path: Path, *, work: str = "work", **spec: Any) -> GitTarget:
    target = GitSpec(kind="git", url=server.url("pages.git"), **spec)
    return GitTarget("pages", target, SITE, work=tmp_path / work)


def publish(target: GitTarget, release: Published) -> Delivery:
    target.apply(release, "candidate", Doing())
    return target.apply(release, "promote", Doing())


def git(repo: Path, *words: str, check: bool = True) -> str:
    done = subprocess.run(["git", "-C", repo, *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def refs(repo: Path) -> dict[str, str]:
    rows = git(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(row.split() for row in rows)


def files(repo: Path, commit: str = "main") -> set[str]:
    return set(git(repo, "ls-tree", "-r", "--name-only", commit).splitlines())


def label(release: Published) -> str:
    return f"{release.release}-{release.image_digest[7:19]}"


def somebody_commits(repo: Path, name: str, text: str = "theirs\n") -> str:
    """A commit of somebody else's on main, made in the repository itself."""
    blob = subprocess.run(
        ["git", "-C", repo, "hash-object", "-w", "--stdin"],
        input=text, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    env = {**os.environ, "GIT_INDEX_FILE": str(repo / "their-index")}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "other", f"GIT_{who}_EMAIL": "other@example.org"}

    def run(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", repo, *words], env=env, capture_output=True, text=True, check=True
        ).stdout.strip()

    head = refs(repo).get("refs/heads/main")
    run("read-tree", *([head] if head else ["--empty"]))
    run("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    made = run("commit-tree", run("write-tree"), *(["-p", head] if head else []), "-m", "theirs")
    run("update-ref", "refs/heads/main", made)
    return made
