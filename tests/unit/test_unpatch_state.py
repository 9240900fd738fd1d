"""What a user does with a patched tree: ask what it is, take it back, a worktree, a tar stream."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle.header import GitOrigin
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Graft, Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.making import materialise
from relforge.patching.tree.marker import MARKER
from relforge.patching.tree.reverse import reverse
from relforge.patching.tree.status import marked_folders, tree_status
from relforge.patching.tree.tarball import unpatch_to_stream, unpatch_to_tar
from relforge.patching.tree.worktree import unpatch_to_worktree
from tests.support.patching import MARK, World, files_with_mark, make_world, new_repository

EPOCH = 1_700_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), extra_files=5)


def recipe(world: World, **changes: object) -> Recipe:
    whole = Recipe(
        git_dir=world.upstream.git_dir,
        base_tree=world.base_tree,
        patches=patch_set_at(world.bundle),
        base_commit=world.base_commit,
        trust=Trust(tuple(world.trusted), world.identities),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def unpatch(world: World, folder: Path, **changes: object) -> Path:
    origin = GitOrigin(url="https://me:secret@git.invalid/engine", commit=world.base_commit)
    unpatch_to_folder(folder, recipe(world, **changes), home=world.home, epoch=EPOCH, origin=origin)
    return folder


def git_tree(folder: Path, scratch: Path) -> str:
    """The tree hash of a folder's files as git itself sees them, without our marker."""
    env = {**os.environ, "GIT_DIR": str(scratch), "GIT_WORK_TREE": str(folder)}
    for command in (["init", "-q"], ["add", "-A", "-f", ".", f":!{MARKER}"]):
        subprocess.run(["git", *command], env=env, cwd=folder, check=True)
    done = subprocess.run(["git", "write-tree"], env=env, capture_output=True, check=True)
    return done.stdout.decode().strip()


def times(folder: Path) -> dict[Path, tuple[int, int]]:
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path: (info.st_mtime_ns, info.st_ctime_ns) for path, info in found}


def test_status_says_whose_tree_it_is_and_what_was_changed(world: World, tmp_path: Path) -> None:
    folder = unpatch(world, tmp_path / "build/cpu/engine")
    status = tree_status(folder)
    assert status.patch_set is not None
    assert (status.patch_set.name, status.patch_set.sealed) == ("vendor-set", True)
    assert status.patch_set.signer == "the vendor"
    assert (status.tree, status.base_tree) == (world.result_tree, world.base_tree)
    assert status.base.commit == world.base_commit
    assert status.changes == ()
    (folder / "README").write_bytes(b"mine\n")
    (folder / "engine/core.py").chmod(0o755)
    (folder / "engine/vendor.py").unlink()
    (folder / "new\\\n.py").write_bytes(b"")
    (folder / "engine/many/f00001.py").unlink()
    (folder / "engine/many/f00001.py").symlink_to("f00002.py")
    before = times(folder)
    assert [(one.path, one.change) for one in tree_status(folder).changes] == [
        ("README", "altered"),
        ("engine/core.py", "mode"),
        ("engine/many/f00001.py", "altered"),
        ("engine/vendor.py", "gone"),
        ("new\\\\\n.py", "added"),
    ]
    assert times(folder) == before
    assert marked_folders(tmp_path / "build") == (folder,)
    assert marked_folders(tmp_path / "nothing") == ()


def test_status_says_each_kind_of_change_and_no_ignore_rule_hides_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = new_repository(tmp_path / "r")
    upstream.write(
        {".gitignore": b"*.log\nbuild/\n", "bin": b"\0\1", "crlf": b"x\r\n", "run": b"#!"}
    )
    upstream.write({"to-link": b"aim", "to-folder": b"f\n", "folder/in": b"f\n", "empty": b""})
    for link in ("link", "to-file"):
        (upstream.path / link).symlink_to("aim")
    (upstream.path / "run").chmod(0o755)
    upstream.commit()
    folder = tmp_path / "build"
    base = Recipe(upstream.git_dir, upstream.tree())
    unpatch_to_folder(folder, base, home=tmp_path / "home", epoch=EPOCH)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    (tmp_path / "config").write_text(f"[core]\nexcludesFile = {tmp_path}/ignore\n")
    (tmp_path / "ignore").write_text("*\n")
    (folder / "bin").write_bytes(b"\0\2")
    (folder / "crlf").write_bytes(b"x\n")
    (folder / "run").chmod(0o644)
    (folder / "empty").unlink()
    for name in ("link", "to-link"):
        (folder / name).unlink()
        (folder / name).symlink_to("elsewhere")
    (folder / "to-file").unlink()
    (folder / "to-file").write_bytes(b"aim")  # what the link said: another kind of file
    (folder / "to-folder").unlink()
    (folder / "to-folder").mkdir()
    (folder / "to-folder/x").write_bytes(b"")
    (folder / "folder/in").unlink()
    (folder / "folder").rmdir()
    (folder / "folder").symlink_to("to-folder")
    (folder / "build").mkdir()
    (folder / "build/a.log").write_bytes(b"log\n")
    os.mkfifo(folder / "pipe")
    subprocess.run(["git", "init", "-q", folder], check=True)
    assert [(one.path, one.change) for one in tree_status(folder).changes] == [
        (".git", "added"),
        ("bin", "altered"),
        ("build/a.log", "added"),
        ("crlf", "altered"),
        ("empty", "gone"),
        ("folder", "added"),
        ("folder/in", "gone"),
        ("link", "altered"),
        ("pipe", "added"),
        ("run", "mode"),
        ("to-file", "altered"),
        ("to-folder", "gone"),
        ("to-folder/x", "added"),
        ("to-link", "altered"),
    ]


def test_a_folder_without_our_marker_has_no_status(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RelforgeError) as caught:
            tree_status(folder)
        assert caught.value.code is ExitCode.SOURCE


def test_nobodys_password_is_in_the_marker(world: World, tmp_path: Path) -> None:
    folder = unpatch(world, tmp_path / "build")
    assert b"secret" not in (folder / MARKER).read_bytes()
    origin = tree_status(folder).base.origin
    assert isinstance(origin, GitOrigin)
    assert origin.url == "https://git.invalid/engine"


def test_reverse_gives_exactly_the_base(world: World, tmp_path: Path) -> None:
    folder = unpatch(world, tmp_path / "build")
    done = reverse(folder, home=world.home)
    assert done.status == "replaced"
    assert git_tree(folder, tmp_path / "git") == world.base_tree
    assert files_with_mark(folder) == []
    status = tree_status(folder)
    assert (status.patch_set, status.tree, status.changes) == (None, world.base_tree, ())
    assert {path.lstat().st_mtime for path in folder.rglob("*.py")} == {EPOCH}
    # Both ways again: nothing to do, and back to the patched tree.
    assert reverse(folder, home=world.home).status == "unchanged"
    unpatch(world, folder)
    assert tree_status(folder).tree == world.result_tree


def test_reverse_keeps_edits_unless_told(world: World, tmp_path: Path) -> None:
    folder = unpatch(world, tmp_path / "build")
    (folder / "README").write_bytes(b"mine\n")
    with pytest.raises(RelforgeError, match="README") as caught:
        reverse(folder, home=world.home)
    assert caught.value.code is ExitCode.SOURCE
    assert (folder / "README").read_bytes() == b"mine\n"
    assert (folder / "engine/vendor.py").exists()
    reverse(folder, home=world.home, discard_edits=True)
    assert (folder / "README").read_bytes() == b"hello\n"


def test_reverse_needs_the_base_from_somewhere(world: World, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--bare", world.upstream.path, clone], check=True)
    folder = unpatch(world, tmp_path / "build", git_dir=clone)
    clone.rename(tmp_path / "moved")
    with pytest.raises(RelforgeError, match="not at hand") as caught:
        reverse(folder, home=tmp_path / "home")
    assert caught.value.code is ExitCode.SOURCE
    assert world.base_commit in str(caught.value)
    assert tree_status(folder).tree == world.result_tree
    reverse(folder, home=tmp_path / "home", repository=tmp_path / "moved")
    assert tree_status(folder).tree == world.base_tree


def test_reverse_keeps_submodules(world: World, tmp_path: Path) -> None:
    inner = new_repository(tmp_path / "inner")
    inner.commit({"lib.c": b"int x;\n"})
    graft = Graft("third_party/inner", inner.git_dir, inner.tree())
    folder = tmp_path / "build"
    bundle_free = recipe(world, grafts=(graft,), patches=patch_set_at(world.plain))
    unpatch_to_folder(folder, bundle_free, home=world.home, epoch=EPOCH)
    reverse(folder, home=world.home)
    assert (folder / "third_party/inner/lib.c").read_bytes() == b"int x;\n"
    assert not (folder / "engine/vendor.py").exists()
    assert tree_status(folder).patch_set is None


def clone_of(world: World, path: Path) -> Path:
    subprocess.run(["git", "clone", "-q", world.upstream.path, path], check=True)
    hook = path / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    return path


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def test_a_worktree_shows_the_patches_as_edits(world: World, tmp_path: Path) -> None:
    repo = clone_of(world, tmp_path / "repo")
    (repo / "README").write_bytes(b"dirty\n")
    objects = sorted(path for path in (repo / ".git/objects").rglob("*"))
    state = (
        git(repo, "status", "--porcelain"),
        git(repo, "branch", "-a"),
        git(repo, "stash", "list"),
    )
    folder = tmp_path / "trees/engine"
    done = unpatch_to_worktree(folder, recipe(world), repository=repo, home=world.home, epoch=EPOCH)
    assert done.status == "written"
    assert git(folder, "status", "--porcelain").splitlines() == [
        " M engine/core.py",
        "?? engine/vendor.py",
    ]
    assert MARK.decode() in git(folder, "diff")
    assert git(folder, "rev-parse", "HEAD").strip() == world.base_commit
    after = (
        git(repo, "status", "--porcelain"),
        git(repo, "branch", "-a"),
        git(repo, "stash", "list"),
    )
    assert after == state
    assert sorted(path for path in (repo / ".git/objects").rglob("*")) == objects
    assert files_with_mark(repo / ".git") == []
    assert not list(tmp_path.rglob("hook-ran"))
    assert [path.name for path in folder.parent.iterdir()] == ["engine"]
    again = unpatch_to_worktree(
        folder, recipe(world), repository=repo, home=world.home, epoch=EPOCH
    )
    assert again.status == "unchanged"
    assert tree_status(folder).changes == ()
    # It is git's to remove: neither reverse nor an unpatch to a plain folder touches it.
    for action in (
        lambda: reverse(folder, home=world.home),
        lambda: unpatch(world, folder, patches=None),
    ):
        with pytest.raises(RelforgeError, match="worktree"):
            action()
    git(repo, "worktree", "remove", "--force", str(folder))
    assert not folder.exists()
    assert git(repo, "worktree", "list").count("\n") == 1
    assert git(repo, "fsck", "--connectivity-only") == ""


def test_a_worktree_that_fails_leaves_no_entry(world: World, tmp_path: Path) -> None:
    repo = clone_of(world, tmp_path / "repo")
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("x")
    wrong = recipe(world, expected_tree=world.base_tree)
    for folder, one in ((full, recipe(world)), (tmp_path / "new", wrong)):
        with pytest.raises(RelforgeError) as caught:
            unpatch_to_worktree(folder, one, repository=repo, home=world.home, epoch=EPOCH)
        assert caught.value.code is ExitCode.SOURCE
    assert git(repo, "worktree", "list").count("\n") == 1
    assert not (tmp_path / "new").exists()
    shallow = tmp_path / "shallow"
    world.upstream.git("branch", "-f", "other", world.base_commit)
    subprocess.run(["git", "init", "-q", shallow], check=True)
    with pytest.raises(RelforgeError, match=f"fetch origin {world.base_commit}"):
        unpatch_to_worktree(
            tmp_path / "new", recipe(world), repository=shallow, home=world.home, epoch=EPOCH
        )


def test_the_tar_stream_is_the_tree(world: World, tmp_path: Path) -> None:
    one, two = io.BytesIO(), io.BytesIO()
    tree = unpatch_to_stream(one, recipe(world), home=world.home, epoch=EPOCH)
    unpatch_to_stream(two, recipe(world), home=world.home, epoch=EPOCH)
    assert tree.tree == world.result_tree
    assert one.getvalue() == two.getvalue()
    one.seek(0)
    with tarfile.open(fileobj=one) as archive:
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(EPOCH, 0, 0, "")}
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xC", tmp_path / "out"], input=one.getvalue(), check=True)
    assert git_tree(tmp_path / "out", tmp_path / "git") == world.result_tree
    unpatch_to_tar(tmp_path / "a/t.tar", recipe(world), home=world.home, epoch=EPOCH)
    assert (tmp_path / "a/t.tar").read_bytes() == one.getvalue()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["t.tar"]
    with pytest.raises(RelforgeError, match="exists already"):
        unpatch_to_tar(tmp_path / "a/t.tar", recipe(world), home=world.home, epoch=EPOCH)


def test_the_tar_stream_holds_whatever_a_tree_may_hold(tmp_path: Path) -> None:
    upstream = new_repository(tmp_path / "r")
    long = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 120
    files: dict[str, bytes | None] = {
        "a/b/c": b"",
        "a-b/x": b"1",
        "a.c": b"2",
        "a0/x": b"",
        long: b"3\r\n",
    }
    upstream.write(files)
    (upstream.path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (upstream.path / "run.sh").chmod(0o755)
    (upstream.path / "link").symlink_to("a/b/c")
    Path(os.fsdecode(os.fsencode(upstream.path) + b"/\xff\xc3\xa4")).write_bytes(b"\0\xff")
    upstream.commit()
    plain = Recipe(upstream.git_dir, upstream.tree())
    out = tmp_path / "t.tar"
    unpatch_to_tar(out, plain, home=tmp_path / "home", epoch=0)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", out, "-C", tmp_path / "out"], check=True)
    assert git_tree(tmp_path / "out", tmp_path / "git") == upstream.tree()
    with tarfile.open(out) as archive:
        members = archive.getmembers()
    names = [os.fsencode(m.name + ("/" if m.isdir() else "")) for m in members]
    assert names == sorted(names)
    materialise(plain, dest=tmp_path / "same", home=tmp_path / "home", epoch=0)
    assert git_tree(tmp_path / "same", tmp_path / "git2") == upstream.tree()
