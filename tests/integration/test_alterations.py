"""Thousands of alterations of sealed files: none gives another tree than the one it was made for.

Bundles are tried through and through: every byte, every length, every order of their patches.
FlagScale's sealed files carry no signature and no checksum; there the pinned tree decides.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle import IndexedPatch, open_bundle
from relforge.patching.keys import load_identities
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe, Trust
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.making import materialise
from tests.support.examples import examples
from tests.support.flagscale import LittleFlagScale, seal
from tests.support.flagscale import world as flagscale_world
from tests.support.patching import World, files_with_mark, make_world, write_patch_set
from tests.unit.test_bundle import Tar, _reindexed, resealed

pytestmark = pytest.mark.timeout(900)
PARTS = 4  # so that several workers share them


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def refused(world: World, path: Path) -> None:
    with pytest.raises(RelforgeError) as caught:
        list(open_bundle(path, world.trusted, world.identities))
    assert caught.value.code is ExitCode.SOURCE


@pytest.mark.parametrize("part", range(PARTS))
def test_a_flipped_bit_in_any_byte_of_a_bundle(world: World, tmp_path: Path, part: int) -> None:
    raw = bytearray(world.bundle.read_bytes())
    assert len(raw) > 4000
    path, chance = tmp_path / "flipped.bundle", random.Random(part)
    for at in range(part, len(raw), PARTS):
        bit = 1 << chance.randrange(8)
        raw[at] ^= bit
        path.write_bytes(raw)
        refused(world, path)
        raw[at] ^= bit


@pytest.mark.parametrize("part", range(PARTS))
def test_a_bundle_cut_at_any_length(world: World, tmp_path: Path, part: int) -> None:
    raw = world.bundle.read_bytes()
    path = tmp_path / "cut.bundle"
    for size in range(part, len(raw), PARTS):
        path.write_bytes(raw[:size])
        refused(world, path)


@pytest.fixture(scope="module")
def four(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Four patches that fit in any order, so that only the signature can tell."""
    root = tmp_path_factory.mktemp("four")
    new = "--- /dev/null\n+++ b/n{0}\n@@ -0,0 +1 @@\n+{0}\n"
    patches = {f"{number}.patch": new.format(number).encode() for number in range(4)}
    plain = write_patch_set(root / "set", patches)
    made = dataclasses.replace(world, root=root, plain=plain, bundle=root / "x.bundle")
    return dataclasses.replace(made, sealed=made.seal_again(made.bundle))


@pytest.mark.parametrize("index", ["as it was", "fitting"])
@pytest.mark.parametrize("part", range(2))
def test_patches_in_any_other_order_number_and_choice(
    four: World, tmp_path: Path, index: str, part: int
) -> None:
    """Reordered, dropped and doubled by one who can encrypt and sign the ciphertext's hash."""
    tried = 0
    for order in itertools.islice(_orders(4, 5), part, None, 2):
        path = resealed(four, tmp_path, functools.partial(_chosen, order, index))
        if order == (0, 1, 2, 3):
            assert len(list(open_bundle(path, four.trusted, four.identities))) == 4
            continue
        refused(four, path)
        tried += 1
    assert tried > 600


def _orders(count: int, longest: int) -> Iterator[tuple[int, ...]]:
    for length in range(longest + 1):
        yield from itertools.product(range(count), repeat=length)


def _chosen(order: tuple[int, ...], index: str, members: Tar) -> Tar:
    chosen = [members[0], *(members[1 + at] for at in order)]

    def fitting(patches: list[IndexedPatch]) -> list[IndexedPatch]:
        return [patches[at] for at in order]

    return _reindexed(chosen, fitting) if index == "fitting" else chosen


def test_altered_bundles_write_nothing(world: World, tmp_path: Path) -> None:
    """The same on the way of a user: the folder, its old content, and no plaintext anywhere."""
    raw, chance = world.bundle.read_bytes(), random.Random(1)
    home, folder, path = tmp_path / "home", tmp_path / "build", tmp_path / "x.bundle"
    trust = Trust(tuple(world.trusted), world.identities)
    recipe = Recipe(world.upstream.git_dir, world.base_tree, trust=trust)
    before = unpatch_to_folder(folder, recipe, home=home, epoch=1)
    for number in range(60):
        at = chance.randrange(len(raw))
        flipped = raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
        path.write_bytes(flipped if number % 2 else raw[:at])
        altered = dataclasses.replace(recipe, patches=patch_set_at(path))
        with pytest.raises(RelforgeError) as caught:
            unpatch_to_folder(folder, altered, home=home, epoch=1)
        assert caught.value.code is ExitCode.SOURCE
    path.unlink()
    again = unpatch_to_folder(folder, recipe, home=home, epoch=1)
    assert (again.status, again.tree) == ("unchanged", before.tree)
    assert files_with_mark(tmp_path) == []
    assert list((home / "work").iterdir()) == []


# --- FlagScale's sealed files ---------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    little: LittleFlagScale
    raw: bytes
    recipe: Recipe

    def alter(self, data: bytes) -> Recipe:
        file = self.little.legacy("bi_V150", data, end=".patch.encrypted")
        return dataclasses.replace(self.recipe, patches=patch_set_at(file))


@pytest.fixture
def entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Entry:
    little = flagscale_world(tmp_path, monkeypatch, capsys)
    recipe = Recipe(
        git_dir=little.fs.git_dir,
        base_tree=little.fs.tree(little.base),
        trust=Trust(identities=load_identities([little.keys])),
    )
    return Entry(little, seal(little.mailbox), recipe)


HEAD, BLOCK = 528, 16
KINDS = ["flipped", "flipped in the key", "cut", "cut between blocks", "blocks moved"]


def altered(raw: bytes, kind: str, draw: st.DataObject) -> bytes:
    """FlagScale's file, altered in one of the ways that its cipher does not notice by itself."""
    blocks = [raw[at : at + BLOCK] for at in range(HEAD, len(raw), BLOCK)]
    if kind.startswith("flipped"):
        start, end = (BLOCK, HEAD) if kind.endswith("key") else (HEAD, len(raw))
        # The initial vector reaches the first block only: the mail's first line.
        at = draw.draw(st.integers(start, end - 1) | st.integers(0, BLOCK - 1))
        return raw[:at] + bytes([raw[at] ^ 1 << draw.draw(st.integers(0, 7))]) + raw[at + 1 :]
    if kind == "cut":
        return raw[: draw.draw(st.integers(0, len(raw) - 1))]
    if kind == "cut between blocks":
        return raw[: HEAD + BLOCK * draw.draw(st.integers(1, len(blocks) - 1))]
    one, other = (draw.draw(st.integers(0, len(blocks) - 1)) for _ in range(2))
    match draw.draw(st.sampled_from(["swap", "drop", "double"])):
        case "swap":
            blocks[one], blocks[other] = blocks[other], blocks[one]
        case "drop":
            del blocks[one]
        case _:
            blocks.insert(other, blocks[one])
    return raw[:HEAD] + b"".join(blocks)


def made_tree(recipe: Recipe, home: Path) -> str | ExitCode:
    """The tree that comes out, or how relforge refused to make it."""
    try:
        return materialise(recipe, dest=None, home=home, epoch=0).tree
    except RelforgeError as error:
        return error.code


@pytest.mark.parametrize("kind", KINDS)
@examples(500)
@given(draw=st.data())
def test_the_pinned_tree_comes_out_of_a_sealed_flagscale_file_or_nothing(
    entry: Entry, kind: str, draw: st.DataObject
) -> None:
    """What lies in a mail's head reaches no file: then the tree is right, whatever was altered."""
    wanted = entry.little.vendor_tree
    recipe = entry.alter(altered(entry.raw, kind, draw))
    home = entry.little.root / "home"
    pinned = dataclasses.replace(recipe, expected_tree=wanted)
    assert made_tree(pinned, home) in (wanted, ExitCode.SOURCE)


@pytest.mark.parametrize("kind", KINDS)
@examples(6)
@given(draw=st.data())
def test_where_nothing_is_pinned_the_output_says_that_nobody_can_tell(
    entry: Entry, kind: str, draw: st.DataObject
) -> None:
    little = entry.little
    entry.alter(altered(entry.raw, kind, draw))
    words = ("--device-type", "bi_V150", "--commit-id", little.b8, "--key-path", little.keys)
    done = little.unpatch(*words, "--dir", little.root / "loose")
    if done.code == 0:
        assert "cannot be verified" in done.err
        assert "no signature and no checksum" in done.err
        assert done.trees[0]["verified"] is False
    else:
        assert done.code == ExitCode.SOURCE
    folder = little.root / "pinned"
    pinned = little.unpatch(*words, "--expect-tree", little.vendor_tree, "--dir", folder)
    if pinned.code == 0:
        assert (pinned.tree, pinned.trees[0]["verified"]) == (little.vendor_tree, True)
        assert "cannot be verified" not in pinned.err
        shutil.rmtree(folder)
    else:
        assert pinned.code == ExitCode.SOURCE
        assert not folder.exists()
    shutil.rmtree(little.root / "loose", ignore_errors=True)


def test_what_the_cipher_lets_through_is_caught_by_the_pin_alone(entry: Entry) -> None:
    """Else the tests above would prove nothing: without a pin such a file gives another tree."""
    little, home = entry.little, entry.little.root / "home"
    patch = b"--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+" + b"x" * 800 + b"\n"
    raw = seal(patch)
    right = made_tree(entry.alter(raw), home)
    loose, pinned = set(), set()
    for block in range(10, 40):
        at = HEAD + BLOCK * block
        recipe = entry.alter(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        loose.add(made_tree(recipe, home))
        pinned.add(made_tree(dataclasses.replace(recipe, expected_tree=str(right)), home))
    assert len(loose - {ExitCode.SOURCE, right}) > 10, "garbage in the middle of a file"
    assert pinned == {ExitCode.SOURCE}
    assert little.fs.head == little.base
