"""``relforge unpatch --dir``: what may be replaced, what never, and when there is nothing to do."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.folder import Unpatched, unpatch_to_folder
from relforge.patching.tree.marker import MARKER, edited_files, read_marker
from tests.support.patching import MARK, World, make_world, write_patch_set


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), extra_files=50)


def recipe(world: World, *, plain: bool = False, **changes: object) -> Recipe:
    whole = Recipe(
        git_dir=world.upstream.git_dir,
        base_tree=world.base_tree,
        patches=patch_set_at(world.plain if plain else world.bundle),
        trust=Trust(tuple(world.trusted), world.identities),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def unpatch(
    world: World,
    folder: Path,
    *,
    plain: bool = False,
    discard_edits: bool = False,
    **changes: object,
) -> Unpatched:
    return unpatch_to_folder(
        folder,
        recipe(world, plain=plain, **changes),
        home=world.home,
        epoch=1_700_000_000,
        discard_edits=discard_edits,
    )


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (p.lstat().st_mode, p.read_bytes() if p.is_file() else b"")
        for p in sorted(folder.rglob("*"))
    }


def test_a_new_folder_then_nothing_to_do(world: World, tmp_path: Path) -> None:
    first = unpatch(world, tmp_path / "a/build")
    assert first.status == "written"
    assert first.excluded_in is None
    assert MARK in (tmp_path / "a/build/engine/core.py").read_bytes()
    inode = (tmp_path / "a/build").stat().st_ino
    started = time.perf_counter()
    second = unpatch(world, tmp_path / "a/build")
    assert time.perf_counter() - started < 1.0
    assert second.status == "unchanged"
    assert second.tree == first.tree
    assert (tmp_path / "a/build").stat().st_ino == inode
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["build"]
    # The same content, once sealed and once plain, is the same tree.
    assert unpatch(world, tmp_path / "a/build", plain=True).status == "unchanged"


def test_the_marker_is_no_part_of_the_tree(world: World, tmp_path: Path) -> None:
    done = unpatch(world, tmp_path / "build")
    marker = read_marker(tmp_path / "build")
    assert marker is not None
    assert marker.tree == done.tree
    assert edited_files(tmp_path / "build", marker) == ()
    (tmp_path / "build" / MARKER).unlink()
    env = {**os.environ, "GIT_DIR": str(tmp_path / "g"), "GIT_WORK_TREE": str(tmp_path / "build")}
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], env=env, cwd=tmp_path / "build", check=True)
    written = subprocess.run(["git", "write-tree"], env=env, capture_output=True, check=True)
    assert written.stdout.decode().strip() == world.result_tree


def test_a_marked_folder_is_replaced_in_one_step(world: World, tmp_path: Path) -> None:
    assert unpatch(world, tmp_path / "build", patches=None).status == "written"
    assert not (tmp_path / "build/engine/vendor.py").exists()
    done = unpatch(world, tmp_path / "build")
    assert done.status == "replaced"
    assert (tmp_path / "build/engine/vendor.py").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["build"]


def test_an_empty_folder_is_as_good_as_a_new_one(world: World, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    assert unpatch(world, tmp_path / "build").status == "written"


def test_edits_of_the_user_are_not_lost(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    unpatch(world, folder)
    (folder / "README").write_bytes(b"mine\n")
    (folder / "engine/new.py").write_bytes(b"new\n")
    (folder / "engine/many/f00001.py").unlink()
    (folder / "engine/many/f00002.py").chmod(0o755)
    before = snapshot(folder)
    with pytest.raises(RelforgeError, match="edited") as caught:
        unpatch(world, folder)
    assert caught.value.code is ExitCode.SOURCE
    for name in ("README", "engine/new.py", "f00001.py", "f00002.py"):
        assert name in str(caught.value)
    assert snapshot(folder) == before
    assert unpatch(world, folder, discard_edits=True).status == "replaced"
    assert (folder / "README").read_bytes() == b"hello\n"


def test_touched_but_equal_files_are_no_edit(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    unpatch(world, folder)
    os.utime(folder / "README", (5, 5))
    assert unpatch(world, folder).status == "unchanged"


def test_an_edit_of_equal_size_and_time_is_seen(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    unpatch(world, folder)
    info = (folder / "README").stat()
    (folder / "README").write_bytes(b"HELLO\n")
    os.utime(folder / "README", ns=(info.st_atime_ns, info.st_mtime_ns))
    with pytest.raises(RelforgeError, match="edited"):
        unpatch(world, folder)


@pytest.mark.parametrize("where", [".", "/", "..", "sub/..", ".git", ".git/x", "a/.GIT/x", ""])
def test_places_that_are_refused_by_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "repo/.git/objects").mkdir(parents=True)
    (tmp_path / "repo/sub").mkdir()
    (tmp_path / "repo/file").write_text("x")
    monkeypatch.chdir(tmp_path / "repo")
    before = snapshot(tmp_path)
    with pytest.raises(RelforgeError, match="not written there") as caught:
        unpatch(world, Path(where))
    assert caught.value.code is ExitCode.SOURCE
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", ["full", "file", "link", "broken link", "false marker", "bare"])
def test_places_that_are_refused_for_what_is_there(world: World, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "build"
    if kind in ("full", "false marker"):
        target.mkdir()
        (target / "precious").write_text("x")
        if kind == "false marker":
            (target / MARKER).write_text(json.dumps({"tree": "me"}))
    elif kind == "file":
        target.write_text("x")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to("elsewhere")
    elif kind == "broken link":
        target.symlink_to("nowhere")
    else:
        subprocess.run(["git", "init", "-q", "--bare", tmp_path / "r.git"], check=True)
        target = tmp_path / "r.git" / "build"
    before = snapshot(tmp_path)
    with pytest.raises(RelforgeError, match="not written there") as caught:
        unpatch(world, target)
    assert caught.value.code is ExitCode.SOURCE
    assert snapshot(tmp_path) == before


def test_inside_a_repository_it_is_excluded_and_nothing_else_changes(
    world: World, tmp_path: Path
) -> None:
    subprocess.run(["git", "clone", "-q", world.upstream.path, tmp_path / "repo"], check=True)
    repo = tmp_path / "repo"
    (repo / "README").write_bytes(b"dirty\n")

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=repo, check=True, capture_output=True, text=True)
        return done.stdout

    state = (git("status", "--porcelain"), git("rev-parse", "HEAD"), git("stash", "list"))
    folder = repo / "out [1]" / "build"
    done = unpatch(world, folder, git_dir=repo / ".git")
    assert done.excluded_in == repo / ".git/info/exclude"
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD"), git("stash", "list")) == state
    lines = (repo / ".git/info/exclude").read_text()
    assert unpatch(world, folder, git_dir=repo / ".git").status == "unchanged"
    assert (repo / ".git/info/exclude").read_text() == lines
    git("worktree", "add", "-q", "--detach", str(tmp_path / "wt"))
    done = unpatch(world, tmp_path / "wt" / "build")
    assert done.excluded_in == repo / ".git/info/exclude"
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=tmp_path / "wt", capture_output=True, check=True
    )
    assert status.stdout == b""


def test_a_failure_leaves_the_old_content(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    unpatch(world, folder, patches=None)
    before = snapshot(folder)
    broken = write_patch_set(
        tmp_path / "broken", {"x.patch": b"--- a/q\n+++ b/q\n@@ -1 +1 @@\n-1\n"}
    )
    altered = tmp_path / "altered.bundle"
    raw = bytearray(world.bundle.read_bytes())
    raw[-5] ^= 1
    altered.write_bytes(raw)
    for path in (broken, altered):
        with pytest.raises(RelforgeError) as caught:
            unpatch(world, folder, patches=patch_set_at(path))
        assert caught.value.code is ExitCode.SOURCE
        assert snapshot(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["altered.bundle", "broken", "build"]


def test_a_bundle_for_another_device_is_refused_even_when_nothing_would_change(
    world: World, tmp_path: Path
) -> None:
    unpatch(world, tmp_path / "build")
    with pytest.raises(RelforgeError, match="another device"):
        unpatch(world, tmp_path / "build", device_names={"ascend_a3"})


def test_files_have_plain_modes_whatever_the_umask(world: World, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        unpatch(world, tmp_path / "build")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "build").rglob("*.py")}
    assert modes == {0o644}
    assert stat.S_IMODE((tmp_path / "build").stat().st_mode) == 0o755


CHILD = """
import sys
from pathlib import Path
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.keys import load_identities, load_signer
from relforge.patching.source import Recipe, Trust
from relforge.patching.kinds import patch_set_at

bundle, store, base, key, public, home, dest = sys.argv[1:]
done = unpatch_to_folder(
    Path(dest),
    Recipe(
        Path(store), base, patch_set_at(Path(bundle)),
        trust=Trust((load_signer("v", Path(public)),), load_identities([Path(key)])),
    ),
    home=Path(home), epoch=1,
)
print(done.status)
"""


def test_two_at_once_into_one_folder(world: World, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        *(world.bundle, world.upstream.git_dir, world.base_tree, world.keys.identity),
        *(world.keys.signing_public, tmp_path / "home", tmp_path / "build"),
    ]
    both = [
        subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = sorted(child.communicate(timeout=60)[0].decode().strip() for child in both)
    assert [child.returncode for child in both] == [0, 0]
    assert answers == ["unchanged", "written"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build", "home"]
    assert list((tmp_path / "home/work").iterdir()) == []
