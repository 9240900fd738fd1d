"""What a bundle's index says of each patch is compared with what the patch does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle import IndexedPatch
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.changes import FileChange
from relforge.patching.tree.folder import Unpatched, unpatch_to_folder
from tests.support.patching import World, files_with_mark, make_world, write_patch_set
from tests.unit.test_bundle import _reindexed, resealed

CORE, OTHER = "engine/core.py", "engine/vendor.py"
Patches = list[IndexedPatch]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def stacked(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three patches: two on one file, the last also renames another."""
    root = tmp_path_factory.mktemp("stacked")
    upstream = world.upstream
    lines = (upstream.path / CORE).read_bytes()
    first = upstream.commit({CORE: lines.replace(b"line 3\n", b"one\n")})
    second = upstream.commit({CORE: lines.replace(b"line 3\n", b"two\n"), OTHER: b"new\n"})
    upstream.git("mv", "README", "README.md")
    third = upstream.commit({})
    commits = [world.base_commit, first, second, third]
    diffs = {
        f"{number}.patch": upstream.git("diff", "--binary", "-M", *commits[number : number + 2])
        for number in range(3)
    }
    upstream.git("reset", "-q", "--hard", world.base_commit)
    made = dataclasses.replace(
        world,
        root=root,
        plain=write_patch_set(root / "set", diffs),
        bundle=root / "x.bundle",
        result_tree=upstream.tree(third),
    )
    return dataclasses.replace(made, sealed=made.seal_again(made.bundle))


def lying(world: World, folder: Path, change: Callable[[Patches], Patches]) -> Path:
    """The vendor's own bundle but for its index, which is signed and sealed as it should be."""
    return resealed(world, folder, lambda members: _reindexed(members, change))


def unpatched(world: World, bundle: Path, folder: Path, home: Path) -> Unpatched:
    recipe = Recipe(
        git_dir=world.upstream.git_dir,
        base_tree=world.base_tree,
        patches=patch_set_at(bundle),
        trust=Trust(tuple(world.trusted), world.identities),
    )
    return unpatch_to_folder(folder, recipe, home=home, epoch=1)


def with_files(at: int, change: Callable[[list[FileChange]], list[FileChange]]) -> object:
    def apply(patches: Patches) -> Patches:
        one = patches[at].model_copy(update={"files": tuple(change(list(patches[at].files)))})
        return [*patches[:at], one, *patches[at + 1 :]]

    return apply


def changed(at: int, name: str, **fields: str | None) -> object:
    return with_files(
        at, lambda files: [f.model_copy(update=fields) if f.path == name else f for f in files]
    )


def swapped(patches: Patches) -> Patches:
    files = [patches[1].files, patches[0].files]
    return [p.model_copy(update={"files": f}) for p, f in zip(patches, files, strict=True)]


NOTHING = FileChange(path="README", before=None, before_mode=None, after=None, after_mode=None)
LIES = {
    "another result": (changed(0, CORE, after="a" * 40), CORE),
    "another beginning": (changed(0, CORE, before="a" * 40), CORE),
    "another mode": (changed(0, CORE, after_mode="100755"), CORE),
    "a new file that was there": (changed(1, OTHER, before="a" * 40, before_mode="100644"), OTHER),
    "a file that goes": (changed(0, CORE, after=None, after_mode=None), CORE),
    "another path": (changed(0, CORE, path="engine/kore.py"), CORE),
    "a file left out": (with_files(0, lambda files: []), CORE),
    "one file more": (with_files(0, lambda files: [*files, NOTHING]), "README"),
    "a file twice": (with_files(0, lambda files: files * 2), CORE),
    "each other's files": (swapped, CORE),
}


@pytest.mark.parametrize("case", LIES)
def test_an_index_that_lies_is_refused(world: World, tmp_path: Path, case: str) -> None:
    change, path = LIES[case]
    bundle = lying(world, tmp_path, change)  # type: ignore[arg-type]
    with pytest.raises(RelforgeError, match="index lies") as caught:
        unpatched(world, bundle, tmp_path / "build", tmp_path / "home")
    assert caught.value.code is ExitCode.SOURCE
    assert (caught.value.where or "").endswith(f".patch: {path}")
    assert not (tmp_path / "build").exists()
    assert list((tmp_path / "home/work").iterdir()) == []
    assert files_with_mark(tmp_path) == []


def test_an_honest_index_passes(world: World, stacked: World, tmp_path: Path) -> None:
    for number, one in enumerate((world, stacked)):
        bundle = lying(one, tmp_path, lambda patches: patches)
        done = unpatched(one, bundle, tmp_path / f"build{number}", tmp_path / "home")
        assert done.tree.tree == one.result_tree


def between_patches(patches: Patches) -> Patches:
    """Consistent from base to result; only what lies between them is wrong."""
    one = changed(0, CORE, after="a" * 40)(patches)  # type: ignore[operator]
    done: Patches = changed(1, CORE, before="a" * 40)(one)  # type: ignore[operator]
    return done


def shifted(patches: Patches) -> Patches:
    """The second patch is said to do what the first one does, too."""
    (first,), (second, other) = patches[0].files, patches[1].files
    whole = second.model_copy(update={"before": first.before})
    return [
        patches[0].model_copy(update={"files": ()}),
        patches[1].model_copy(update={"files": (whole, other)}),
        patches[2],
    ]


def half_a_rename(patches: Patches) -> Patches:
    """The end of the old name is said to be another patch's work."""
    gone, new = sorted(patches[2].files, key=lambda change: change.path)
    assert (gone.path, new.path) == ("README", "README.md")
    return [
        patches[0].model_copy(update={"files": (*patches[0].files, gone)}),
        patches[1],
        patches[2].model_copy(update={"files": (new,)}),
    ]


@pytest.mark.parametrize("lie", [between_patches, shifted, half_a_rename])
def test_lies_that_the_end_result_does_not_show_are_refused(
    stacked: World, tmp_path: Path, lie: Callable[[Patches], Patches]
) -> None:
    bundle = lying(stacked, tmp_path, lie)
    with pytest.raises(RelforgeError, match="index lies") as caught:
        unpatched(stacked, bundle, tmp_path / "build", tmp_path / "home")
    assert caught.value.code is ExitCode.SOURCE
    assert "0.patch" in (caught.value.where or "")
    assert not (tmp_path / "build").exists()


def test_a_patch_that_takes_back_what_it_did_may_leave_that_file_out(
    world: World, tmp_path: Path
) -> None:
    """A mailbox of two commits, of which the second undoes a part of the first."""
    upstream = world.upstream
    lines = (upstream.path / CORE).read_bytes()
    upstream.commit({CORE: lines + b"more\n", OTHER: b"new\n"})
    upstream.commit({CORE: lines})
    mailbox = upstream.mailbox(world.base_commit)
    tree = upstream.tree()
    upstream.git("reset", "-q", "--hard", world.base_commit)
    plain = write_patch_set(tmp_path / "set", {"a.patch": mailbox})
    one = dataclasses.replace(world, plain=plain, result_tree=tree)
    sealed = one.seal_again(tmp_path / "x.bundle")
    done = unpatched(one, sealed.path, tmp_path / "build", tmp_path / "home")
    assert done.tree.tree == tree
