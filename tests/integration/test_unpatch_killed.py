"""An unpatch that is killed leaves no plaintext behind, and no half tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.making import materialise
from relforge.workarea import sweep
from tests.support.patching import MARK, World, files_with_mark, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), extra_files=300)


CHILD = """
import os, signal, sys
from pathlib import Path
from relforge import gitio
from relforge.patching.keys import load_identities, load_signer
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.making import materialise
from relforge.patching.kinds import patch_set_at

where, bundle, store, base, key, public, home, dest = sys.argv[1:]
checkout = gitio.Git.checkout

def killed(self, tree, target, **more):
    if where == "applied":
        os.kill(os.getpid(), signal.SIGKILL)
    checkout(self, tree, target, **more)
    if where == "written":
        os.kill(os.getpid(), signal.SIGKILL)

gitio.Git.checkout = killed
materialise(
    Recipe(
        Path(store), base, patch_set_at(Path(bundle)),
        trust=Trust((load_signer("v", Path(public)),), load_identities([Path(key)])),
    ),
    dest=Path(dest), home=Path(home), epoch=1,
)
"""


def start_child(world: World, where: str, home: Path, dest: Path) -> subprocess.Popen[bytes]:
    arguments: list[str | Path] = [
        world.bundle,
        world.upstream.git_dir,
        world.base_tree,
        world.keys.identity,
    ]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, where, *arguments, world.keys.signing_public, home, dest],
        env={**os.environ, "TMPDIR": str(home.parent / "tmp")},
    )


@pytest.mark.parametrize("where", ["applied", "written"])
def test_after_kill_9_sweeping_leaves_no_plaintext(
    world: World, tmp_path: Path, where: str
) -> None:
    (tmp_path / "tmp").mkdir()
    child = start_child(world, where, tmp_path / "home", tmp_path / "out" / "tree")
    assert child.wait(60) == -signal.SIGKILL
    assert files_with_mark(tmp_path) != []  # it was killed in the middle
    swept = sweep(tmp_path / "home")
    assert len(swept) == 1
    assert files_with_mark(tmp_path, world.upstream.path) == []
    assert list((tmp_path / "home/work").iterdir()) == []
    assert list((tmp_path / "out").iterdir()) == [] if where == "written" else True
    recipe = Recipe(
        world.upstream.git_dir,
        world.base_tree,
        patch_set_at(world.bundle),
        trust=Trust(tuple(world.trusted), world.identities),
    )
    tree = materialise(recipe, dest=tmp_path / "out/tree", home=tmp_path / "home", epoch=1)
    assert tree.tree == world.result_tree


def test_kill_9_at_any_time(world: World, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    home, out = tmp_path / "home", tmp_path / "out"
    for delay_ms in (0, 15, 40, 80, 140, 220):
        child = start_child(world, "nowhere", home, out / f"tree{delay_ms}")
        while child.poll() is None and not list(home.glob("work/*")):
            time.sleep(0.002)
        time.sleep(delay_ms / 1000)
        child.kill()
        finished = child.wait(60) == 0
        sweep(home)
        tree = out / f"tree{delay_ms}"
        if tree.exists():  # complete, and where it was asked for
            assert (tree / "engine/many/f00299.py").exists()
            assert MARK in (tree / "engine/vendor.py").read_bytes()
        assert tree.exists() or not finished
        everything = files_with_mark(home, tmp_path / "tmp", out, world.upstream.path)
        assert [p for p in everything if not p.is_relative_to(tree)] == []
        subprocess.run(["rm", "-rf", tree], check=True)
    assert list(out.iterdir()) == []
