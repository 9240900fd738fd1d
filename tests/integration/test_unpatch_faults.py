"""Unpatching where things go wrong: killed, out of disk, two at once, a base that is not there."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.rebasing import commit_in
from relforge.patching.source import Graft, Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.making import patch_set_at
from relforge.patching.tree.tarball import unpatch_to_tar
from relforge.patching.tree.worktree import unpatch_to_worktree
from relforge.workarea import sweep
from tests.support.patching import MARK, World, files_with_mark, make_world, new_repository


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


def test_the_search_for_plaintext_finds_it_wherever_it_hides(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "r")
    repository.commit({"plain": MARK + b"\n"})
    (tmp_path / "only-objects").mkdir()
    shutil.copytree(repository.git_dir / "objects", tmp_path / "only-objects/loose")
    assert files_with_mark(tmp_path / "only-objects")
    repository.git("gc", "-q")
    (tmp_path / "packed").mkdir()
    shutil.copytree(repository.git_dir / "objects", tmp_path / "packed/objects")
    assert files_with_mark(tmp_path / "packed")
    for kind in ("w", "w:gz", "w:xz"):
        place = tmp_path / kind.replace(":", "-")
        place.mkdir()
        with tarfile.open(place / "a.tar", kind) as archive:  # type: ignore[call-overload]
            info = tarfile.TarInfo("plain")
            info.size = len(MARK)
            archive.addfile(info, io.BytesIO(MARK))
        assert files_with_mark(place), kind


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", place], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


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
from relforge.patching.keys import load_identities, load_signer
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.making import patch_set_at

bundle, store, base, key, public, home, dest, after_ms = sys.argv[1:]
recipe = Recipe(
    Path(store), base, patch_set_at(Path(bundle)),
    trust=Trust((load_signer("v", Path(public)),), load_identities([Path(key)])),
)
threading.Timer(float(after_ms) / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
unpatch_to_folder(Path(dest), recipe, home=Path(home), epoch=1)
time.sleep(10)
"""


@pytest.mark.parametrize("after_ms", [40, 100, 200])
def test_killed_at_any_point(world: World, tmp_path: Path, after_ms: int) -> None:
    folder, home, temporary = tmp_path / "build", tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    unpatch_to_folder(folder, recipe(world, patches=None), home=home, epoch=1)
    old = content(folder)
    arguments: list[str | Path] = [
        *(world.bundle, world.upstream.git_dir, world.base_tree, world.keys.identity),
        *(world.keys.signing_public, home, folder, str(after_ms)),
    ]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert child.returncode == -signal.SIGKILL
    whole = content(folder)
    done = "engine/vendor.py" in whole
    assert done or whole == old
    # A git that was just being started may hold the area's lock for some moments longer.
    for _ in range(200):
        sweep(home)
        if not list((home / "work").iterdir()):
            break
        time.sleep(0.02)
    assert files_with_mark(home, temporary, world.upstream.path) == []
    assert files_with_mark(tmp_path) == files_with_mark(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "home", "tmp"]
    again = unpatch_to_folder(folder, recipe(world), home=home, epoch=1)
    assert again.status == ("unchanged" if done else "replaced")
    assert again.tree.tree == world.result_tree


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
