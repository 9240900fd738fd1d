"""Trees of FlagScale's entries that live on: edits in them, their patches on a newer FlagScale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode
from relforge.gitio import Git
from relforge.patching.keys import load_identities
from relforge.patching.source import Recipe, Trust
from relforge.patching.stored import Place, StoredPatches, known_content, read_stored
from relforge.patching.tree.folder import unpatch_to_folder
from relforge.patching.tree.marker import MARKER
from tests.support.flagscale import ENGINE, Answer, LittleFlagScale, nasty_change, seal, world
from tests.support.patching import MARK, Repository, files_with_mark


@pytest.fixture
def little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LittleFlagScale:
    return world(tmp_path, monkeypatch, capsys)


WORDS = ("--backend", "vllm", "FlagScale", "--device-type", "BI_V150", "--task", "inference")


def from_tree(little: LittleFlagScale, folder: Path, out: str, *words: str | Path) -> Answer:
    return little.relforge("patch", "from-tree", folder, "--out", out, *words, "--json")


def said(answer: Answer) -> dict[str, Any]:
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def legacy_tree(little: LittleFlagScale, *words: str | Path) -> Path:
    done = little.unpatch("--device-type", "bi_V150", "--commit-id", little.b8, *words)
    assert done.code == 0, done.err
    return Path(done.trees[0]["folder"])


def current_tree(little: LittleFlagScale, *, sealed: bool) -> Path:
    """A tree of FlagScale and vllm, whose patches lie in one file per changed file."""
    root = little.fs.git("diff", "--binary", little.base, little.vendor)
    first, second = (b"diff --git" + part for part in root.split(b"diff --git")[1:])
    end, made = (".patch.encrypted", seal) if sealed else (".patch", bytes)
    little.entry("BI_V150", "vllm", {f"vllm/core [1].py{end}": made(little.vllm_patch)})
    little.entry(
        "BI_V150", "FlagScale", {f"a{end}": made(first), f"flagscale/b{end}": made(second)}
    )
    little.history("BI_V150", "inference", "FlagScale+vllm", little.fs.commit(message="entry"))
    key = ("--key-path", little.keys) if sealed else ()
    done = little.unpatch(*WORDS, "--dir", little.root / "out", *key)
    assert done.code == 0, done.err
    return Path(done.trees[0]["folder"])


def git_applies(repository: Repository, base: str, patch_set: Path) -> str:
    """The tree that plain git comes to, in a clone of its own, patch by patch."""
    clone = Repository(
        repository.path.parent / "clones" / f"{patch_set.parent.name}-{patch_set.name}"
    )
    repository.git("clone", "-q", "-n", ".", str(clone.path))
    clone.git("read-tree", base)
    lines = (patch_set / "series").read_text().splitlines()
    for name in (line for line in lines if not line.startswith("#")):
        patch = (patch_set / name).read_bytes()
        clone.git("apply", "--cached", "--whitespace=nowarn", stdin=patch)
    return clone.git("write-tree").decode().strip()


def test_edits_in_a_legacy_entrys_tree_need_no_word_on_where_its_patches_are(
    little: LittleFlagScale,
) -> None:
    little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
    folder = legacy_tree(little, "--key-path", little.keys)
    (folder / "flagscale/engine.py").write_bytes(
        b"mine\n" + (folder / "flagscale/engine.py").read_bytes()
    )
    without = from_tree(little, folder, "no")
    assert without.code == ExitCode.SOURCE
    assert "--key-path DIR" in without.err
    done = said(from_tree(little, folder, "edit", "--key-path", little.keys))
    assert done["patches"] == ["0002-local-edit.patch"]
    assert (done["vendor_patches_written"], done["files"]) == (False, ["flagscale/engine.py"])
    assert files_with_mark(Path("edit"), little.root / "home") == []
    # All of it in plain: under a name that does not say it were sealed, and git takes it.
    said(from_tree(little, folder, "all", "--key-path", little.keys, "--plain"))
    series = Path("all/series").read_text().split()
    assert series == [f"{little.b8}.patch", "0002-local-edit.patch"]
    assert Path("all", series[0]).read_bytes() == little.mailbox
    assert git_applies(little.fs, little.base, Path("all")) == done["tree"]


def test_the_entry_is_found_wherever_the_repository_has_it(little: LittleFlagScale) -> None:
    file = little.legacy("bi_V150", little.mailbox)
    folder = legacy_tree(little, "--dir", little.root / "out")
    (folder / "new.py").write_bytes(b"x\n")
    before = said(from_tree(little, folder, "one"))
    # Committed, and gone from the working tree; then the working tree has another one.
    little.fs.commit(message="entry")
    file.unlink()
    assert said(from_tree(little, folder, "two"))["tree"] == before["tree"]
    file.write_bytes(little.mailbox.replace(b"second", b"2nd"))
    assert said(from_tree(little, folder, "three"))["tree"] == before["tree"]
    assert Path("three", f"{little.b8}.patch").read_bytes() == little.mailbox


def test_another_patch_is_never_taken_for_the_entrys(little: LittleFlagScale) -> None:
    file = little.legacy("bi_V150", little.mailbox)
    folder = legacy_tree(little, "--dir", little.root / "out")
    (folder / "new.py").write_bytes(b"x\n")
    file.write_bytes(little.mailbox.replace(b"second", b"2nd"))
    done = from_tree(little, folder, "out")
    assert done.code == ExitCode.SOURCE
    assert f"lacks, as the marker names it: {little.b8}.patch" in done.err
    assert all(option in done.err for option in ("--repo", "--patches"))
    kept = little.root / "kept" / little.b8
    kept.mkdir(parents=True)
    (kept / f"{little.b8}.patch").write_bytes(little.mailbox)
    assert said(from_tree(little, folder, "out", "--patches", kept))["files"] == ["new.py"]


def test_a_releases_entry_of_a_repository_is_found_again(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
    place = Place("https://git.invalid/x", little.fs.commit(), f"hardware/bi_V150/{little.b8}")
    git = Git(little.fs.git_dir)
    known = known_content(read_stored(git, place, name="bi-v150"))
    recipe = Recipe(
        git_dir=little.fs.git_dir,
        base_tree=little.fs.tree(little.base),
        patches=StoredPatches("bi-v150", place, known, git),
        trust=Trust(identities=load_identities([little.keys])),
    )
    folder, home = little.root / "out", little.root / "home"
    unpatch_to_folder(folder, recipe, home=home, epoch=1)
    (folder / "new.py").write_bytes(b"x\n")
    done = said(from_tree(little, folder, "edit", "--key-path", little.keys))
    assert done["vendor_patches"] == [f"{little.b8}.patch"]


def test_a_repository_that_moved_is_named(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=False)
    (folder / "new.py").write_bytes(b"x\n")
    moved = little.root / "moved"
    little.fs.path.rename(moved)
    little.vllm.path.rename(little.root / "vllm-moved")
    done = from_tree(little, folder, "out")
    assert done.code == ExitCode.SOURCE
    assert "--repo" in done.err
    assert str(little.fs.path) in done.err
    found = said(from_tree(little, folder, "out", "--repo", moved))
    assert found["files"] == ["new.py"]
    assert len(found["vendor_patches"]) == 3


def test_a_repository_that_moved_with_its_submodules_is_named(little: LittleFlagScale) -> None:
    modules = little.fs.git_dir / "modules/third_party/vllm"
    modules.parent.mkdir(parents=True)
    little.vllm.git("clone", "-q", "--bare", ".", str(modules))
    little.vllm.path.rename(little.root / "vllm-moved")
    folder = current_tree(little, sealed=False)
    (folder / "third_party/vllm/new.py").write_bytes(b"x\n")
    moved = little.root / "moved"
    little.fs.path.rename(moved)
    assert from_tree(little, folder, "out").code == ExitCode.SOURCE
    found = said(from_tree(little, folder, "out", "--repo", moved))
    assert found["patches"] == ["vllm/0002-local-edit.patch"]
    back = little.relforge(
        *("unpatch", "--reverse", folder, "--repo", moved, "--discard-edits", "--json")
    )
    assert said(back)["trees"][0]["status"] == "replaced"
    assert (folder / "third_party/vllm/vllm/core.py").read_bytes() == b"a = 1\nb = 2\n"


def test_no_secret_is_in_the_marker(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=True)
    marker = (folder / MARKER).read_bytes()
    assert MARK not in marker
    assert str(little.keys).encode() not in marker
    entry = json.loads(marker)["patch_set"]["entry"]
    assert entry["repository"] == str(little.fs.git_dir)
    assert [file["folder"] for file in entry["files"]] == ["third_party/vllm", "", ""]


@pytest.mark.parametrize("sealed", [False, True])
def test_edits_in_submodules_become_patches_of_their_repositories(
    little: LittleFlagScale, sealed: bool
) -> None:
    folder = current_tree(little, sealed=sealed)
    vllm = folder / "third_party" / "vllm"
    nasty_change(Repository(vllm), "vllm/mine")
    (vllm / "setup.py").rename(vllm / "install.py")
    nasty_change(Repository(folder), "flagscale/mine")
    (folder / "flagscale/crlf.txt").write_bytes(b"one\r\nmine\r\n")
    key = ("--key-path", little.keys, "--plain") if sealed else ()
    done = said(from_tree(little, folder, "edit", *key))
    assert done["patches"] == ["FlagScale/0003-local-edit.patch", "vllm/0002-local-edit.patch"]
    assert done["vendor_patches"] == [
        "FlagScale/a.patch",
        "FlagScale/flagscale/b.patch",
        "vllm/vllm/core_1_.py.patch",
    ]
    record = json.loads(Path("edit/parts.json").read_text())
    assert record["base_commit"] == little.base
    assert record["result_tree"] == done["tree"]
    results = {part["name"]: part["result_tree"] for part in record["parts"]}
    # Each repository's set is one that plain git applies to that repository, to the same tree.
    assert git_applies(little.vllm, little.vllm_base, Path("edit/vllm")) == results["vllm"]
    assert git_applies(little.fs, little.base, Path("edit/FlagScale")) == results["FlagScale"]
    probe = Repository(little.root / "probe")
    probe.path.mkdir()
    probe.git("init", "-q")
    probe.git("--work-tree", str(vllm), "add", "-A", "-f", ".")
    assert probe.git("write-tree").decode().strip() == results["vllm"]
    again = from_tree(little, folder, "again", "--patches", "edit", *key)
    assert again.code == ExitCode.SOURCE  # it has the edit already: another tree
    assert "not the expected one" in again.err
    same = ("patch", "rebase", folder, "--onto", little.base, "--out", "vendor", *key)
    assert little.relforge(*same).code == 0
    assert said(from_tree(little, folder, "again", "--patches", "vendor", *key)) == {
        **done,
        "path": "again",
    }


def test_of_a_sealed_entry_only_the_edit_is_written(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=True)
    (folder / "third_party/vllm/vllm/core.py").write_bytes(b"a = 1\nb = 22\nmine\n")
    done = said(from_tree(little, folder, "edit", "--key-path", little.keys))
    assert done["patches"] == ["vllm/0002-local-edit.patch"]
    written = sorted(str(path.relative_to("edit")) for path in Path("edit").rglob("*.*"))
    assert written == ["parts.json", "vllm/0002-local-edit.patch"]
    assert (
        "To be applied behind the sealed patch set BI_V150/" in Path("edit/vllm/series").read_text()
    )
    patch = Path("edit/vllm/0002-local-edit.patch").read_bytes()
    assert patch.startswith(b"diff --git a/vllm/core.py b/vllm/core.py\n")
    words = ("--onto", little.base, "--repo", little.fs.path, "--out", "new")
    rebase = little.relforge("patch", "rebase", "edit", *words)
    assert rebase.code == ExitCode.SOURCE
    assert "--plain" in rebase.err


def test_what_lies_in_a_submodule_that_the_tree_lacks_is_refused(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", little.mailbox)
    folder = legacy_tree(little)
    inside = folder / "third_party/vllm"
    assert list(inside.iterdir()) == []
    little.vllm.git("clone", "-q", ".", str(inside))
    done = from_tree(little, folder, "out")
    assert done.code == ExitCode.SOURCE
    assert "third_party/vllm\n" in done.err
    assert "--backend" in done.err
    assert not Path("out").exists()
    (shown,) = said(little.relforge("unpatch", "--status", folder, "--json"))["trees"]
    assert [one["path"] for one in shown["changes"]] == [
        "third_party/vllm/.git",
        "third_party/vllm/setup.py",
        "third_party/vllm/vllm/core.py",
    ]


def test_a_submodule_must_stay_a_folder(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=False)
    vllm = folder / "third_party/vllm"
    vllm.rename(little.root / "away")
    vllm.write_bytes(b"a file\n")
    done = from_tree(little, folder, "out")
    assert done.code == ExitCode.SOURCE
    assert "no longer a folder" in done.err
    assert not Path("out").exists()


def newer(little: LittleFlagScale, *, core: bytes, engine: bytes = b"top\n" + ENGINE) -> str:
    """FlagScale moves on, and pins a newer vllm."""
    little.vllm.git("checkout", "-q", "-B", "main", little.vllm_base)
    pinned = little.vllm.commit({"vllm/core.py": core, "vllm/more.py": b"more\n"}, "newer")
    fs = little.fs
    fs.git("checkout", "-q", "-B", "newer", little.base)
    fs.write({"flagscale/engine.py": engine, "NEWS": b"newer\n"})
    fs.git("add", "flagscale", "NEWS")
    fs.git("update-index", "--cacheinfo", f"160000,{pinned},third_party/vllm")
    fs.git("commit", "-q", "-m", "newer")
    commit = fs.head
    fs.git("checkout", "-q", "main")
    return commit


@pytest.mark.parametrize("sealed", [False, True])
def test_an_entrys_patches_move_with_flagscale_and_its_submodules(
    little: LittleFlagScale, sealed: bool
) -> None:
    folder = current_tree(little, sealed=sealed)
    (folder / "mine.py").write_bytes(b"not a vendor's\n")
    commit = newer(little, core=b"# top\n\n\n\na = 1\nb = 2\n")
    key = ("--key-path", little.keys) if sealed else ()
    plain = ("--plain",) if sealed else ()
    move = ("patch", "rebase", folder, "--onto", "newer", *key, "--json")
    if sealed:
        assert little.relforge(*move, "--out", "new").code == ExitCode.USAGE
    answer = little.relforge(*move, *plain, "--out", "new")
    done = said(answer)
    assert "is no part of its patch set" in answer.err
    assert done["onto"] == commit
    assert done["dropped"] == []
    assert done["patches"][0] == "FlagScale/a.patch"
    pinned = little.vllm.head
    clone = Path("new/vllm")
    vllm_tree = git_applies(little.vllm, pinned, clone)
    fs_tree = git_applies(little.fs, commit, Path("new/FlagScale"))
    record = json.loads(Path("new/parts.json").read_text())
    assert (record["base_commit"], record["result_tree"]) == (commit, done["tree"])
    results = {part["name"]: part["result_tree"] for part in record["parts"]}
    assert results == {"vllm": vllm_tree, "FlagScale": fs_tree}
    checkout = Repository(little.vllm.path)
    checkout.git("apply", "--whitespace=nowarn", str((clone / done["patches"][-1][5:]).absolute()))
    assert (checkout.path / "vllm/core.py").read_bytes() == b"# top\n\n\n\na = 1\nb = 22\n"
    assert files_with_mark(little.root / "home") == []
    # And once more, from what was written.
    checkout.git("reset", "-q", "--hard")
    last = newer(little, core=b"# top\n# more\n\n\n\na = 1\nb = 2\n", engine=ENGINE + b"end\n")
    words = ("--onto", last, "--repo", little.fs.path, "--out", "last", "--json")
    done = said(little.relforge("patch", "rebase", "new", *words))
    assert git_applies(little.vllm, little.vllm.head, Path("last/vllm")) != vllm_tree
    assert git_applies(little.fs, last, Path("last/FlagScale")) != fs_tree
    assert (
        little.relforge("patch", "rebase", "new", *words[:2], "--out", "x").code == ExitCode.USAGE
    )


def test_conflicts_in_a_submodule_are_named(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=False)
    commit = newer(little, core=b"a = 1\nb = 3\n")
    move = ("patch", "rebase", folder, "--onto", commit, "--out", "new", "--json")
    done = little.relforge(*move)
    assert done.code == ExitCode.SOURCE
    (conflict,) = json.loads(done.out)["conflicts"]
    assert conflict["patch"] == "vllm/vllm/core [1].py.patch"
    assert (conflict["path"], conflict["line"]) == ("third_party/vllm/vllm/core.py", 2)
    assert not Path("new").exists()
    # A base that has the change already leaves nothing of that repository.
    has = newer(little, core=b"a = 1\nb = 22\n")
    done = little.relforge(*move[:4], has, *move[5:])
    assert said(done)["dropped"] == ["vllm/vllm/core [1].py.patch"]
    assert sorted(path.name for path in Path("new").iterdir()) == ["FlagScale", "parts.json"]


def test_a_base_without_the_submodule_is_refused(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=False)
    little.fs.git("rm", "-q", "--cached", "third_party/vllm")
    little.fs.git("commit", "-q", "-m", "gone")
    done = little.relforge("patch", "rebase", folder, "--onto", little.fs.head, "--out", "new")
    assert done.code == ExitCode.SOURCE
    assert "vllm is no submodule of that state of FlagScale" in done.err


def test_a_legacy_entrys_tree_moves_too(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
    folder = legacy_tree(little, "--key-path", little.keys)
    commit = newer(little, core=b"x\n")
    key = ("--key-path", little.keys, "--plain", "--json")
    done = said(little.relforge("patch", "rebase", folder, "--onto", commit, "--out", "new", *key))
    assert done["patches"] == [f"{little.b8}.patch"]
    mails = Path("new", done["patches"][0])
    assert mails.read_bytes().count(b"\nSubject: [PATCH") == 2
    little.fs.git("checkout", "-q", commit)
    little.fs.git("am", "-q", "--keep-cr", "--whitespace=nowarn", str(mails.absolute()))
    assert little.fs.tree() == done["tree"]


def test_every_conflict_is_told_at_once(little: LittleFlagScale) -> None:
    folder = current_tree(little, sealed=False)
    engine = ENGINE.replace(b"line 20\n", b"upstream\n")
    commit = newer(little, core=b"a = 1\nb = 3\n", engine=engine)
    done = little.relforge("patch", "rebase", folder, "--onto", commit, "--out", "new", "--json")
    assert done.code == ExitCode.SOURCE
    assert [(one["patch"], one["path"]) for one in json.loads(done.out)["conflicts"]] == [
        ("vllm/vllm/core [1].py.patch", "third_party/vllm/vllm/core.py"),
        ("FlagScale/a.patch", "flagscale/engine.py"),
    ]
    assert "2 patches conflict with the new base" in done.err


def test_a_tree_of_a_repository_that_was_fetched_moves_where_its_commits_are(
    little: LittleFlagScale,
) -> None:
    little.legacy("bi_V150", little.mailbox)
    little.fs.commit(message="entry")
    commit = newer(little, core=b"x\n")
    url = f"file://{little.fs.path}"
    words = ("--device-type", "bi_V150", "--commit-id", little.b8, "--repo", url, "--json")
    folder = Path(said(little.relforge("unpatch", *words))["trees"][0]["folder"])
    move = ("patch", "rebase", folder, "--out", "new", "--json", "--onto")
    unknown = little.relforge(*move, "f" * 40)
    assert unknown.code == ExitCode.USAGE
    assert "--repo" in unknown.err
    assert said(little.relforge(*move, commit))["onto"] == commit
    (folder / "new.py").write_bytes(b"x\n")
    assert said(from_tree(little, folder, "edit"))["files"] == ["new.py"]


def test_what_a_tree_says_itself_is_not_asked_again(little: LittleFlagScale) -> None:
    little.legacy("bi_V150", little.mailbox)
    folder = legacy_tree(little)
    move = ("patch", "rebase", folder, "--onto", little.base, "--out", "new")
    assert little.relforge(*move, "--base", little.base).code == ExitCode.USAGE
    assert little.relforge(*move, "--release", "hello-cpu_x86").code == ExitCode.USAGE
    sealing = ("--recipient", "age1x", "--sign", "key")
    assert little.relforge(*move, *sealing).code == ExitCode.USAGE
    assert little.relforge("unpatch", "--reverse", folder).code == 0
    none = little.relforge(*move)
    assert none.code == ExitCode.SOURCE
    assert "carries no patch set" in none.err


@pytest.mark.parametrize("sealed", [False, True])
def test_files_laid_over_a_submodule_become_a_patch_of_it(
    little: LittleFlagScale, sealed: bool
) -> None:
    ours, fs = "flagscale/backends/vllm", little.fs
    base = fs.commit({f"{ours}/vllm/extra.py": b"e = 1\n"}, "whole files")
    core = b"a = 1\nb = 3\n# " + MARK + b"\n"
    fs.commit({f"{ours}/vllm/core.py": core, f"{ours}/deleted_files.txt": b"setup.py\n"}, "vendor")
    patch = fs.git("diff", "--binary", base, "HEAD")
    fs.git("reset", "-q", "--hard", base)
    end = ".patch.encrypted" if sealed else ".patch"
    little.early("BI_V150", "vllm", seal(patch) if sealed else patch, base, end=end)
    fs.commit(message="entry")
    key = ("--key-path", little.keys) if sealed else ()
    words = ("--backend", "vllm", "--device-type", "BI_V150", "--task", "inference", *key)
    folder = Path(said(little.unpatch(*words, "--dir", "out"))["trees"][0]["folder"])
    vllm = folder / "third_party/vllm"
    assert (vllm / "vllm/core.py").read_bytes() == core
    (vllm / "vllm/core.py").write_bytes(core + b"mine\n")
    plain = ("--plain",) if sealed else ()
    done = said(from_tree(little, folder, "edit", *key, *plain))
    assert done["vendor_patches"] == ["FlagScale/0001-vendor.patch", "vllm/0001-vendor.patch"]
    assert done["patches"] == ["vllm/0002-local-edit.patch"]
    record = json.loads(Path("edit/parts.json").read_text())
    results = {part["name"]: part["result_tree"] for part in record["parts"]}
    assert git_applies(little.vllm, little.vllm_base, Path("edit/vllm")) == results["vllm"]
    assert git_applies(fs, base, Path("edit/FlagScale")) == results["FlagScale"]
    if sealed:
        said(from_tree(little, folder, "mine", *key))
        assert files_with_mark(little.root / "home") == []
    # They move on with FlagScale and vllm, as patches of each.
    little.vllm.git("checkout", "-q", "-B", "main", little.vllm_base)
    pinned = little.vllm.commit({"vllm/more.py": b"more\n"}, "newer")
    fs.write({"NEWS": b"newer\n"})
    fs.git("add", "NEWS")
    fs.git("update-index", "--cacheinfo", f"160000,{pinned},third_party/vllm")
    fs.git("commit", "-q", "-m", "newer")
    move = ("patch", "rebase", folder, "--onto", fs.head, "--out", "new", *key, *plain, "--json")
    moved = said(little.relforge(*move))
    assert moved["patches"] == ["FlagScale/0001-vendor.patch", "vllm/0001-vendor.patch"]
    tree = git_applies(little.vllm, pinned, Path("new/vllm"))
    applied = Repository(little.root / "clones/new-vllm")
    assert applied.git("show", f"{tree}:vllm/core.py") == core
    assert b"setup.py" not in applied.git("ls-tree", "--name-only", tree)
    git_applies(fs, fs.head, Path("new/FlagScale"))
