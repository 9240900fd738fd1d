"""Patched trees and sets that live on: the user's edits as a patch, a set on a newer base."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.edits.fromtree import EditedSet, from_tree
from relforge.patching.edits.rebase import Base, RebaseConflict, rebased
from relforge.patching.kinds import patch_set_at
from relforge.patching.mailbox import mails
from relforge.patching.series import read_series
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.making import materialise
from relforge.patching.tree.marker import edited_files, read_marker
from tests.support.patching import (
    MARK,
    Repository,
    World,
    files_with_mark,
    make_world,
    new_repository,
    write_patch_set,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def trust(world: World) -> Trust:
    return Trust(tuple(world.trusted), world.identities)


def unpatched(world: World, folder: Path, patches: Path | None) -> Path:
    source = patch_set_at(patches) if patches else None
    whole = Recipe(world.upstream.git_dir, world.base_tree, source, trust=trust(world))
    unpatch_to_folder(folder, whole, home=world.home, epoch=1)
    return folder


def extract(world: World, folder: Path, out: Path, **options: object) -> EditedSet:
    return from_tree(folder, out=out, home=world.home, trust=trust(world), **options)  # type: ignore[arg-type]


def applied(world: World, patch_set: Path, *, base: str | None = None) -> str:
    whole = Recipe(world.upstream.git_dir, base or world.base_tree, patch_set_at(patch_set))
    return materialise(whole, dest=None, home=world.home, epoch=0).tree


def test_edits_become_one_patch_behind_the_vendors(world: World, tmp_path: Path) -> None:
    folder = unpatched(world, tmp_path / "build", world.plain)
    core = folder / "engine/core.py"
    core.write_bytes(core.read_bytes().replace(b"line 50\n", b"mine\n"))
    done = extract(world, folder, tmp_path / "out", slug="fix the thing")
    assert done.patches == ("0003-fix-the-thing.patch",)
    assert done.vendor == ("0001-core.patch", "more/vendor.patch")
    for name in done.vendor:
        assert (tmp_path / "out" / name).read_bytes() == (world.plain / name).read_bytes()
    new = (tmp_path / "out" / done.patches[0]).read_bytes()
    assert b"+mine" in new
    assert MARK not in new
    assert applied(world, tmp_path / "out") == done.tree
    # The folder itself is as the user left it, and nothing else lies beside the set.
    marker = read_marker(folder)
    assert marker is not None
    assert edited_files(folder, marker) == ("engine/core.py",) == done.files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "out"]
    assert list((world.home / "work").iterdir()) == []


def test_whatever_bytes_names_modes_and_kinds(world: World, tmp_path: Path) -> None:
    upstream = new_repository(tmp_path / "r")
    base: dict[str, bytes | None] = {
        "crlf.txt": b"one\r\ntwo\r\nthree\r\n",
        "latin.txt": b"caf\xe9\n",
        "binary": bytes(range(256)) * 4,
        "old name": b"".join(b"%d\n" % i for i in range(50)),
        "gone": b"gone\n",
        "empty-gone": b"",
        "run": b"#!/bin/sh\n",
        "will-be-folder": b"file\n",
        "folder/x": b"will be a file\n",
    }
    upstream.commit(base)
    folder = tmp_path / "build"
    unpatch_to_folder(folder, Recipe(upstream.git_dir, upstream.tree()), home=world.home, epoch=1)
    (folder / "crlf.txt").write_bytes(b"one\r\ntwo \r\nthree\n\r\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9 cr\xe8me\t \n")
    (folder / "binary").write_bytes(b"\0" + bytes(reversed(range(256))) * 4)
    (folder / "old name").rename(folder / "new n\xe4me")
    (folder / "gone").unlink()
    (folder / "empty-gone").unlink()
    (folder / "empty-new").write_bytes(b"")
    (folder / "no-newline").write_bytes(b"no newline")
    (folder / "run").chmod(0o755)
    (folder / "will-be-folder").unlink()
    (folder / "will-be-folder").mkdir()
    (folder / "will-be-folder/a").write_bytes(b"x\n")
    (folder / "folder/x").unlink()
    (folder / "folder").rmdir()
    (folder / "folder").write_bytes(b"now a file\n")
    (folder / "link").symlink_to("crlf.txt")
    Path(os.fsdecode(os.fsencode(folder) + b'/\xff "quoted"\\\n')).write_bytes(b"odd\n")
    done = extract(world, folder, tmp_path / "out")
    assert done.vendor == ()
    again = tmp_path / "again"
    whole = Recipe(upstream.git_dir, upstream.tree(), patch_set_at(tmp_path / "out"))
    tree = unpatch_to_folder(again, whole, home=world.home, epoch=1).tree
    assert tree.tree == done.tree
    marker = read_marker(again)
    assert marker is not None
    assert edited_files(folder, marker) == ()


def test_a_sealed_set_is_named_but_not_written(world: World, tmp_path: Path) -> None:
    folder = unpatched(world, tmp_path / "build", world.bundle)
    (folder / "README").write_bytes(b"mine\n")
    (folder / "second\n.py").write_bytes(b"")
    done = extract(world, folder, tmp_path / "out")
    assert (done.vendor_written, done.quotes_sealed) == (False, True)
    (new,) = done.patches
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [new, "series"]
    assert files_with_mark(tmp_path / "out", world.home) == []
    series = (tmp_path / "out/series").read_text()
    assert "more/vendor.patch" in series
    assert world.result_tree in series
    names = [patch.name for patch in read_series(tmp_path / "out").patch_set.patches]
    assert names == [new]
    everything = extract(world, folder, tmp_path / "all", plain=True)
    assert everything.tree == done.tree == applied(world, tmp_path / "all")
    assert (tmp_path / "all" / new).read_bytes() == (tmp_path / "out" / new).read_bytes()


def test_what_from_tree_refuses(world: World, tmp_path: Path) -> None:
    folder = unpatched(world, tmp_path / "build", world.plain)
    with pytest.raises(RelforgeError, match="no file was changed"):
        extract(world, folder, tmp_path / "out")
    (folder / "README").write_bytes(b"mine\n")
    other = write_patch_set(
        tmp_path / "other", {"x.patch": (world.plain / "0001-core.patch").read_bytes()}
    )
    with pytest.raises(RelforgeError, match="not the expected one"):
        extract(world, folder, tmp_path / "out", patches=other)
    moved = write_patch_set(tmp_path / "moved", dict(read_series(world.plain)))
    made_there = unpatched(world, tmp_path / "there", moved)
    (made_there / "README").write_bytes(b"mine\n")
    (moved / "0001-core.patch").write_bytes((moved / "more/vendor.patch").read_bytes())
    with pytest.raises(RelforgeError, match="not the one that the tree was made with"):
        extract(world, made_there, tmp_path / "out")
    moved.rename(tmp_path / "away")
    with pytest.raises(RelforgeError, match="--patches"):
        extract(world, made_there, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("x")
    with pytest.raises(RelforgeError, match="overwrite"):
        extract(world, folder, tmp_path / "out")
    os.mkfifo(folder / "pipe")
    with pytest.raises(RelforgeError, match="neither a file nor a link") as caught:
        extract(world, folder, tmp_path / "new")
    assert caught.value.code is ExitCode.SOURCE
    assert not (tmp_path / "new").exists()
    with pytest.raises(RelforgeError, match="no patched tree"):
        extract(world, tmp_path, tmp_path / "new")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, str, bytes]:
    """A repository, a base, and a vendor's mailbox of two commits on it."""
    upstream = new_repository(tmp_path_factory.mktemp("moving") / "r")
    lines = b"".join(b"line %d\n" % i for i in range(60))
    base = upstream.commit({"core.py": lines, "moved.py": lines + b"m\n", "other": b"x\n"}, "base")
    upstream.commit(
        {"core.py": lines.replace(b"line 30\n", b"vendor 30\n")}, "Vendor: thirty\n\nwhy"
    )
    changed = lines.replace(b"line 20\n", b"vendor 20\n") + b"m\n"
    upstream.commit({"moved.py": changed, "new.bin": b"\0\1\2"}, "Vendor: two")
    box = upstream.mailbox(base)
    upstream.git("reset", "-q", "--hard", base)
    return upstream, base, box


def onto(upstream: Repository, base: str, files: dict[str, bytes | None]) -> str:
    upstream.git("checkout", "-q", "--detach", base)
    commit = upstream.commit(files, "upstream moves on")
    upstream.git("branch", "-f", f"b{commit[:8]}")
    return commit


def test_a_set_moves_to_a_newer_base(
    moving: tuple[Repository, str, bytes], world: World, tmp_path: Path
) -> None:
    upstream, base, box = moving
    lines = (upstream.path / "core.py").read_bytes()
    moved = (upstream.path / "moved.py").read_bytes()
    # Lines shift, a file is renamed, and a plain second patch with words before its diff.
    commit = onto(
        upstream,
        base,
        {"core.py": b"top\n" * 9 + lines, "moved.py": None, "renamed.py": moved + b"end\n"},
    )
    plain = b"What it does.\n\n--- a/other\n+++ b/other\n@@ -1 +1 @@\n-x\n+y\n"
    folder = write_patch_set(tmp_path / "set", {"0001-box.patch": box, "p.patch": plain})
    with rebased(
        read_series(folder),
        git_dir=upstream.git_dir,
        base=Base(upstream.tree(base)),
        onto=Base(upstream.tree(commit)),
        trust=Trust(),
        home=world.home,
    ) as done:
        contents = dict(done.patches)
        tree, dropped = done.tree, done.dropped
    assert dropped == ()
    assert list(contents) == ["0001-box.patch", "p.patch"]
    heads = [mail.head for mail in mails(contents["0001-box.patch"])]
    assert heads == [mail.head for mail in mails(box)]
    assert b"Subject: [PATCH 1/2] Vendor: thirty" in heads[0]
    assert b"Date: Tue, 14 Nov 2023" in heads[0]
    assert contents["p.patch"].startswith(b"What it does.\n\ndiff --git")
    # Git itself takes the mails, authors and all, and comes to the same tree.
    upstream.git("checkout", "-q", "--detach", commit)
    upstream.git("am", "-q", "--keep-cr", "--whitespace=nowarn", stdin=contents["0001-box.patch"])
    upstream.git("apply", "--index", stdin=contents["p.patch"])
    assert upstream.git("write-tree").decode().strip() == tree
    assert b"vendor 20" in (upstream.path / "renamed.py").read_bytes()
    upstream.git("reset", "-q", "--hard")
    assert list((world.home / "work").iterdir()) == []


def test_conflicts_are_named_by_patch_file_and_line(
    moving: tuple[Repository, str, bytes], world: World, tmp_path: Path
) -> None:
    upstream, base, box = moving
    upstream.git("checkout", "-q", "--detach", base)
    lines = (upstream.path / "core.py").read_bytes()
    changed = b"top\n" * 9 + lines.replace(b"line 30\n", b"upstream 30\n")
    commit = onto(upstream, base, {"core.py": changed})
    folder = write_patch_set(tmp_path / "set", {"0001-box.patch": box})

    def move(target: str) -> None:
        with rebased(
            read_series(folder),
            git_dir=upstream.git_dir,
            base=Base(upstream.tree(base)),
            onto=Base(upstream.tree(target)),
            trust=Trust(),
            home=world.home,
        ):
            raise AssertionError

    with pytest.raises(RebaseConflict) as caught:
        move(commit)
    assert caught.value.code is ExitCode.SOURCE
    number = changed.split(b"\n").index(b"upstream 30") + 1
    (conflict,) = caught.value.conflicts
    assert (conflict.patch, conflict.path, conflict.line) == ("0001-box.patch", "core.py", number)
    assert f"core.py:{number}" in str(caught.value)
    gone = onto(upstream, base, {"core.py": None})
    with pytest.raises(RebaseConflict, match=r"core\.py.*deleted in the new base") as caught:
        move(gone)
    assert not re.search(r"[0-9a-f]{40}", str(caught.value))
    upstream.git("reset", "-q", "--hard")


def test_what_the_new_base_has_already_is_dropped(
    moving: tuple[Repository, str, bytes], world: World, tmp_path: Path
) -> None:
    upstream, base, box = moving
    upstream.git("checkout", "-q", "--detach", base)
    lines = (upstream.path / "core.py").read_bytes()
    commit = onto(upstream, base, {"core.py": lines.replace(b"line 30\n", b"vendor 30\n")})
    first, second = (b"".join((m.head, b"---\n", m.diff)) for m in mails(box))
    folder = write_patch_set(tmp_path / "set", {"1.patch": first, "2.patch": second})
    with rebased(
        read_series(folder),
        git_dir=upstream.git_dir,
        base=Base(upstream.tree(base)),
        onto=Base(upstream.tree(commit)),
        trust=Trust(),
        home=world.home,
    ) as done:
        assert done.dropped == ("1.patch",)
        assert [name for name, _ in done.patches] == ["2.patch"]


def test_a_sealed_set_moves_without_a_plain_trace(world: World, tmp_path: Path) -> None:
    world.upstream.git("checkout", "-q", "--detach", world.base_commit)
    commit = world.upstream.commit({"README": b"newer\n"}, "newer")
    with rebased(
        patch_set_at(world.bundle),
        git_dir=world.upstream.git_dir,
        base=Base(world.base_tree),
        onto=Base(world.upstream.tree(commit)),
        trust=trust(world),
        home=world.home,
    ) as done:
        assert done.patches.patch_set.name == "vendor-set"
        inside = files_with_mark(done.patches.folder)
        assert inside
        assert all(path.is_relative_to(world.home / "work") for path in inside)
    assert files_with_mark(world.home, world.upstream.git_dir, tmp_path) == []


def test_the_commands(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        f"home: {world.home}\n"
        f"identities: [{world.keys.identity}]\n"
        f"trusted_keys: [{{name: the vendor, public_key: {world.keys.signing_public}}}]\n"
    )
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *words: str | Path, code: int = 0) -> dict[str, Any]:
        got = dispatch(verb, [*(str(word) for word in words), "--site", str(site), "--json"])
        out, err = capsys.readouterr()
        assert got == code, err
        return dict(json.loads(out)) if out else {}

    folder = unpatched(world, tmp_path / "build/cpu/engine", world.bundle)
    (folder / "README").write_bytes(b"mine\n")
    (tree,) = run("unpatch", "--status", "build")["trees"]
    assert tree["patch_set"]["signer"] == "the vendor"
    assert tree["changes"] == [{"path": "README", "change": "altered"}]
    run("unpatch", "--status", "nowhere", code=4)
    done = run("patch", "from-tree", folder, "--out", "edit")
    assert done["files"] == ["README"]
    run("unpatch", "--reverse", "build", code=4)
    (tree,) = run("unpatch", "--reverse", "build", "--discard-edits")["trees"]
    assert tree["tree"]["tree"] == world.base_tree
    # A sealed set comes out sealed, for the same device, and opens again.
    world.upstream.git("checkout", "-q", "--detach", world.base_commit)
    commit = world.upstream.commit({"README": b"newer still\n"}, "newer")
    move = ("patch", "rebase", world.bundle, "--repo", world.upstream.path, "--onto", commit)
    run(*move, "--out", "new.bundle", code=2)
    sealing = ("--recipient", world.keys.recipient, "--sign", world.keys.signing_key)
    moved = run(*move, "--out", "new.bundle", *sealing)
    assert moved["patches"] == ["0001-core.patch", "more/vendor.patch"]
    info = patch_set_at(tmp_path / "new.bundle").info(trust(world))
    assert (info.base_commit, info.result_tree) == (commit, moved["tree"])
    assert (info.device, info.ships, info.signer) == ("bi_V150", "binaries", "the vendor")
    assert MARK not in (tmp_path / "new.bundle").read_bytes()
    run(*move, "--out", "plain", "--plain")
    assert applied(world, tmp_path / "plain", base=world.upstream.tree(commit)) == moved["tree"]
    away = world.upstream.commit({"engine/core.py": b"all new\n"}, "away")
    found = run(*move[:-1], away, "--out", "no", "--plain", code=4)["conflicts"]
    assert [one["path"] for one in found] == ["engine/core.py"]
    assert not (tmp_path / "no").exists()
