"""``relforge unpatch`` without a device: FlagScale's own extension; and submodules as they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.errors import ExitCode
from tests.support.flagscale import LittleFlagScale, world
from tests.support.patching import Repository

OURS = "flagscale/backends/vllm"
OLD_TOOL = b'DELETED_FILE_NAME = "deleted_files.txt"\n'


@pytest.fixture
def little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LittleFlagScale:
    little = world(tmp_path, monkeypatch, capsys)
    little.fs.commit({f"{OURS}/vllm/core.py.patch": little.vllm_patch}, "extension")
    return little


def _own_submodule(little: LittleFlagScale) -> Repository:
    """vllm as ``git submodule update`` leaves it, on a commit of the user's own."""
    path = little.fs.path / "third_party" / "vllm"
    little.vllm.git("clone", "-q", ".", str(path))
    own = Repository(path)
    own.git("config", "user.name", "someone")
    own.git("config", "user.email", "someone@example.invalid")
    own.commit({"mine.py": b"mine\n"})
    return own


def _core(folder: Path) -> bytes:
    return (folder / "third_party" / "vllm" / "vllm" / "core.py").read_bytes()


def test_flagscales_extension_is_applied_to_the_submodule_in_a_folder_of_its_own(
    little: LittleFlagScale,
) -> None:
    before = little.fs.git("status", "--porcelain")
    done = little.unpatch("--backend", "vllm")
    assert done.code == 0, done.err
    assert "cannot be verified" not in done.err
    folder = little.fs.path / "build" / "FlagScale"
    assert Path(done.trees[0]["folder"]) == folder
    assert done.trees[0]["device"] is None
    assert done.trees[0]["base_commit"] == little.fs.head
    assert _core(folder) == b"a = 1\nb = 22\n"
    assert (folder / "flagscale" / "engine.py").exists()
    assert little.fs.git("status", "--porcelain") == before
    plain = little.unpatch("--backend", "vllm", "--no-fs-extension")
    assert (plain.code, plain.trees[0]["status"]) == (0, "replaced")
    assert _core(folder) == b"a = 1\nb = 2\n"


def test_the_extension_counts_as_it_lies_in_the_working_tree(little: LittleFlagScale) -> None:
    held = little.fs.head
    patch = little.fs.path / OURS / "vllm" / "core.py.patch"
    patch.write_bytes(little.vllm_patch.replace(b"b = 22", b"b = 33"))
    done = little.unpatch("--backend", "vllm")
    assert _core(Path(done.trees[0]["folder"])) == b"a = 1\nb = 33\n"
    at = little.unpatch("--backend", "vllm", "--commit", held)
    assert _core(Path(at.trees[0]["folder"])) == b"a = 1\nb = 22\n"
    patch.write_bytes(little.vllm_patch.replace(b"-b = 2\n", b"-b = 5\n"))
    done = little.unpatch("--backend", "vllm")
    assert done.code == ExitCode.SOURCE
    assert "vllm/vllm/core.py.patch does not apply" in done.err


def test_older_states_lay_whole_files_over_and_remove_those_that_are_listed(
    little: LittleFlagScale,
) -> None:
    little.fs.git("rm", "-q", "-r", OURS)
    little.fs.commit(
        {
            "tools/patch/unpatch.py": OLD_TOOL,
            f"{OURS}/vllm/core.py": b"whole\n",
            f"{OURS}/README.md": b"read\n",
            f"{OURS}/deleted_files.txt": b"setup.py\n",
        },
        "whole files",
    )
    (little.fs.path / OURS / "README.md").write_bytes(b"not committed\n")
    done = little.unpatch("--backend", "vllm")
    assert done.code == 0, done.err
    assert f"not committed are not used, as in {OURS}/README.md" in done.err
    folder = Path(done.trees[0]["folder"])
    assert _core(folder) == b"whole\n"
    vllm = folder / "third_party" / "vllm"
    assert sorted(one.name for one in vllm.iterdir()) == ["README.md", "vllm"]
    assert (vllm / "README.md").read_bytes() == b"read\n"
    plain = little.unpatch("--backend", "vllm", "--no-fs-extension")
    assert (plain.code, plain.trees[0]["status"]) == (0, "replaced")
    assert (vllm / "setup.py").exists()


def test_another_commit_of_the_submodule_is_taken_where_it_is_named(
    little: LittleFlagScale,
) -> None:
    newer = little.vllm.commit({"newer.py": b"newer\n"})
    done = little.unpatch("--backend", "vllm", "--backend-commit", newer)
    assert done.code == 0, done.err
    assert (Path(done.trees[0]["folder"]) / "third_party" / "vllm" / "newer.py").exists()


def test_no_force_takes_the_submodule_as_the_user_has_it_and_leaves_it_alone(
    little: LittleFlagScale,
) -> None:
    done = little.unpatch("--backend", "vllm", "--no-force")
    assert done.code == 0, done.err
    own = _own_submodule(little)
    (own.path / "edit.py").write_bytes(b"not committed\n")
    before = own.git("status", "--porcelain"), own.head
    done = little.unpatch("--backend", "vllm", "--no-force")
    assert done.code == 0, done.err
    vllm = Path(done.trees[0]["folder"]) / "third_party" / "vllm"
    assert (vllm / "mine.py").exists()
    assert not (vllm / "edit.py").exists()
    assert f"{own.path} has changes that are not committed" in done.err
    assert (own.git("status", "--porcelain"), own.head) == before
    forced = little.unpatch("--backend", "vllm")
    assert forced.code == 0
    assert not (vllm / "mine.py").exists()
    assert own.head == before[1]


def test_no_init_submodule_takes_a_devices_submodule_from_the_checkout_alone(
    little: LittleFlagScale,
) -> None:
    little.entry("BI_V150", "vllm", {"diff.patch": little.vllm_patch})
    little.fs.commit(message="entry")
    words = ("--backend", "vllm", "--device-type", "BI_V150", "--task", "inference")
    without = little.unpatch(*words, "--no-init-submodule")
    assert without.code == ExitCode.SOURCE
    assert "submodule update --init third_party/vllm" in without.err
    _own_submodule(little)
    little.vllm.path.rename(little.root / "moved")
    done = little.unpatch(*words, "--no-init-submodule")
    assert done.code == 0, done.err
    assert "is made for vllm" in done.err
    folder = Path(done.trees[0]["folder"])
    assert (folder / "third_party" / "vllm" / "mine.py").exists()
    assert _core(folder) == b"a = 1\nb = 22\n"


def test_flags_of_flagscales_tool_that_treat_the_checkout_are_taken(
    little: LittleFlagScale,
) -> None:
    assert little.unpatch("--backend", "vllm", "--force", "--mode", "symlink").code == 0
    assert little.unpatch("--backend", "vllm", "--mode", "move").code == ExitCode.USAGE


def test_what_is_meant_without_a_backend_is_what_flagscale_means(little: LittleFlagScale) -> None:
    little.entry("BI_V150", "vllm", {"diff.patch": little.vllm_patch})
    little.fs.commit(message="entry")
    done = little.unpatch("--device-type", "BI_V150", "--task", "inference")
    assert done.code == ExitCode.SOURCE
    assert "has no entry for Megatron-LM" in done.err
    root = little.unpatch("--backend", "vllm", "FlagScale")
    assert root.code == ExitCode.USAGE
    assert "--device-type" in root.err


def test_what_is_changed_in_a_submodule_becomes_flagscales_extension(
    little: LittleFlagScale,
) -> None:
    folder = little.fs.path / OURS
    (folder / "README.md").write_bytes(b"kept\n")
    little.fs.git("add", "-A", "flagscale")
    little.fs.git("commit", "-q", "-m", "readme")
    own = _own_submodule(little)
    (own.path / "setup.py").unlink()
    (own.path / "vllm" / "core.py").write_bytes(b"a = 1\r\nb = \xe9  \n")
    (own.path / "stray").write_bytes(b"10.1.2.3\n")
    words = ("patch", "--backend", "vllm", "--repo", little.fs.path)
    done = little.relforge(*words, "--json")
    assert done.code == 0, done.err
    assert "does not track them: stray" in done.err
    names = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*.*"))
    assert names == ["README.md", "mine.py.patch", "setup.py.patch", "vllm/core.py.patch"]
    again = little.unpatch("--backend", "vllm")
    assert again.code == 0, again.err
    vllm = Path(again.trees[0]["folder"]) / "third_party" / "vllm"
    assert sorted(one.name for one in vllm.iterdir()) == ["mine.py", "vllm"]
    assert (vllm / "vllm" / "core.py").read_bytes() == b"a = 1\r\nb = \xe9  \n"
    refused = little.relforge(*words)
    assert refused.code == ExitCode.SOURCE
    assert "holds something that git does not" in refused.err
    assert little.relforge(*words, "--replace").code == 0
    assert little.relforge(*words, "--models", "x").code == ExitCode.USAGE
    little.fs.commit({"tools/patch/unpatch.py": OLD_TOOL}, "older state")
    older = little.relforge(*words, "--replace")
    assert older.code == ExitCode.SOURCE
    assert "keeps whole files" in older.err
