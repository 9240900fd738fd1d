"""``relforge unpatch`` in FlagScale's words: what its users get, and what its tool let through."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode
from relforge.patching.keys import new_keys
from tests.support.flagscale import LittleFlagScale, rsa4096, seal, world
from tests.support.patching import files_with_mark, flagscale_key_folder

UNVERIFIED = "cannot be verified"


@pytest.fixture
def little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LittleFlagScale:
    return world(tmp_path, monkeypatch, capsys)


def test_a_legacy_patch_gives_the_vendors_tree_and_touches_nothing_of_the_users(
    little: LittleFlagScale,
) -> None:
    little.legacy("bi_V150", little.mailbox)
    (little.fs.path / "mine.txt").write_text("edit")
    before = little.fs.git("status", "--porcelain"), little.fs.head
    done = little.unpatch("--device-type", "BI-V150", "--commit-id", little.base[:11])
    assert (done.code, done.tree) == (0, little.vendor_tree)
    assert UNVERIFIED in done.err
    folder = little.fs.path / "build" / "bi_V150" / "FlagScale"
    assert folder == Path(done.trees[0]["folder"])
    assert (folder / "flagscale" / "vendor.py").read_bytes() == b"x = 1   \n\ty\n\n\n"
    assert (little.fs.git("status", "--porcelain"), little.fs.head) == before
    again = little.unpatch("--device-type", "bi_V150", "--commit-id", little.b8)
    assert again.trees[0]["status"] == "unchanged"


def test_whitespace_is_only_changed_for_those_who_must_match_an_old_tree(
    little: LittleFlagScale,
) -> None:
    little.legacy("bi_V150", little.mailbox)
    words = ("--device-type", "bi_V150", "--commit-id", little.b8)
    fixed = little.unpatch(*words, "--whitespace", "fix", "--dir", little.root / "fixed")
    assert fixed.code == 0
    assert fixed.tree != little.vendor_tree
    path = little.root / "fixed" / "bi_V150" / "FlagScale" / "flagscale" / "vendor.py"
    assert path.read_bytes() == b"x = 1\n\ty\n"


def test_sealed_patches_open_with_the_right_key_alone_and_leave_nothing(
    little: LittleFlagScale,
) -> None:
    little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
    words = ("--device-type", "bi_V150", "--commit-id", little.b8, "--dir", little.root / "out")
    without = little.unpatch(*words)
    assert without.code == ExitCode.SOURCE
    assert "no RSA private key was named" in without.err
    wrong = little.unpatch(*words, "--key-path", flagscale_key_folder(little.root / "wrong"))
    assert wrong.code == ExitCode.SOURCE
    assert "private_key.pem" in wrong.err
    assert not (little.root / "out").exists()
    age = new_keys(little.root / "age", "user").identity
    other = little.unpatch(*words, "--key-path", age)
    assert other.code == ExitCode.SOURCE
    assert f"no RSA private key was named: {age} is of another kind" in other.err
    done = little.unpatch(*words, "--key-path", little.keys)
    assert (done.code, done.tree) == (0, little.vendor_tree)
    places = (little.root / "home", little.fs.path / "hardware", little.fs.path / "tools")
    assert files_with_mark(*places) == []


def test_what_flagscales_tool_left_decrypted_does_not_make_a_wrong_key_right(
    little: LittleFlagScale,
) -> None:
    little.legacy("bi_V150", little.mailbox)
    little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
    wrong = flagscale_key_folder(little.root / "wrong")
    done = little.unpatch(
        *("--device-type", "bi_V150", "--commit-id", little.b8, "--key-path", wrong)
    )
    assert done.code == ExitCode.SOURCE
    assert "lies decrypted beside" in done.err


def test_a_refused_patch_leaves_the_repository_as_it_was(little: LittleFlagScale) -> None:
    exclude = little.fs.path / ".git" / "info" / "exclude"
    before = exclude.read_bytes() if exclude.exists() else None
    little.legacy("bi_V150", little.mailbox.replace(b"engine line 19", b"engine line 91"))
    words = (
        "--device-type",
        "bi_V150",
        "--commit-id",
        little.b8,
        "--dir",
        little.fs.path / "build",
    )
    assert little.unpatch(*words).code == ExitCode.SOURCE
    assert (exclude.read_bytes() if exclude.exists() else None) == before
    little.legacy("bi_V150", little.mailbox)
    assert little.unpatch(*words).code == 0
    assert b"/build/" in exclude.read_bytes()


def test_an_altered_patch_never_passes_for_the_expected_tree(little: LittleFlagScale) -> None:
    whole = seal(little.mailbox)
    words: list[str | Path] = ["--device-type", "bi_V150", "--commit-id", little.b8]
    words += ["--key-path", little.keys]
    words += ["--expect-tree", little.vendor_tree]
    at = 528 + little.mailbox.index(b"PLAINTEXT-MARK") // 16 * 16
    flipped = whole[: at - 16] + bytes([whole[at - 16] ^ 1]) + whole[at - 15 :]
    for content in (whole[: 528 + 160], whole[:-16], flipped):
        little.legacy("bi_V150", content, end=".patch.encrypted")
        assert little.unpatch(*words).code == ExitCode.SOURCE
    assert not (little.fs.path / "build").exists()
    little.legacy("bi_V150", whole, end=".patch.encrypted")
    done = little.unpatch(*words)
    assert (done.code, done.trees[0]["verified"]) == (0, True)
    assert UNVERIFIED not in done.err


def test_several_devices_keep_each_others_trees(little: LittleFlagScale) -> None:
    little.legacy("A_X100", little.mailbox)
    little.legacy("B_Y1", seal(little.mailbox), end=".patch.encrypted")
    words: list[str | Path] = ["--commit-id", little.b8, "--key-path", little.keys]
    words += ["--device-type", "B-Y1", "a_x100"]
    alone = little.unpatch(*words)
    assert alone.code == ExitCode.SOURCE
    assert "hetero.txt" in alone.err
    hetero = little.fs.path / "tools" / "patch" / "hetero.txt"
    hetero.write_text(f"{little.b8}:  A_X100 B_Y1 C_Z1\n")
    done = little.unpatch(*words)
    assert done.code == 0
    assert [t["tree"]["tree"] for t in done.trees] == [little.vendor_tree] * 2
    build = little.fs.path / "build"
    assert {p.name for p in build.iterdir()} == {"A_X100", "B_Y1"}
    third = little.unpatch("--device-type", "A_X100", "--commit-id", little.b8)
    assert (third.code, third.trees[0]["status"]) == (0, "unchanged")
    assert (build / "B_Y1" / "FlagScale" / "flagscale" / "vendor.py").exists()


@pytest.mark.parametrize("where", [".", "/", "..", ".git", "full"])
def test_no_folder_is_wiped(
    little: LittleFlagScale, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.legacy("bi_V150", little.mailbox)
    monkeypatch.chdir(little.fs.path)
    target = Path(where)
    if where == "full":
        target = little.root / "full"
        theirs = target / "bi_V150" / "FlagScale"
        theirs.mkdir(parents=True)
        (theirs / "file").write_text("mine")
    done = little.unpatch(*("--device-type", "bi_V150", "--commit-id", little.b8, "--dir", target))
    assert done.code == ExitCode.SOURCE
    assert little.fs.head == little.base
    if where == "full":
        assert (theirs / "file").read_text() == "mine"


def test_what_is_missing_is_said_with_the_command_that_helps(little: LittleFlagScale) -> None:
    none = little.unpatch("--device-type", "bi_V150", "--commit-id", little.b8)
    assert none.code == ExitCode.SOURCE
    assert "git -C" in none.err
    folder = little.legacy("bi_V150", b"x").parent
    (folder / f"{little.b8}.patch").unlink()
    empty = little.unpatch("--device-type", "bi_V150", "--commit-id", little.b8)
    assert "the entry is empty" in empty.err
    unknown = little.unpatch("--device-type", "bi_V150", "--commit-id", "0123456789")
    assert unknown.code == ExitCode.SOURCE
    assert "fetch origin" in unknown.err
    short = little.unpatch("--device-type", "bi_V150", "--commit-id", little.base[:7])
    assert short.code == ExitCode.USAGE


def test_a_shallow_clone_is_told_how_to_get_the_base(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", little.mailbox)
    little.fs.commit(message="entry")
    clone = little.root / "shallow"
    little.fs.git("clone", "-q", "--depth=1", f"file://{little.fs.path}", str(clone))
    done = little.relforge(
        *("unpatch", "--device-type", "bi_V150", "--commit-id", little.b8, "--repo", clone)
    )
    assert done.code == ExitCode.SOURCE
    assert "fetch --unshallow" in done.err


def test_an_entry_that_left_the_checkout_is_found_by_url_too(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", little.mailbox)
    little.fs.commit(message="entry")
    little.fs.git("rm", "-qr", "hardware/bi_V150")
    little.fs.commit(message="gone")
    words = ["--device-type", "BI_V150", "--commit-id", little.b8, "--json"]
    done = little.relforge("unpatch", *words, "--repo", f"file://{little.fs.path}")
    assert (done.code, done.tree) == (0, little.vendor_tree)
    assert "no longer in the checkout" in done.err
    assert Path(done.trees[0]["folder"]) == Path.cwd() / "build" / "bi_V150" / "FlagScale"


def test_outside_of_flagscale_it_says_so(little: LittleFlagScale) -> None:
    done = little.relforge("unpatch", "--device-type", "bi_V150", "--commit-id", "0123456789")
    assert done.code == ExitCode.USAGE
    assert "no FlagScale repository" in done.err


def test_per_file_sealed_patches_of_two_backends_make_one_tree(little: LittleFlagScale) -> None:
    root = little.fs.git("diff", "--binary", little.base, little.vendor)
    first, second = (b"diff --git" + part for part in root.split(b"diff --git")[1:])
    little.entry("BI_V150", "vllm", {"vllm/core.py.patch.encrypted": seal(little.vllm_patch)})
    little.entry(
        "BI_V150", "FlagScale", {"a.patch": first, "flagscale/b.patch.encrypted": seal(second)}
    )
    commit = little.fs.commit(message="entry")
    little.history("BI_V150", "inference", "FlagScale+vllm", commit)
    words = ["--backend", "vllm", "FlagScale", "--device-type", "bi-v150", "--task", "inference"]
    done = little.unpatch(*words, "--key-path", little.keys)
    assert done.code == 0, done.err
    folder = little.fs.path / "build" / "BI_V150" / "FlagScale"
    vllm = folder / "third_party" / "vllm"
    assert (vllm / "vllm" / "core.py").read_bytes() == b"a = 1\nb = 22\n"
    assert (vllm / "setup.py").exists()
    assert (folder / "flagscale" / "vendor.py").read_bytes() == b"x = 1   \n\ty\n\n\n"
    assert little.fs.git("status", "--porcelain") == b"?? hardware/patch_history.yaml\n"


def test_a_patch_for_another_task_is_not_applied_silently(little: LittleFlagScale) -> None:
    patch = little.fs.git("diff", "--binary", little.base, little.vendor)
    little.entry("BI_V150", "FlagScale", {"diff.patch": patch})
    fitting = little.fs.commit(message="inference")
    little.entry("BI_V150", "FlagScale", {"diff.patch": patch}, tasks=["train"])
    other = little.fs.commit(message="train")
    little.history("BI_V150", "inference", "FlagScale", fitting, other)
    words = ["--backend", "FlagScale", "--device-type", "BI_V150", "--task", "inference"]
    done = little.unpatch(*words)
    assert done.code == ExitCode.SOURCE
    assert f"--commit {fitting}" in done.err
    assert little.unpatch(*words, "--commit", fitting).code == 0
    anyway = little.unpatch(*words, "--any-task", "--dir", little.root / "any")
    assert anyway.code == 0
    assert "warning" in anyway.err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device_type": "MUSA_S5000"}, "made for another device"),
        ({"commit": "f" * 40}, "fetch origin " + "f" * 40),
        ({"commit": ""}, "names no `commit`"),
        ({"backends_commit": {"vllm": "e" * 40}, "backend": "vllm"}, "submodule update"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(
    little: LittleFlagScale, changes: dict[str, Any], says: str
) -> None:
    backend = str(changes.pop("backend", "FlagScale"))
    patch = little.fs.git("diff", "--binary", little.base, little.vendor)
    little.entry("BI_V150", backend, {"diff.patch": patch}, **changes)
    little.fs.commit(message="entry")
    words = ["--backend", backend, "--device-type", "BI_V150", "--task", "inference"]
    done = little.unpatch(*words)
    assert done.code == ExitCode.SOURCE
    assert says in done.err


def test_an_entry_without_patch_or_description_is_refused(little: LittleFlagScale) -> None:
    folder = little.entry("BI_V150", "FlagScale", {})
    commit = little.fs.commit(message="empty")
    words = ["--backend", "fs", "--device-type", "BI_V150", "--task", "inference", "--commit"]
    assert "the entry is empty" in little.unpatch(*words, commit).err
    (folder / "diff.yaml").unlink()
    (folder / "diff.patch").write_bytes(b"")
    commit = little.fs.commit(message="no yaml")
    assert "no diff.yaml" in little.unpatch(*words, commit).err


def test_a_base_that_no_history_leads_to_is_refused(little: LittleFlagScale) -> None:
    patch = little.fs.git("diff", "--binary", little.base, little.vendor)
    little.entry("BI_V150", "FlagScale", {"diff.patch": patch}, commit=little.vendor)
    little.fs.commit(message="entry")
    words = ["--backend", "FlagScale", "--device-type", "BI_V150", "--task", "inference"]
    done = little.unpatch(*words)
    assert done.code == ExitCode.SOURCE
    assert f"fetch origin {little.vendor}" in done.err


def test_two_bases_are_told_and_the_newest_is_used(little: LittleFlagScale) -> None:
    newer = little.fs.commit({"newer.txt": b"newer\n"}, "newer")
    root = little.fs.git("diff", "--binary", little.base, little.vendor)
    little.entry("BI_V150", "FlagScale", {"diff.patch": root})
    little.entry("BI_V150", "vllm", {"diff.patch": little.vllm_patch}, commit=newer)
    little.fs.commit(message="entry")
    words = ["--backend", "vllm", "FlagScale", "--device-type", "BI_V150", "--task", "inference"]
    done = little.unpatch(*words)
    assert done.code == 0, done.err
    assert "different states" in done.err
    assert done.trees[0]["base_commit"] == newer


def test_a_submodule_that_the_user_has_is_not_fetched(little: LittleFlagScale) -> None:
    little.entry("BI_V150", "vllm", {"diff.patch": little.vllm_patch})
    little.fs.commit(message="entry")
    modules = little.fs.path / ".git" / "modules" / "third_party" / "vllm"
    modules.parent.mkdir(parents=True)
    little.vllm.git("clone", "-q", "--bare", ".", str(modules))
    little.vllm.path.rename(little.root / "moved")
    words = ["--backend", "vllm", "--device-type", "BI_V150", "--task", "inference"]
    done = little.unpatch(*words)
    assert done.code == 0, done.err
    assert list(done.trees[0]["grafts"]) == ["third_party/vllm"]


def test_words_of_two_layouts_are_a_usage_error(little: LittleFlagScale) -> None:
    for words in (
        ["--device-type", "A_X100"],
        ["--device-type", "A_X100", "--commit-id", little.b8, "--task", "train"],
        ["--backend", "vllm", "--task", "train"],
        ["--device-type", "A_X100", "--backend", "vllm", "--task", "llama3"],
        ["--device-type", "A_X100", "--commit-id", little.b8, "--device", "cpu_x86"],
    ):
        assert little.unpatch(*words).code == ExitCode.USAGE, words


def test_the_key_is_used_for_any_number_of_files_and_loaded_once(
    little: LittleFlagScale, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relforge.patching.keys import keyfiles

    loads = []
    real = keyfiles.load_private_pem

    def counting(path: Path, *rest: object) -> object:
        loads.append(path)
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(keyfiles, "load_private_pem", counting)
    keys, public = little.keys, rsa4096().public_key()
    assert public.key_size == 4096
    new = "diff --git a/n{0} b/n{0}\nnew file mode 100644\n--- /dev/null\n+++ b/n{0}\n"
    new += "@@ -0,0 +1 @@\n+x\n"
    files = {f"n{i}.patch.encrypted": seal(new.format(i).encode()) for i in range(20)}
    little.entry("BI_V150", "FlagScale", files)
    little.fs.commit(message="entry")
    words = ["--backend", "FlagScale", "--device-type", "BI_V150", "--task", "inference"]
    assert little.unpatch(*words, "--key-path", keys).code == 0
    assert len(loads) == 1


def test_a_release_may_name_an_entry_and_the_pinned_tree_decides(little: LittleFlagScale) -> None:
    from relforge.errors import RelforgeError
    from relforge.patching.keys import load_identities
    from relforge.patching.kinds import patch_set_at
    from relforge.patching.source import Recipe, Trust
    from relforge.patching.tree.making import materialise

    file = little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
    trust = Trust(identities=load_identities([little.keys]))
    for path in (file, file.parent):
        recipe = Recipe(
            git_dir=little.fs.git_dir,
            base_tree=little.fs.tree(little.base),
            patches=patch_set_at(path),
            trust=trust,
            expected_tree=little.vendor_tree,
        )
        made = materialise(recipe, dest=None, home=little.root / "home", epoch=0)
        assert (made.tree, made.sealed) == (little.vendor_tree, True)
    data = bytearray(file.read_bytes())
    data[528 + little.mailbox.index(b"PLAINTEXT-MARK") // 16 * 16] ^= 1
    file.write_bytes(data)
    with pytest.raises(RelforgeError) as failed:
        materialise(recipe, dest=None, home=little.root / "home", epoch=0)
    assert failed.value.code is ExitCode.SOURCE


def test_an_ambiguous_commit_id_names_the_candidates(little: LittleFlagScale) -> None:
    tree = little.fs.tree(little.base)
    seen: dict[str, bytes] = {}
    for number in itertools.count():  # two commits with equal first digits, by the birthday rule
        body = b"tree %b\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n%d\n" % (
            tree.encode(),
            number,
        )
        short = hashlib.sha1(b"commit %d\0%b" % (len(body), body)).hexdigest()[:8]
        if short in seen:
            break
        seen[short] = body
    write = ("hash-object", "-t", "commit", "-w", "--stdin")
    ids = [little.fs.git(*write, stdin=one).decode().strip() for one in (seen[short], body)]
    done = little.unpatch("--device-type", "bi_V150", "--commit-id", short)
    assert done.code == ExitCode.SOURCE
    assert "ambiguous" in done.err
    assert all(one in done.err for one in ids)
    assert f"git -C {little.fs.path} log --no-walk" in done.err
