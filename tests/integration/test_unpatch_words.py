"""Words that do not fit together, private keys, and readers that go away: nothing is half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.edits.writeset import refuse_existing
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe
from relforge.patching.tree.folder import unpatch_to_folder
from tests.support.flagscale import LittleFlagScale, key_folder, world
from tests.support.patching import World, make_world, write_patch_set

RUN = [sys.executable, "-c", "from relforge.cli import main; main()"]


@pytest.fixture
def little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LittleFlagScale:
    return world(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("vendor"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reverse", ""), "an empty word stands after --reverse"),
        (("--status", "--reverse", "x"), "--status only looks"),
        (("--status", "--tar", "x", "y"), "--status only looks"),
        (("--device", "cpu_x86", "--whitespace", "fix"), "an entry of FlagScale's"),
        (("--device", "cpu_x86", "--mode", "copy"), "an entry of FlagScale's"),
        (
            ("--release", "r", "--worktree", "--repo", "x", "--discard-edits"),
            "a worktree is never replaced",
        ),
    ],
)
def test_words_that_do_not_fit_together_do_nothing(
    little: LittleFlagScale, words: tuple[str, ...], said: str
) -> None:
    done = little.relforge("unpatch", *words)
    assert done.code == ExitCode.USAGE
    assert said in done.err


@pytest.mark.parametrize("tree", ["123", "A" * 40, "a" * 39])
def test_an_expected_tree_is_a_whole_hash(little: LittleFlagScale, tree: str) -> None:
    little.legacy("bi_V150", little.mailbox)
    words = ("--device-type", "bi_V150", "--commit-id", little.b8, "--expect-tree", tree)
    done = little.unpatch(*words)
    assert done.code == ExitCode.USAGE
    assert "this is no tree hash" in done.err


def test_a_file_name_that_is_no_utf8_is_written_and_opened_again(little: LittleFlagScale) -> None:
    name = os.fsdecode(b"a\xffb")
    (little.fs.path / name).write_bytes(b"x\n")
    little.fs.git("add", "-A")
    little.fs.git("commit", "-q", "-m", "a name")
    tree = little.fs.tree()
    words = ("--device-type", "A_X100", "--task", "inference", "--backend", "FlagScale")
    made = little.relforge("patch", *words, "--commit", little.base, "--repo", little.fs.path)
    assert made.code == 0, made.err
    little.fs.commit(message="entry")
    done = little.unpatch(*words)
    assert done.code == 0, done.err
    assert done.tree == tree


def test_an_archive_without_a_reader_is_an_error(little: LittleFlagScale) -> None:
    (little.fs.path / "large.bin").write_bytes(os.urandom(4 << 20))
    little.fs.commit()
    base = little.fs.head
    little.fs.write({"flagscale/more.py": b"x = 1\n"})
    little.fs.git("add", "-A")
    little.fs.git("commit", "-q", "-m", "more")
    folder = little.fs.path / "hardware" / "A_X1" / base[:8]
    folder.mkdir(parents=True)
    (folder / f"{base[:8]}.patch").write_bytes(little.fs.mailbox(base))
    words = ["unpatch", "--device-type", "A_X1", "--commit-id", base, "--tar", "-"]
    command = [*RUN, *words, "--repo", str(little.fs.path)]
    for shell in ('"$@" | head -c 10 >/dev/null; exit ${PIPESTATUS[0]}', '"$@" >&-'):
        argv = ["bash", "-c", shell, "bash", *command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == ExitCode.ENVIRONMENT, done.stderr
        assert "the archive was not written whole" in done.stderr


def test_no_set_is_written_into_a_patched_tree(vendor: World, tmp_path: Path) -> None:
    recipe = Recipe(vendor.upstream.git_dir, vendor.base_tree, patch_set_at(vendor.plain))
    unpatch_to_folder(tmp_path / "tree", recipe, home=tmp_path / "home", epoch=1)
    with pytest.raises(RelforgeError, match="would lie inside a patched tree") as caught:
        refuse_existing(tmp_path / "tree" / "engine" / "out")
    assert caught.value.code is ExitCode.SOURCE
    words = [str(vendor.bundle), "--key-path", str(vendor.keys.identity), "--allow-unsigned"]
    out = tmp_path / "tree" / "opened"
    assert dispatch("patch", ["open", *words, "--dir", str(out)]) == ExitCode.SOURCE
    assert not out.exists()


def test_a_private_key_is_neither_sealed_nor_taken_from_a_tree(
    vendor: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(vendor.upstream.git_dir, vendor.base_tree, patch_set_at(vendor.plain))
    unpatch_to_folder(tmp_path / "tree", recipe, home=tmp_path / "home", epoch=1)
    key = (key_folder(tmp_path / "keys") / "private_key.pem").read_bytes()
    (tmp_path / "tree" / "pk.pem").write_bytes(key)
    words = [str(tmp_path / "tree"), "--patches", str(vendor.plain), "--plain"]
    out = tmp_path / "out"
    code = dispatch("patch", ["from-tree", *words, "--out", str(out)])
    assert (code, out.exists()) == (ExitCode.SOURCE, False)
    assert "would publish a private key" in capsys.readouterr().err
    git = vendor.upstream.git
    blob = git("hash-object", "-w", "--stdin", stdin=key).decode().strip()
    rows = git("ls-tree", vendor.base_commit) + f"100644 blob {blob}\tpk.pem\n".encode()
    with_key = git("mktree", stdin=rows).decode().strip()
    diff = git("diff", "--binary", vendor.base_tree, with_key)
    leaking = write_patch_set(tmp_path / "leaking", {"0001-key.patch": diff})
    world_with_it = World(**{**vendor.__dict__, "plain": leaking})
    with pytest.raises(RelforgeError, match="would publish a private key"):
        world_with_it.seal_again(tmp_path / "x.bundle")
    assert not (tmp_path / "x.bundle").exists()


def test_a_name_that_git_cannot_leave_out_is_no_place_for_a_tree(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", little.mailbox)
    exclude = little.fs.path / ".git" / "info" / "exclude"
    before = exclude.read_bytes() if exclude.exists() else None
    target = little.fs.path / "new\nline"
    words = ("--device-type", "bi_V150", "--commit-id", little.b8, "--dir", target)
    done = little.unpatch(*words)
    assert done.code == ExitCode.SOURCE
    assert "a name with a line end" in done.err
    assert (exclude.read_bytes() if exclude.exists() else None) == before
    assert not target.exists()


def test_no_new_key_pair_is_made_where_git_would_take_it(little: LittleFlagScale) -> None:
    little.fs.commit({"flagscale/more.py": b"x = 1\n"})
    words = ("--device-type", "A_X100", "--base-commit-id", little.base)
    keys = little.fs.path / "k"
    done = little.relforge("patch", *words, "--key-path", keys, "--repo", little.fs.path)
    assert done.code == ExitCode.SOURCE
    assert "would publish the private key" in done.err
    assert not keys.exists()
    outside = little.root / "made"
    done = little.relforge("patch", *words, "--key-path", outside, "--repo", little.fs.path)
    assert done.code == 0, done.err
    assert (outside / "private_key.pem").is_file()
