"""Patch sets of several repositories: how they are taken apart, named, written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.parts import (
    PARTS,
    Part,
    Splitting,
    owner_of,
    parts_of,
    patch_set_or_parts,
    plain_name,
    read_parts,
)
from relforge.patching.source import Graft, Trust
from relforge.patching.tree.apply import apply_patches
from tests.support.patching import new_repository, write_patch_set

TREE = "a" * 40


def test_each_repository_has_a_folder_of_its_own() -> None:
    assert parts_of(Path("g"), TREE, ()) == (Part("", "", Path("g"), TREE),)
    folders = ["third_party/vllm", "other/vllm", "third_party/FlagScale"]
    grafts = [Graft(folder, Path("m"), TREE) for folder in folders]
    parts = parts_of(Path("g"), TREE, grafts)
    names = ["FlagScale", "vllm", "other-vllm", "third_party-FlagScale"]
    assert [part.name for part in parts] == names
    assert owner_of("third_party/vllm/x", parts).name == "vllm"
    assert owner_of("third_party/vllm-more/x", parts).name == "FlagScale"


def test_a_plain_patch_is_not_called_sealed_and_no_two_are_called_the_same() -> None:
    part = Part("vllm", "third_party/vllm", Path("m"), TREE)
    taken: list[str] = []
    for name in ("vllm/a b.py.patch.encrypted", "vllm/a_b.py.patch", "vllm/ü/x.patch", "odd"):
        taken.append(plain_name(name, part, taken))
    assert taken == ["a_b.py.patch", "a_b.py-2.patch", "_/x.patch", "odd"]
    root = Part("", "", Path("g"), TREE)
    assert plain_name("more/vendor.patch", root, ()) == "more/vendor.patch"


def test_a_tree_is_taken_apart_into_what_each_repository_holds(tmp_path: Path) -> None:
    inner = new_repository(tmp_path / "inner")
    inner.commit({"lib.c": b"int x;\n", "more/y": b"y\n"})
    outer = new_repository(tmp_path / "outer")
    outer.write({"a": b"a\n", "third_party/b": b"b\n"})
    outer.git("add", "-A")
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{inner.head},third_party/inner")
    outer.git("commit", "-q", "-m", "base")
    graft = Graft("third_party/inner", inner.git_dir, inner.tree())
    whole = apply_patches(
        outer.git_dir,
        outer.tree(),
        (),
        object_dir=tmp_path / "objects",
        work=tmp_path / "work",
        grafts=(graft,),
    )
    parts = parts_of(outer.git_dir, outer.tree(), (graft,))
    split = Splitting(whole.git, parts, tmp_path / "index").split
    assert split(whole.tree) == {"": outer.tree(), "third_party/inner": inner.tree()}
    # Without the submodule's files, and with a file in its place.
    git: Git = whole.git.with_index(tmp_path / "other")
    git.run("read-tree", outer.tree())
    gone = b"0 %b\tthird_party/inner\0" % (b"0" * 40)
    git.run("update-index", "-z", "--index-info", stdin=gone)
    without = git.text("write-tree")
    assert split(without) == {"": outer.tree(), "third_party/inner": git.text("mktree", stdin=b"")}
    blob = git.text("hash-object", "-w", "--stdin", stdin=b"x")
    git.run("update-index", "--add", "--cacheinfo", f"100644,{blob},third_party/inner")
    with pytest.raises(RelforgeError, match="no longer a folder"):
        split(git.text("write-tree"))


def record(**changes: Any) -> dict[str, Any]:
    part = {"name": "vllm", "folder": "third_party/vllm", "base_tree": TREE, "result_tree": TREE}
    return {
        "format": "relforge-parts",
        "version": 1,
        "base_commit": None,
        "base_tree": TREE,
        "result_tree": TREE,
        "parts": [{**part, **changes}],
    }


def test_a_written_set_of_several_repositories_is_one_patch_set(tmp_path: Path) -> None:
    write_patch_set(tmp_path / "set/vllm", {"2.patch": b"two\n", "1.patch": b"one\n"})
    (tmp_path / "set" / PARTS).write_text(json.dumps(record()))
    patches = patch_set_or_parts(tmp_path / "set")
    with patches.stream(Trust()) as stream:
        assert [(diff.name, diff.folder) for diff in stream.diffs] == [
            ("vllm/2.patch", "third_party/vllm"),
            ("vllm/1.patch", "third_party/vllm"),
        ]
        assert [patch.name for patch in stream.patches] == ["vllm/2.patch", "vllm/1.patch"]
    assert patches.info(Trust()).name == "set"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        json.dumps(record(name="../vllm")),
        json.dumps(record(name="..")),
        json.dumps(record(folder="../out")),
        json.dumps(record(folder="/etc")),
        json.dumps({**record(), "version": 2}),
        json.dumps({**record(), "more": 1}),
    ],
)
def test_what_is_no_such_set_is_refused(tmp_path: Path, content: str) -> None:
    write_patch_set(tmp_path / "vllm", {"1.patch": b"one\n"})
    (tmp_path / PARTS).write_text(content)
    with pytest.raises(RelforgeError, match="cannot be used") as caught:
        read_parts(tmp_path)
    assert caught.value.code is ExitCode.SOURCE
