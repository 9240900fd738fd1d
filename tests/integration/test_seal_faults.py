"""Sealing and rotating where things go wrong: what a kill -9 leaves, and who clears it away."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle import rotate
from relforge.patching.keys import load_recipients, load_signing_key
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.workarea import UNFINISHED
from tests.support.patching import World, files_with_mark, make_world, write_patch_set


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def large(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same with a patch large enough to be killed in the middle of it."""
    root = tmp_path_factory.mktemp("large")
    filler = b"".join(b"# %d\n" % number for number in range(3_000_000))
    patch = filler + (world.plain / "0001-core.patch").read_bytes()
    plain = write_patch_set(root / "set", {"a.patch": patch})
    made = dataclasses.replace(world, root=root, plain=plain, bundle=root / "x.bundle")
    return dataclasses.replace(made, sealed=made.seal_again(made.bundle))


ROTATE = """
import sys
from pathlib import Path
from relforge.patching.bundle import rotate
from relforge.patching.keys import (
    load_identities, load_recipients, load_signer, load_signing_key
)

bundle, public, identity, recipient, sign, out = map(Path, sys.argv[1:])
rotate(
    bundle, trusted=[load_signer("v", public)], identities=load_identities([identity]),
    recipients=load_recipients([recipient]), signing_key=load_signing_key(sign),
    creator="x", out=out,
)
"""
SEAL = """
import sys
from pathlib import Path
from relforge.patching.bundle import seal
from relforge.patching.bundle.header import BundleSource, GitOrigin
from relforge.patching.keys import load_recipients, load_signing_key
from relforge.patching.series import read_series

plain, store, base, recipient, sign, home, out = map(Path, sys.argv[1:])
seal(
    read_series(plain), store_git_dir=store,
    source=BundleSource(name="e", origin=GitOrigin(url="https://git.invalid/e", commit="1" * 40)),
    base_commit="1" * 40, base_tree=str(base), device=None, ships="none", creator="x",
    recipients=load_recipients([recipient]), signing_key=load_signing_key(sign),
    out=out, home=home,
)
"""


def killed_in(code: str, *arguments: object, folder: Path) -> Path:
    """Kills the child as soon as its half-written bundle shows; returns that file."""
    environment = {**os.environ, "TMPDIR": str(folder.parent)}
    words = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(words, env=environment) as child:
        while child.poll() is None and not list(folder.glob(f"{UNFINISHED}-*")):
            time.sleep(0.001)
        time.sleep(0.02)
        child.kill()
        assert child.wait(60) == -signal.SIGKILL
    (left,) = folder.glob(f"{UNFINISHED}-*")
    return left


@pytest.mark.parametrize("full", ["out", "home"])
def test_a_full_disk_while_sealing(
    large: World, tmp_path: Path, small_disk: Path, full: str
) -> None:
    """The ciphertext or git's objects find no room: said so, and nothing stays."""
    out = (small_disk if full == "out" else tmp_path) / "x.bundle"
    out.write_bytes(b"an older bundle")
    home = small_disk / "home" if full == "home" else tmp_path / "home"
    if full == "home":
        (small_disk / "filler").write_bytes(bytes(80 << 10))
    with pytest.raises(RelforgeError, match="disk is full") as caught:
        large.seal_again(out, home=home)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert out.read_bytes() == b"an older bundle"
    left = [path for path in (*small_disk.rglob("*"), *tmp_path.rglob("*")) if path.is_file()]
    assert {path.name for path in left} <= {"x.bundle", "filler"}
    assert files_with_mark(small_disk, tmp_path) == []


@pytest.mark.parametrize("again", ["seal", "rotate", "unpatch"])
@pytest.mark.parametrize("killed", ["seal", "rotate"])
def test_what_a_killed_sealing_left_goes_with_the_next_work_in_that_folder(
    world: World, large: World, tmp_path: Path, killed: str, again: str
) -> None:
    folder, home, keys = tmp_path / "out", tmp_path / "home", world.keys
    folder.mkdir()
    if killed == "rotate":
        killed_in(
            ROTATE,
            *(large.bundle, keys.signing_public, keys.identity, keys.recipient, keys.signing_key),
            folder / "new.bundle",
            folder=folder,
        )
    else:
        killed_in(
            SEAL,
            *(large.plain, world.upstream.git_dir, world.base_tree, keys.recipient),
            *(keys.signing_key, home, folder / "new.bundle"),
            folder=folder,
        )
    assert not (folder / "new.bundle").exists()
    assert files_with_mark(tmp_path) == [], "what lies there is ciphertext"
    if again == "seal":
        world.seal_again(folder / "other.bundle")
        expected = ["other.bundle"]
    elif again == "rotate":
        rotate(
            world.bundle,
            trusted=world.trusted,
            identities=world.identities,
            recipients=load_recipients([keys.recipient]),
            signing_key=load_signing_key(keys.signing_key),
            creator="x",
            out=folder / "other.bundle",
        )
        expected = ["other.bundle"]
    else:
        recipe = Recipe(
            git_dir=world.upstream.git_dir,
            base_tree=world.base_tree,
            patches=patch_set_at(world.bundle),
            trust=Trust(tuple(world.trusted), world.identities),
        )
        unpatch_to_folder(folder / "bi_V150/engine", recipe, home=home, epoch=1)
        expected = ["bi_V150"]
    assert [path.name for path in folder.iterdir()] == expected
