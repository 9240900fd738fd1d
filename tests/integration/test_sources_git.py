"""Git sources: exactly the pinned commit, over every way a server may offer it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Mirror, PythonSite, Site
from relforge.manifest.source import GitSource
from relforge.sources import places
from relforge.sources.api import ImportedSource, import_source, store_of
from tests.support.sources import (
    black_hole,
    closed_port,
    commit,
    folder_server,
    git,
    git_server,
    repository,
)

FILES = {"a.txt": b"one\r\n", "sub/.gitattributes": b"* text eol=crlf\n", "sub/b.txt": b"two\n"}
FAST = Site(python=PythonSite(index_timeout_s=1.0))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "_unreachable", {})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


@pytest.fixture
def upstream(tmp_path: Path) -> tuple[Path, str, str]:
    """A repository, its first commit and its second."""
    path = tmp_path / "up" / "repo"
    first = repository(path, FILES)
    return path, first, commit(path, {"a.txt": b"changed\n"})


def take(
    url: str,
    sha: str,
    home: Path,
    *,
    site: Site = FAST,
    sub: str | None = None,
    lines: list[str] | None = None,
) -> ImportedSource:
    spec = GitSource(kind="git", url=url, commit=sha, subdirectory=sub)
    seen = lines if lines is not None else []
    return import_source("demo", spec, home=home, site=site, ctx_line=seen.append)


def test_an_older_commit_over_file(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, _ = upstream
    home = tmp_path / "home"
    source = take(f"file://{path}", first, home)
    assert source.tree == git("rev-parse", f"{first}^{{tree}}", cwd=path)
    assert (source.kind, source.commit, source.created_epoch) == ("git", first, 1_700_000_000)
    assert not source.prebuilt
    store_of(home).checkout(source.tree, tmp_path / "out", epoch=1)
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"one\r\n"
    assert (tmp_path / "out" / "sub" / "b.txt").read_bytes() == b"two\n"


def test_the_second_time_nothing_is_asked(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, second = upstream
    source = take(f"file://{path}", first, tmp_path / "home")
    take(f"file://{path}", second, tmp_path / "home")
    shutil.rmtree(path)
    lines: list[str] = []
    assert take(f"file://{path}", first, tmp_path / "home", lines=lines) == source
    assert lines == []


def test_a_subdirectory_is_a_tree_of_its_own(
    upstream: tuple[Path, str, str], tmp_path: Path
) -> None:
    path, first, _ = upstream
    source = take(f"file://{path}", first, tmp_path / "home", sub="sub")
    assert source.tree == git("rev-parse", f"{first}:sub", cwd=path)
    for wrong in ("nowhere", "a.txt"):
        with pytest.raises(RelforgeError, match=f"{wrong} is no folder") as caught:
            take(f"file://{path}", first, tmp_path / "home", sub=wrong)
        assert caught.value.code is ExitCode.SOURCE


def test_a_repository_of_another_user(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path, first, _ = upstream
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            os.chown(Path(folder, name), 12345, 12345)
    assert take(f"file://{path}", first, tmp_path / "home").commit == first


def test_smart_http(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, _ = upstream
    with git_server(path.parent) as server:
        source = take(f"{server.url}/repo/.git", first, tmp_path / "home")
    assert source.tree == git("rev-parse", f"{first}^{{tree}}", cwd=path)
    # Only that commit travelled: its store does not know the other one.
    assert store_of(tmp_path / "home").text("rev-list", "--all", "--count", "--no-walk") == "1"


def test_dumb_http_needs_all_branches(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, _ = upstream
    git("update-server-info", cwd=path)
    lines: list[str] = []
    with folder_server(path.parent) as server:
        source = take(f"{server.url}/repo/.git", first, tmp_path / "home", lines=lines)
    assert source.tree == git("rev-parse", f"{first}^{{tree}}", cwd=path)
    refs = store_of(tmp_path / "home").text("for-each-ref", "--format=%(refname)")
    assert refs == f"refs/relforge/commits/{first}"


def test_a_commit_that_is_not_there(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, _, _ = upstream
    wrong = "1234" * 10
    git("update-server-info", cwd=path)
    with git_server(path.parent) as smart, folder_server(path.parent) as dumb:
        for url in (f"file://{path}", f"{smart.url}/repo/.git", f"{dumb.url}/repo/.git"):
            with pytest.raises(RelforgeError, match=f"{wrong} is not in the repository") as caught:
                take(url, wrong, tmp_path / "home")
            assert caught.value.code is ExitCode.SOURCE
            assert "git_mirrors" in str(caught.value.hint)
    assert store_of(tmp_path / "home").text("for-each-ref") == ""


def test_no_repository_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="no git repository at that address"):
        take(f"file://{tmp_path}/nothing", "1" * 40, tmp_path / "home")
    (tmp_path / "empty").mkdir()
    with (
        git_server(tmp_path / "empty") as server,
        pytest.raises(RelforgeError, match="no git repository at that address"),
    ):
        take(f"{server.url}/nothing", "1" * 40, tmp_path / "home")


def test_a_dead_server_costs_seconds(tmp_path: Path) -> None:
    with black_hole() as hole:
        for port in (hole, closed_port()):
            started = time.monotonic()
            with pytest.raises(RelforgeError, match="cannot be reached") as caught:
                take(f"http://127.0.0.1:{port}/x", "1" * 40, tmp_path / "home")
            assert time.monotonic() - started < 5
            assert caught.value.code is ExitCode.SOURCE
            assert "git_mirrors" in str(caught.value.hint)


def test_the_longest_mirror_prefix_is_used(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, _ = upstream
    with git_server(path.parent) as server:
        site = Site(
            python=FAST.python,
            git_mirrors=(
                Mirror(prefix="https://git.invalid/", to="file:///nowhere/"),
                Mirror(prefix="https://git.invalid/team/", to=f"{server.url}/"),
            ),
        )
        url = "https://git.invalid/team/repo/.git"
        source = take(url, first, tmp_path / "home", site=site)
    assert source.url == url
    assert "127.0.0.1" not in source.model_dump_json()


def test_a_dead_mirror_is_told_with_what_it_stands_for(tmp_path: Path) -> None:
    mirror = f"http://127.0.0.1:{closed_port()}/"
    site = FAST.model_copy(
        update={"git_mirrors": (Mirror(prefix="https://git.invalid/", to=mirror),)}
    )
    with pytest.raises(RelforgeError, match="cannot be reached") as caught:
        take("https://git.invalid/x.git", "1" * 40, tmp_path / "home", site=site)
    assert caught.value.where == f"{mirror}x.git (mirror of https://git.invalid/x.git)"
    assert "git_mirrors" in str(caught.value.hint)


def test_a_mirror_with_a_password_is_refused() -> None:
    # It would end in git's argument list, which every user of the host can read.
    with pytest.raises(ValidationError, match="no user name or password"):
        Mirror(prefix="https://git.invalid/", to="https://user:s3cret-pass@git.example/")


def test_a_server_that_refuses(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, _ = upstream
    with (
        git_server(path.parent, password="right-one") as server,
        pytest.raises(RelforgeError, match="refuses access") as caught,
    ):
        take(f"{server.url}/repo/.git", first, tmp_path / "home")
    assert "credential" in str(caught.value.hint)


def test_a_vanished_store_is_filled_again(upstream: tuple[Path, str, str], tmp_path: Path) -> None:
    path, first, _ = upstream
    home = tmp_path / "home"
    source = take(f"file://{path}", first, home)
    shutil.rmtree(home / "store" / "git")
    assert take(f"file://{path}", first, home) == source
    assert store_of(home).has(source.tree, "tree")
