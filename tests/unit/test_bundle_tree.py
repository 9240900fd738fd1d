"""A source with its patch set applied: right or not at all, and nothing readable left behind."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle import BundlePatches
from relforge.patching.keys import Identities, load_identities, new_keys
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import PatchSource, Recipe, Trust
from relforge.patching.tree.making import Tree, applied_tree, materialise
from relforge.workarea import outer_area, sweep, work_area
from tests.support.patching import MARK, World, files_with_mark, make_world

EPOCH = 1_700_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), extra_files=300)


def recipe(world: World, source: PatchSource | None, **changes: object) -> Recipe:
    trust = Trust(tuple(world.trusted), world.identities)
    trusting: Any = {name: changes.pop(name) for name in tuple(changes) if hasattr(trust, name)}
    whole = Recipe(
        git_dir=world.upstream.git_dir,
        base_tree=world.base_tree,
        patches=source,
        expected_tree=world.result_tree,
        trust=dataclasses.replace(trust, **trusting),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def make(world: World, source: PatchSource | None, dest: Path | None, **changes: object) -> Tree:
    home = changes.pop("home", world.home)
    assert isinstance(home, Path)
    return materialise(recipe(world, source, **changes), dest=dest, home=home, epoch=EPOCH)


def sources(world: World) -> dict[str, PatchSource]:
    return {"plain": patch_set_at(world.plain), "sealed": patch_set_at(world.bundle)}


@pytest.mark.parametrize("kind", ["plain", "sealed"])
def test_the_tree_is_written_whole(world: World, tmp_path: Path, kind: str) -> None:
    dest = tmp_path / "out" / "tree"
    tree = make(
        world,
        sources(world)[kind],
        dest,
        base_commit=world.base_commit,
        device_names={"bi_V150", "BI_V150"},
    )
    assert tree.tree == world.result_tree
    assert tree.base_tree == world.base_tree
    assert [patch.name for patch in tree.patches] == ["0001-core.patch", "more/vendor.patch"]
    assert tree.sealed is (kind == "sealed")
    assert tree.signer == ("the vendor" if kind == "sealed" else None)
    assert tree.files_changed == 2
    assert MARK in (dest / "engine/core.py").read_bytes()
    assert (dest / "engine/core.py").stat().st_mtime == EPOCH
    assert [p.name for p in dest.parent.iterdir()] == ["tree"]
    assert files_with_mark(world.home, world.upstream.git_dir) == []


def test_the_same_result_whether_sealed_or_plain(world: World) -> None:
    plain, sealed = (make(world, source, None) for source in sources(world).values())
    assert plain.content_sha256 == sealed.content_sha256
    assert plain.patches == sealed.patches


def test_without_patches_the_tree_is_the_source(world: World, tmp_path: Path) -> None:
    tree = make(world, None, tmp_path / "t", expected_tree=None)
    assert tree.tree == world.base_tree
    assert tree.content_sha256 is None
    assert (tmp_path / "t/README").read_bytes() == b"hello\n"


def test_what_is_known_without_a_key(world: World) -> None:
    sealed = patch_set_at(world.bundle).info(Trust(tuple(world.trusted)))
    plain = patch_set_at(world.plain, name="other").info(Trust())
    assert sealed.content_sha256 == plain.content_sha256
    assert plain.name == "other"
    assert (sealed.sealed, plain.sealed) == (True, False)
    assert sealed.result_tree == world.result_tree
    assert sealed.signer == "the vendor"
    assert sealed.device == "bi_V150"


def refused(world: World, dest: Path, source: PatchSource, **changes: object) -> RelforgeError:
    with pytest.raises(RelforgeError) as caught:
        make(world, source, dest, **changes)
    assert caught.value.code is ExitCode.SOURCE
    assert not dest.exists()
    assert list(dest.parent.iterdir()) == []
    assert list((world.home / "work").iterdir()) == []
    return caught.value


def test_a_bundle_for_another_base_or_device_is_refused(world: World, tmp_path: Path) -> None:
    sealed = patch_set_at(world.bundle)
    dest = tmp_path / "out" / "tree"
    dest.parent.mkdir()
    other_tree = world.tree_without_the_lines()
    error = refused(world, dest, sealed, base_tree=other_tree)
    assert "another base" in error.what
    assert world.base_tree in str(error)
    assert other_tree in str(error)
    error = refused(world, dest, sealed, base_commit="c" * 40)
    assert "another base" in error.what
    error = refused(world, dest, sealed, device_names={"ascend_a3"})
    assert "another device" in error.what
    assert "bi_V150" in str(error)
    assert "ascend_a3" in str(error)


@pytest.mark.parametrize("kind", ["plain", "sealed"])
def test_another_tree_than_expected_is_refused(world: World, tmp_path: Path, kind: str) -> None:
    error = refused(world, tmp_path / "tree", sources(world)[kind], expected_tree="e" * 40)
    assert "e" * 40 in str(error)
    assert world.result_tree in str(error)


def test_an_expected_tree_is_compared_before_anything_is_decrypted(
    world: World, tmp_path: Path
) -> None:
    # Without any private key the answer is the same.
    error = refused(
        world,
        tmp_path / "tree",
        patch_set_at(world.bundle),
        expected_tree=None,
        identities=Identities(),
    )
    assert "private key" in error.what


def test_wrong_key_and_untrusted_signer(world: World, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    other = load_identities([new_keys(tmp_path, "other").identity])
    sealed = patch_set_at(world.bundle)
    assert "private keys" in refused(world, tmp_path / "d/t", sealed, identities=other).what
    assert "not trusted" in refused(world, tmp_path / "d/t", sealed, signers=()).what
    tree = make(world, sealed, None, signers=(), allow_unsigned=True)
    assert tree.signer is None


def test_a_place_that_is_taken_is_left_alone(world: World, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/mine").write_text("mine")
    with pytest.raises(RelforgeError, match="overwrite"):
        make(world, patch_set_at(world.plain), tmp_path / "t")
    assert (tmp_path / "t/mine").read_text() == "mine"


def test_a_patch_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="not there") as caught:
        patch_set_at(tmp_path / "absent")
    assert caught.value.code is ExitCode.SOURCE


def test_an_error_of_the_caller_leaves_nothing(world: World) -> None:
    def fail() -> None:
        with applied_tree(
            recipe(world, patch_set_at(world.bundle), expected_tree=None),
            home=world.home,
        ) as (_tree, _applied, area):
            assert files_with_mark(area) != []
            assert area.stat().st_mode & 0o777 == 0o700
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list((world.home / "work").iterdir()) == []


# --- work areas and what is left after a kill ----------------------------------------------------


def test_sweeping_spares_whoever_is_at_work(tmp_path: Path) -> None:
    with work_area(tmp_path, "build") as area:
        (area / "file").write_text("x")
        assert sweep(tmp_path) == []
        assert (area / "file").exists()
    assert not area.exists()
    (tmp_path / "work" / "somebody-else").mkdir()
    assert sweep(tmp_path) == []
    assert sweep(tmp_path / "absent") == []


def test_sweeping_knows_reused_process_ids_and_earlier_boots(tmp_path: Path) -> None:
    with work_area(tmp_path, "build") as area:
        purpose, pid, start, boot, rest = area.name.split("-")
    gone = [
        f"{purpose}-{pid}-{int(start) - 1}-{boot}-{rest}",
        f"{purpose}-{pid}-{start}-00000000-{rest}",
        f"{purpose}-4194999-{start}-{boot}-{rest}",
    ]
    for name in gone:
        (tmp_path / "work" / name / "locked").mkdir(parents=True)
        (tmp_path / "work" / name / "locked" / "f").touch()
        (tmp_path / "work" / name / "locked").chmod(0o500)
    assert sorted(p.name for p in sweep(tmp_path)) == sorted(gone)


def test_a_record_of_an_outer_area_removes_nothing_else(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    with work_area(tmp_path, "build") as area:
        with outer_area(area, tmp_path) as outer:
            assert outer.stat().st_mode & 0o777 == 0o700
            (record,) = [p for p in area.iterdir() if p.is_file()]
        assert not outer.exists()
        content = record.name
        name = area.name.replace(f"-{os.getpid()}-", "-4194999-")
    dead = tmp_path / "work" / name
    dead.mkdir()
    (dead / content).write_bytes(os.fsencode(precious))
    assert sweep(tmp_path) == [dead]
    assert precious.exists()


def test_a_bundle_is_not_mistaken_for_a_folder(world: World) -> None:
    assert isinstance(patch_set_at(world.bundle), BundlePatches)
