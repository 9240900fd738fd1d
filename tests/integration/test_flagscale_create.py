"""``relforge patch`` in FlagScale's words: exact trees, nothing swept in, nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from relforge.errors import ExitCode
from tests.support.flagscale import Answer, LittleFlagScale, nasty_change, world
from tests.support.patching import files_with_mark


@pytest.fixture
def little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LittleFlagScale:
    return world(tmp_path, monkeypatch, capsys)


def patch(little: LittleFlagScale, *words: str | Path) -> Answer:
    return little.relforge("patch", *words, "--repo", little.fs.path)


def nasty_commit(little: LittleFlagScale) -> str:
    """A vendor's commit on no branch; the checkout stays at the base."""
    nasty_change(little.fs, "vendor")
    (little.fs.path / "flagscale" / "crlf.txt").write_bytes(b"one\r\nTWO\r\n")
    little.fs.git("mv", "hardware/README.md", "README.md")
    little.fs.git("mv", "flagscale/engine.py", "flagscale/motor.py")
    commit = little.fs.commit(message="nasty")
    little.fs.git("reset", "-q", "--hard", little.base)
    return commit


def as_their_am(little: LittleFlagScale, mailbox: Path) -> str:
    """The tree that `git am --whitespace=fix` makes, as FlagScale's tool calls it."""
    clone = little.root / "theirs"
    little.fs.git("clone", "-q", "-s", "-n", ".", str(clone))
    git = little.fs.__class__(clone).git
    git("checkout", "-q", little.base)
    git("am", "-q", "--whitespace=fix", str(mailbox))
    return git("rev-parse", "HEAD^{tree}").decode().strip()


def test_a_legacy_entry_gives_the_vendors_tree_with_both_tools(little: LittleFlagScale) -> None:
    before = little.fs.git("status", "--porcelain"), little.fs.git("stash", "list")
    branches = little.fs.git("branch", "--list")
    done = patch(
        *(little, "--device-type", "A_X100", "--base-commit-id", little.base[:10]),
        *("--current-commit-id", little.vendor, "--json"),
    )
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)["entries"]
    assert entry["tree"] == little.vendor_tree
    (file,) = entry["files"]
    assert Path(file) == little.fs.path / "hardware" / "A_X100" / little.b8 / f"{little.b8}.patch"
    assert Path(file).read_bytes().count(b"\nFrom: ") == 2
    assert as_their_am(little, Path(file)) == little.vendor_tree
    again = little.unpatch("--device-type", "A_X100", "--commit-id", little.b8)
    assert again.tree == little.vendor_tree
    assert before == (b"", little.fs.git("stash", "list"))
    assert little.fs.git("branch", "--list") == branches
    assert little.fs.git("status", "--porcelain") == b"?? hardware/A_X100/\n"
    twice = patch(little, "--device-type", "A_X100", "--base-commit-id", little.b8)
    assert twice.code == ExitCode.SOURCE
    assert "never overwritten" in twice.err


def test_what_other_tools_lose_survives_and_entries_are_left_out(little: LittleFlagScale) -> None:
    current = nasty_commit(little)
    done = patch(
        *(little, "--device-type", "A_X100", "--base-commit-id", little.base),
        *("--current-commit-id", current, "--json"),
    )
    assert done.code == 0, done.err
    assert "left out: 1 changed files of hardware/" in done.err
    assert "as binary diffs" in done.err
    (entry,) = json.loads(done.out)["entries"]
    assert as_their_am(little, Path(entry["files"][0])) == entry["tree"]
    listed = little.fs.git("ls-tree", "-r", current).decode().splitlines()
    theirs = little.fs.__class__(little.root / "theirs").git("ls-tree", "-r", "HEAD").decode()
    assert set(theirs.splitlines()) - set(listed) == {
        row for row in theirs.splitlines() if row.endswith("\thardware/README.md")
    }


def test_merges_are_written_as_one_mail(little: LittleFlagScale) -> None:
    little.fs.git("checkout", "-q", "-b", "side")
    little.fs.commit({"side.txt": b"side\n"}, "side")
    little.fs.git("checkout", "-q", "main")
    little.fs.commit({"main.txt": b"main\n"}, "main")
    little.fs.git("merge", "-q", "--no-edit", "side")
    merged = little.fs.head
    little.fs.git("reset", "-q", "--hard", little.base)
    words = ["--device-type", "A_X100", "--base-commit-id", little.base]
    done = patch(little, *words, "--current-commit-id", merged, "--json")
    assert done.code == 0, done.err
    assert "one mail: it has merges" in done.err
    (entry,) = json.loads(done.out)["entries"]
    assert entry["tree"] == little.fs.tree(merged)


def test_several_devices_are_sealed_too_and_listed_together(little: LittleFlagScale) -> None:
    words = ["--base-commit-id", little.base, "--current-commit-id", little.vendor]
    sealing: list[str | Path] = ["--key-path", little.keys]
    missing = patch(little, *words, *sealing, "--device-type", "A_X100", "B_Y1")
    assert missing.code == ExitCode.SOURCE
    assert not (little.fs.path / "hardware" / "B_Y1").exists()
    assert patch(little, *words, *sealing, "--device-type", "A_X100").code == 0
    done = patch(little, *words, *sealing, "--device-type", "A_X100", "B_Y1")
    assert done.code == 0, done.err
    hetero = little.fs.path / "tools" / "patch" / "hetero.txt"
    assert hetero.read_text() == f"{little.b8}:  A_X100 B_Y1\n"
    (file,) = (little.fs.path / "hardware" / "B_Y1" / little.b8).iterdir()
    assert file.name == f"{little.b8}.patch.encrypted"
    assert files_with_mark(little.fs.path / "hardware", little.root / "home") == []
    both = little.unpatch(*("--device-type", "A_X100", "B_Y1", "--commit-id", little.b8, *sealing))
    assert [one["tree"]["tree"] for one in both.trees] == [little.vendor_tree] * 2


def test_keys_are_neither_overwritten_nor_published(little: LittleFlagScale) -> None:
    private = little.keys / "private_key.pem"
    kept = private.read_bytes()
    (little.keys / "public_key.pem").unlink()
    words = ["--base-commit-id", little.base, "--current-commit-id", little.vendor]
    assert patch(little, *words, "--device-type", "A_X1", "--key-path", little.keys).code == 0
    assert private.read_bytes() == kept
    inside = little.fs.path / "hardware" / "B_Y1" / "keys"
    refused = patch(little, *words, "--device-type", "B_Y1", "--key-path", inside)
    assert refused.code == ExitCode.SOURCE
    assert not inside.exists()
    leaked = little.fs.commit({"certs/my.pem": kept}, "oops")
    little.fs.git("reset", "-q", "--hard", little.base)
    words[-1] = leaked
    done = patch(little, *words, "--device-type", "C_Z1")
    assert done.code == ExitCode.SOURCE
    assert "private key" in done.err
    assert not (little.fs.path / "hardware" / "C_Z1").exists()


def test_a_new_key_pair_is_made_for_the_owner_alone(little: LittleFlagScale) -> None:
    folder = little.root / "new-keys"
    words = ["--base-commit-id", little.base, "--current-commit-id", little.vendor]
    done = patch(little, *words, "--device-type", "A_X1", "--key-path", folder)
    assert done.code == 0, done.err
    assert (folder / "private_key.pem").stat().st_mode & 0o777 == 0o600
    opened = little.unpatch(
        *("--device-type", "A_X1", "--commit-id", little.b8, "--key-path", folder)
    )
    assert opened.tree == little.vendor_tree


@pytest.mark.parametrize("sealed", [True])
def test_the_state_of_working_trees_becomes_an_entry_per_backend(
    little: LittleFlagScale, sealed: bool
) -> None:
    fs = little.fs
    vllm = fs.path / "third_party" / "vllm"
    vllm.rmdir()
    little.vllm.git("clone", "-q", ".", str(vllm))
    inner = fs.__class__(vllm)
    nasty_change(inner, "vllm/vendor")
    inner.git("add", "-A")
    (vllm / "vllm" / "core.py").write_bytes(b"a = 1\r\nb = 2\n")  # changed, not staged
    (vllm / "hostfile").write_text("10.1.2.3\n")
    (fs.path / "flagscale" / "engine.py").write_bytes(b"new\n")
    index = (fs.path / ".git" / "index").read_bytes(), (vllm / ".git" / "index").read_bytes()
    words = ["--backend", "vllm", "FlagScale", "--device-type", "BI_V150"]
    sealing: list[str | Path] = ["--key-path", little.keys] if sealed else []
    tasks = ["--task", "train", "inference"]
    done = patch(
        little,
        *(*words, *tasks, "--commit", little.b8, *sealing, "--json"),
        *("--models", "qwen3,deepseek", "--backend-version", "0.9", "1.0"),
    )
    assert done.code == 0, done.err
    assert "does not track them: hostfile" in done.err
    assert index == (
        (fs.path / ".git" / "index").read_bytes(),
        (vllm / ".git" / "index").read_bytes(),
    )
    folder = fs.path / "hardware" / "BI_V150"
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    end = ".patch.encrypted" if sealed else ".patch"
    assert f"vllm/vllm/vendor/ü [1] ä.txt{end}" in names
    assert not any("hostfile" in name for name in names)
    described = yaml.safe_load((folder / "vllm" / "diff.yaml").read_text())
    assert described == {
        "backends_commit": {"vllm": little.vllm_base},
        "backends_version": {"vllm": "0.9", "FlagScale": "1.0"},
        "commit": little.base,
        "contact": "",
        "device_type": "BI_V150",
        "models": ["qwen3", "deepseek"],
        "task": ["train", "inference"],
    }
    inner.git("add", "-A", "--", ":!hostfile")
    wanted = inner.git("write-tree").decode().strip()
    entries = {one["folder"]: one["tree"] for one in json.loads(done.out)["entries"]}
    assert entries[str(folder / "vllm")] == wanted
    fs.git("add", "hardware")
    fs.git("commit", "-q", "-m", "entry", "--", "hardware")
    named = patch_history(little, *words, *tasks, "--commit", fs.head)
    assert named.code == 0, named.err
    result = little.unpatch(*words, *tasks, *sealing)
    assert result.code == 0, result.err
    tree = Path(result.trees[0]["folder"]) / "third_party" / "vllm"
    assert (tree / "vllm" / "core.py").read_bytes() == b"a = 1\r\nb = 2\n"
    assert (tree / "vllm" / "vendor" / "latin.txt").read_bytes() == b"caf\xe9\n"
    assert (tree / "vllm" / "vendor" / "link").is_symlink()
    assert not (tree / "hostfile").exists()
    existing = patch(little, *words, "--task", "train", "--commit", little.b8)
    assert existing.code == ExitCode.SOURCE
    assert "train, inference" in existing.err
    replaced = patch(little, *words, "--task", "train", "--commit", little.b8, "--replace")
    assert replaced.code == 0, replaced.err


def patch_history(little: LittleFlagScale, *words: str | Path) -> Answer:
    return little.relforge("patch", "history", *words, "--repo", little.fs.path)


def test_files_that_depend_on_each_other_go_into_one_patch(little: LittleFlagScale) -> None:
    little.fs.git("rm", "-q", "flagscale/crlf.txt")
    little.fs.write({"flagscale/crlf.txt/inner": b"x\n"})
    little.fs.git("add", "-A", "flagscale")
    words = ["--backend", "FlagScale", "--device-type", "BI_V150", "--task", "train"]
    done = patch(little, *words, "--commit", little.base)
    assert done.code == 0, done.err
    folder = little.fs.path / "hardware" / "BI_V150" / "FlagScale"
    assert {file.name for file in folder.iterdir()} == {"diff.patch", "diff.yaml"}


def test_nothing_to_publish_is_said(little: LittleFlagScale) -> None:
    legacy = patch(little, "--device-type", "A_X1", "--base-commit-id", little.base)
    assert legacy.code == ExitCode.SOURCE
    words = ["--backend", "FlagScale", "--device-type", "BI_V150", "--task", "train"]
    current = patch(little, *words, "--commit", little.base)
    assert current.code == ExitCode.SOURCE
    assert "nothing is changed" in current.err
    assert list((little.fs.path / "hardware").iterdir()) == [
        little.fs.path / "hardware" / "README.md"
    ]
    assert patch(little, "--device-type", "A_X1").code == ExitCode.USAGE
    assert patch(little, "--device-type", "a-x", "--base-commit-id", little.base).code == 2
