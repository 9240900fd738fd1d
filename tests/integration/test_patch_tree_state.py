"""``relforge unpatch --reverse`` gives the base, whatever a vendor's patch did to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.reverse import reverse
from relforge.patching.tree.status import tree_status
from tests.support.patching import Repository, new_repository, write_patch_set
from tests.unit.test_unpatch_state import git_tree

LINES = b"".join(b"line %d\n" % number for number in range(50))


def binary(path: Path) -> None:
    (path / "data.bin").write_bytes(bytes(reversed(range(256))) * 9)
    (path / "new.bin").write_bytes(b"\0\xff" * 99)
    (path / "old.bin").unlink()


def renames(path: Path) -> None:
    (path / "lines").rename(path / "renamed lines")
    (path / "folder/in").rename(path / "out")
    (path / "folder/in 2").write_bytes(LINES + b"copied\n")


def line_ends(path: Path) -> None:
    (path / "crlf").write_bytes(b"one\r\nTWO  \r\nthree\n\r\n")
    (path / "lines").write_bytes(LINES.replace(b"\n", b"\r\n"))
    (path / "no newline").write_bytes(b"now with\n")


def links(path: Path) -> None:
    (path / "link").unlink()
    (path / "link").symlink_to("lines")
    (path / "new link").symlink_to("folder/in")
    (path / "crlf").unlink()
    (path / "crlf").symlink_to("lines")
    (path / "to be a file").unlink()
    (path / "to be a file").write_bytes(b"x\n")


def empty(path: Path) -> None:
    (path / "empty").unlink()
    (path / "empty 2").write_bytes(b"")
    (path / "folder/in").write_bytes(b"")


def executable(path: Path) -> None:
    (path / "run").chmod(0o644)
    (path / "lines").chmod(0o755)
    (path / "new run").write_bytes(b"#!\n")
    (path / "new run").chmod(0o755)


def kinds(path: Path) -> None:
    (path / "lines").unlink()
    (path / "lines").mkdir()
    (path / "lines/x").write_bytes(b"x\n")
    (path / "folder/in").unlink()
    (path / "folder").rmdir()
    (path / "folder").write_bytes(b"file\n")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = new_repository(tmp_path_factory.mktemp("upstream") / "r")
    repository.write({"data.bin": bytes(range(256)) * 9, "old.bin": b"\0old", "lines": LINES})
    repository.write({"crlf": b"one\r\ntwo\r\n", "no newline": b"none", "empty": b""})
    repository.write({"folder/in": LINES + b"in\n", "run": b"#!/bin/sh\n"})
    (repository.path / "run").chmod(0o755)
    for link in ("link", "to be a file"):
        (repository.path / link).symlink_to("run")
    repository.commit(message="base")
    repository.git("tag", "base")
    return repository


@pytest.mark.parametrize("form", ["mailbox", "diff"])
@pytest.mark.parametrize("change", [binary, renames, line_ends, links, empty, executable, kinds])
def test_reverse_gives_the_very_base(
    upstream: Repository, tmp_path: Path, change: Callable[[Path], None], form: str
) -> None:
    upstream.git("checkout", "-q", "--detach", "base")
    change(upstream.path)
    upstream.commit(message="vendor")
    vendor, base = upstream.tree(), upstream.tree("base")
    assert vendor != base
    diff = upstream.git("diff", "--binary", "-M", "-C", "base", "HEAD")
    patch = upstream.mailbox("base", "-M", "-C") if form == "mailbox" else diff
    patches = patch_set_at(write_patch_set(tmp_path / "set", {"vendor.patch": patch}))
    folder, home = tmp_path / "build", tmp_path / "home"
    recipe = Recipe(upstream.git_dir, base, patches)
    unpatch_to_folder(folder, recipe, home=home, epoch=1_700_000_000)
    assert git_tree(folder, tmp_path / "patched") == vendor
    done = reverse(folder, home=home)
    assert done.tree.tree == base
    assert git_tree(folder, tmp_path / "reversed") == base
    status = tree_status(folder)
    assert (status.patch_set, status.changes) == (None, ())
