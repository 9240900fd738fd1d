"""Unpatching where things go wrong: killed, out of disk, two at once, a base that is not there."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.rebasing import commit_in
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Graft, Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.tarball import unpatch_to_tar
from relforge.patching.tree.worktree import unpatch_to_worktree
from relforge.workarea import sweep
from tests.support.patching import World, files_with_mark, make_world, new_repository


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), extra_files=20)


def recipe(world: World, **changes: object) -> Recipe:
    whole = Recipe(
        git_dir=world.upstream.git_dir,
        base_tree=world.base_tree,
        patches=patch_set_at(world.bundle),
        base_commit=world.base_commit,
        trust=Trust(tuple(world.trusted), world.identities),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("full", ["target", "home"])
def test_a_full_disk(world: World, tmp_path: Path, small_disk: Path, full: str) -> None:
    home = small_disk / "home" if full == "home" else tmp_path / "home"
    folder = (small_disk if full == "target" else tmp_path) / "build"
    folder.mkdir()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(40 << 10 if full == "target" else 80 << 10))
    with pytest.raises(RelforgeError, match="disk is full") as caught:
        unpatch_to_folder(folder, recipe(world), home=home, epoch=1)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert list(folder.iterdir()) == []
    if full == "target":
        filler.write_bytes(bytes(80 << 10))
        with pytest.raises(RelforgeError, match="disk is full"):
            unpatch_to_tar(small_disk / "t.tar", recipe(world), home=home, epoch=1)
        assert sorted(path.name for path in small_disk.iterdir()) == ["build", "filler"]
    assert files_with_mark(small_disk, tmp_path, world.upstream.git_dir) == []
    filler.unlink()


CHILD = """
import os, signal, sys, threading, time
from pathlib import Path
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.tarball import unpatch_to_tar
from relforge.patching.tree.worktree import unpatch_to_worktree
from relforge.patching.keys import load_identities, load_signer
from relforge.patching.source import Recipe, Trust
from relforge.patching.kinds import patch_set_at

bundle, store, base, commit, key, public, home, dest, after_ms, kind = sys.argv[1:]
recipe = Recipe(
    Path(store), base, patch_set_at(Path(bundle)), base_commit=commit,
    trust=Trust((load_signer("v", Path(public)),), load_identities([Path(key)])),
)
threading.Timer(float(after_ms) / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
common = {"home": Path(home), "epoch": 1}
if kind == "folder":
    unpatch_to_folder(Path(dest), recipe, **common)
elif kind == "tar":
    unpatch_to_tar(Path(dest), recipe, **common)
else:
    unpatch_to_worktree(Path(dest), recipe, repository=Path(store).parent, **common)
time.sleep(10)
"""


def killed(
    world: World, home: Path, folder: Path, after_ms: int, kind: str, upstream: Path
) -> None:
    """A child that unpatches and is killed that long after it began."""
    temporary = home.parent / "tmp"
    temporary.mkdir()
    arguments: list[str | Path] = [
        *(world.bundle, upstream / ".git", world.base_tree, world.base_commit),
        *(world.keys.identity, world.keys.signing_public, home, folder, str(after_ms), kind),
    ]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("after_ms", [10, 25, 40, 55, 70, 85, 100, 130, 160, 200])
def test_killed_at_any_point(world: World, tmp_path: Path, after_ms: int) -> None:
    folder, home = tmp_path / "build", tmp_path / "home"
    unpatch_to_folder(folder, recipe(world, patches=None), home=home, epoch=1)
    old = content(folder)
    killed(world, home, folder, after_ms, "folder", world.upstream.path)
    whole = content(folder)
    done = "engine/vendor.py" in whole
    assert done or whole == old
    sweep(home)
    assert list((home / "work").iterdir()) == []
    assert files_with_mark(home, tmp_path / "tmp", world.upstream.path) == []
    assert files_with_mark(tmp_path) == files_with_mark(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "home", "tmp"]
    again = unpatch_to_folder(folder, recipe(world), home=home, epoch=1)
    assert again.status == ("unchanged" if done else "replaced")
    assert again.tree.tree == world.result_tree


@pytest.mark.parametrize("after_ms", [30, 60, 90, 120, 150, 200])
@pytest.mark.parametrize("kind", ["tar", "worktree"])
def test_killed_while_it_writes_another_form(
    world: World, tmp_path: Path, kind: str, after_ms: int
) -> None:
    repository, home, out = tmp_path / "repository", tmp_path / "home", tmp_path / "out"
    subprocess.run(["git", "clone", "-q", world.upstream.path, repository], check=True)
    (repository / "README").write_bytes(b"the user's edit\n")
    (home / "work").mkdir(parents=True)
    killed(world, home, out, after_ms, kind, repository)
    sweep(home)
    assert list((home / "work").iterdir()) == []
    done = out.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path != out) == [
        "home", "repository", "tmp",
    ]  # fmt: skip
    assert files_with_mark(home, tmp_path / "tmp", repository) == []
    assert (repository / "README").read_bytes() == b"the user's edit\n"
    again = recipe(world, git_dir=repository / ".git")
    if kind == "tar" and not done:
        tree = unpatch_to_tar(out, again, home=home, epoch=1)
        assert tree.tree == world.result_tree
    elif kind == "tar":
        with tarfile.open(out) as archive:
            assert "engine/vendor.py" in archive.getnames()
    else:
        made = unpatch_to_worktree(out, again, repository=repository, home=home, epoch=1)
        assert made.status == ("unchanged" if done else "written")
        assert made.tree.tree == world.result_tree
        listed = subprocess.run(
            ["git", "-C", repository, "worktree", "list"], check=True, capture_output=True
        )
        assert listed.stdout.count(str(out).encode()) == 1


def test_two_different_trees_into_one_folder_leave_one_of_them(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "build"
    ways = [recipe(world), recipe(world, patches=None)]
    done = []

    def run(one: Recipe) -> None:
        done.append(unpatch_to_folder(folder, one, home=world.home, epoch=1))

    threads = [threading.Thread(target=run, args=(one,)) for one in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.status for one in done) == ["replaced", "written"]
    last = next(one for one in done if one.status == "replaced")
    assert (
        unpatch_to_folder(
            folder, ways[last.tree.tree == world.base_tree], home=world.home, epoch=1
        ).status
        == "unchanged"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_a_shallow_clone_says_what_to_fetch(world: World, tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin")
    first = origin.commit({"a": b"1\n"})
    origin.commit({"a": b"2\n"})
    shallow = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{origin.path}", shallow], check=True
    )
    wanted = recipe(
        world, git_dir=shallow / ".git", base_tree=origin.tree(first), patches=None,
        base_commit=first,
    )  # fmt: skip
    with pytest.raises(RelforgeError, match="unshallow") as caught:
        unpatch_to_folder(tmp_path / "build", wanted, home=world.home, epoch=1)
    assert caught.value.code is ExitCode.SOURCE
    with pytest.raises(RelforgeError, match=f"fetch origin {first}"):
        unpatch_to_worktree(
            tmp_path / "build", wanted, repository=shallow, home=world.home, epoch=1
        )
    assert not (tmp_path / "build").exists()
    subprocess.run(["git", "-C", shallow, "fetch", "-q", "--unshallow"], check=True)
    done = unpatch_to_folder(tmp_path / "build", wanted, home=world.home, epoch=1)
    assert done.tree.tree == origin.tree(first)


def test_a_submodule_that_is_not_there(world: World, tmp_path: Path) -> None:
    empty = new_repository(tmp_path / "empty")
    graft = Graft("third_party/inner", empty.git_dir, "1" * 40)
    with pytest.raises(RelforgeError, match="base of the patches is not there") as caught:
        unpatch_to_folder(
            tmp_path / "build", recipe(world, grafts=(graft,)), home=world.home, epoch=1
        )
    assert str(empty.git_dir) in str(caught.value)
    assert not (tmp_path / "build").exists()


def test_an_ambiguous_commit_is_answered_with_what_it_may_mean(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "r")
    tree = repository.git("write-tree").decode().strip()
    who = "t <t@invalid> 1 +0000"
    seen: dict[str, bytes] = {}
    for number in range(100_000):
        commit = f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{number}\n".encode()
        head = b"commit %d\0" % len(commit)
        oid = hashlib.sha1(head + commit, usedforsecurity=False).hexdigest()
        if oid[:4] in seen:
            break
        seen[oid[:4]] = commit
    other, oid = (
        repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=one).decode().strip()
        for one in (seen[oid[:4]], commit)
    )
    with pytest.raises(RelforgeError, match="ambiguous") as caught:
        commit_in(Git(repository.git_dir), oid[:4], where="here")
    assert caught.value.code is ExitCode.SOURCE
    assert oid in str(caught.value)
    assert other in str(caught.value)
    assert commit_in(Git(repository.git_dir), oid[:12], where="here") == oid
    with pytest.raises(RelforgeError, match="fetch origin"):
        commit_in(Git(repository.git_dir), "v1.2.3", where="here")


def test_temporary_files_stay_out_of_the_users_sight(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    unpatch_to_folder(tmp_path / "a/build", recipe(world), home=world.home, epoch=1)
    unpatch_to_tar(tmp_path / "a/t.tar", recipe(world), home=world.home, epoch=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert files_with_mark(world.home, world.upstream.path) == []
